//! Change data capture: a snapshot of the tables, then what changes, from the server's log.
//!
//! - [`slot`] makes the replication slot and the publication, [`snapshot`] reads tables, [`reader`] reads the log on a thread of its own;
//! - [`pgoutput`] takes messages apart, [`catalog`] knows tables and types, [`values`] turns texts into columns;
//! - [`table`] and [`envelope`] make change events of rows, [`stream`] puts it all together;
//! - [`adhoc`] and [`incremental`] read tables again while streaming, with pauses ([`backoff`]) where that fails, [`transactions`] tells where transactions begin and end;
//! - [`offsets`] says where a task resumes, [`visibility`] what a snapshot has seen.

pub(crate) mod adhoc;
pub(crate) mod backoff;
pub(crate) mod catalog;
pub(crate) mod envelope;
pub(crate) mod filters;
pub(crate) mod heartbeat;
pub(crate) mod incremental;
pub(crate) mod lsn;
pub(crate) mod offsets;
pub(crate) mod pgoutput;
pub(crate) mod reader;
pub(crate) mod slot;
pub(crate) mod snapshot;
pub(crate) mod stream;
pub(crate) mod table;
pub(crate) mod transactions;
pub(crate) mod values;
pub(crate) mod visibility;
