//! What every source promises.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use tributary_sdk::source::{SourceConnector, SourceTask};
use tributary_sdk::{Batch, Config, ConfigDef, Error, Offsets};

use super::common::{Dice, assert_hidden, assert_sound, spoiled, with_secrets};
use crate::rows::cell;
use crate::services::{Clock, TestServices};
use crate::source_run::SourceRun;

/// More rows than a batch should have.
const MAX_ROWS: usize = 100_000;
/// More bytes than a batch should have.
const MAX_BYTES: usize = 64 << 20;

/// A source and its external system, in a test's hands.
pub trait SourceSubject {
    /// The source.
    type Connector: SourceConnector;

    /// Sets the external system up with `records` different records, and answers the config that reads them.
    fn prepare(&mut self, records: usize) -> Config;

    /// Adds a record in the middle that the source cannot read, if there can be such: after this, the source either fails
    /// for good or goes on with the others. `false`: there is none.
    fn spoil(&mut self) -> bool {
        false
    }

    /// Whether the source comes to an end of what `prepare` set up; `false` for one that generates without end.
    fn is_finite(&self) -> bool {
        true
    }

    /// What tells records apart; equal for the same record read twice. By default the value.
    fn identity(&self, batch: &Batch, row: usize) -> String {
        cell(&batch.value, row)
    }
}

fn identities<S: SourceSubject>(subject: &S, batches: &[Batch]) -> Vec<String> {
    batches.iter().flat_map(|batch| (0..batch.len()).map(|row| subject.identity(batch, row))).collect()
}

fn start<S: SourceSubject>(services: &std::sync::Arc<TestServices>, config: &Config) -> SourceRun<S::Connector> {
    SourceRun::start_in(services.clone(), config).unwrap_or_else(|error| panic!("the task does not start: {error}"))
}

/// All records come once, in batches of sensible size; each batch keeps the rules of its kind.
pub fn reads_everything<S: SourceSubject>(subject: &mut S) {
    let config = subject.prepare(250);
    let services = TestServices::new();
    let mut run = start::<S>(&services, &config);
    let batches = run.poll_records(250).unwrap_or_else(|error| panic!("{error}"));
    for batch in &batches {
        assert!(!batch.is_empty(), "an empty batch was emitted");
        assert!(!batch.topic.is_empty(), "a batch has no topic");
        if matches!(batch.offsets, Offsets::Source(_)) {
            let partition = batch.source_partition.as_deref().expect("offsets need a source partition");
            let json: serde_json::Value = serde_json::from_str(partition).expect("a source partition is JSON");
            assert!(json.is_object(), "the source partition {partition} is no JSON object");
        }
        if let Some(offset) = batch.resume_point() {
            let json: serde_json::Value = serde_json::from_str(offset).expect("an offset is JSON");
            assert!(json.is_object(), "the offset {offset} is no JSON object");
        }
    }
    let mut read = identities(subject, &batches);
    if subject.is_finite() {
        assert_eq!(read.len(), 250, "more records came than there are");
    }
    read.sort();
    read.dedup();
    assert!(read.len() >= 250, "records came twice, or are not told apart");
    run.stop().expect("stop succeeds");
}

/// After a stop, a new task goes on behind what was delivered: nothing is lost, nothing delivered comes again.
pub fn resumes_from_offsets<S: SourceSubject>(subject: &mut S) {
    let config = subject.prepare(200);
    let services = TestServices::new();
    let mut run = start::<S>(&services, &config);
    let first = run.poll_records(80).unwrap_or_else(|error| panic!("{error}"));
    run.deliver(&first).expect("commit succeeds");
    run.stop().expect("stop succeeds");
    drop(run);
    let resumable = first.iter().any(|batch| batch.resume_point().is_some());
    assert!(resumable, "no batch says where to resume");
    let mut read = identities(subject, &first);
    if subject.is_finite() && read.len() >= 200 {
        // All came in one poll: what is delivered must not come again.
        let mut run = start::<S>(&services, &config);
        for _ in 0..20 {
            assert!(
                run.poll().expect("polling on succeeds").is_empty(),
                "delivered records came again after a restart"
            );
        }
        return;
    }
    let mut run = start::<S>(&services, &config);
    let rest = run.poll_records(200 - read.len().min(199)).unwrap_or_else(|error| panic!("{error}"));
    let delivered = read.len();
    read.extend(identities(subject, &rest));
    let mut unique = read.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), read.len(), "delivered records came again after a restart (of {delivered} delivered)");
    assert!(unique.len() >= 200, "{} of 200 records came", unique.len());
}

