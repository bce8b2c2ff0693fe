//! Stream tasks: Kafka → converters → transforms → Kafka, or a sink, in transactions.
//!
//! What `KafkaSink` promises: exactly once. The records that it writes, the state of its transforms (to the changelog), dead letters and
//! the offsets of its input are one transaction, carried out by the same [commit loop](super::transaction) as those of sources: what is
//! aborted is sent again from memory, records that the log refuses are judged by `errors.tolerance`, and a commit whose answer was lost is
//! looked up in the committed offsets. Where those cannot tell (results of timers move no offset), or the group does not count the task in
//! any more, the transaction is given up as a whole: the producer is replaced, which ends whatever was open, the committed offsets are
//! read, the state is restored up to the changelog's end, and the input is read again from there.
//!
//! Any other sink whose transforms keep state runs the same loop: what is put is flushed first, then state and offsets are committed. So a
//! crash repeats what was put, but loses nothing, and state counts nothing twice.
//!
//! A sink that keeps its offsets in its own store gets results exactly once, from an [`outbox`] topic that the same task reads and writes.
//!
//! Partitions come and go with the consumer group. Before one is given up, the open transaction is committed; before one is read, its
//! committed offset is asked for (which waits for transactions of the previous owner), and its state restored. A previous owner that does
//! not know yet cannot commit: its membership in the group is checked when offsets are added to its transaction.
//!
//! Where the chain is cut (`repartition=auto`), the task has stages: each reads the repartition topic in front of it, with the same
//! consumer and in the same transactions, and the last one writes what the task is for. See [`stages`] and [`repartition`].
//!
//! How it fails: as a sink task does, and when ten transactions in a row come to nothing, or another producer has its `transactional.id`.

mod connector;
mod group_offsets;
mod outbox;
mod repartition;
mod sink_target;
mod stages;
mod stream_task;

pub use connector::{CLASS, KafkaSinkConnector, plugin};
pub use sink_target::SinkTarget;
pub use stages::{CutTopic, OutboxTopic, StageFacts, Stages};
pub use stream_task::{StreamSettings, StreamState, StreamTask};

use super::errors::TaskError;

/// Why something was not done.
#[derive(Debug)]
pub enum Trouble {
    /// The transaction has come to nothing: begin again from the committed offsets.
    Again(String),
    /// The same, because the cluster does not answer: however long that takes.
    Away(String),
    /// The task ends.
    Fatal(TaskError),
    /// The task is to stop, or may not write any more.
    Stopped,
}

impl From<TaskError> for Trouble {
    fn from(error: TaskError) -> Self {
        Self::Fatal(error)
    }
}
