//! What every sink promises.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray, StructArray};
use tributary_sdk::arrow::schema::{DataType, Field};
use tributary_sdk::sink::{SinkConnector, SinkTask};
use tributary_sdk::{Batch, Column, Config, Error};

use super::common::{Dice, assert_hidden, assert_sound, spoiled, with_secrets};
use super::sinks::{self, put};
use super::source::required_are_named;
use crate::rows::text_batch;
use crate::services::TestServices;
use crate::sink_run::SinkRun;

/// The topic that the suite's batches come from.
pub const TOPIC: &str = "suite";

/// A sink and its external system, in a test's hands.
pub trait SinkSubject {
    /// The sink.
    type Connector: SinkConnector;

    /// Sets up an empty external system and answers the config that writes to it.
    fn prepare(&mut self) -> Config;

    /// What is stored for the records so far, one text each as [`Self::batch`] made it, in any order. Only what a crash of
    /// the task would leave.
    fn stored(&mut self) -> Vec<String>;

    /// Records `from .. from + rows`, as this sink takes them. By default texts: `record 7`.
    fn batch(&self, from: usize, rows: usize) -> Batch {
        text_batch(TOPIC, (from..from + rows).map(|record| self.record(record)))
    }

    /// The text by which [`Self::stored`] shows record `number`.
    fn record(&self, number: usize) -> String {
        format!("record {number}")
    }

    /// A batch of three records whose middle one the sink cannot accept, if there can be such.
    fn spoiled_batch(&self) -> Option<Batch> {
        None
    }

    /// Makes the external system unreachable, or reachable again, if that can be done.
    fn set_broken(&mut self, _broken: bool) -> bool {
        false
    }

    /// Whether a record that is put twice is stored once.
    fn is_idempotent(&self) -> bool {
        false
    }
}

/// A task that has the partition.
fn start<S: SinkSubject>(config: &Config) -> SinkRun<S::Connector> {
    let mut run = sinks::start::<S>(config);
    run.open(TOPIC, 0, 0).unwrap_or_else(|error| panic!("open failed: {error}"));
    run
}

fn expected<S: SinkSubject>(subject: &S, records: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..records).map(|record| subject.record(record)).collect();
    all.sort();
    all
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}

/// All records are there after a clean stop, each once.
pub fn writes_everything<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = start::<S>(&config);
    for batch in 0..5 {
        put::<S>(&mut run, subject.batch(batch * 40, 40));
        if batch == 2 {
            run.pre_commit().expect("pre_commit succeeds");
        }
    }
    run.stop().expect("stop succeeds");
    assert_eq!(sorted(subject.stored()), expected(subject, 200));
}

/// What `pre_commit` lets be committed survives a kill.
pub fn committed_is_safe<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = start::<S>(&config);
    for batch in 0..3 {
        put::<S>(&mut run, subject.batch(batch * 10, 10));
    }
    let committed = run.pre_commit().expect("pre_commit succeeds");
    let until = committed.first().and_then(|at| at.offset).unwrap_or(0);
    put::<S>(&mut run, subject.batch(30, 10));
    drop(run);
    let stored = subject.stored();
    for record in 0..until as usize {
        let text = subject.record(record);
        assert!(stored.contains(&text), "offsets up to {until} were let be committed, but {text:?} is not stored");
    }
}

