//! Stream tasks: Kafka → converters → transforms → converters → Kafka, in transactions.
//!
//! What a stream task promises: exactly once. The records that it writes, the state of its transforms (to the changelog) and the offsets
//! of its input are one transaction. A transaction that goes wrong in any way is given up as a whole: the producer is replaced, which
//! ends whatever was open, the committed offsets are read, the state is restored up to the changelog's end, and the input is read again
//! from there. So it makes no difference whether a commit whose answer was lost has happened.
//!
//! Partitions come and go with the consumer group. Before one is given up, the open transaction is committed; before one is read, its
//! committed offset is asked for (which waits for transactions of the previous owner), and its state restored. A previous owner that does
//! not know yet cannot commit: its membership in the group is checked when offsets are added to its transaction.
//!
//! How it fails: as a sink task does, and when ten transactions in a row come to nothing, or another producer has its `transactional.id`.

mod connector;
mod stream_task;
mod writer;

pub use connector::{CLASS, KafkaSinkConnector, plugin};
pub use stream_task::{StreamSettings, StreamState, StreamTask};
pub use writer::MakeProducer;
