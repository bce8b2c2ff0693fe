//! The behaviour suite that every connector passes.

use serde_json::json;
use tributary_connector_http::HttpSink;
use tributary_harness::{HttpServer, Reply};
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::{Batch, Column, Config};
use tributary_testkit::{SinkSubject, sink_suite};

/// A server that is away is what broken means to a sink.
fn set_away(server: &mut HttpServer, away: bool) -> bool {
    if away {
        server.go_away();
    } else {
        server.come_back().unwrap();
    }
    true
}

/// Text bodies, one a request.
struct Single(HttpServer);

impl Single {
    fn new() -> Self {
        Self(HttpServer::start(|_| Reply::status(200, "")).unwrap())
    }
}

impl SinkSubject for Single {
    type Connector = HttpSink;

    fn prepare(&mut self) -> Config {
        self.0.take_requests();
        Config::from_iter([
            ("url", self.0.url("/records/${topic}").as_str()),
            ("addresses.allowed", "loopback"),
            ("max.retries", "1"),
            ("retry.backoff.ms", "10"),
        ])
    }

    fn stored(&mut self) -> Vec<String> {
        self.0.requests().iter().filter(|request| request.method == "POST").map(|request| request.text()).collect()
    }

    fn set_broken(&mut self, broken: bool) -> bool {
        set_away(&mut self.0, broken)
    }
}

sink_suite!(sink, Single::new());

/// JSON arrays, and a server that does not like some records.
struct Batched(HttpServer);

impl Batched {
    fn new() -> Self {
        Self(
            HttpServer::start(|request| {
                // Tombstones have no body.
                let items: Vec<serde_json::Value> = serde_json::from_slice(&request.body).unwrap_or_default();
                match items.iter().any(|item| item["bad"] == true) {
                    true => Reply::status(422, r#"{"error":"bad is not allowed"}"#),
                    false => Reply::status(202, "{}"),
                }
            })
            .unwrap(),
        )
    }
}

impl SinkSubject for Batched {
    type Connector = HttpSink;

    fn prepare(&mut self) -> Config {
        self.0.take_requests();
        Config::from_iter([
            ("url", self.0.url("/").as_str()),
            ("addresses.allowed", "loopback"),
            ("batch.max.records", "7"),
            ("concurrency", "3"),
            ("method", "PUT"),
            ("tombstone.method", "DELETE"),
            ("max.retries", "0"),
            ("idempotency.header", "Idempotency-Key"),
        ])
    }

    fn batch(&self, from: usize, rows: usize) -> Batch {
        let text = |n: usize| json!({"n": n}).to_string();
        let mut batch = Batch::new("suite", Column::json((from..from + rows).map(|n| Some(text(n))).collect()));
        batch.key = Some(Column::text(StringArray::from_iter_values((0..rows).map(|row| (row % 5).to_string()))));
        batch
    }

    fn record(&self, number: usize) -> String {
        json!({"n": number}).to_string()
    }

    /// Of accepted requests.
    fn stored(&mut self) -> Vec<String> {
        let items = |request: tributary_harness::HttpRequest| {
            let items: Vec<serde_json::Value> = serde_json::from_slice(&request.body).unwrap();
            if items.iter().any(|item| item["bad"] == true) { Vec::new() } else { items }
        };
        let requests = self.0.requests().into_iter().filter(|request| request.method == "PUT");
        requests.flat_map(items).map(|item| item.to_string()).collect()
    }

    fn spoiled_batch(&self) -> Option<Batch> {
        let values = [r#"{"n":0}"#, r#"{"bad":true}"#, r#"{"n":2}"#];
        Some(Batch::new("suite", Column::json(StringArray::from(values.to_vec()))))
    }

    fn set_broken(&mut self, broken: bool) -> bool {
        set_away(&mut self.0, broken)
    }
}

sink_suite!(batched_sink, Batched::new());
