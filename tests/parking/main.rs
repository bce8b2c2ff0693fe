//! Sink tasks that are parked while there is nothing to read: with a real broker, and with everything that can happen to them,
//! to their worker, to their group and to the broker meanwhile. Whether records are lost or repeated is judged by the output.

mod cycles;
mod failures;
mod group;
mod sink;

use sink::Sink;
