//! A network that is cut, slowed and silent, in an order that the seed decides.

use std::thread;
use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use tributary_harness::{BrokerOptions, Checker, KafkaBroker, Lines, Result, Seed};
use tributary_tests::FileJob;

/// Lines that are added before each fault.
const SHARE: u64 = 50_000;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Connections break; new ones work.
    Reset,
    /// Connections break, and new ones are refused for a while.
    Cut,
    /// Nothing comes through, though connections stay.
    Silence,
    /// Everything takes its time.
    Slow,
}

#[test]
fn faults_of_the_network_lose_nothing() -> Result<()> {
    let mut seed = Seed::announce("faults of the network");
    let broker = KafkaBroker::start_with(BrokerOptions::default().proxied())?;
    let mut job = FileJob::start(&broker.proxied_bootstrap())?;
    let mut faults = [Fault::Reset, Fault::Cut, Fault::Silence, Fault::Slow].repeat(2);
    faults.shuffle(&mut *seed);
    let lines = Lines::new(SHARE * (faults.len() as u64 + 1));
    let share = |n: usize| lines.clone().with_numbers(n as u64 * SHARE..(n as u64 + 1) * SHARE);

    share(0).write(&job.input)?;
    job.create_both()?;
    for (n, fault) in faults.into_iter().enumerate() {
        share(n + 1).append(&job.input)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..300)));
        let proxy = broker.proxy();
        match fault {
            Fault::Reset => proxy.reset(),
            Fault::Cut => proxy.cut(),
            Fault::Silence => proxy.stall(),
            Fault::Slow => proxy.delay(Duration::from_millis(20)),
        }
        thread::sleep(Duration::from_millis(seed.random_range(500..3000)));
        proxy.resume();
    }
    job.wait_for(&lines)?;
    for name in [job.source(), job.sink()] {
        job.worker.wait_running(&name)?;
    }
    let topic = Checker::new([&lines]).topic(&broker, &job.topic)?;
    println!("topic: {topic}");
    // The producer is idempotent and lives on, so a broken connection is no reason to write twice.
    topic.exactly_once()?;
    let file = Checker::new([&lines]).file(&job.output)?;
    println!("file: {file}");
    file.at_least_once()?;
    job.worker.stop()
}
