//! A consumer whose group is in one cluster while the topics that it reads are in another.
//!
//! A transaction cannot span two clusters, so offsets that are to be committed with what is written have to be where that is written: in the
//! target. There they are a consumer group's, as everywhere, and the group also divides the partitions, so that the same rule keeps who
//! stood still from committing: its offsets carry member and generation, and the coordinator refuses them, and with them the
//! transaction, once others have its partitions. librdkafka's members assign only what their own cluster has; so the member is one of our own.
//!
//! | File | Noun |
//! |---|---|
//! | `consumer` | the [`LogConsumer`]: a membership, a reader of the source, a reader of topics of the target |
//! | `member` | the membership, on a thread of its own: joins, is assigned, sends heartbeats, rejoins |
//! | `coordinator` | what a member asks its coordinator |
//! | `protocol`, `assignor` | what members tell each other, and who reads what: Kafka's own `range` |
//! | `survey` | which topics and partitions there are, and their [stand-ins](super::StandIns) |
//! | `shared` | what passes between the membership and the task |
//! | `shown` | offsets of a group in the source, for whoever watches lags there; never read |
//!
//! Promises: what [`LogConsumer`] promises, with eager rebalances. A member that the coordinator does not count in any more has no
//! [`GroupMetadata`](super::GroupMetadata).
//!
//! Fails: a cluster that is away is waited for. What a person has to mend (no authorization, a fenced `group.instance.id`, members of another
//! protocol) is returned by `poll`.

mod assignor;
mod consumer;
mod coordinator;
mod member;
mod protocol;
mod shared;
mod shown;
mod survey;
#[cfg(test)]
mod tests;

pub use survey::ensure_stand_in;

use std::sync::Arc;
use std::time::Duration;

use super::{ClientSettings, Log, LogConsumer, LogError, StandIns, Subscription};
use crate::group::wire::WireSettings;

/// Whose group it is, and what is read.
pub struct Across {
    /// The cluster that has the group.
    pub target: Arc<dyn Log>,
    /// Settings of its members: the target's addresses and security, `group.id`, `group.instance.id`, time-outs.
    pub member: ClientSettings,
    /// The cluster that has the topics.
    pub source: Arc<dyn Log>,
    /// Settings of their reader: the source's addresses and security, and as `group.id` the group there that shows how far this one is.
    pub reader: ClientSettings,
    /// The source's topics.
    pub subscription: Subscription,
    /// Topics of the target that are read, too.
    pub own: Vec<String>,
}

/// A member of the group.
pub fn consumer_across(across: Across) -> Result<Box<dyn LogConsumer>, LogError> {
    Ok(Box::new(consumer::AcrossConsumer::new(across)?))
}

/// Why no member can be had with these settings; `None` if one can.
pub fn refusal(member: &ClientSettings) -> Option<String> {
    if member.get("group.protocol").is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("consumer")) {
        return Some("group.protocol=consumer cannot be used between two clusters: leave it out".to_owned());
    }
    WireSettings::new(member).err().map(|error| error.message)
}

/// Of a member, from its client settings, with Kafka's defaults.
#[derive(Debug, Clone)]
struct MemberSettings {
    client: ClientSettings,
    group: String,
    instance: Option<String>,
    names: StandIns,
    own: Vec<String>,
    session: Duration,
    heartbeat: Duration,
    /// How long a member may take to give up its partitions and join again, and not poll.
    rebalance: Duration,
    /// How often topics and partitions are looked for.
    refresh: Duration,
}

impl MemberSettings {
    fn new(client: &ClientSettings, own: &[String]) -> Result<Self, LogError> {
        if let Some(reason) = refusal(client) {
            return Err(LogError::fatal(format!("a member of a group in another cluster than its topics: {reason}")));
        }
        let text = |name: &str| client.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let millis = |name: &str, default: u64| match text(name).map(str::parse) {
            None => Ok(Duration::from_millis(default)),
            Some(Ok(millis)) => Ok(Duration::from_millis(millis)),
            Some(Err(_)) => Err(LogError::fatal(format!("client setting {name}: it is not a number of milliseconds"))),
        };
        let group = text("group.id").ok_or_else(|| LogError::fatal("a consumer needs the client setting group.id"))?;
        if let Some(wrong) = group.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
            return Err(LogError::fatal(format!(
                "the group {group:?} of the target cluster has {wrong:?} in its name, and topics are named after it: set \
                 consumer.override.group.id to a name of letters, digits, '.', '_' and '-'"
            )));
        }
        let session = millis("session.timeout.ms", 45_000)?;
        Ok(Self {
            names: StandIns::new(group),
            group: group.to_owned(),
            instance: text("group.instance.id").map(str::to_owned),
            own: own.to_vec(),
            session,
            heartbeat: millis("heartbeat.interval.ms", 3_000)?.min(session / 3).max(Duration::from_millis(50)),
            rebalance: millis("max.poll.interval.ms", 300_000)?,
            refresh: millis("metadata.max.age.ms", 30_000)?.max(Duration::from_millis(100)),
            client: client.clone(),
        })
    }
}
