//! A task without a plugin: records go through the chain in transactions, some of which are aborted, and now and then the worker dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow_array::{Array, ArrayRef, Int64Array, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tributary_sdk::{Batch, Column, Config, Offsets};

use crate::converter::Converter;
use crate::converter::JsonConverter;
use crate::state::testing::MemoryLog;
use crate::state::{StateDirectory, TaskState};
use crate::transform::{Applied, TransformChain};

/// An input record: key, time, and a value that may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    pub key: i64,
    pub time: i64,
    pub x: Option<i64>,
}

/// An output record: key and value as JSON, and its timestamp.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Output {
    pub key: String,
    pub value: Option<String>,
    pub timestamp: i64,
    pub topic: String,
}

pub struct Rig {
    config: Config,
    directory: tempfile::TempDir,
    state: Arc<TaskState>,
    pub chain: TransformChain,
    log: MemoryLog,
    budget: usize,
    pub clock: Arc<AtomicI64>,
    /// Whether values have a schema.
    pub structured: bool,
    /// Of committed transactions.
    pub outputs: Vec<Output>,
    pub late: u64,
    pub failures: Vec<String>,
}

impl Rig {
    /// A chain of one transform, `s`.
    pub fn new(pairs: &[(&str, &str)], structured: bool, budget: usize) -> Self {
        let mut config: Config = [("transforms".to_owned(), "s".to_owned())].into_iter().collect();
        for (key, value) in pairs {
            let key = if key.starts_with("transforms") { (*key).to_owned() } else { format!("transforms.s.{key}") };
            config.0.insert(key, (*value).to_owned());
        }
        let directory = tempfile::tempdir().unwrap();
        let mut log = MemoryLog { page: 50, ..MemoryLog::default() };
        let clock = Arc::new(AtomicI64::new(0));
        let (state, chain) = open(&config, directory.path(), budget, &mut log, &clock);
        let (outputs, failures) = (Vec::new(), Vec::new());
        Self { config, directory, state, chain, log, budget, clock, structured, outputs, late: 0, failures }
    }

    pub fn reopen(&mut self) {
        self.state.crash();
        // The old task's files are closed first.
        let spare = TaskState::new(StateDirectory::new(self.directory.path()), "spare", "spare", 1 << 20).unwrap();
        drop(std::mem::replace(&mut self.state, spare));
        self.chain = TransformChain::build(&Config::default(), &mut |_, _| unreachable!("no class")).unwrap();
        (self.state, self.chain) = open(&self.config, self.directory.path(), self.budget, &mut self.log, &self.clock);
    }

    /// Commits what was applied, and begins anew.
    pub fn reopen_after_commit(&mut self) {
        self.commit(Staged::default());
        self.reopen();
    }

