//! What may happen to a broker, and to the network in front of it.

use std::thread;
use std::time::Duration;

use tributary_harness::{KafkaBroker, Result};

/// Kills the broker, cuts or stalls its proxy, or freezes it, whichever the number says, for as long as `pause`; then all is well again.
pub fn outage(broker: &mut KafkaBroker, number: u64, pause: Duration) -> Result<()> {
    match number % 4 {
        0 => {
            broker.kill()?;
            thread::sleep(pause);
            broker.restart()
        }
        1 => {
            broker.proxy().cut();
            thread::sleep(pause);
            broker.proxy().resume();
            Ok(())
        }
        2 => {
            broker.proxy().stall();
            thread::sleep(pause);
            broker.proxy().resume();
            Ok(())
        }
        _ => {
            broker.pause()?;
            thread::sleep(pause);
            broker.resume()
        }
    }
}
