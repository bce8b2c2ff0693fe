//! The herder of a worker in a group.
//!
//! What is wanted comes from the config topic, what of it is this worker's comes from the group; for each connector the next
//! step follows from both and from what runs ([`entry`]). One thread decides; whatever waits (the config topic, other workers,
//! stopping) runs elsewhere and comes back as an [`Input`].
//!
//! Promises:
//! - Only what is assigned to this worker runs here. A revocation is answered when it has stopped, and stops nothing else.
//! - A config change touches only that connector: its tasks run on until the new task configs are in the config topic, and of
//!   those only the changed ones restart.
//! - Users' writes are made by the leader alone, in order per connector, and answered when they can be read back. Writes that
//!   come while there is no leader wait for one, up to [`DistributedSettings::patience`].
//! - When the membership is lost everything is fenced before anything else happens, and nothing of it is recorded afterwards.
//!
//! Fails: what the config topic refuses is answered with the reason; task configs that the leader does not take are offered
//! again, with growing pauses.

mod actor;
mod commands;
mod entry;
mod events;
mod fencing;
mod gathering;
mod input;
mod membership;
mod ports;
mod rejoins;
mod steps;
mod stopped_work;
mod threads;
mod writes;

#[cfg(test)]
mod tests;

pub use actor::{Distributed, DistributedDeps, DistributedSettings};
pub use input::Input;
pub use membership::Membership;
pub use ports::{Jobs, Peers};
pub use threads::Threads;
