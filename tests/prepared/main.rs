//! Sinks that prepare their transactions, and commit them once the group's offsets carry their tokens: each record is there exactly once.

mod changes;
mod faults;
mod rig;
mod steps;
