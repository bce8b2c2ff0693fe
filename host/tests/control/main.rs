//! The control side on its own: REST API, herder and storage around a worker that only pretends.

mod fake_runner;
mod rest_api;
mod restarts;
mod stand;
mod validation;
