//! Stateful transforms from topic to topic, exactly once: what is written equals what a batch over the input gives, whatever breaks.

mod boundaries;
mod embedded;
mod events;
mod exactly_once;
mod hurt;
mod ledger;
mod letters;
mod life_cycle;
mod lost_commits;
mod offsets;
mod outbox;
/// A plugin's own: two plugins cannot be linked into one program.
#[path = "../plugins/parcels/src/parcel.rs"]
mod parcel;
mod refused;
mod repartition;
mod rig;
mod sources;
mod standby;
mod two_clusters;
mod two_clusters_rest;