/// Kills at any moment, with any part of a batch delivered: every record comes at least once, the undelivered ones again.
pub fn at_least_once_under_kills<S: SourceSubject>(subject: &mut S) {
    const RECORDS: usize = 300;
    let config = subject.prepare(RECORDS);
    for seed in 1..=5 {
        let mut dice = Dice::new(seed);
        let services = TestServices::new();
        let mut delivered: Vec<String> = Vec::new();
        for round in 0.. {
            assert!(round < 1_000, "seed {seed}: a thousand restarts did not deliver {RECORDS} records: no progress");
            let mut run = start::<S>(&services, &config);
            // At most what is missing: a finite source has no more, and too few of them is the loss looked for.
            let wanted = (1 + dice.below(60)).min(RECORDS - delivered.len());
            let batches = run.poll_records(wanted).unwrap_or_else(|error| {
                panic!(
                    "seed {seed}, restart {round}: {} of {RECORDS} records delivered, then: {error}",
                    delivered.len()
                )
            });
            let whole = dice.below(batches.len() + 1);
            for batch in &batches[..whole] {
                delivered.extend(identities(subject, std::slice::from_ref(batch)));
            }
            run.deliver(&batches[..whole]).expect("commit succeeds");
            if let Some(partly) = batches.get(whole) {
                let rows = dice.below(partly.len() + 1);
                run.deliver_rows(partly, rows).expect("commit succeeds");
                delivered.extend((0..rows).map(|row| subject.identity(partly, row)));
            }
            delivered.sort();
            delivered.dedup();
            if delivered.len() >= RECORDS {
                break;
            }
        }
        assert!(delivered.len() >= RECORDS, "seed {seed}: {} of {RECORDS} records were delivered", delivered.len());
    }
}

/// A worker that takes nothing for a while loses nothing, and no batch is larger than a queue can bear.
pub fn backpressure<S: SourceSubject>(subject: &mut S) {
    let config = subject.prepare(150);
    let services = TestServices::new();
    let mut run = start::<S>(&services, &config);
    let mut refused = 0;
    for _ in 0..200 {
        let result = run.poll_into(&mut |batch| {
            assert!(batch.len() <= MAX_ROWS, "a batch of {} records: emit it in parts", batch.len());
            assert!(batch.bytes() <= MAX_BYTES, "a batch of {} bytes: emit it in parts", batch.bytes());
            refused += 1;
            Err(Error::retriable("the queue is full"))
        });
        if refused > 0 {
            assert!(result.is_err(), "poll hides that its batch was not taken");
            break;
        }
    }
    assert!(refused > 0, "nothing was emitted");
    drop(run);
    // The worker restarts a task whose poll failed while emitting: it begins behind what was delivered, which is nothing.
    let mut run = start::<S>(&services, &config);
    let batches = run.poll_records(150).unwrap_or_else(|error| panic!("{error}"));
    let mut read = identities(subject, &batches);
    read.sort();
    read.dedup();
    assert!(read.len() >= 150, "records were lost with a batch that was not taken: {} of 150 came", read.len());
}

/// A record that cannot be read fails the task with a reason, or is passed over; the ones before it come.
pub fn bad_record<S: SourceSubject>(subject: &mut S) {
    let config = subject.prepare(50);
    if !subject.spoil() {
        return;
    }
    let services = TestServices::new();
    let mut run = match SourceRun::<S::Connector>::start_in(services.clone(), &config) {
        Ok(run) => run,
        Err(error) => return assert!(!error.to_string().is_empty(), "an error without a reason"),
    };
    let mut emitted = 0;
    for _ in 0..500 {
        let result = run.poll_into(&mut |batch| {
            emitted += batch.len();
            Ok(())
        });
        match result {
            Err(error) if !error.is_retriable() => {
                return assert!(error.to_string().len() > 10, "an error that says nothing: {error}");
            }
            _ if emitted >= 50 => return,
            _ => {}
        }
    }
    let warned = services.logs().iter().any(|line| line.level <= tributary_sdk::Level::Warn);
    assert!(warned, "the source neither failed, nor went on, nor said a word about the bad record");
}

