//! The source loop.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow_array::StringArray;
use tributary_sdk::source::SourcePosition;
use tributary_sdk::{Batch, Column, Config, Error, Result, Services};

use super::fakes::{Journal, ScriptedProducer, converters, dead_letters, services};
use crate::plugin::SourceTaskHandle;
use crate::plugin::handle::{Acknowledger, Canceller};
use crate::task::control::TaskControl;
use crate::task::delivery::DeliverySettings;
use crate::task::error_policy::ErrorPolicy;
use crate::task::errors::TaskError;
use crate::task::outbound_converter::OutboundConverter;
use crate::task::services::InstanceServices;
use crate::task::{SourceProducer, SourceTask};
use crate::transform::TransformChain;

type Poll = Box<dyn FnMut(u64, &InstanceServices) -> Result<Vec<Batch>> + Send>;

/// A source whose `poll` is scripted by its number, from 1.
struct Scripted {
    journal: Journal,
    services: Arc<InstanceServices>,
    polls: u64,
    poll: Poll,
    /// It wants to be told of acknowledgements.
    waits: bool,
}

impl SourceTaskHandle for Scripted {
    fn start(&mut self, _: &Config) -> Result<()> {
        self.journal.note("start");
        Ok(())
    }
    fn poll(&mut self, batches: &mut Vec<Batch>) -> Result<()> {
        self.polls += 1;
        batches.extend((self.poll)(self.polls, &self.services)?);
        if batches.is_empty() {
            self.services.wait(Duration::from_millis(2));
        }
        Ok(())
    }
    fn commit(&mut self, positions: &[SourcePosition]) -> Result<()> {
        positions.iter().for_each(|p| self.journal.note(format!("told {}", p.offset.as_ref().unwrap())));
        Ok(())
    }
    fn stop(&mut self) -> Result<()> {
        self.journal.note("stop");
        Ok(())
    }
    fn canceller(&self) -> Canceller {
        Arc::new(|| {})
    }
    fn acknowledger(&self) -> Option<Acknowledger> {
        let (journal, waits) = (self.journal.clone(), self.waits);
        Some(Arc::new(move |positions| {
            positions.iter().for_each(|p| journal.note(format!("safe {}", p.offset.as_ref().unwrap())));
            waits
        }))
    }
}