    pub fn batch(&self, records: &[Input]) -> Batch {
        let value = if self.structured {
            let columns: Vec<(Arc<Field>, ArrayRef)> = vec![
                (
                    Arc::new(Field::new("k", DataType::Int64, false)),
                    Arc::new(records.iter().map(|record| Some(record.key)).collect::<Int64Array>()),
                ),
                (
                    Arc::new(Field::new("x", DataType::Int64, true)),
                    Arc::new(records.iter().map(|record| record.x).collect::<Int64Array>()),
                ),
                (
                    Arc::new(Field::new("t", DataType::Int64, false)),
                    Arc::new(records.iter().map(|record| Some(record.time)).collect::<Int64Array>()),
                ),
            ];
            let structs = StructArray::from(columns);
            Column::new(Field::new("", structs.data_type().clone(), true), Arc::new(structs))
        } else {
            let text = |record: &Input| {
                let x = record.x.map_or("null".to_owned(), |x| x.to_string());
                format!(r#"{{"k":{},"x":{x},"t":{}}}"#, record.key, record.time)
            };
            Column::json(records.iter().map(|record| Some(text(record))).collect::<StringArray>())
        };
        let mut batch = Batch::new("input", value);
        batch.partition = Some(0);
        batch.timestamps = Some(records.iter().map(|record| Some(record.time)).collect());
        batch.offsets = Offsets::Sink((0..records.len() as i64).collect::<Vec<_>>().into());
        batch
    }

    /// Whatever a chain gave, as JSON.
    pub fn outputs(applied: &Applied) -> Vec<Output> {
        let mut outputs = Vec::new();
        for batch in &applied.batches {
            let json = |column: &Column| {
                let mut converter = JsonConverter::default();
                let config: Config = [("schemas.enable", "false")].into_iter().collect();
                converter.configure(&config, false).unwrap();
                let converted = converter.from_connect(&batch.topic, column);
                assert!(converted.failures.is_empty(), "{:?}", converted.failures);
                let text = |row: usize| String::from_utf8(converted.data.value(row).to_vec()).unwrap();
                (0..column.len()).map(|row| converted.data.is_valid(row).then(|| text(row))).collect::<Vec<_>>()
            };
            let (values, keys) = (json(&batch.value), batch.key.as_ref().map(json));
            for (row, value) in values.into_iter().enumerate() {
                let key = keys.as_ref().and_then(|keys| keys[row].clone()).unwrap_or_default();
                let timestamp = batch.timestamps.as_ref().map_or(-1, |timestamps| timestamps.value(row));
                outputs.push(Output { key, value, timestamp, topic: batch.topic.to_string() });
            }
        }
        outputs
    }

    /// Records in one transaction, that commits.
    pub fn transaction(&mut self, records: &[Input]) {
        let mut staged = Staged::default();
        if !records.is_empty() {
            staged.add(self.chain.apply(self.batch(records)).unwrap());
        }
        self.commit(staged);
    }

    /// Time passes without records.
    pub fn tick(&mut self, now_ms: i64) {
        self.clock.store(now_ms, Ordering::Relaxed);
        let mut staged = Staged::default();
        staged.add(self.chain.advance(0, 0, true).unwrap());
        self.commit(staged);
    }

    fn commit(&mut self, mut staged: Staged) {
        staged.add(self.chain.before_commit(0, 0).unwrap());
        let layer = self.state.seal().unwrap();
        let positions = self.log.append(&layer);
        self.state.committed(layer, positions).unwrap();
        self.outputs.append(&mut staged.outputs);
        self.failures.append(&mut staged.failures);
        self.late += staged.late;
    }

    /// All records, in batches and transactions of random sizes, some of them aborted, some ended by a crash.
    pub fn run(&mut self, seed: u64, records: &[Input]) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut committed = 0;
        while committed < records.len() {
            let (mut at, mut staged) = (committed, Staged::default());
            for _ in 0..random.random_range(1..4) {
                let to = (at + random.random_range(1..20)).min(records.len());
                if at < to {
                    staged.add(self.chain.apply(self.batch(&records[at..to])).unwrap());
                }
                at = to;
            }
            match random.random_range(0..12) {
                0 => {
                    let layer = random.random_bool(0.5).then(|| self.state.seal().unwrap());
                    self.state.discard(layer).unwrap();
                    self.chain.forget(0);
                }
                1 => self.reopen(),
                _ => {
                    self.commit(staged);
                    committed = at;
                }
            }
        }
    }
}

#[derive(Default)]
struct Staged {
    outputs: Vec<Output>,
    failures: Vec<String>,
    late: u64,
}

impl Staged {
    fn add(&mut self, applied: Applied) {
        self.outputs.extend(Rig::outputs(&applied));
        self.failures.extend(applied.failures.into_iter().map(|failure| failure.message));
        self.late += applied.late;
    }
}

fn open(
    config: &Config,
    directory: &std::path::Path,
    budget: usize,
    log: &mut MemoryLog,
    clock: &Arc<AtomicI64>,
) -> (Arc<TaskState>, TransformChain) {
    let state = TaskState::new(StateDirectory::new(directory), "c", "c-0", budget).unwrap();
    state.restore(0, log).unwrap();
    let mut chain = TransformChain::build(config, &mut |class, _| panic!("no class {class}")).unwrap();
    chain.set_state(state.clone());
    let clock = clock.clone();
    chain.set_clock(Box::new(move || clock.load(Ordering::Relaxed)));
    (state, chain)
}

/// Records that come up to `disorder` out of order, and some later.
pub fn records(random: &mut StdRng, disorder: i64) -> Vec<Input> {
    let mut now = random.random_range(-50..50);
    (0..random.random_range(1..120))
        .map(|_| {
            now += [0, 1, 1, 2, 5, 30][random.random_range(0..6)];
            let back =
                if random.random_bool(0.1) { random.random_range(0..60) } else { random.random_range(0..=disorder) };
            let x = random.random_bool(0.9).then(|| random.random_range(-9..10));
            Input { key: random.random_range(0..4), time: now - back, x }
        })
        .collect()
}

/// The watermark before each record, and the last one.
pub fn watermarks(records: &[Input], bound: i64) -> (Vec<i64>, i64) {
    let mut watermark = i64::MIN;
    let before = records
        .iter()
        .map(|record| {
            let before = watermark;
            watermark = watermark.max(record.time - bound);
            before
        })
        .collect();
    (before, watermark)
}
