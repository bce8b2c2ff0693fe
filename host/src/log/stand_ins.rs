//! What a group calls the topics of another cluster.
//!
//! Brokers refuse offsets of topics that they do not have. A group that reads another cluster's topics therefore has a stand-in for each of
//! them in its own cluster: a topic without records, with as many partitions, under whose name the group keeps the offsets.

use super::TopicPartition;

/// Names of stand-ins: `<group.id>.<topic>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIns {
    prefix: String,
}

impl StandIns {
    /// Those of a group.
    pub fn new(group: &str) -> Self {
        Self { prefix: format!("{group}.") }
    }

    /// What stands for a topic.
    pub fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The topic that one stands for; `None` if it is no stand-in.
    pub fn topic<'a>(&self, stand_in: &'a str) -> Option<&'a str> {
        stand_in.strip_prefix(&self.prefix).filter(|topic| !topic.is_empty())
    }

    /// What stands for a partition.
    pub fn partition(&self, of: &TopicPartition) -> TopicPartition {
        TopicPartition { topic: self.name(&of.topic).into(), partition: of.partition }
    }

    /// The partition that one stands for; itself if it is none of a stand-in.
    pub fn stands_for(&self, partition: TopicPartition) -> TopicPartition {
        match self.topic(&partition.topic) {
            Some(topic) => TopicPartition { topic: topic.into(), partition: partition.partition },
            None => partition,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let names = StandIns::new("connect-copy-from-abc");
        let orders = TopicPartition { topic: "orders".into(), partition: 3 };
        let stand_in = names.partition(&orders);
        assert_eq!(&*stand_in.topic, "connect-copy-from-abc.orders");
        assert_eq!(names.stands_for(stand_in), orders);
        assert_eq!(names.stands_for(orders.clone()), orders);
        assert_eq!(names.topic("connect-copy-from-abc."), None);
    }
}
