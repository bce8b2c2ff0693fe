//! A plugin that does what it should not, in each call: the worker lives, and says where it happened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use tributary::plugin::{PluginClass, Registry};
use tributary_abi_tests::Recorder;
use tributary_abi_tests::libraries::{built, installed, scanned};
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::sink::Failures;
use tributary_sdk::{Batch, Column, Config, Error, Result};

struct Plugins {
    registry: Registry,
    _root: tempfile::TempDir,
}

impl Plugins {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        installed(&built("hostile"), root.path(), "hostile");
        let registry = scanned(root.path());
        assert_eq!(registry.problems(), []);
        Self { registry, _root: root }
    }

    fn connector(&self, class: &str) -> PluginClass {
        self.registry.connector(class, None).unwrap()
    }

    fn transform(&self, class: &str) -> PluginClass {
        self.registry.transform(class, None).unwrap()
    }
}

fn services() -> Arc<Recorder> {
    Arc::new(Recorder::default())
}

fn panics_in(call: &str) -> Config {
    Config::from_iter([("panic.in", call)])
}

fn batch() -> Batch {
    Batch::new("t", Column::text(StringArray::from(vec!["a", "b"])))
}

#[track_caller]
fn assert_panicked<T: std::fmt::Debug>(result: Result<T>, call: &str) {
    match result {
        Err(Error::Panicked { message, trace }) => {
            assert!(message.starts_with(&format!("boom in {call} at ")), "{message}");
            assert!(message.contains("hostile/src/lib.rs:"), "{message}");
            assert!(trace.contains("show"), "the trace does not show the place:\n{trace}");
            let machinery = ["rust_begin_unwind", "catch_unwind", "hostile.rs"];
            assert!(!machinery.iter().any(|name| trace.contains(name)), "the trace shows the machinery:\n{trace}");
        }
        other => panic!("{call}: {other:?}"),
    }
}

#[track_caller]
fn assert_left_alone<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.unwrap_err().to_string();
    assert!(error.ends_with("was not called: the instance panicked before"), "{error}");
}

#[test]
fn panics_in_every_call_of_a_connector() {
    let plugins = Plugins::new();
    for class in ["HostileSource", "HostileSink"] {
        for call in ["validate", "start", "task_configs", "stop"] {
            let mut connector = plugins.connector(class).connector(services()).unwrap();
            let config = panics_in(call);
            let result = connector
                .validate(&config)
                .and_then(|_| connector.start(&config))
                .and_then(|()| connector.task_configs(1))
                .and_then(|_| connector.stop());
            assert_panicked(result, call);
            assert_left_alone(connector.stop());
            connector.canceller()();
        }
    }
}

#[test]
fn panics_in_every_call_of_a_source_task() {
    let plugins = Plugins::new();
    for call in ["start", "poll", "commit", "stop"] {
        let mut task = plugins.connector("HostileSource").source_task(services()).unwrap();
        let cancel = task.canceller();
        let mut batches = Vec::new();
        let result = task
            .start(&panics_in(call))
            .and_then(|()| task.poll(&mut batches))
            .and_then(|()| task.commit(&[]))
            .and_then(|()| task.stop());
        assert_panicked(result, call);
        if call != "start" {
            assert_eq!(batches.len(), 1, "what was emitted before the panic counts");
        }
        assert_left_alone(task.poll(&mut batches));
        assert_left_alone(task.stop());
        cancel();
        drop(task);
        cancel();
    }
}

#[test]
fn panics_in_every_call_of_a_sink_task() {
    let plugins = Plugins::new();
    for call in ["start", "open", "put", "flush", "close", "stop"] {
        let mut task = plugins.connector("HostileSink").sink_task(services()).unwrap();
        let mut failures = Failures::default();
        let result = task
            .start(&panics_in(call))
            .and_then(|()| task.open(&[]))
            .and_then(|_| task.put(batch(), &mut failures))
            .and_then(|()| task.pre_commit(&[]))
            .and_then(|_| task.close(&[]))
            .and_then(|()| task.stop());
        assert_panicked(result, call);
        assert_left_alone(task.put(batch(), &mut failures));
    }
}

