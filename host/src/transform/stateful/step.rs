//! A stateful transform in the chain.

use std::sync::Arc;

use tributary_sdk::{Batch, Result};

use super::pick::Pick;
use super::settings::Shared;
use crate::expression::Record;
use crate::state::{Shard, StateError, Store};
use crate::transform::merge::Merged;

/// When something happens, by the worker's clock. Event time is a shard's own.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// Whether the shard's input is being read: not while the task is paused or pushed back, when silence means nothing.
    pub reading: bool,
    /// Behind a repartition topic: the partition in front of it that the records come from. Event time is its own.
    pub upstream: Option<&'a str>,
}

/// What is told of a partition in front of a repartition topic by the task that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Topic and number.
    pub upstream: Arc<str>,
    /// The latest time of its records, by the first transform behind the topic.
    pub latest: i64,
    /// Nothing has come for `eventtime.idle.timeout.ms`.
    pub idle: bool,
}

/// What a stateful transform made of its input.
#[derive(Default)]
pub struct Emitted {
    /// What goes on through the chain.
    pub next: Vec<Merged>,
    /// Late records on their way to a topic of their own, past the rest of the chain.
    pub routed: Vec<Merged>,
    /// Rows of the chain's input that were refused, with the reasons.
    pub refused: Vec<(u32, String)>,
    /// Rows dropped on purpose, the late ones among them.
    pub dropped: usize,
    /// Late records, whatever became of them.
    pub late: u64,
}

/// One instance a task; called from one thread, with one shard's store at a time.
pub trait Stateful: Send {
    /// Takes a batch, and emits what is due after it.
    fn apply(
        &mut self,
        store: &mut Store,
        shard: Shard,
        input: Merged,
        at: Moment<'_>,
        emitted: &mut Emitted,
    ) -> Result<()>;

    /// Time has passed: emits what is due.
    fn advance(&mut self, store: &mut Store, shard: Shard, at: Moment<'_>, emitted: &mut Emitted) -> Result<()>;

    /// The open layer is about to be sealed: emits what is emitted once a commit.
    fn before_commit(&mut self, store: &mut Store, shard: Shard, emitted: &mut Emitted) -> Result<()>;

    /// The shard was closed, or its open layers discarded: nothing that was kept beside the store counts any more.
    fn forget(&mut self, shard: Shard);

    /// Bytes of the state that may be kept in memory.
    fn max_bytes(&self) -> usize;

    /// What it has in common with others.
    fn shared(&self) -> &Shared;

    /// The expressions that [`Self::place`] evaluates.
    fn place_picks(&self) -> Vec<&Pick>;

    /// Where a record belongs: its key's bytes over `key`, and its time. `None`: it counts for nothing. The error is what [`Self::apply`]
    /// refuses it with.
    fn place(&self, record: &dyn Record, key: &mut Vec<u8>) -> std::result::Result<Option<i64>, String>;

    /// What goes on is made here, in the order of event time; otherwise it is records of the input, at once.
    fn makes_records(&self) -> bool;

    /// Whether event time decides what a record counts for: it may be late, or what it belongs to be forgotten.
    fn depends_on_time(&self) -> bool;

    /// The partitions in front of the repartition topic that the records come through.
    fn expect(&mut self, upstream: Arc<[String]>);

    /// Something is told of one of them: emits what is due.
    fn hear(
        &mut self,
        store: &mut Store,
        shard: Shard,
        news: &News,
        at: Moment<'_>,
        emitted: &mut Emitted,
    ) -> Result<()>;
}

impl Emitted {
    /// A batch that comes from no row in particular; it counts for the last one.
    pub(super) fn made(&mut self, batch: Batch, last_row: u32) {
        if !batch.is_empty() {
            let rows = vec![last_row; batch.len()];
            self.next.push(Merged { batch, rows });
        }
    }
}

impl From<StateError> for tributary_sdk::Error {
    fn from(error: StateError) -> Self {
        match error.retriable {
            true => Self::retriable(error.message),
            false => Self::failed(error.message),
        }
    }
}
