//! Which topics and partitions there are to be read, and their stand-ins in the target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::Pattern;

use super::super::{Log, LogError, NewTopic, StandIns, Subscription, TopicIdentity, name_matches};

/// How long one question to a cluster may take.
const ASK: Duration = Duration::from_secs(10);
/// Kafka's own topics never match a pattern. Nor do stand-ins: two connectors in opposite directions would make ever more of them.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

enum Wanted {
    Topics(Vec<String>),
    Pattern(Pattern),
}

/// Looks at both clusters. Every call blocks.
pub(super) struct Survey {
    source: Arc<dyn Log>,
    target: Arc<dyn Log>,
    wanted: Wanted,
    own: Vec<String>,
    names: StandIns,
    /// Topics that a pattern matches and that cannot be read, as it was told.
    unusable: BTreeSet<String>,
    /// Topics that are wanted and missing, as it was told.
    missing: BTreeSet<String>,
}

impl Survey {
    pub(super) fn new(
        source: Arc<dyn Log>,
        target: Arc<dyn Log>,
        subscription: &Subscription,
        own: &[String],
        names: StandIns,
    ) -> Result<Self, LogError> {
        let wanted = match subscription {
            Subscription::Topics(topics) => Wanted::Topics(topics.clone()),
            Subscription::Pattern(pattern) => Wanted::Pattern(Pattern::whole(pattern).map_err(|error| {
                LogError::fatal(format!("topic pattern {pattern:?} is not a regular expression: {error}"))
            })?),
        };
        let (unusable, missing) = Default::default();
        Ok(Self { source, target, wanted, own: own.to_vec(), names, unusable, missing })
    }

    /// How many partitions each topic has by the name that the group has for it; those that are wanted by name and missing have none.
    /// Stand-ins are made, and grow. Of the topics of a pattern, those that cannot have one are left out.
    pub(super) fn look(&mut self) -> Result<BTreeMap<String, i32>, LogError> {
        let wanted = self.topics()?;
        // Every time anew: one that somebody deleted is made again before the task's transactions miss it for long.
        let there: BTreeMap<_, _> =
            self.target.admin().topics(ASK)?.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
        let (mut found, mut refused) = (BTreeMap::new(), None);
        for (topic, TopicIdentity { id, partitions }) in wanted {
            let name = self.names.name(&topic, id.as_deref());
            if partitions > 0 && there.get(&name).is_none_or(|there| *there < partitions) {
                match ensure_stand_in(&*self.target, &topic, &name, partitions) {
                    Ok(()) => {}
                    Err(error) if !error.retriable && matches!(self.wanted, Wanted::Pattern(_)) => {
                        if self.unusable.insert(topic.clone()) {
                            tracing::warn!("the topic {topic} is not read: {error}");
                        }
                        refused = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.unusable.remove(&topic);
            found.insert(name, partitions);
        }
        if let Some(error) = refused.filter(|_| found.is_empty()) {
            // It is not that one topic's fault.
            return Err(error);
        }
        for topic in &self.own {
            found.insert(topic.clone(), there.get(topic).copied().unwrap_or(0));
        }
        Ok(found)
    }

    /// Whether a topic that is wanted by name is not there: it may come soon.
    pub(super) fn misses(&self) -> bool {
        !self.missing.is_empty()
    }

    fn topics(&mut self) -> Result<BTreeMap<String, TopicIdentity>, LogError> {
        let admin = self.source.admin();
        let all: Vec<_> = admin.topics(ASK)?.into_iter().map(|topic| topic.name).collect();
        match &self.wanted {
            Wanted::Topics(topics) => {
                let there: Vec<_> =
                    topics.iter().map(String::as_str).filter(|topic| all.iter().any(|known| known == topic)).collect();
                let mut found = admin.topic_identities(&there, ASK)?;
                for topic in topics {
                    if found.contains_key(topic) {
                        self.missing.remove(topic);
                        continue;
                    }
                    if self.missing.insert(topic.clone()) {
                        tracing::warn!(
                            "the topic {topic} does not exist in the source cluster; it is read when it does"
                        );
                    }
                    found.insert(topic.clone(), TopicIdentity { id: None, partitions: 0 });
                }
                Ok(found)
            }
            Wanted::Pattern(pattern) => {
                let matches = |topic: &&str| {
                    !INTERNAL.contains(topic) && !StandIns::are_named_like(topic) && name_matches(pattern, topic)
                };
                let matching: Vec<_> = all.iter().map(String::as_str).filter(matches).collect();
                admin.topic_identities(&matching, ASK)
            }
        }
    }
}

/// Makes the stand-in of a topic with so many partitions, if it is missing, and lets it grow.
pub fn ensure_stand_in(target: &dyn Log, topic: &str, name: &str, partitions: i32) -> Result<(), LogError> {
    let why = |error: LogError| LogError {
        message: format!(
            "the topic {name} stands for {topic} in the target cluster, where offsets are kept under its name: {}",
            error.message
        ),
        ..error
    };
    let admin = target.admin();
    let known = admin.topic(name, ASK).map_err(why)?;
    match known.map(|known| known.partitions).filter(|known| *known > 0) {
        Some(known) if known >= partitions => Ok(()),
        Some(_) => admin.create_partitions(name, partitions, ASK).map_err(why),
        None => {
            let settings = [("cleanup.policy".to_owned(), "delete".to_owned())].into();
            let new =
                NewTopic { name: name.to_owned(), partitions: Some(partitions), replication_factor: None, settings };
            if admin.create_topic(&new, ASK).map_err(why)? {
                tracing::info!("created topic {name}, which stands for {topic} of the source cluster");
                return Ok(());
            }
            // Another task was faster, with what it knew.
            match admin.topic(name, ASK).map_err(why)? {
                Some(known) if known.partitions < partitions => {
                    admin.create_partitions(name, partitions, ASK).map_err(why)
                }
                _ => Ok(()),
            }
        }
    }
}
