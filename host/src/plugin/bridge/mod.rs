//! The worker's side of the boundary: handles over a plugin's function tables.
//!
//! Promises: whatever a plugin answers becomes a `Result`; batches are checked before anybody sees them; an instance that
//! panicked is never called again, nor destroyed (what it left half done is leaked); a canceller may be called at any time.
//! A call that never returns keeps its thread and its handle, nothing else: the worker may leave both behind and go on.
//!
//! A plugin reaches the worker through a ticket, not a pointer: a call on a ticket whose instance is gone is answered
//! as cancelled, so that a thread which a plugin forgot to end harms nobody.

mod connector;
mod host_table;
mod instance;
mod sink_task;
mod source_task;
mod tickets;
mod transform;

pub use connector::Connector;
pub use host_table::host_table;
pub use sink_task::SinkTask;
pub use source_task::SourceTask;
pub use transform::Transform;