/// Kills at any moment, redelivery from the last commit: nothing is missing at the end.
pub fn at_least_once_under_kills<S: SinkSubject>(subject: &mut S) {
    const RECORDS: usize = 200;
    for seed in 1..=5 {
        let config = subject.prepare();
        let mut dice = Dice::new(seed);
        let mut committed = 0;
        while committed < RECORDS {
            let mut run = SinkRun::<S::Connector>::start_in(TestServices::new(), &config)
                .unwrap_or_else(|error| panic!("the task does not start again after a kill: {error}"));
            let mut next = run.open(TOPIC, 0, committed as i64).expect("open succeeds") as usize;
            for _ in 0..1 + dice.below(5) {
                let rows = (1 + dice.below(30)).min(RECORDS - next);
                if rows == 0 {
                    break;
                }
                let mut batch = subject.batch(next, rows);
                let offsets = (next as i64..(next + rows) as i64).collect::<Vec<_>>();
                batch.offsets = tributary_sdk::Offsets::Sink(offsets.into());
                put::<S>(&mut run, batch);
                next += rows;
                if dice.below(3) == 0 {
                    let safe = run.pre_commit().expect("pre_commit succeeds");
                    committed = safe.first().and_then(|at| at.offset).map_or(committed, |offset| offset as usize);
                }
            }
            if next >= RECORDS {
                let safe = run.pre_commit().expect("pre_commit succeeds");
                committed = safe.first().and_then(|at| at.offset).map_or(committed, |offset| offset as usize);
            }
        }
        let mut stored = sorted(subject.stored());
        if subject.is_idempotent() {
            assert_eq!(stored, expected(subject, RECORDS), "seed {seed}");
        } else {
            stored.dedup();
            for text in expected(subject, RECORDS) {
                assert!(stored.binary_search(&text).is_ok(), "seed {seed}: {text:?} is missing");
            }
        }
    }
}

/// While the external system is away, records are refused as retriable, or kept until a flush that fails; the same
/// records go through once it is back.
pub fn backpressure<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = start::<S>(&config);
    put::<S>(&mut run, subject.batch(0, 10));
    run.pre_commit().expect("pre_commit succeeds");
    if !subject.set_broken(true) {
        return;
    }
    let outcome = run.put(subject.batch(10, 10)).and_then(|failures| {
        assert!(failures.records().iter().all(|failure| failure.retriable), "an outage is no fault of a record");
        if failures.is_empty() { run.pre_commit().map(|_| ()) } else { Err(Error::retriable("by record")) }
    });
    let error = outcome.expect_err("the external system is away, and the sink says all is stored");
    assert!(error.is_retriable(), "an outage must be retriable, and the sink failed for good: {error}");
    assert!(subject.set_broken(false));
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match run.put(subject.batch(10, 10)).and_then(|failures| {
            if failures.is_empty() { run.pre_commit() } else { Err(Error::retriable("by record")) }
        }) {
            Ok(_) => break,
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("the external system is back, and the sink still fails: {error}"),
        }
    }
    let stored = subject.stored();
    for text in expected(subject, 20) {
        assert!(stored.contains(&text), "{text:?} is missing after an outage");
    }
}

/// A record that cannot be accepted is named by its row; its neighbours are stored.
pub fn bad_record<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let Some(batch) = subject.spoiled_batch() else { return };
    let mut run = start::<S>(&config);
    let failures = run.put(batch).unwrap_or_else(|error| panic!("a bad record fails the whole task: {error}"));
    let rows: Vec<usize> = failures.records().iter().map(|failure| failure.row).collect();
    assert_eq!(rows, [1], "the record in the middle is the bad one");
    let failure = &failures.records()[0];
    assert!(!failure.retriable && failure.message.len() > 5, "a reason is due that no retry mends: {failure:?}");
    run.stop().expect("stop succeeds");
    assert_eq!(subject.stored().len(), 2, "the neighbours of a bad record are stored");
}