/// Without data a poll comes back by itself within two seconds of the worker's time, so that the task can be paused.
pub fn idle_poll_returns<S: SourceSubject>(subject: &mut S) {
    let config = subject.prepare(0);
    if !subject.is_finite() {
        return;
    }
    let services = TestServices::new();
    let mut run = start::<S>(&services, &config);
    let context = services.context();
    for _ in 0..5 {
        let (before, real) = (context.now_ms(), Instant::now());
        if let Err(error) = run.poll() {
            assert!(error.is_retriable(), "an idle poll failed: {error}");
        }
        let waited = context.now_ms() - before;
        assert!(waited <= 2_000, "an idle poll took {waited} ms of the worker's time");
        assert!(real.elapsed() < Duration::from_secs(5), "an idle poll took {:?} of real time", real.elapsed());
    }
}

/// A poll that waits comes back within two seconds of a cancel.
pub fn cancel_returns_promptly<S: SourceSubject>(subject: &mut S) {
    let config = subject.prepare(0);
    // On a clock that stands still: what does not listen to the cancel stays there for ever.
    let services = TestServices::with_clock(Clock::Stands);
    let mut run = start::<S>(&services, &config);
    let canceller = run.task().canceller();
    let (done, is_done) = mpsc::channel();
    let cancelled = services.clone();
    let thread = std::thread::spawn(move || {
        // As the worker does: poll, until told to stop.
        while !cancelled.context().cancelled() {
            let _ = run.poll();
        }
        let _ = done.send(run.stop());
    });
    std::thread::sleep(Duration::from_millis(100));
    services.cancel();
    if let Some(canceller) = canceller {
        canceller();
    }
    let stopped = is_done.recv_timeout(Duration::from_secs(2));
    let stopped = stopped.expect("poll did not return within two seconds of a cancel, and stop after it");
    stopped.expect("stop succeeds after a cancel");
    thread.join().expect("the task does not panic");
}

/// `stop` may come twice, before `start` and after a failed `start`.
pub fn stop_is_idempotent<S: SourceSubject>(subject: &mut S) {
    let mut unstarted = <S::Connector as SourceConnector>::Task::default();
    unstarted.stop().expect("a task that was not started can be stopped");
    S::Connector::default().stop().expect("a connector that was not started can be stopped");
    let config = subject.prepare(10);
    let mut run = start::<S>(&TestServices::new(), &config);
    let _ = run.poll();
    run.stop().expect("stop succeeds");
    run.stop().expect("a second stop succeeds");
    let def = S::Connector::config_def();
    for config in spoiled(&def, &config) {
        let mut task = <S::Connector as SourceConnector>::Task::default();
        let _ = task.start(&TestServices::new().context(), &config);
        task.stop().expect("a task whose start failed can be stopped");
    }
}

/// No password shows in log lines or errors, whatever is wrong with the config.
pub fn secrets_are_not_shown<S: SourceSubject>(subject: &mut S) {
    let def = S::Connector::config_def();
    let (config, secrets) = with_secrets(&def, &subject.prepare(10));
    let services = TestServices::new();
    let mut errors = Vec::new();
    for config in spoiled(&def, &config).into_iter().chain([config]) {
        errors.extend(S::Connector::default().validate(&config).into_iter().map(|(_, message)| Error::failed(message)));
        match SourceRun::<S::Connector>::start_in(services.clone(), &config) {
            Ok(mut run) => {
                errors.extend(run.poll().err());
                errors.extend(run.stop().err());
            }
            Err(error) => errors.push(error),
        }
    }
    assert_hidden(&services, &errors, &secrets);
}

/// The config definition is documented, and its defaults are valid.
pub fn config_def_is_sound<S: SourceSubject>(_: &mut S) {
    assert_sound(&S::Connector::config_def());
}

/// Without a required key the connector does not start, and the error names the key.
pub fn required_keys_are_required<S: SourceSubject>(subject: &mut S) {
    let config = subject.prepare(1);
    required_are_named(&S::Connector::config_def(), &config, |config| {
        SourceRun::<S::Connector>::start_in(TestServices::new(), config).err()
    });
}

pub(super) fn required_are_named(def: &ConfigDef, config: &Config, start: impl Fn(&Config) -> Option<Error>) {
    use tributary_sdk::config_def::DefaultValue;
    for key in def.keys.iter().filter(|key| key.default == DefaultValue::Required) {
        let mut without = config.clone();
        without.0.remove(&key.name);
        let error = start(&without).unwrap_or_else(|| panic!("it starts without the required key {}", key.name));
        assert!(error.to_string().contains(&key.name), "the error does not name {}: {error}", key.name);
    }
}
