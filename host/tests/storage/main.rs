//! The stores of a worker group on a real broker.

mod configs;
mod offsets;
mod outage;
mod rights;
mod statuses;
mod support;
mod takeover;
mod topics;