/// Every form of value, tombstones included, is stored or refused with a reason: no panic.
pub fn every_form_is_survived<S: SinkSubject>(subject: &mut S) {
    let fields = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, false)];
    let arrays: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec!["x", "y"]))];
    let structs = StructArray::new(fields.into(), arrays, None);
    let field = |data_type: &DataType| Field::new("", data_type.clone(), true);
    let forms = [
        Column::bytes(BinaryArray::from_opt_vec(vec![Some(b"\xff\x00"), None])),
        Column::text(StringArray::from(vec![Some("text"), None])),
        Column::json(StringArray::from(vec![Some("{\"a\":[1,null]}"), None])),
        Column::new(field(&DataType::Struct(structs.fields().clone())), Arc::new(structs)),
        Column::new(field(&DataType::Int64), Arc::new(Int64Array::from(vec![Some(-1), None]))),
    ];
    for column in forms {
        let config = subject.prepare();
        let mut run = start::<S>(&config);
        let form = format!("{:?}", column.field().data_type());
        match run.put(Batch::new(TOPIC, column)) {
            Ok(failures) => {
                for failure in failures.records() {
                    assert!(failure.row < 2 && !failure.message.is_empty(), "{form}: {failure:?}");
                }
                let _ = run.pre_commit();
            }
            Err(error) => assert!(error.to_string().len() > 10, "{form} is refused without a reason: {error}"),
        }
        let _ = run.task().stop();
    }
}

/// A cancel neither panics nor keeps `stop` from returning within two seconds.
pub fn cancel_returns_promptly<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = start::<S>(&config);
    put::<S>(&mut run, subject.batch(0, 10));
    let canceller = run.task().canceller();
    let began = Instant::now();
    run.services().cancel();
    if let Some(canceller) = canceller {
        canceller();
        canceller();
    }
    let _ = run.pre_commit();
    run.task().stop().expect("stop succeeds after a cancel");
    assert!(began.elapsed() < Duration::from_secs(2), "stopping after a cancel took {:?}", began.elapsed());
}

/// `stop` may come twice, before `start` and after a failed `start`; a task without partitions does nothing.
pub fn stop_is_idempotent<S: SinkSubject>(subject: &mut S) {
    let mut unstarted = <S::Connector as SinkConnector>::Task::default();
    unstarted.stop().expect("a task that was not started can be stopped");
    S::Connector::default().stop().expect("a connector that was not started can be stopped");
    let config = subject.prepare();
    let mut run = SinkRun::<S::Connector>::start(&config).expect("the task starts");
    run.task().open(&[]).expect("open without partitions succeeds");
    run.task().pre_commit(&[]).expect("pre_commit without partitions succeeds");
    run.task().close(&[]).expect("close without partitions succeeds");
    run.stop().expect("stop succeeds");
    run.task().stop().expect("a second stop succeeds");
    for config in spoiled(&S::Connector::config_def(), &config) {
        let mut task = <S::Connector as SinkConnector>::Task::default();
        let _ = task.start(&TestServices::new().context(), &config);
        task.stop().expect("a task whose start failed can be stopped");
    }
}

/// No password shows in log lines or errors, whatever is wrong with the config.
pub fn secrets_are_not_shown<S: SinkSubject>(subject: &mut S) {
    let def = S::Connector::config_def();
    let (config, secrets) = with_secrets(&def, &subject.prepare());
    let services = TestServices::new();
    let mut errors = Vec::new();
    for config in spoiled(&def, &config).into_iter().chain([config]) {
        errors.extend(S::Connector::default().validate(&config).into_iter().map(|(_, message)| Error::failed(message)));
        match SinkRun::<S::Connector>::start_in(services.clone(), &config) {
            Ok(mut run) => {
                errors.extend(run.put(subject.batch(0, 1)).err());
                errors.extend(run.stop().err());
            }
            Err(error) => errors.push(error),
        }
    }
    assert_hidden(&services, &errors, &secrets);
}

/// The config definition is documented, and its defaults are valid.
pub fn config_def_is_sound<S: SinkSubject>(_: &mut S) {
    assert_sound(&S::Connector::config_def());
}

/// Without a required key the connector does not start, and the error names the key.
pub fn required_keys_are_required<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    required_are_named(&S::Connector::config_def(), &config, |config| {
        SinkRun::<S::Connector>::start_in(TestServices::new(), config).err()
    });
}
