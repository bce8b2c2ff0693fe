//! Exactly-once delivery, judged by somebody else: what a `read_committed` reader finds is what the files had, each line once,
//! under deaths at every step of the commit loop, kills, outages and takeovers.

mod distributed;
mod fail_points;
mod faults;
mod support;
