//! The keyed state of connectors that do not run, forgotten when users ask for it.
//!
//! The changelog topic is the truth, so forgetting is to delete it, after the producers of former tasks are fenced: one that was left
//! behind would write to it again. This worker's files go at once; those of others when the connector's next task finds that they
//! belong to another topic ([`claim`](crate::state::StateDirectory::claim)).

use std::time::Duration;

use tributary_sdk::Config;

use super::clusters::Clusters;
use super::environment::Environment;
use super::exactly_once::{FENCE_WITHIN, transactional_ids};
use crate::log::LogError;
use crate::state::changelog;
use crate::transform::registry;

/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(30);

impl Environment {
    /// Forgets the state of a stopped connector with this (resolved) config that had so many tasks. Fine where there is none.
    pub fn purge_state(&self, connector: &str, config: &Config, tasks: u32) -> Result<(), LogError> {
        let clusters = self.clusters(connector, config)?;
        let group = clusters.group_of_state(self.group_of_state());
        let admin = clusters.target.admin();
        let topic = changelog::topic(&group, connector);
        // A connector that keeps none now may have kept some; then it does not matter if the cluster tells nothing of the topic.
        match admin.topic(&topic, ASK) {
            Ok(Some(_)) => {
                self.fence_former_tasks(connector)?;
                let ids = transactional_ids(&group, connector, tasks.max(1));
                clusters.target.fence_producers(&ids, FENCE_WITHIN)?;
                self.delete_repartition_topics(connector, &clusters)?;
                self.delete_outbox(connector, &clusters)?;
                admin.delete_topic(&topic, ASK)?;
                tracing::info!(connector, "purged the state of its transforms: deleted topic {topic}");
            }
            // They are made before the changelog.
            Ok(None) => {
                self.delete_repartition_topics(connector, &clusters)?;
                if registry::keeps_state(config) {
                    self.delete_outbox(connector, &clusters)?;
                }
            }
            Err(error) if registry::keeps_state(config) => return Err(error),
            Err(_) => {}
        }
        let purged = self.state_files.purge(connector);
        purged.map_err(|error| LogError { message: error.message, retriable: error.retriable, code: None })
    }

    /// What is on its way between two stages belongs to the state.
    fn delete_repartition_topics(&self, connector: &str, clusters: &Clusters) -> Result<(), LogError> {
        let admin = clusters.target.admin();
        let group = clusters.group_of_state(self.group_of_state());
        let topic = |number| changelog::repartition_topic(&group, connector, number);
        let mut count = 0;
        while admin.topic(&topic(count + 1), ASK)?.is_some() {
            count += 1;
        }
        // The last one first: if this is interrupted, the others are found again.
        for number in (1..=count).rev() {
            admin.delete_topic(&topic(number), ASK)?;
            tracing::info!(connector, "deleted topic {}", topic(number));
        }
        Ok(())
    }

    /// What is on its way to the sink does, too. Where there is neither a changelog nor a config that keeps state, a topic of the name has nothing
    /// of the connector.
    fn delete_outbox(&self, connector: &str, clusters: &Clusters) -> Result<(), LogError> {
        let admin = clusters.target.admin();
        let outbox = changelog::outbox_topic(&clusters.group_of_state(self.group_of_state()), connector);
        if admin.topic(&outbox, ASK)?.is_some() {
            admin.delete_topic(&outbox, ASK)?;
            tracing::info!(connector, "deleted topic {outbox}");
        }
        Ok(())
    }
}
