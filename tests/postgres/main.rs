//! PostgreSQL on the whole: the real worker, the real broker, the real database.

mod capture;
mod counters;
mod debezium;
mod sink;
