//! A worker's control side on a free port, with what a test needs to talk to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tributary::config::Listener;
use tributary::config::validation::Validator;
use tributary::herder::{
    Herder, HerderDeps, HerderSettings, PluginCatalog, PluginClass, PluginKind, Standalone, TaskRunner,
};
use tributary::rest::{Api, ApiSettings, AuthenticationSettings, Authenticator, RestServer};
use tributary::storage::sqlite::SqliteStore;
use tributary::telemetry::Loggers;
use tributary::worker::TaskId;
use tributary_sdk::config_def::{ConfigDef, ConfigKey, Importance, Type};

use crate::fake_runner::FakeRunner;

pub struct Stand {
    pub runner: Arc<FakeRunner>,
    pub address: SocketAddr,
    pub directory: tempfile::TempDir,
    herder: Herder,
    thread: Option<std::thread::JoinHandle<()>>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn message(&self) -> String {
        let json = self.json();
        assert_eq!(json["error_code"], self.status, "{self:?}");
        json["message"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn plugins() -> Vec<PluginClass> {
    let class = |name: &str, kind, config_def| PluginClass {
        class: format!("org.apache.kafka.connect.file.{name}Connector"),
        aliases: vec![format!("{name}Connector"), name.to_owned()],
        kind,
        version: "1.2.3".to_owned(),
        config_def,
    };
    let key = |name| ConfigKey::required(name, Type::String, Importance::High, "Documented.");
    vec![
        class("FileStreamSource", PluginKind::Source, ConfigDef::new().define(key("topic"))),
        class("FileStreamSink", PluginKind::Sink, ConfigDef::new()),
    ]
}

impl Stand {
    pub fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    pub fn on(directory: tempfile::TempDir) -> Self {
        let store = SqliteStore::open(directory.path()).unwrap();
        let (herder, standalone) = Standalone::new();
        let runner = Arc::new(FakeRunner::new(herder.event_sink()));
        let plugins: Arc<dyn PluginCatalog> = Arc::new(plugins());
        let server =
            RestServer::bind(&[Listener { port: 0, ..Listener::loopback() }], || Err("no TLS here".to_owned()))
                .unwrap();
        let address = server.addresses()[0];
        let deps = HerderDeps {
            configs: Arc::new(store.clone()),
            statuses: Arc::new(store),
            runner: runner.clone(),
            plugins: plugins.clone(),
        };
        let settings = HerderSettings { worker_id: "127.0.0.1:8083".to_owned(), topic_tracking: true };
        let thread = standalone.start(deps, settings).unwrap();
        let cluster_id = Arc::new(OnceLock::from("test-cluster".to_owned()));
        let api = Arc::new(Api {
            herder: herder.clone(),
            runner: runner.clone() as Arc<dyn TaskRunner>,
            validator: Arc::new(Validator::new(plugins.clone()).with_checks(runner.clone())),
            plugins,
            authenticator: Arc::new(Authenticator::open(&AuthenticationSettings::default()).unwrap()),
            loggers: Loggers::new("info", |_| {}),
            cluster_id,
            offsets: runner.clone(),
            cluster: None,
            settings: ApiSettings {
                worker_id: "127.0.0.1:8083".to_owned(),
                max_body: 10_000,
                request_timeout: Duration::from_secs(3),
                topic_tracking: true,
                topic_tracking_reset: true,
            },
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (_end, ended) = tokio::sync::watch::channel(false);
        // Kept for as long as the test runs: a dropped sender would end the server.
        std::mem::forget(_end);
        runtime.spawn(server.serve(api, ended, Duration::from_secs(1)));
        Self { runner, address, directory, herder, thread: Some(thread), runtime: Some(runtime) }
    }

    /// Ends everything and starts it again on the same data directory.
    pub fn restart(mut self) -> Self {
        self.end();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::on(directory)
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.herder.shutdown());
            self.thread.take().unwrap().join().unwrap();
            runtime.shutdown_background();
            // The API holds the store until its tasks are gone.
            let locked = |path: &Path| std::fs::File::open(path.join("worker.lock")).unwrap().try_lock().is_err();
            let begin = Instant::now();
            while locked(self.directory.path()) {
                assert!(begin.elapsed() < Duration::from_secs(5), "the data directory stays locked");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    pub fn call(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, None)
    }

    pub fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, Some(("application/json", body.to_string().as_str())))
    }

    /// One request on a connection of its own.
    pub fn send(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: connect.test\r\nConnection: close\r\n");
        if let Some((content_type, body)) = body {
            request += &format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        } else {
            request += "\r\n";
        }
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers: headers.to_owned(), body: body.to_owned() }
    }

    /// Creates a source with these keys besides the necessary ones.
    pub fn create(&self, name: &str, more: &[(&str, &str)]) -> Answer {
        let mut config = serde_json::json!({"connector.class": "FileStreamSource", "topic": "t", "file": "/tmp/in"});
        for (key, value) in more {
            config[*key] = (*value).into();
        }
        self.json("POST", "/connectors", &serde_json::json!({"name": name, "config": config}))
    }

    /// The connector's state and its tasks' states: `RUNNING [RUNNING, FAILED]`.
    pub fn states(&self, name: &str) -> String {
        let status = self.get(&format!("/connectors/{name}/status")).json();
        let state = |value: &Value| value["state"].as_str().unwrap_or("?").to_owned();
        let tasks: Vec<String> = status["tasks"].as_array().unwrap_or(&Vec::new()).iter().map(state).collect();
        format!("{} [{}]", state(&status["connector"]), tasks.join(", "))
    }

    /// Waits until these calls, and no others, have been made since the last look.
    pub fn wait_for_calls(&self, expected: &[&str]) {
        let begin = Instant::now();
        let mut calls = self.runner.calls();
        while calls.len() < expected.len() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(2));
            calls.extend(self.runner.calls());
        }
        assert_eq!(calls, expected);
    }

    pub fn wait_for_states(&self, name: &str, expected: &str) {
        let begin = Instant::now();
        while self.states(name) != expected {
            assert!(begin.elapsed() < Duration::from_secs(5), "{name} is {}, not {expected}", self.states(name));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

pub fn task(connector: &str, task: u32) -> TaskId {
    TaskId { connector: connector.to_owned(), task }
}
