//! README.md says what is so: its examples run, and its keys are those of the config definitions.
//!
//! When a definition changed: `UPDATE_README=1 cargo test -p tributary-connector-http --test http_readme`.

use std::fs;

use tributary_connector_http::{HttpSink, HttpSource, WebhookSource};
use tributary_harness::{HttpServer, Reply};
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::{Batch, Column, Config, ConfigDef, SinkConnector, SourceConnector};
use tributary_testkit::{SinkRun, SourceRun, readme, rows};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

fn definition(class: &str) -> ConfigDef {
    match class {
        "HttpSink" => HttpSink::config_def(),
        "HttpSource" => HttpSource::config_def(),
        "WebhookSource" => WebhookSource::config_def(),
        other => panic!("{other} is no class of these"),
    }
}

/// The configs of a text's JSON blocks.
fn configs(path: &str) -> Vec<Config> {
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let config = |block: &str| {
        let request: serde_json::Value = serde_json::from_str(block).unwrap();
        Config::from_json(&request["config"].to_string()).unwrap()
    };
    blocks.map(config).collect()
}

/// The example of a class, moved to a server of the test.
fn example(class: &str, url: &str) -> Config {
    let found = configs(README).into_iter().find(|config| config.get("connector.class") == Some(class));
    let mut config = found.unwrap();
    let moved = config.get("url").map(|own| own.replace("https://api.example.org", url));
    moved.into_iter().for_each(|moved| config.set("url", moved));
    config.set("addresses.allowed", "loopback");
    config
}

#[test]
fn the_sinks_example_puts_and_deletes() {
    let server = HttpServer::start(|_| Reply::status(200, "")).unwrap();
    let mut run = SinkRun::<HttpSink>::start(&example("HttpSink", &server.url(""))).unwrap();
    let mut batch = Batch::new("orders", Column::json(StringArray::from(vec![Some(r#"{"amount":1}"#), None])));
    batch.key = Some(Column::text(StringArray::from(vec!["o/1", "o/1"])));
    assert!(run.put(batch).unwrap().is_empty());
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().map(|r| format!("{} {} {}", r.method, r.target, r.text())).collect();
    assert_eq!(sent, [r#"PUT /v1/orders/o%2F1 {"amount":1}"#, "DELETE /v1/orders/o%2F1 "]);
    assert_eq!(requests[0].header("x-source"), Some("orders/0"));
    assert_eq!(requests[1].header("idempotency-key"), Some("orders-0-1"));
}

#[test]
fn the_sources_example_follows_cursors() {
    let server = HttpServer::start(|request| match request.query("cursor") {
        None if request.query("updated_since").is_some() => Reply::json(r#"{"data":[]}"#),
        None => Reply::json(r#"{"data":[{"id":1,"updated_at":"2026-01-01T00:00:00Z"}],"next":"a/b"}"#),
        Some(_) => Reply::json(r#"{"data":[{"id":2,"updated_at":"2026-01-02T00:00:00Z"}],"next":null}"#),
    })
    .unwrap();
    let mut run = SourceRun::<HttpSource>::start(&example("HttpSource", &server.url(""))).unwrap();
    let batches = run.poll_records(2).unwrap();
    assert_eq!(rows::keys(&batches), ["1", "2"]);
    while server.requests().len() < 3 {
        assert!(run.poll().unwrap().is_empty());
    }
    let targets: Vec<_> = server.requests().iter().map(|request| request.target.clone()).collect();
    let next_round = "/v1/users?updated_since=2026-01-02T00%3A00%3A00Z";
    assert_eq!(targets, ["/v1/users", "/v1/users?cursor=a%2Fb", next_round]);
}

#[test]
fn the_webhooks_example_listens() {
    use std::io::{Read, Write};
    let port = tributary_harness::ports::free().unwrap();
    let found = configs(README).into_iter().find(|config| config.get("connector.class") == Some("WebhookSource"));
    let mut config = found.unwrap();
    config.set("listen", format!("127.0.0.1:{port}"));
    let mut run = SourceRun::<WebhookSource>::start(&config).unwrap();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"POST /github HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 401");
    run.stop().unwrap();
}

#[test]
fn the_keys_are_those_of_the_definitions() {
    let definitions = [
        ("sink", HttpSink::config_def()),
        ("webhook", WebhookSource::config_def()),
        ("source", HttpSource::config_def()),
    ];
    readme::check_keys(README, definitions);
}

#[test]
fn the_guide_has_valid_configs() {
    let configs = configs(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/connectors-http.md"));
    assert!(!configs.is_empty());
    for config in configs {
        let definition = definition(config.get("connector.class").unwrap());
        definition.parse(&config).unwrap();
        // What is not the connector's own is one of the worker's keys.
        let workers = ["connector.class", "topics", "tasks.max"];
        for key in config.0.keys().filter(|key| definition.get(key).is_none()) {
            let known = workers.contains(&key.as_str()) || key.starts_with("errors.") || key.contains(".converter");
            assert!(known, "{key}");
        }
    }
}
