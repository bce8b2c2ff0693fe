//! Workers of one group, as processes, on a real broker: what users ask of any of them, and what may happen to them.

mod example;
mod failures;
mod jobs;
mod slice;
mod together;