#[test]
fn panics_in_every_call_of_a_transform() {
    let plugins = Plugins::new();
    for call in ["configure", "apply", "on_watermark"] {
        let mut transform = plugins.transform("HostileTransform").transform(services()).unwrap();
        let mut batches = Vec::new();
        let result = transform
            .configure(&panics_in(call))
            .and_then(|()| transform.apply(batch(), &mut batches, &mut Failures::default()))
            .and_then(|()| transform.on_watermark(1, &mut batches));
        assert_panicked(result, call);
        assert_left_alone(transform.on_watermark(2, &mut batches));
    }
    match plugins.transform("Stillborn").transform(services()) {
        Err(Error::Panicked { message, .. }) => assert!(message.starts_with("boom in create at "), "{message}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn panics_of_other_kinds() {
    let plugins = Plugins::new();
    for (with, expected) in [
        ("number", "(a panic without a message) at "),
        ("bomb", "(a panic without a message) at "),
        ("overflow", "index out of bounds: the len is 0 but the index is 7 at "),
    ] {
        let mut task = plugins.connector("HostileSource").source_task(services()).unwrap();
        let mut config = panics_in("poll");
        config.set("panic.with", with);
        task.start(&config).unwrap();
        match task.poll(&mut Vec::new()) {
            Err(Error::Panicked { message, .. }) => assert!(message.starts_with(expected), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    // In its canceller, its destructor, and a callback of the worker's scan.
    let recorder = services();
    let task = |config: Config| {
        let mut task = plugins.connector("HostileSource").source_task(recorder.clone()).unwrap();
        let result = task.start(&config);
        (task, result)
    };
    let (running, result) = task(panics_in("cancel"));
    result.unwrap();
    running.canceller()();
    let (running, result) = task(panics_in("drop"));
    result.unwrap();
    drop(running);
    let lines = recorder.lines.lock().unwrap().join("\n");
    assert!(lines.contains("Error while it was cancelled, the instance panicked: boom in cancel at "), "{lines}");
    assert!(lines.contains("Error while it was destroyed, the instance panicked: boom in drop at "), "{lines}");
    let (_running, result) = task(Config::from_iter([("scan", "")]));
    match result {
        Err(Error::Panicked { message, .. }) => assert!(message.contains("boom in scan"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_that_hangs_in_stop_can_be_left_behind() {
    let plugins = Plugins::new();
    let mut task = plugins.connector("HostileSource").source_task(services()).unwrap();
    task.start(&Config::from_iter([("hang.in", "stop")])).unwrap();
    let cancel = task.canceller();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let result = task.stop();
        let _ = done.send(result);
    });
    assert!(is_done.recv_timeout(Duration::from_millis(200)).is_err(), "it was to hang");
    // The stuck call holds nothing that others need: cancels return, new tasks of the class start and stop.
    cancel();
    let mut next = plugins.connector("HostileSource").source_task(services()).unwrap();
    next.start(&Config::default()).unwrap();
    next.poll(&mut Vec::new()).unwrap();
    next.stop().unwrap();
}

#[test]
fn a_thread_that_outlives_its_instance_harms_nobody() {
    let plugins = Plugins::new();
    let recorder = services();
    let mut connector = plugins.connector("HostileSource").connector(recorder.clone()).unwrap();
    connector.start(&Config::from_iter([("late", "")])).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    connector.stop().unwrap();
    drop(connector);
    let before = recorder.calls.lock().unwrap().len();
    assert!(before > 0);
    std::thread::sleep(Duration::from_millis(50));
    assert!(recorder.calls.lock().unwrap().len() <= before + 1, "calls come through after the instance is gone");
    assert!(!recorder.lines.lock().unwrap().iter().any(|line| line.contains("still here")));
    assert_eq!(Arc::strong_count(&recorder), 1, "the services are let go");
    assert!(!recorder.cancelled.load(Ordering::Relaxed));
}

#[test]
fn a_failure_of_a_row_that_is_not_there_is_refused() {
    let plugins = Plugins::new();
    let mut task = plugins.connector("HostileSink").sink_task(services()).unwrap();
    task.start(&Config::from_iter([("fail.row", "2")])).unwrap();
    let error = task.put(batch(), &mut Failures::default()).unwrap_err().to_string();
    assert_eq!(error, "record 2 was reported as failed, but the batch has 2 records");
}
