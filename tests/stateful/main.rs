//! Stateful transforms from topic to topic, exactly once: what is written equals what a batch over the input gives, whatever breaks.

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
mod refused;
mod repartition;
mod rig;
mod sources;
