//! Members of a group on a real broker: several in one process, joining, leaving, crashing, cut off, with the coordinator
//! going away under them.

mod coordinator;
mod membership;
mod security;
mod support;
