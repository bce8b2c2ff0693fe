//! Exactly-once tasks: what a task writes and how far it has come are committed together, or not at all.
//!
//! | File | Noun |
//! |---|---|
//! | `commit_loop` | the loop as a state machine without I/O: outcomes in, the next step out; simulated in `simulation` |
//! | `transactor` | carries the steps out with a transactional producer, and holds what the open transaction is made of |
//! | `source_offsets` | a source's positions, in the same transaction (those of a consumer group: `stream/group_offsets`) |
//! | `source_loop` | the second thread of an exactly-once source task |
//! | `boundary` | where a source's transactions end |
//! | `fail_points` | places at which tests let the worker die |
//!
//! What it promises: whoever reads `read_committed` finds every record once, whatever happens to worker, broker and network,
//! as long as the source can resume where it says it can. A producer writes only on the basis of positions that were read
//! after its own `init`, which fences whoever wrote before.
//!
//! What a transaction is made of stays in memory until it is committed. A transaction that was aborted (a broker that was
//! away for long, a record that the broker refused) is sent again from there; the connector does not notice. A commit whose
//! outcome is not known is not guessed at: the producer is dropped, a new one with the same id ends what was open, and the
//! stored positions tell what happened.
//!
//! How it fails: another producer with the id, or positions that somebody else has moved, end the task; started again, it
//! goes on from the stored positions.

mod boundary;
mod commit_loop;
pub mod fail_points;
mod source_loop;
mod source_offsets;
mod transactor;

#[cfg(test)]
mod simulation;

pub use boundary::{Boundary, Ending};
pub use commit_loop::{End, Outcome};
pub use source_loop::{SourceTransactions, TransactionSettings, entry_refused};
pub use transactor::{Advance, Current, Lost, Make, Piece, Positions, Refusal, Slice, Transactor};
