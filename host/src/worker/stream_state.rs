//! The state of a stream task: its changelog, the repartition topics in front of its stages, and the outbox topic in front of its sink.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::source::ExactlyOnceSupport;
use tributary_sdk::{Config, Error};

use super::assembly::{ASK, Assembly, MAX_OUTBOX_RECORD};
use super::clusters::Clusters;
use crate::log::{NewTopic, Subscription, TopicIdentity, TopicPartition};
use crate::state::changelog;
use crate::task::ensure_topic::ensure_topic;
use crate::task::errors::TaskError;
use crate::task::services::InstanceServices;
use crate::task::stream::{CutTopic, OutboxTopic, StageFacts, Stages, StreamState};
use crate::transform::stateful::passed::upstream;
use crate::transform::{Cut, TransformChain};

/// How long one look for a topic that should not be there may take: the task cannot be stopped meanwhile.
const LOOK: Duration = Duration::from_secs(5);

impl Assembly<'_> {
    /// The state of stateful transforms, with the topics that it needs, which are made if they are missing: with an outbox, if the sink keeps
    /// its own offsets.
    pub(super) fn state(
        &self,
        config: &Config,
        subscription: &Subscription,
        chain: &mut TransformChain,
        exactly_once: bool,
        clusters: &Clusters,
    ) -> Result<(StreamState, Stages), TaskError> {
        let inputs = self.inputs(subscription, clusters)?;
        let cuts = chain.cuts(config);
        let changelog = changelog::topic(&self.group_of_state(clusters), &self.spec.id.connector);
        let most = inputs.iter().map(|(_, partitions)| *partitions).max().unwrap_or(1);
        // Before the changelog: where that is, they are.
        let cuts = self.cut_topics(cuts, most, &changelog, clusters)?;
        let first = self.first_stage(&inputs, chain, !cuts.is_empty())?;
        let read = std::iter::once(first).chain(cuts.iter().map(|cut| cut.partitions));
        let fact = |(stage, partitions)| StageFacts {
            partitions,
            stateful: chain.stage_is_stateful(stage),
            makes_records: chain.stage_makes_records(stage),
        };
        let facts: Vec<_> = read.enumerate().map(fact).collect();
        let outbox = match facts.last().filter(|_| exactly_once) {
            Some(last) => Some(self.outbox(last.partitions, clusters)?),
            None => {
                self.without_outbox(clusters)?;
                None
            }
        };
        self.ensure_changelog(&changelog, Stages::shards(&facts), clusters)?;
        let counts: Vec<i32> = inputs.iter().map(|(_, partitions)| *partitions).collect();
        let mut stages = Stages::new(inputs.into_iter().map(|(topic, _)| topic).collect(), cuts, &facts);
        if let Some(outbox) = outbox {
            stages = stages.with_outbox(outbox);
        }
        for stage in 1..=stages.last() {
            let read = if stage == 1 { counts.clone() } else { vec![facts[stage - 1].partitions] };
            let origins = stages.origins(stage - 1, &read);
            chain.expect(stage, &origins.iter().map(|origin| upstream(&origin.topic, origin.partition)).collect());
        }
        let (state, reader) = self.task_state(config, chain, clusters)?;
        chain.set_state(state.clone());
        self.control.counters.set_state(&state);
        Ok((StreamState { state, changelog, reader }, stages))
    }

    /// The first part of the names of the connector's own topics.
    fn group_of_state(&self, clusters: &Clusters) -> String {
        clusters.group_of_state(self.environment.group_of_state())
    }

    /// The topics that the connector reads, with their partitions.
    fn inputs(&self, subscription: &Subscription, clusters: &Clusters) -> Result<Vec<(Arc<str>, i32)>, TaskError> {
        let Subscription::Topics(topics) = subscription else {
            return Err(TaskError::new(
                "transforms that keep state need topics instead of topics.regex: it has to be known which partitions there are",
            ));
        };
        let partitions = |topic: &String| {
            let found = clusters.source.admin().topic(topic, ASK)?.ok_or_else(|| {
                TaskError::new(format!(
                    "the topic {topic} does not exist: transforms that keep state need to know its partitions, so create it first"
                ))
            })?;
            Ok((topic.as_str().into(), found.partitions))
        };
        topics.iter().map(partitions).collect()
    }

    /// How many partitions the first stage reads of each topic: if it keeps state, they have to be as many.
    fn first_stage(&self, inputs: &[(Arc<str>, i32)], chain: &TransformChain, cut: bool) -> Result<i32, TaskError> {
        let Some((topic, count)) = inputs.first() else { return Err(TaskError::new("there are no topics")) };
        let other = inputs.iter().find(|(_, other)| other != count);
        if let Some((other, partitions)) = other.filter(|_| chain.stage_is_stateful(0)) {
            let what = if cut { "the first of its transforms" } else { "the transform" };
            return Err(TaskError::new(format!(
                "the topics {topic} and {other} have {count} and {partitions} partitions: records of one key would be kept apart. \
                 Give them the same number, or set repartition=auto for {what}"
            )));
        }
        Ok(*count)
    }

    /// The repartition topics, made where they are missing.
    fn cut_topics(
        &self,
        cuts: Vec<Cut>,
        default: i32,
        changelog: &str,
        clusters: &Clusters,
    ) -> Result<Vec<CutTopic>, TaskError> {
        let admin = clusters.target.admin();
        let (group, connector) = (self.group_of_state(clusters), &self.spec.id.connector);
        let begin_anew = || {
            format!(
                "create a connector with another name, or stop it and reset its offsets (DELETE /connectors/{connector}/offsets), \
                 which purges the state and deletes the topic"
            )
        };
        let (mut topics, total) = (Vec::new(), cuts.len());
        for (number, cut) in cuts.into_iter().enumerate() {
            let topic = changelog::repartition_topic(&group, connector, number + 1);
            if admin.topic(&topic, ASK)?.is_none() {
                // The other tasks make them, too, each time before the changelog.
                if admin.topic(changelog, ASK)?.is_some() && admin.topic(&topic, ASK)?.is_none() {
                    return Err(TaskError::new(format!(
                        "transforms.{}.repartition=auto: the state of connector {connector} was made without the topic {topic}, with its \
                         keys in other partitions: {}",
                        cut.alias,
                        begin_anew()
                    )));
                }
                let new = NewTopic {
                    name: topic.clone(),
                    partitions: Some(cut.partitions.unwrap_or(default)),
                    settings: own_topic_settings(),
                    ..NewTopic::default()
                };
                _ = ensure_topic(&*clusters.target, &new, self.control)?;
            }
            let partitions = self.visible(&topic, clusters)?;
            if let Some(wanted) = cut.partitions.filter(|wanted| *wanted != partitions) {
                return Err(TaskError::new(format!(
                    "transforms.{}.repartition.partitions={wanted}: the topic {topic} has {partitions} already, and state for as many. Set \
                     that, or {}",
                    cut.alias,
                    begin_anew()
                )));
            }
            topics.push(CutTopic { cut, topic: topic.as_str().into(), partitions });
        }
        let next = changelog::repartition_topic(&group, connector, total + 1);
        if admin.topic(&next, ASK)?.is_some() {
            return Err(TaskError::new(format!(
                "the state of connector {connector} was made with the repartition topic {next}, which its config does not have any more: put \
                 repartition=auto back, {}",
                begin_anew()
            )));
        }
        Ok(topics)
    }

    /// What a sink connector says of how it writes records once.
    pub(super) fn exactly_once_support(&self, config: &Config) -> Result<Option<ExactlyOnceSupport>, TaskError> {
        let (environment, name) = (self.environment, &self.spec.id.connector);
        let (offsets, state) = (environment.offsets.clone(), environment.state.clone());
        let services = InstanceServices::new(name, None, self.control.clone(), offsets, state);
        let mut connector = environment.create_connector(config, Arc::new(services), self.control)?;
        match connector.exactly_once_support(config) {
            Ok(support) => Ok(support),
            Err(Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(TaskError::of_call("exactly_once_support", error)),
        }
    }

    /// The topic between the last stage, which reads so many partitions, and the sink. It is made if it is missing.
    fn outbox(&self, partitions: i32, clusters: &Clusters) -> Result<OutboxTopic, TaskError> {
        let connector = &self.spec.id.connector;
        let topic = changelog::outbox_topic(&self.group_of_state(clusters), connector);
        let mut settings = own_topic_settings();
        settings.insert("max.message.bytes".to_owned(), MAX_OUTBOX_RECORD.to_string());
        let new = NewTopic { name: topic.clone(), partitions: Some(partitions), settings, ..NewTopic::default() };
        ensure_topic(&*clusters.target, &new, self.control)?;
        let known = self.visible(&topic, clusters)?;
        if known != partitions {
            return Err(TaskError::new(format!(
                "the chain's last stage has {partitions} partitions, and the topic {topic} was made with {known}. Create a connector with \
                 another name, or stop it and reset its offsets (DELETE /connectors/{connector}/offsets), which purges the state and deletes \
                 the topic"
            )));
        }
        // The bare name only where the cluster has no ids.
        let label = changelog::outbox_label(&topic, self.identity(&topic, clusters)?.id.as_deref()).into();
        Ok(OutboxTopic { topic: topic.into(), label, partitions })
    }

    /// Refuses to leave results behind that an earlier config has put into an outbox.
    pub(super) fn without_outbox(&self, clusters: &Clusters) -> Result<(), TaskError> {
        let connector = &self.spec.id.connector;
        let group = self.group_of_state(clusters);
        let topic = changelog::outbox_topic(&group, connector);
        // Without a changelog it has nothing of the connector. One that the worker's principal may not see was not written by it.
        if self.is_there(&topic, clusters)? && self.is_there(&changelog::topic(&group, connector), clusters)? {
            return Err(TaskError::new(format!(
                "results of the connector's earlier config may wait in the topic {topic}, which this config does not read: an outbox is between \
                 transforms that keep state and a connector that keeps its own offsets. Go back to that config; or, when its offsets show that \
                 the topic was read to its end, delete the topic; or stop the connector and reset its offsets (DELETE \
                 /connectors/{connector}/offsets), which purges the state and deletes the topic"
            )));
        }
        Ok(())
    }

    /// Whether there is a topic. As long as the cluster does not say, the task has nothing to read either, and waits for it.
    fn is_there(&self, topic: &str, clusters: &Clusters) -> Result<bool, TaskError> {
        loop {
            let error = match clusters.target.admin().topic(topic, LOOK) {
                Ok(found) => return Ok(found.is_some()),
                Err(error) if error.retriable => error,
                Err(error) => return Err(TaskError::new(format!("looking for the topic {topic}: {error}"))),
            };
            tracing::warn!("the task begins when the cluster says whether there is a topic {topic}: {error}");
            if self.control.wait(Duration::from_secs(1)) {
                return Err(TaskError::new(format!(
                    "stopped before the cluster said whether there is a topic {topic}"
                )));
            }
        }
    }

    /// Which topic it is that was made: not every broker knows at once of one that others know.
    fn identity(&self, topic: &str, clusters: &Clusters) -> Result<TopicIdentity, TaskError> {
        let deadline = Instant::now() + ASK;
        loop {
            if let Some(identity) = clusters.target.admin().topic_identity(topic, ASK)? {
                return Ok(identity);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.control.wait(left.min(Duration::from_millis(100))) {
                return Err(TaskError::new(format!(
                    "the topic {topic} was made, and the cluster does not tell its id"
                )));
            }
        }
    }

    /// Waits until a topic that was made is known with all its partitions, and answers how many. A member of a group that subscribes to one
    /// that its client does not know yet is given none of its partitions; and if it is killed then, it comes back to the same assignment.
    fn visible(&self, topic: &str, clusters: &Clusters) -> Result<i32, TaskError> {
        let admin = clusters.target.admin();
        let deadline = Instant::now() + ASK;
        loop {
            let known = admin.topic(topic, ASK)?.map(|known| known.partitions);
            let missing = match known.filter(|partitions| *partitions > 0) {
                None => None,
                Some(partitions) => {
                    let at = |partition| TopicPartition { topic: topic.into(), partition };
                    let first = (0..partitions).find_map(|partition| admin.watermarks(&at(partition), ASK).err());
                    match first {
                        None => return Ok(partitions),
                        missing => missing,
                    }
                }
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.control.wait(left.min(Duration::from_millis(100))) {
                let what = missing.map_or_else(|| "it is not there".to_owned(), |error| error.message);
                return Err(TaskError::new(format!("the topic {topic} was made, and cannot be used yet: {what}")));
            }
        }
    }

    /// Makes the changelog if it is missing. It cannot get other partitions afterwards.
    fn ensure_changelog(&self, changelog: &str, partitions: i32, clusters: &Clusters) -> Result<(), TaskError> {
        let new = NewTopic {
            name: changelog.to_owned(),
            partitions: Some(partitions),
            settings: changelog::topic_settings(),
            ..NewTopic::default()
        };
        _ = ensure_topic(&*clusters.target, &new, self.control)?;
        let known = self.visible(changelog, clusters)?;
        if known != partitions {
            return Err(TaskError::new(format!(
                "the input has {partitions} partitions, and the state of connector {} was made with {known} (topic {changelog}): keys may \
                 have moved to other partitions. Create a connector with another name, or stop it and reset its offsets, which purges the state, too",
                self.spec.id.connector
            )));
        }
        Ok(())
    }
}

/// Records stay until the next stage, or the sink, has them.
fn own_topic_settings() -> BTreeMap<String, String> {
    let settings = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
