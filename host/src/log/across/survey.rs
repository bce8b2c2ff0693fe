//! Which topics and partitions there are to be read, and their stand-ins in the target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::Pattern;

use super::super::{Log, LogError, NewTopic, StandIns, Subscription, name_matches};

/// How long one question to a cluster may take.
const ASK: Duration = Duration::from_secs(10);
/// Kafka's own topics never match a pattern.
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
    /// Partitions of stand-ins that are known to be there.
    made: BTreeMap<String, i32>,
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
        let (made, missing) = Default::default();
        Ok(Self { source, target, wanted, own: own.to_vec(), names, made, missing })
    }

    /// How many partitions each topic has by the name that the group has for it; those that are wanted by name and missing have none.
    /// Stand-ins are made, and grow.
    pub(super) fn look(&mut self) -> Result<BTreeMap<String, i32>, LogError> {
        let mut found = BTreeMap::new();
        for (topic, partitions) in self.topics()? {
            let name = self.names.name(&topic);
            if partitions > 0 {
                self.stand_in(&topic, &name, partitions)?;
            }
            found.insert(name, partitions);
        }
        for topic in &self.own {
            let known = self.target.admin().topic(topic, ASK)?;
            found.insert(topic.clone(), known.map_or(0, |known| known.partitions));
        }
        Ok(found)
    }

    /// Whether a topic that is wanted by name is not there: it may come soon.
    pub(super) fn misses(&self) -> bool {
        !self.missing.is_empty()
    }

    fn topics(&mut self) -> Result<BTreeMap<String, i32>, LogError> {
        match &self.wanted {
            Wanted::Topics(topics) => {
                let mut found = BTreeMap::new();
                for topic in topics {
                    let known = self.source.admin().topic(topic, ASK)?;
                    if known.is_some() {
                        self.missing.remove(topic);
                    } else if self.missing.insert(topic.clone()) {
                        tracing::warn!(
                            "the topic {topic} does not exist in the source cluster; it is read when it does"
                        );
                    }
                    found.insert(topic.clone(), known.map_or(0, |known| known.partitions));
                }
                Ok(found)
            }
            Wanted::Pattern(pattern) => {
                let all = self.source.admin().topics(ASK)?.into_iter();
                let matching =
                    all.filter(|topic| !INTERNAL.contains(&topic.name.as_str()) && name_matches(pattern, &topic.name));
                Ok(matching.map(|topic| (topic.name, topic.partitions)).collect())
            }
        }
    }

    fn stand_in(&mut self, topic: &str, name: &str, partitions: i32) -> Result<(), LogError> {
        if self.made.get(name).is_some_and(|made| *made >= partitions) {
            return Ok(());
        }
        ensure_stand_in(&*self.target, topic, name, partitions)?;
        self.made.insert(name.to_owned(), partitions);
        Ok(())
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
