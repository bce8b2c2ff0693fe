//! The webhook source: what the behaviour suite asks of sources, and senders of all kinds.
//!
//! A webhook cannot be read again, so that of the suite's kills those below take the place: senders that send again until they are
//! answered with 2xx, and a task that is killed meanwhile.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use tributary_connector_http::{WebhookSource, WebhookSourceTask};
use tributary_harness::{ports, wait};
use tributary_sdk::{Batch, Config, SourceConnector, SourcePosition, SourceTask};
use tributary_testkit::suite::source as suite;
use tributary_testkit::{SourceRun, SourceSubject, TestServices, rows};

/// Sends one request and answers with status, head and body; 0 where there is no answer.
fn send(port: u16, headers: &str, body: &[u8]) -> (u16, String) {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = format!(
            "POST /hook HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        // It may have been refused already.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            read?
        } else {
            0
        };
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = exchange().unwrap_or_default();
    (answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

fn config(port: u16, more: &[(&str, &str)]) -> Config {
    let mut config =
        Config::from_iter([("topic", "hooks"), ("listen", &format!("127.0.0.1:{port}")), ("path", "/hook")]);
    more.iter().for_each(|(key, value)| config.set(*key, *value));
    config
}

/// Senders that send their records until each was answered with 2xx.
struct Senders {
    port: u16,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    answered: Arc<Mutex<BTreeSet<usize>>>,
    spoil: Arc<AtomicBool>,
}

impl Senders {
    fn new() -> Self {
        Self {
            port: ports::free().unwrap(),
            stop: Arc::default(),
            threads: Vec::new(),
            answered: Arc::default(),
            spoil: Arc::default(),
        }
    }

    /// Sends records in requests of so many.
    fn begin(&mut self, records: usize, share: usize) {
        let senders = 8;
        for sender in 0..senders {
            let (port, stop, answered) = (self.port, self.stop.clone(), self.answered.clone());
            let spoil = self.spoil.clone();
            let shares: Vec<Vec<usize>> = (0..records)
                .collect::<Vec<_>>()
                .chunks(share)
                .skip(sender)
                .step_by(senders)
                .map(<[usize]>::to_vec)
                .collect();
            self.threads.push(std::thread::spawn(move || {
                for share in shares {
                    let body: String = share.iter().map(|n| json!({"n": n}).to_string() + "\n").collect();
                    if spoil.load(Ordering::SeqCst) {
                        assert_ne!(send(port, "", b"{\"n\": oops}").0, 200);
                    }
                    while send(port, "Content-Type: application/x-ndjson\r\n", body.as_bytes()).0 != 200 {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    answered.lock().unwrap().extend(share);
                }
            }));
        }
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl SourceSubject for Senders {
    type Connector = WebhookSource;

    fn prepare(&mut self, records: usize) -> Config {
        // As many requests as senders: none waits for the answer of another.
        self.begin(records, records.div_ceil(8).max(1));
        config(self.port, &[])
    }

    fn spoil(&mut self) -> bool {
        self.spoil.store(true, Ordering::SeqCst);
        false
    }
}

#[test]
fn reads_everything() {
    suite::reads_everything(&mut Senders::new());
}

#[test]
fn resumes_from_offsets() {
    suite::resumes_from_offsets(&mut Senders::new());
}

#[test]
fn backpressure() {
    suite::backpressure(&mut Senders::new());
}

#[test]
fn idle_poll_returns() {
    suite::idle_poll_returns(&mut Senders::new());
}

#[test]
fn cancel_returns_promptly() {
    suite::cancel_returns_promptly(&mut Senders::new());
}

#[test]
fn stop_is_idempotent() {
    suite::stop_is_idempotent(&mut Senders::new());
}

#[test]
fn secrets_are_not_shown() {
    suite::secrets_are_not_shown(&mut Senders::new());
}

#[test]
fn config_def_is_sound() {
    suite::config_def_is_sound(&mut Senders::new());
}

#[test]
fn required_keys_are_required() {
    suite::required_keys_are_required(&mut Senders::new());
}

fn numbers(batches: &[Batch]) -> Vec<usize> {
    let number =
        |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap()["n"].as_u64().unwrap() as usize;
    rows::values(batches).iter().map(number).collect()
}

/// Whatever was answered with 2xx was delivered before, however often the task is killed.
#[test]
fn nothing_that_was_answered_is_lost_in_a_kill() {
    const RECORDS: usize = 400;
    let mut senders = Senders::new();
    senders.begin(RECORDS, 3);
    let services = TestServices::new();
    let mut delivered = BTreeSet::new();
    for life in 0.. {
        assert!(life < 5_000, "{} of {RECORDS} were delivered", delivered.len());
        let mut run = SourceRun::<WebhookSource>::start_in(services.clone(), &config(senders.port, &[])).unwrap();
        for poll in 0..6 {
            let batches = run.poll().unwrap();
            // In the last poll of a life, what was taken is not delivered; in the one before, only a part.
            match poll {
                5 => {}
                4 if !batches.is_empty() => {
                    let rows = batches[0].len() / 2;
                    delivered.extend(numbers(&[batches[0].slice(0, rows)]));
                    run.deliver_rows(&batches[0], rows).unwrap();
                }
                _ => {
                    delivered.extend(numbers(&batches));
                    run.deliver(&batches).unwrap();
                }
            }
        }
        let answered = senders.answered.lock().unwrap().clone();
        assert!(answered.is_subset(&delivered), "answered and not delivered: {:?}", answered.difference(&delivered));
        if answered.len() == RECORDS {
            break;
        }
        drop(run);
    }
    assert_eq!(delivered, (0..RECORDS).collect());
    senders.threads.drain(..).for_each(|thread| thread.join().unwrap());
}

/// A task that polls and delivers in a thread of its own, as a worker does.
struct Serving {
    port: u16,
    stop: Arc<AtomicBool>,
    batches: Arc<Mutex<Vec<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    fn start(more: &[(&str, &str)]) -> Self {
        let port = ports::free().unwrap();
        let mut run = SourceRun::<WebhookSource>::start(&config(port, more)).unwrap();
        let (stop, batches) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, kept) = (stop.clone(), batches.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let polled = run.poll().unwrap();
                // Before the senders are answered, who look into it then.
                kept.lock().unwrap().extend(polled.clone());
                run.deliver(&polled).unwrap();
            }
            run.stop().unwrap();
        });
        Self { port, stop, batches, thread: Some(thread) }
    }

    fn values(&self) -> Vec<String> {
        rows::values(&self.batches.lock().unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn only_those_who_may_are_let_in() {
    let github = "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\r\n";
    let more = [
        ("signature.type", "github"),
        ("signature.secret", "old, It's a Secret to Everybody"),
        ("auth.type", "basic"),
        ("auth.user", "hub"),
        ("auth.password", "pw"),
        ("value.format", "text"),
    ];
    let serving = Serving::start(&more);
    let basic = "Authorization: Basic aHViOnB3\r\n";
    let both = format!("{github}{basic}");
    assert_eq!(send(serving.port, &both, b"Hello, World!").0, 200);
    for (headers, body) in [(github, "Hello, World!"), (basic, "Hello, World!"), (&both, "Hello, World?"), ("", "x")] {
        let (status, answer) = send(serving.port, headers, body.as_bytes());
        assert!(status == 401 && answer.to_lowercase().contains("www-authenticate: basic"), "{answer}");
    }
    assert_eq!(serving.values(), ["Hello, World!"]);
}

#[test]
fn too_much_is_told_so() {
    let serving = Serving::start(&[("max.body.bytes", "100"), ("max.body.records", "3")]);
    let port = serving.port;
    let large = format!("\"{}\"", "x".repeat(200));
    assert_eq!(send(port, "", large.as_bytes()).0, 413);
    let mut chunked = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let head = "POST /hook HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    chunked.write_all(format!("{head}c8\r\n{}\r\n0\r\n\r\n", "y".repeat(200)).as_bytes()).unwrap();
    let mut answer = [0; 12];
    chunked.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(send(port, "", b"[1,2,3,4]").0, 413);
    assert_eq!(send(port, "", b"[1,2,3]").0, 200);
    assert_eq!(serving.values(), ["1", "2", "3"]);

    let serving = Serving::start(&[("rate.limit", "0.1")]);
    let (taken, refused): (Vec<_>, Vec<_>) =
        (0..20).map(|_| send(serving.port, "", b"{}")).partition(|(status, _)| *status == 200);
    assert!(!taken.is_empty() && !refused.is_empty(), "{} taken", taken.len());
    for (status, answer) in refused {
        assert!(status == 429 && answer.to_lowercase().contains("retry-after: "), "{answer}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let serving = Serving::start(&[("key.pointer", "/id"), ("headers.forward", "X-Event")]);
    let port = serving.port;
    let (status, answer) = send(port, "", b"{\"id\": oops}");
    assert!(status == 400 && answer.contains("no JSON"), "{answer}");
    assert!(send(port, "", b"{}").1.contains("has no key at /id"));
    assert_eq!(send(port, "Content-Encoding: gzip\r\n", b"{}").0, 415);
    let (status, answer) = send(port, "X-Event: push\r\n", b"[{\"id\":7},{\"id\":\"a\"}]");
    assert!(status == 200 && answer.ends_with("{\"records\":2}"), "{answer}");
    let raw = |text: &str| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(raw("POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), "404");
    assert_eq!(raw("GET /hook HTTP/1.1\r\nHost: h\r\n\r\n"), "405");
    let batches = serving.batches.lock().unwrap();
    assert_eq!(rows::keys(&batches), ["7", "a"]);
    let header = batches[0].rows().next().unwrap().headers().next();
    assert_eq!(header, Some(("x-event", Some(b"push".as_slice()))));
}

/// Nobody delivers: senders are told to come again, and the memory has a bound.
#[test]
fn while_the_log_is_away_nothing_is_promised() {
    let port = ports::free().unwrap();
    let more = [("answer.timeout.ms", "500"), ("buffer.bytes", "1024")];
    let mut run = SourceRun::<WebhookSource>::start(&config(port, &more)).unwrap();
    let (status, answer) = send(port, "", b"{\"n\":1}");
    assert!(status == 503 && answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    // What was answered keeps no room from others, and does not come.
    let large = format!("\"{}\"", "x".repeat(900));
    let (status, answer) = send(port, "", large.as_bytes());
    assert!(status == 503 && answer.contains("were not stored in time"), "{answer}");
    assert!(run.poll().unwrap().is_empty(), "nobody waits for them any more");
    // What was taken may come all the same, and counts until it is known to be stored.
    let taken = Arc::new(AtomicBool::new(false));
    let stop = taken.clone();
    let sender = std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            assert_eq!(send(port, "", b"{\"n\":2}").0, 503);
        }
    });
    while run.poll().unwrap().is_empty() {}
    taken.store(true, Ordering::SeqCst);
    let (status, answer) = send(port, "", large.as_bytes());
    assert!(status == 503 && answer.contains("too much waits"), "{answer}");
    sender.join().unwrap();
    run.stop().unwrap();
    assert_eq!(send(port, "", b"{}").0, 0, "nobody listens any more");
}

#[test]
fn tasks_share_the_port() {
    let port = ports::free().unwrap();
    let mut connector = WebhookSource::default();
    let services = TestServices::new();
    connector.start(&services.context(), &config(port, &[])).unwrap();
    let mut runs: Vec<_> = connector.task_configs(2).unwrap().iter().map(task).collect();
    let senders: Vec<_> = (0..40)
        .map(|n| std::thread::spawn(move || while send(port, "", n.to_string().as_bytes()).0 != 200 {}))
        .collect();
    let mut got = BTreeSet::new();
    // The last deliveries are told in the next call.
    while senders.iter().any(|sender| !sender.is_finished()) {
        for run in &mut runs {
            let batches = run.poll().unwrap();
            got.extend(rows::values(&batches));
            run.deliver(&batches).unwrap();
        }
    }
    assert_eq!(got.len(), 40);
    // Nobody else gets a share of the requests, until the last of them is gone.
    let other = |tasks: usize| {
        let mut connector = WebhookSource::default();
        connector.start(&services.context(), &config(port, &[("name", "other")])).unwrap();
        let config = connector.task_configs(tasks).unwrap().remove(0);
        let mut task = WebhookSourceTask::default();
        task.start(&services.context(), &config).and_then(|()| task.stop())
    };
    for tasks in [1, 2] {
        let error = other(tasks).unwrap_err();
        assert!(error.is_retriable() && error.to_string().contains("cannot listen on"), "{error}");
    }
    runs.iter_mut().for_each(|run| run.stop().unwrap());
    for tasks in [1, 2] {
        wait::until("the port", wait::PATIENCE, || Ok(other(tasks).ok())).unwrap();
    }
}

/// A task by its own config.
fn task(config: &Config) -> SourceRun<WebhookSource> {
    let aside = Config::from_iter([("topic", "hooks"), ("listen", &format!("127.0.0.1:{}", ports::free().unwrap()))]);
    let mut run = SourceRun::<WebhookSource>::start(&aside).unwrap();
    let context = run.services().context();
    run.stop().unwrap();
    run.task().start(&context, config).unwrap();
    run
}

#[test]
fn two_connectors_do_not_share_the_port() {
    let port = ports::free().unwrap();
    let mut first = SourceRun::<WebhookSource>::start(&config(port, &[("name", "first")])).unwrap();
    let second = || SourceRun::<WebhookSource>::start(&config(port, &[("name", "second")]));
    let error = second().err().unwrap();
    assert!(error.is_retriable() && error.to_string().contains("cannot listen on"), "{error}");
    first.stop().unwrap();
    wait::until("the port", wait::PATIENCE, || Ok(second().ok())).unwrap().stop().unwrap();
}

#[test]
fn a_refusal_ends_the_connection() {
    let serving = Serving::start(&[]);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, serving.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /hook HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(answer.starts_with("http/1.1 405") && answer.contains("connection: close"), "{answer}");
    // Nor is there an end to heads otherwise.
    let (status, answer) = send(serving.port, &format!("X-Long: {}\r\n", "x".repeat(300_000)), b"{}");
    assert!(matches!(status, 0 | 431), "{answer}");
}

#[test]
fn configs_that_would_let_everybody_in_are_refused() {
    for (key, value, why) in [
        ("listen", "0.0.0.0:8088", "allow.unauthenticated=true"),
        ("listen", "somewhere", "no address with a port"),
        ("path", "hook", "begin with /"),
        ("signature.type", "github", "it is needed with signature.type=github"),
        ("auth.type", "bearer", "it is needed with auth.type=bearer"),
        ("key.pointer", "id", "begins with /"),
        ("ssl.keystore.location", "/no/such/file", "cannot read"),
    ] {
        let mut config = Config::from_iter([("topic", "t")]);
        config.set(key, value);
        let wrong = WebhookSource::default().validate(&config);
        assert!(wrong.len() == 1 && wrong[0].1.contains(why), "{key}={value}: {wrong:?}");
    }
    let position = |offset| [SourcePosition { partition: json!({"webhook": "x"}), offset }];
    assert!(WebhookSource::default().alter_offsets(&Config::default(), &position(None)).unwrap());
    assert!(WebhookSource::default().alter_offsets(&Config::default(), &position(Some(json!({"poll": 1})))).is_err());
}
