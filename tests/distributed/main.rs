//! Workers of one group, as processes, on a real broker: what users ask of any of them, and what may happen to them.

mod between;
mod cluster;
mod example;
mod failures;
mod interruptions;
mod jobs;
mod slice;
mod takeover;
mod together;
mod tools;
