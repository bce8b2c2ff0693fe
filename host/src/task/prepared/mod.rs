//! Sinks whose transactions are prepared in their store, and committed once the group's offsets carry their tokens.
//!
//! | File | Noun |
//! |---|---|
//! | `carried` | what the metadata of a group's offset says: the owner's epoch, and a token |
//! | `claims` | how a task takes partitions over: read, raise the epoch, commit |
//! | `orders` | commits on their way from the thread that puts to the thread that has the consumer |
//!
//! Promises, whenever a worker is killed or stands still: what a token stands for is visible exactly if the group has carried it, so each record
//! is written once. It rests on these:
//!
//! - The offset of a partition and its token are one commit, which the group takes from the partition's owner only.
//! - A token is replaced in the group only after it was committed in the store.
//! - An owner commits the token that it finds before it puts anything, and aborts what owners before it have prepared, by their smaller epochs. Epochs
//!   grow because each owner commits its own before anything else.
//! - A commit in doubt is not decided by guessing: the task begins anew as another member of the group, so that what is still under way is refused,
//!   and then reads what there is.
//!
//! Fails: a store that is away is waited for. What the sink or the group refuses for good ends the task; the token stays in the group, and is
//! committed when the task is started again, or before a user's change of offsets.

mod carried;
mod claims;
mod orders;

pub use carried::{Carried, MAX_METADATA};
pub use claims::{Claiming, StartAt};
pub use orders::{Order, Orders, Outcome, Taker};