fn batch(n: u64, values: &[&str]) -> Batch {
    Batch::new("t", Column::text(StringArray::from(values.to_vec())))
        .with_resume_point(r#"{"p":1}"#, &format!("{{\"n\":{n}}}"))
}

struct Running {
    journal: Journal,
    control: Arc<TaskControl>,
    hold: Arc<Mutex<bool>>,
    task: JoinHandle<std::result::Result<(), TaskError>>,
}

impl Running {
    fn start(tolerate: bool, hold: bool, refuse: Option<&'static str>, poll: Poll) -> Self {
        let producer = ScriptedProducer { refuse, ..ScriptedProducer::default() };
        let errors = ErrorPolicy { tolerate, ..ErrorPolicy::default() };
        Self::start_with(errors, hold, producer, None, poll)
    }

    fn start_with(
        errors: ErrorPolicy,
        hold: bool,
        producer: ScriptedProducer,
        letters: Option<ScriptedProducer>,
        poll: Poll,
    ) -> Self {
        Self::start_every(Duration::from_millis(20), (errors, hold), producer, letters, poll)
    }

    fn start_every(
        commit_interval: Duration,
        handling: (ErrorPolicy, bool),
        producer: ScriptedProducer,
        letters: Option<ScriptedProducer>,
        poll: Poll,
    ) -> Self {
        Self::start_waiting(false, commit_interval, handling, producer, letters, poll)
    }

    fn start_waiting(
        waits: bool,
        commit_interval: Duration,
        (errors, hold): (ErrorPolicy, bool),
        producer: ScriptedProducer,
        letters: Option<ScriptedProducer>,
        poll: Poll,
    ) -> Self {
        let (journal, control) = (Journal::default(), Arc::new(TaskControl::default()));
        let services = services(&journal, &control);
        let producer = ScriptedProducer { journal: journal.clone(), ..producer };
        *producer.hold.lock().unwrap() = hold;
        let hold = producer.hold.clone();
        let task = SourceTask {
            name: "c-0".into(),
            handle: Box::new(Scripted { journal: journal.clone(), services: services.clone(), polls: 0, poll, waits }),
            config: Config::default(),
            converter: OutboundConverter {
                converters: converters("StringConverter"),
                chain: TransformChain::build(&Config::default(), &mut |_, _| unreachable!()).unwrap(),
                dead_letters: letters.is_some(),
            },
            dead_letters: letters
                .map(|producer| dead_letters(ScriptedProducer { journal: journal.clone(), ..producer }, &control)),
            producer: SourceProducer::AtLeastOnce(Box::new(producer)),
            errors,
            control: control.clone(),
            services,
            bounds: Default::default(),
            state: None,
            delivery: DeliverySettings {
                commit_interval,
                flush_timeout: Duration::from_millis(300),
                topic_used: Arc::new(|_| {}),
                topics: None,
            },
            report: Arc::new(|_| {}),
        };
        Self { journal, control, hold, task: std::thread::spawn(move || task.run()) }
    }

    fn stop(self) -> (std::result::Result<(), TaskError>, Vec<String>) {
        self.control.stop();
        (self.task.join().unwrap(), self.journal.lines())
    }
}

#[test]
fn offsets_and_state_are_stored_only_after_the_acknowledgement() {
    let poll: Poll = Box::new(|n, services| {
        if n > 2 {
            return Ok(Vec::new());
        }
        services.state_put_many("s", &[(format!("k{n}").as_bytes(), Some(b"v"))])?;
        Ok(vec![batch(n, &["a", "b"])])
    });
    let running = Running::start(false, true, None, poll);
    running.journal.wait_for("t: b");
    std::thread::sleep(Duration::from_millis(80));
    let before = running.journal.lines();
    assert!(!before.iter().any(|line| line.starts_with("stored") || line.starts_with("state")), "{before:#?}");
    *running.hold.lock().unwrap() = false;
    running.journal.wait_for(r#"told {"n":2}"#);
    let (result, lines) = running.stop();
    result.unwrap();
    let place = |line: &str| lines.iter().position(|l| l == line).unwrap_or_else(|| panic!("no {line} in {lines:#?}"));
    assert!(place(r#"stored {"n":2}"#) < place("state s/k1") && place("state s/k2") < place("stop"));
}

#[test]
fn a_commit_that_is_asked_for_waits_for_the_acknowledgement_and_for_no_interval() {
    let poll: Poll = Box::new(|n, services| match n {
        1 => Ok(vec![batch(1, &["a"])]),
        2 => {
            services.request_commit();
            Ok(Vec::new())
        }
        _ => Ok(Vec::new()),
    });
    let hour = Duration::from_secs(3600);
    let held = (ErrorPolicy::default(), true);
    let running = Running::start_every(hour, held, ScriptedProducer::default(), None, poll);
    running.journal.wait_for("t: a");
    std::thread::sleep(Duration::from_millis(50));
    assert!(!running.journal.lines().iter().any(|line| line.starts_with("stored")));
    *running.hold.lock().unwrap() = false;
    running.journal.wait_for(r#"told {"n":1}"#);
    running.stop().0.unwrap();
}

#[test]
fn who_waits_is_told_of_acknowledgements_and_needs_no_commit() {
    let poll: Poll = Box::new(|n, services| {
        if n > 3 {
            services.request_commit();
            return Ok(Vec::new());
        }
        Ok(vec![batch(n, &["a"])])
    });
    let held = (ErrorPolicy::default(), true);
    let producer = ScriptedProducer::default();
    let running = Running::start_waiting(true, Duration::from_secs(3600), held, producer, None, poll);
    running.journal.wait_for("t: a");
    std::thread::sleep(Duration::from_millis(50));
    assert!(!running.journal.lines().iter().any(|line| line.starts_with("safe")), "nothing is acknowledged");
    *running.hold.lock().unwrap() = false;
    running.journal.wait_for(r#"safe {"n":3}"#);
    std::thread::sleep(Duration::from_millis(50));
    let before = running.journal.lines();
    assert!(!before.iter().any(|line| line.starts_with("stored")), "nobody waits for that: {before:#?}");
    let (result, lines) = running.stop();
    result.unwrap();
    assert!(lines.contains(&r#"stored {"n":3}"#.into()), "at the end as ever: {lines:#?}");
}

#[test]
fn who_waits_is_told_only_when_dead_letters_are_safe() {
    let poll: Poll = Box::new(|n, _| Ok(if n == 1 { vec![batch(1, &["a", "big"])] } else { Vec::new() }));
    let producer = ScriptedProducer { refuse: Some("big"), ..ScriptedProducer::default() };
    let letters = ScriptedProducer::default();
    let hold = letters.hold.clone();
    *hold.lock().unwrap() = true;
    let free = (tolerant(), false);
    let running = Running::start_waiting(true, Duration::from_secs(3600), free, producer, Some(letters), poll);
    running.journal.wait_for("dlq: big");
    std::thread::sleep(Duration::from_millis(50));
    assert!(!running.journal.lines().iter().any(|line| line.starts_with("safe")));
    *hold.lock().unwrap() = false;
    running.journal.wait_for(r#"safe {"n":1}"#);
    running.stop().0.unwrap();
}

#[test]
fn what_is_not_acknowledged_when_stopping_is_left_for_the_next_start() {
    let running = Running::start(
        false,
        true,
        None,
        Box::new(|n, _| Ok(if n == 1 { vec![batch(1, &["a"])] } else { Vec::new() })),
    );
    running.journal.wait_for("t: a");
    let (result, lines) = running.stop();
    result.unwrap();
    assert!(lines.contains(&"stop".into()) && !lines.iter().any(|line| line.starts_with("stored")), "{lines:#?}");
}

#[test]
fn a_failed_poll_keeps_what_came_before_and_a_retriable_one_goes_on() {
    let poll: Poll = Box::new(|n, _| match n {
        1 => Ok(vec![batch(1, &["a"])]),
        2 => Err(Error::retriable("busy")),
        3 => Ok(vec![batch(3, &["b"])]),
        _ => Err(Error::failed("cannot read /x: permission denied")),
    });
    let running = Running::start(false, false, None, poll);
    let error = running.task.join().unwrap().unwrap_err();
    assert_eq!(error.message, "poll failed: cannot read /x: permission denied");
    let lines = running.journal.lines();
    assert!(lines.contains(&r#"stored {"n":3}"#.into()) && lines.last().unwrap() == "stop", "{lines:#?}");
}

#[test]
fn a_refused_record_fails_the_task_or_is_skipped_as_configured() {
    let once = || -> Poll { Box::new(|n, _| Ok(if n == 1 { vec![batch(1, &["a", "big", "c"])] } else { Vec::new() })) };
    let running = Running::start(false, false, Some("big"), once());
    let error = running.task.join().unwrap().unwrap_err();
    assert!(error.message.contains("too large") && error.message.contains("KAFKA_PRODUCE"), "{}", error.message);
    assert!(!running.journal.lines().iter().any(|line| line.starts_with("stored")));

    let running = Running::start(true, false, Some("big"), once());
    running.journal.wait_for(r#"stored {"n":1}"#);
    assert_eq!(running.control.counters.progress().records_failed, 1);
    running.stop().0.unwrap();
}

fn tolerant() -> ErrorPolicy {
    ErrorPolicy { tolerate: true, ..ErrorPolicy::default() }
}

#[test]
fn a_batch_that_is_refused_as_a_whole_is_divided_until_its_large_record_stands_alone() {
    let poll: Poll =
        Box::new(|n, _| Ok(if n == 1 { vec![batch(1, &["a", "b", "c", "big", "d", "e", "f"])] } else { Vec::new() }));
    let producer = ScriptedProducer { refuse_batches_with: Some("big"), ..ScriptedProducer::default() };
    let running = Running::start_with(tolerant(), false, producer, Some(ScriptedProducer::default()), poll);
    running.journal.wait_for(r#"stored {"n":1}"#);
    let progress = running.control.counters.progress();
    let (result, lines) = running.stop();
    result.unwrap();
    let produced = lines.iter().filter_map(|line| line.strip_prefix("t: ")).collect::<Vec<_>>();
    assert_eq!(produced, ["a", "b", "c", "d", "e", "f"]);
    assert!(lines.contains(&"dlq: big".into()), "{lines:#?}");
    assert_eq!((progress.records_out, progress.records_failed, progress.errors.dead_letter_requests), (6, 1, 1));
}

#[test]
fn records_that_the_log_may_take_later_are_sent_again() {
    let poll: Poll = Box::new(|n, _| Ok(if n == 1 { vec![batch(1, &["a", "b"])] } else { Vec::new() }));
    let producer = ScriptedProducer { busy: 3, ..ScriptedProducer::default() };
    let errors = ErrorPolicy { retry_timeout_ms: -1, retry_delay_max_ms: 5, ..ErrorPolicy::default() };
    let running = Running::start_with(errors, false, producer, None, poll);
    running.journal.wait_for(r#"stored {"n":1}"#);
    let progress = running.control.counters.progress();
    assert_eq!((progress.records_out, progress.errors.retries, progress.errors.record_errors), (2, 3, 0));
    running.stop().0.unwrap();
}

#[test]
fn no_offset_is_stored_before_the_dead_letters_are_acknowledged() {
    let poll: Poll = Box::new(|n, _| Ok(if n == 1 { vec![batch(1, &["a", "big"])] } else { Vec::new() }));
    let producer = ScriptedProducer { refuse: Some("big"), ..ScriptedProducer::default() };
    let letters = ScriptedProducer::default();
    let hold = letters.hold.clone();
    *hold.lock().unwrap() = true;
    let running = Running::start_with(tolerant(), false, producer, Some(letters), poll);
    running.journal.wait_for("dlq: big");
    std::thread::sleep(Duration::from_millis(200));
    assert!(!running.journal.lines().iter().any(|line| line.starts_with("stored")));
    *hold.lock().unwrap() = false;
    running.journal.wait_for(r#"stored {"n":1}"#);
    running.stop().0.unwrap();
}

#[test]
fn a_refused_dead_letter_fails_the_task_and_no_offset_is_stored_after_it() {
    let poll: Poll = Box::new(|n, _| Ok(if n < 5 { vec![batch(n, &["a", "big"])] } else { Vec::new() }));
    let producer = ScriptedProducer { refuse: Some("big"), ..ScriptedProducer::default() };
    let letters = ScriptedProducer { refuse: Some("big"), ..ScriptedProducer::default() };
    let running = Running::start_with(tolerant(), false, producer, Some(letters), poll);
    let error = running.task.join().unwrap().unwrap_err();
    assert!(error.message.contains("dead-letter topic dlq"), "{}", error.message);
    let lines = running.journal.lines();
    assert!(!lines.iter().any(|line| line.starts_with("stored")), "{lines:#?}");
}
