//! Which stage of the chain reads which topic, and where its state is.
//!
//! The first stage reads the connector's topics, each other one the repartition topic in front of it. All of them are in one task: it is
//! a member of one group for all the topics, and what it writes to a repartition topic is in the transaction with everything else.
//! Partitions of one number need not be in one task, unless a stage reads several topics. So each stage has shards of its own: the
//! changelog has the partitions of all stages that keep state, one after the other.
//!
//! In front of a sink that keeps its own offsets, behind the last stage, is an outbox topic: see [`super::outbox`].

use std::sync::Arc;

use crate::log::TopicPartition;
use crate::state::Shard;
use crate::transform::Cut;

/// A repartition topic.
#[derive(Debug, Clone)]
pub struct CutTopic {
    /// The chain's end and beginning there.
    pub cut: Cut,
    /// Its name.
    pub topic: Arc<str>,
    /// Number of its partitions.
    pub partitions: i32,
}

/// The topic in front of the sink.
#[derive(Debug, Clone)]
pub struct OutboxTopic {
    /// Its name.
    pub topic: Arc<str>,
    /// By what the sink knows it: no topic that had the same name before.
    pub label: Arc<str>,
    /// Number of its partitions: as many as the last stage reads.
    pub partitions: i32,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    /// The topics of the first stage.
    inputs: Vec<Arc<str>>,
    cuts: Vec<CutTopic>,
    /// The first shard of each stage; `None`: it keeps no state.
    bases: Vec<Option<Shard>>,
    /// Whether what leaves a stage is made by it.
    made: Vec<bool>,
    outbox: Option<OutboxTopic>,
}

/// What is known of a stage.
#[derive(Debug, Clone, Copy)]
pub struct StageFacts {
    /// Partitions that it reads.
    pub partitions: i32,
    /// Whether it keeps state.
    pub stateful: bool,
    /// Whether what leaves it is made by it.
    pub makes_records: bool,
}

impl Stages {
    /// One more stage than cuts.
    pub fn new(inputs: Vec<Arc<str>>, cuts: Vec<CutTopic>, facts: &[StageFacts]) -> Self {
        let mut next = 0;
        let base = |facts: &StageFacts| {
            let base = next;
            next += if facts.stateful { facts.partitions } else { 0 };
            facts.stateful.then_some(base)
        };
        let bases = facts.iter().map(base).collect();
        Self { inputs, cuts, bases, made: facts.iter().map(|facts| facts.makes_records).collect(), outbox: None }
    }

    /// With a topic between the last stage and the sink.
    pub fn with_outbox(self, outbox: OutboxTopic) -> Self {
        Self { outbox: Some(outbox), ..self }
    }

    /// The topic between the last stage and the sink, if there is one.
    pub fn outbox(&self) -> Option<&OutboxTopic> {
        self.outbox.as_ref()
    }

