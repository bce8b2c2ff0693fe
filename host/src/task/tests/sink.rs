//! The sink loop.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow_array::StringArray;
use tributary_sdk::sink::{Failures, TopicPartition, TopicPartitionOffset};
use tributary_sdk::{Batch, Column, Config, Error, Result, Services};

use super::fakes::{
    Journal, ScriptedConsumer, ScriptedProducer, converters, dead_letters, fetched, partition, services,
};
use crate::log::{ConsumerEvent, LogError, LogProducer};
use crate::plugin::SinkTaskHandle;
use crate::plugin::handle::Canceller;
use crate::task::control::TaskControl;
use crate::task::converters::Converters;
use crate::task::error_policy::ErrorPolicy;
use crate::task::errors::TaskError;
use crate::task::inbound_converter::InboundConverter;
use crate::task::services::InstanceServices;
use crate::task::{ConsumeSettings, SinkTask};
use crate::transform::TransformChain;

type Put = Box<dyn FnMut(&[String], &mut Failures) -> Result<()> + Send>;

/// A sink whose `put` is scripted. What it is asked (`ask …`) it answers with records of its own.
struct Scripted {
    journal: Journal,
    put: Put,
    services: Arc<InstanceServices>,
}

impl SinkTaskHandle for Scripted {
    fn start(&mut self, _: &Config) -> Result<()> {
        Ok(())
    }
    fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        partitions.iter().for_each(|p| self.journal.note(format!("open {}-{}", p.topic, p.partition)));
        Ok(vec![TopicPartitionOffset { topic: "t".into(), partition: 1, offset: Some(40) }])
    }
    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        let values = batch.value.as_text().unwrap().iter().map(|v| v.unwrap_or("null").to_owned()).collect::<Vec<_>>();
        self.journal.note(format!("put {}", values.join(" ")));
        for asked in values.iter().filter_map(|value| value.strip_prefix("ask ")) {
            self.services.produce(Batch::new("answers", Column::text(StringArray::from(vec![asked]))))?;
        }
        if values.iter().any(|value| value == "shout") {
            // It does not care what comes of it.
            _ = self.services.produce(Batch::new("nowhere", Column::text(StringArray::from(vec!["hey"]))));
        }
        (self.put)(&values, failures)
    }
    fn flush(&mut self, _: &[TopicPartitionOffset]) -> Result<()> {
        Ok(())
    }
    fn pre_commit(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        Ok(offsets.to_vec())
    }
    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        partitions.iter().for_each(|p| self.journal.note(format!("close {}-{}", p.topic, p.partition)));
        Ok(())
    }
    fn stop(&mut self) -> Result<()> {
        self.journal.note("stop");
        Ok(())
    }
    fn canceller(&self) -> Canceller {
        Arc::new(|| {})
    }
}

struct Running {
    journal: Journal,
    control: Arc<TaskControl>,
    events: Arc<Mutex<std::collections::VecDeque<ConsumerEvent>>>,
    /// While true, none of the sink's own records is acknowledged.
    hold_answers: Arc<Mutex<bool>>,
    task: JoinHandle<std::result::Result<(), TaskError>>,
}

impl Running {
    fn start(value_converter: &str, tolerate: bool, events: Vec<ConsumerEvent>, put: Put) -> Self {
        Self::start_with(converters(value_converter), tolerate, None, events, put)
    }

    fn start_with(
        converters: Converters,
        tolerate: bool,
        letters: Option<ScriptedProducer>,
        events: Vec<ConsumerEvent>,
        put: Put,
    ) -> Self {
        let (journal, control) = (Journal::default(), Arc::new(TaskControl::default()));
        let events = Arc::new(Mutex::new(events.into_iter().collect()));
        let reports = journal.clone();
        let services = services(&journal, &control);
        let hold_answers = Arc::new(Mutex::new(false));
        {
            let (journal, hold, prepared) = (journal.clone(), hold_answers.clone(), journal.clone());
            let prepare = move |topic: &str| {
                prepared.note(format!("topic {topic}"));
                match topic {
                    "nowhere" => Err(TaskError::new("there is no such topic")),
                    _ => Ok(true),
                }
            };
            let make = move || -> std::result::Result<Box<dyn LogProducer>, LogError> {
                let (journal, hold) = (journal.clone(), hold.clone());
                Ok(Box::new(ScriptedProducer { journal, hold, refuse: Some("refused"), ..ScriptedProducer::default() }))
            };
            services.own_records.open(Box::new(prepare), Box::new(make), control.clone());
        }
        let task = SinkTask {
            name: "c-0".into(),
            handle: Box::new(Scripted { journal: journal.clone(), put, services: services.clone() }),
            config: Config::default(),
            converter: InboundConverter {
                converters,
                chain: TransformChain::build(&Config::default(), &mut |_, _| unreachable!()).unwrap(),
            },
            consumer: Box::new(ScriptedConsumer { events: events.clone(), journal: journal.clone() }),
            errors: ErrorPolicy { tolerate, retry_timeout_ms: -1, ..ErrorPolicy::default() },
            dead_letters: letters
                .map(|producer| dead_letters(ScriptedProducer { journal: journal.clone(), ..producer }, &control)),
            control: control.clone(),
            services,
            bounds: Default::default(),
            commit_interval: Duration::from_millis(20),
            consume: ConsumeSettings {
                max_records: 100,
                max_bytes: 1 << 20,
                revoke_timeout: Duration::from_secs(10),
                topic_used: Arc::new(|_| {}),
            },
            report: Arc::new(move |state| reports.note(format!("{state:?}"))),
            left_behind: Vec::new(),
            claiming: None,
        };
        Self { journal, control, events, hold_answers, task: std::thread::spawn(move || task.run()) }
    }

