//! The sink against a server that misbehaves on purpose.

mod auth;
mod network;
mod outcomes;
mod requests;
mod responses;

use serde_json::Value;
use tributary_connector_http::HttpSink;
use tributary_harness::HttpServer;
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::{Batch, Column, Config};
use tributary_testkit::SinkRun;

/// A config for a server, with more keys.
fn config(server: &HttpServer, path: &str, more: &[(&str, &str)]) -> Config {
    let mut config = Config::from_iter([
        ("url", server.url(path).as_str()),
        ("addresses.allowed", "loopback"),
        ("retry.backoff.ms", "5"),
    ]);
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

fn start(config: &Config) -> SinkRun<HttpSink> {
    SinkRun::start(config).unwrap()
}

fn texts(values: &[&str]) -> Batch {
    Batch::new("t", Column::text(StringArray::from(values.to_vec())))
}

/// JSON values with keys.
fn documents(rows: &[(&str, Value)]) -> Batch {
    let mut batch = Batch::new("t", Column::json(rows.iter().map(|(_, value)| Some(value.to_string())).collect()));
    batch.key = Some(Column::text(StringArray::from_iter_values(rows.iter().map(|(key, _)| key))));
    batch
}

/// Bodies of all requests so far.
fn bodies(server: &HttpServer) -> Vec<String> {
    server.requests().iter().map(|request| request.text()).collect()
}

/// How often each of the first requests is answered otherwise than the rest.
fn first(times: usize) -> impl Fn() -> bool + Send + Sync {
    let left = std::sync::atomic::AtomicUsize::new(times);
    use std::sync::atomic::Ordering::SeqCst;
    move || left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}