    /// Whether a topic is the outbox.
    pub fn is_outbox(&self, topic: &str) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| *outbox.topic == *topic)
    }

    /// Whether the connector is given the records of a topic, or what the chain makes of them.
    pub fn is_for_sink(&self, topic: &str) -> bool {
        match &self.outbox {
            Some(outbox) => *outbox.topic == *topic,
            None => self.stage(topic) == self.last(),
        }
    }

    /// Whether records pass through topics of the connector's own.
    pub fn has_own_topics(&self) -> bool {
        self.outbox.is_some() || !self.cuts.is_empty()
    }

    /// Whether a topic is one of those: what is read there has been taken from the input already.
    pub fn is_own_topic(&self, topic: &str) -> bool {
        self.is_outbox(topic) || self.stage(topic) > 0
    }

    /// Shards of all stages together: the partitions of the changelog.
    pub fn shards(facts: &[StageFacts]) -> i32 {
        facts.iter().filter(|facts| facts.stateful).map(|facts| facts.partitions).sum()
    }

    /// The repartition topics.
    pub fn cuts(&self) -> &[CutTopic] {
        &self.cuts
    }

    /// The number of the chain's last stage.
    pub fn last(&self) -> usize {
        self.cuts.len()
    }

    /// The stage that reads a topic.
    ///
    /// The outbox is read by none of the chain: its number is the one behind the last.
    pub fn stage(&self, topic: &str) -> usize {
        if self.is_outbox(topic) {
            return self.last() + 1;
        }
        self.cuts.iter().position(|cut| *cut.topic == *topic).map_or(0, |cut| cut + 1)
    }

    /// Whether a topic is one of the connector's own inputs, as far as they were known when the task began.
    pub fn is_input(&self, topic: &str) -> bool {
        self.inputs.iter().any(|input| **input == *topic)
    }

    /// The topics that a stage reads.
    pub fn topics(&self, stage: usize) -> Vec<Arc<str>> {
        stage.checked_sub(1).map_or_else(|| self.inputs.clone(), |cut| vec![self.cuts[cut].topic.clone()])
    }

    /// The shard that a partition's records belong to, if their stage keeps state.
    pub fn shard(&self, partition: &TopicPartition) -> Option<Shard> {
        let base = self.bases.get(self.stage(&partition.topic)).copied().flatten()?;
        Some(base + partition.partition)
    }

    /// Stage and partition number of a shard.
    pub fn of_shard(&self, shard: Shard) -> (usize, i32) {
        let known = self.bases.iter().enumerate().rev().filter_map(|(stage, base)| Some((stage, (*base)?)));
        known.into_iter().find(|(_, base)| *base <= shard).map_or((0, shard), |(stage, base)| (stage, shard - base))
    }

    /// Whether what leaves a stage, which is not the last, is made by it.
    pub fn makes_records(&self, stage: usize) -> bool {
        stage < self.last() && self.made.get(stage) == Some(&true)
    }

    /// By what the next stage knows where a record comes from: the partition that was read; of what a stage makes, the shard.
    pub fn origin(&self, stage: usize, partition: &TopicPartition) -> TopicPartition {
        match self.made.get(stage) {
            Some(true) => self.first_of(stage, partition.partition),
            _ => partition.clone(),
        }
    }

    /// The partition with a number of a stage's first topic.
    pub fn first_of(&self, stage: usize, partition: i32) -> TopicPartition {
        let topic = self.topics(stage).into_iter().next().unwrap_or_else(|| "".into());
        TopicPartition { topic, partition }
    }

    /// All origins of records that leave a stage, which reads so many partitions of each topic.
    pub fn origins(&self, stage: usize, partitions: &[i32]) -> Vec<TopicPartition> {
        let topics = self.topics(stage);
        let all = topics
            .iter()
            .zip(partitions)
            .flat_map(|(topic, count)| (0..*count).map(|partition| TopicPartition { topic: topic.clone(), partition }));
        let mut origins: Vec<_> = all.map(|partition| self.origin(stage, &partition)).collect();
        origins.sort();
        origins.dedup();
        origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    fn cut(topic: &str, partitions: i32) -> CutTopic {
        let cut = Cut { alias: "a".into(), class: "A".into(), partitions: None, idle_timeout: None };
        CutTopic { cut, topic: topic.into(), partitions }
    }

    fn facts(partitions: i32, stateful: bool, makes_records: bool) -> StageFacts {
        StageFacts { partitions, stateful, makes_records }
    }

    #[test]
    fn stages_have_shards_of_their_own() {
        let facts = [facts(3, true, false), facts(5, true, true), facts(2, true, true)];
        let stages = Stages::new(vec!["in".into(), "on".into()], vec![cut("r1", 5), cut("r2", 2)], &facts);
        assert_eq!(Stages::shards(&facts), 10);
        for (partition, stage, shard) in
            [(at("in", 2), 0, 2), (at("on", 2), 0, 2), (at("r1", 0), 1, 3), (at("r2", 1), 2, 9)]
        {
            assert_eq!(stages.stage(&partition.topic), stage);
            assert_eq!(stages.shard(&partition), Some(shard));
            assert_eq!(stages.of_shard(shard), (stage, partition.partition));
        }
        assert_eq!(stages.origins(0, &[1, 2]), [at("in", 0), at("on", 0), at("on", 1)]);
        assert_eq!(stages.origins(1, &[2]), [at("r1", 0), at("r1", 1)]);
    }

    #[test]
    fn an_outbox_is_behind_the_last_stage() {
        let facts = [facts(3, true, false), facts(2, true, true)];
        let outbox = OutboxTopic { topic: "o".into(), label: "o@1".into(), partitions: 2 };
        let stages = Stages::new(vec!["in".into()], vec![cut("r1", 2)], &facts).with_outbox(outbox);
        assert_eq!((stages.stage("o"), stages.last(), stages.shard(&at("o", 1))), (2, 1, None));
        let sink = |topic| (stages.is_for_sink(topic), stages.is_own_topic(topic));
        assert_eq!([sink("in"), sink("r1"), sink("o")], [(false, false), (false, true), (true, true)]);
        assert!(!stages.makes_records(1) && !stages.makes_records(2));
        let stages = Stages::new(vec!["in".into()], vec![cut("r1", 2)], &facts);
        assert_eq!(["in", "r1"].map(|topic| stages.is_for_sink(topic)), [false, true]);
    }

    #[test]
    fn a_first_stage_without_state_takes_no_shards() {
        let facts = [facts(7, false, false), facts(4, true, true)];
        let stages = Stages::new(vec!["in".into()], vec![cut("r1", 4)], &facts);
        assert_eq!((stages.shard(&at("in", 6)), stages.shard(&at("r1", 3))), (None, Some(3)));
        assert_eq!((stages.of_shard(3), Stages::shards(&facts)), ((1, 3), 4));
    }

    #[test]
    fn results_of_topics_that_are_read_together_come_from_their_shard() {
        let facts = [facts(2, true, true), facts(2, true, true)];
        let stages = Stages::new(vec!["in".into(), "on".into()], vec![cut("r1", 2)], &facts);
        assert_eq!(stages.origin(0, &at("on", 1)), at("in", 1));
        assert_eq!(stages.origins(0, &[2, 2]), [at("in", 0), at("in", 1)]);
    }
}