    fn stop(self) -> (std::result::Result<(), TaskError>, Vec<String>) {
        self.control.stop();
        (self.task.join().unwrap(), self.journal.lines())
    }
}

fn position(lines: &[String], line: &str) -> usize {
    lines.iter().position(|l| l == line).unwrap_or_else(|| panic!("no {line:?} in {lines:#?}"))
}

#[test]
fn a_batch_is_put_again_until_accepted_and_only_then_committed() {
    let at = partition("t", 0);
    let mut refusals = 2;
    let put: Put = Box::new(move |_, _| {
        refusals -= 1;
        if refusals >= 0 { Err(Error::retriable("disk full")) } else { Ok(()) }
    });
    let events = vec![ConsumerEvent::Assigned(vec![at.clone(), partition("t", 1)]), fetched(&at, 5, &["a", "b"])];
    let running = Running::start("StringConverter", false, events, put);
    running.journal.wait_for("commit t-0 7");
    let (result, lines) = running.stop();
    result.unwrap();
    assert_eq!(lines.iter().filter(|line| *line == "put a b").count(), 3, "{lines:#?}");
    // The sink keeps offsets of its own for partition 1.
    assert!(lines.contains(&"assign t-1 from Some(40)".into()) && lines.contains(&"assign t-0 from None".into()));
    assert!(position(&lines, "consumer closed") < position(&lines, "stop"));
}

#[test]
fn revoked_partitions_are_committed_and_closed_before_they_go_and_what_was_not_put_is_left() {
    let (zero, one) = (partition("t", 0), partition("t", 1));
    let put: Put = Box::new(|values, _| {
        if values[0] == "slow" {
            std::thread::sleep(Duration::from_millis(150));
        }
        Ok(())
    });
    let events = vec![
        ConsumerEvent::Assigned(vec![zero.clone(), one.clone()]),
        fetched(&zero, 0, &["first"]),
        fetched(&zero, 1, &["slow"]),
        fetched(&zero, 2, &["never"]),
        ConsumerEvent::Revoked(vec![zero.clone()]),
        fetched(&one, 9, &["other"]),
    ];
    let running = Running::start("StringConverter", false, events, put);
    running.journal.wait_for("commit t-1 10");
    let (result, lines) = running.stop();
    result.unwrap();
    assert!(position(&lines, "close t-0") < position(&lines, "unassign t-0"));
    let last = lines.iter().rfind(|line| line.starts_with("commit t-0"));
    let put = ["put first", "put slow", "put never"].iter().filter(|put| lines.contains(&(**put).to_owned())).count();
    let expected = (put > 0).then(|| format!("commit t-0 {put}"));
    assert_eq!(last, expected.as_ref(), "{lines:#?}");
    assert!(
        lines
            .iter()
            .skip(position(&lines, "unassign t-0"))
            .all(|line| !line.contains("t-0") || line.starts_with("unassign"))
    );
}

#[test]
fn an_untolerated_record_fails_the_task_and_keeps_what_came_before() {
    let at = partition("t", 0);
    let events = vec![
        ConsumerEvent::Assigned(vec![at.clone()]),
        fetched(&at, 0, &[r#"{"ok":1}"#]),
        fetched(&at, 1, &["{broken"]),
    ];
    let running = Running::start("JsonConverter", false, events, Box::new(|_, _| Ok(())));
    running.journal.wait_for("consumer closed");
    let error = running.task.join().unwrap().unwrap_err();
    assert!(error.message.contains("t-0 offset 1") && error.message.contains("VALUE_CONVERTER"), "{}", error.message);
    let commits = running.journal.lines().into_iter().filter(|line| line.starts_with("commit")).collect::<Vec<_>>();
    assert_eq!(commits, ["commit t-0 1"]);
}

#[test]
fn tolerated_records_are_skipped_and_records_that_may_pass_later_are_tried_again() {
    let at = partition("t", 0);
    let mut calls = 0;
    let put: Put = Box::new(move |values, failures| {
        calls += 1;
        if calls == 1 {
            assert_eq!(values.len(), 3);
            failures.fail(0, "never");
            failures.retry(2, "not now");
        }
        Ok(())
    });
    let events = vec![
        ConsumerEvent::Assigned(vec![at.clone()]),
        fetched(&at, 0, &["1", "2", "3"]),
        fetched(&at, 3, &["{", "4"]),
    ];
    let running = Running::start("JsonConverter", true, events, put);
    running.journal.wait_for("commit t-0 5");
    let progress = running.control.counters.progress();
    let (result, lines) = running.stop();
    result.unwrap();
    let puts = lines.iter().filter(|line| line.starts_with("put")).collect::<Vec<_>>();
    assert_eq!(puts, ["put 1 2 3", "put 3", "put 4"]);
    assert_eq!((progress.records_in, progress.records_out, progress.records_failed), (5, 3, 2));
}

#[test]
fn after_a_panic_the_instance_is_left_alone() {
    let at = partition("t", 0);
    let put: Put = Box::new(|_, _| Err(Error::Panicked { message: "boom at sink.rs:7".into(), trace: "frame".into() }));
    let events = vec![ConsumerEvent::Assigned(vec![at.clone()]), fetched(&at, 0, &["a"])];
    let running = Running::start("StringConverter", false, events, put);
    running.journal.wait_for("consumer closed");
    let error = running.task.join().unwrap().unwrap_err();
    assert!(error.message.contains("panicked in put: boom at sink.rs:7"), "{}", error.message);
    let lines = running.journal.lines();
    assert!(
        !lines.contains(&"stop".into())
            && !lines.iter().any(|line| line.starts_with("commit") || line.starts_with("close"))
    );
}

#[test]
fn a_fenced_task_commits_nothing_even_when_its_put_returns_at_last() {
    let at = partition("t", 0);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let put: Put = Box::new(move |_, _| {
        released.recv().ok();
        Ok(())
    });
    let events = vec![ConsumerEvent::Assigned(vec![at.clone()]), fetched(&at, 0, &["a"])];
    let running = Running::start("StringConverter", false, events, put);
    running.journal.wait_for("put a");
    running.control.fence();
    running.journal.wait_for("consumer closed");
    release.send(()).unwrap();
    running.task.join().unwrap().unwrap();
    let lines = running.journal.lines();
    assert!(!lines.iter().any(|line| line.starts_with("commit") || line == "stop"), "{lines:#?}");
}

#[test]
fn a_paused_task_pauses_its_partitions_and_resumes_them() {
    let at = partition("t", 0);
    let running = Running::start(
        "StringConverter",
        false,
        vec![ConsumerEvent::Assigned(vec![at.clone()])],
        Box::new(|_, _| Ok(())),
    );
    running.journal.wait_for("assign t-0 from None");
    running.control.set_paused(true);
    running.journal.wait_for("pause t-0");
    running.journal.wait_for("Paused");
    running.control.set_paused(false);
    running.journal.wait_for("resume t-0");
    running.events.lock().unwrap().push_back(fetched(&at, 0, &["a"]));
    running.journal.wait_for("commit t-0 1");
    running.stop().0.unwrap();
}

fn commits(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| line.starts_with("commit")).collect()
}

#[test]
fn a_record_whose_header_cannot_be_converted_is_not_put() {
    let at = partition("t", 0);
    let mut converters = converters("StringConverter");
    converters.header.converter = crate::converter::header_converter("JsonConverter", &Config::default()).unwrap();
    let ConsumerEvent::Batch(mut batch) = fetched(&at, 0, &["a", "b", "c"]) else { unreachable!() };
    let mut headers = crate::task::letter_headers::HeaderLists::default();
    for value in [r#"{"schema":null,"payload":1}"#, "{oops", r#"{"schema":null,"payload":2}"#] {
        headers.add("h", Some(value.as_bytes()));
        headers.end_record();
    }
    batch.records.headers = Some(headers.finish());
    let events = vec![ConsumerEvent::Assigned(vec![at]), ConsumerEvent::Batch(batch)];
    let letters = Some(ScriptedProducer::default());
    let running = Running::start_with(converters, true, letters, events, Box::new(|_, _| Ok(())));
    running.journal.wait_for("commit t-0 3");
    let totals = running.control.counters.progress().errors;
    assert_eq!((totals.record_errors, totals.records_skipped, totals.dead_letter_requests), (1, 1, 1));
    let (result, lines) = running.stop();
    result.unwrap();
    let puts = lines.iter().filter(|line| line.starts_with("put")).collect::<Vec<_>>();
    assert_eq!(puts, ["put a", "put c"]);
    assert!(lines.contains(&"dlq: b".into()), "{lines:#?}");
}

#[test]
fn nothing_is_committed_before_the_dead_letters_are_acknowledged() {
    let at = partition("t", 0);
    let events = vec![ConsumerEvent::Assigned(vec![at.clone()]), fetched(&at, 0, &["1", "{", "3"])];
    let letters = ScriptedProducer::default();
    let hold = letters.hold.clone();
    *hold.lock().unwrap() = true;
    let put: Put = Box::new(|_, _| Ok(()));
    let running = Running::start_with(converters("JsonConverter"), true, Some(letters), events, put);
    running.journal.wait_for("put 3");
    std::thread::sleep(Duration::from_millis(3300));
    assert!(commits(&running.journal.lines()).is_empty());
    let retrying = running.control.counters.progress().retrying.unwrap();
    assert!(retrying.contains("topic dlq"), "{retrying}");
    *hold.lock().unwrap() = false;
    running.journal.wait_for("commit t-0 3");
    assert!(running.control.counters.progress().retrying.is_none());
    running.stop().0.unwrap();
}

#[test]
fn a_refused_dead_letter_fails_the_task_and_nothing_is_committed_after_it() {
    let at = partition("t", 0);
    let events = vec![ConsumerEvent::Assigned(vec![at.clone()]), fetched(&at, 0, &["1", "{", "3"])];
    let letters = ScriptedProducer { refuse: Some("{"), ..ScriptedProducer::default() };
    let put: Put = Box::new(|_, _| Ok(()));
    let running = Running::start_with(converters("JsonConverter"), true, Some(letters), events, put);
    running.journal.wait_for("consumer closed");
    assert_eq!(running.control.counters.progress().errors.dead_letter_failures, 1);
    let error = running.task.join().unwrap().unwrap_err();
    assert!(error.message.contains("dead-letter topic dlq"), "{}", error.message);
    assert!(commits(&running.journal.lines()).is_empty(), "{:#?}", running.journal.lines());
}

#[test]
fn nothing_is_committed_before_the_sinks_own_records_are_acknowledged() {
    let at = partition("t", 0);
    let events = vec![ConsumerEvent::Assigned(vec![at.clone()]), fetched(&at, 0, &["ask one", "tell", "ask two"])];
    let running = Running::start("StringConverter", false, events, Box::new(|_, _| Ok(())));
    *running.hold_answers.lock().unwrap() = true;
    running.journal.wait_for("answers: two");
    // Between the start and the hold something may have been acknowledged; what comes now is not.
    running.events.lock().unwrap().push_back(fetched(&at, 3, &["ask three"]));
    running.journal.wait_for("answers: three");
    std::thread::sleep(Duration::from_millis(3300));
    assert!(!commits(&running.journal.lines()).iter().any(|line| *line == "commit t-0 4"));
    let retrying = running.control.counters.progress().retrying.unwrap();
    assert!(retrying.contains("the connector writes itself"), "{retrying}");
    *running.hold_answers.lock().unwrap() = false;
    running.journal.wait_for("commit t-0 4");
    let (result, lines) = running.stop();
    result.unwrap();
    assert_eq!(lines.iter().filter(|line| *line == "topic answers").count(), 1, "{lines:#?}");
}

#[test]
fn a_refused_record_of_the_sinks_own_fails_the_task_and_nothing_is_committed_after_it() {
    let at = partition("t", 0);
    let events = vec![ConsumerEvent::Assigned(vec![at.clone()]), fetched(&at, 0, &["ask refused"])];
    let running = Running::start("StringConverter", true, events, Box::new(|_, _| Ok(())));
    running.journal.wait_for("consumer closed");
    let error = running.task.join().unwrap().unwrap_err();
    assert!(error.message.contains("writes itself was refused"), "{}", error.message);
    assert!(commits(&running.journal.lines()).is_empty(), "{:#?}", running.journal.lines());
}

#[test]
fn nothing_is_committed_once_a_record_of_the_sinks_own_was_not_even_handed_over() {
    let at = partition("t", 0);
    let events = vec![ConsumerEvent::Assigned(vec![at.clone()]), fetched(&at, 0, &["shout"])];
    let running = Running::start("StringConverter", true, events, Box::new(|_, _| Ok(())));
    running.journal.wait_for("consumer closed");
    let error = running.task.join().unwrap().unwrap_err();
    assert!(error.message.contains("there is no such topic"), "{}", error.message);
    assert!(commits(&running.journal.lines()).is_empty(), "{:#?}", running.journal.lines());
}
