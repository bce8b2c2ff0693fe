//! Which shards of a connector's state its tasks have.
//!
//! A task's shards are the partitions that it reads, which its consumer group knows: the task is a static member named after it. Where the
//! chain is cut, each stage has its own shards (see [`Stages`](crate::task::stream::Stages)), and the group reads the repartition topics,
//! too, so that everything follows from names and numbers of topics: the stage behind a cut begins with the transform that keeps state;
//! the first stage keeps some if the changelog has more partitions than all repartition topics together. Repartition topics that an earlier
//! chain has left behind make this wrong: other shards are followed than the tasks have, into files that are right but of little use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::log::{AssignedMember, Log, LogError, TopicPartition};
use crate::state::{Shard, changelog};
use crate::worker::FollowSpec;

/// The numbers of a connector's shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Of the changelog.
    partitions: i32,
    /// The first shard of the first stage; `None`: it keeps no state.
    first: Option<Shard>,
    /// Repartition topics, with the first shard of the stage that reads each.
    cuts: BTreeMap<Arc<str>, Shard>,
    outbox: Arc<str>,
}

impl Layout {
    /// Asks the cluster. `partitions` is the number of the changelog's: where that is, all repartition topics are.
    pub fn ask(
        log: &dyn Log,
        group_of_state: &str,
        connector: &str,
        partitions: i32,
        timeout: Duration,
    ) -> Result<Self, LogError> {
        let mut cuts = Vec::new();
        loop {
            let topic = changelog::repartition_topic(group_of_state, connector, cuts.len() + 1);
            let Some(known) = log.admin().topic(&topic, timeout)? else { break };
            cuts.push((topic.into(), known.partitions));
        }
        Ok(Self::new(partitions, cuts, changelog::outbox_topic(group_of_state, connector).into()))
    }

    fn new(partitions: i32, cuts: Vec<(Arc<str>, i32)>, outbox: Arc<str>) -> Self {
        let behind: i32 = cuts.iter().map(|(_, partitions)| partitions).sum();
        let mut next = (partitions - behind).max(0);
        let first = (next > 0).then_some(0);
        let with_base = cuts.into_iter().map(|(topic, partitions)| {
            let base = next;
            next += partitions;
            (topic, base)
        });
        let cuts = with_base.collect();
        Self { partitions, first, cuts, outbox }
    }

    /// The shard that a partition's records belong to, if their stage keeps state.
    fn shard(&self, TopicPartition { topic, partition }: &TopicPartition) -> Option<Shard> {
        if *topic == self.outbox {
            return None;
        }
        let base = self.cuts.get(topic).copied().or(self.first)?;
        Some(base + partition).filter(|shard| (0..self.partitions).contains(shard))
    }
}

/// What is known of the tasks' shards.
pub struct Shards {
    layout: Layout,
    by_task: BTreeMap<u32, BTreeSet<Shard>>,
}

impl Shards {
    /// Nothing yet.
    pub fn new(layout: Layout) -> Self {
        Self { layout, by_task: BTreeMap::new() }
    }

    /// Looks who reads what. As long as the group does not tell of a task, it has what it had.
    pub fn look(&mut self, log: &dyn Log, group: &str, spec: &FollowSpec, timeout: Duration) -> Result<(), LogError> {
        if spec.of == 1 {
            // Nobody has to be asked.
            self.by_task = spec.tasks.iter().map(|task| (*task, (0..self.layout.partitions).collect())).collect();
            return Ok(());
        }
        if let Some(members) = log.assigned_members(group, timeout)? {
            self.take(spec, &members);
        }
        Ok(())
    }

    fn take(&mut self, spec: &FollowSpec, members: &[AssignedMember]) {
        for task in &spec.tasks {
            let name = format!("{}-{task}", spec.connector);
            // Where there are no static members, clients are named after their tasks all the same.
            let client = format!("connector-consumer-{name}");
            let is = |member: &&AssignedMember| match &member.instance_id {
                Some(id) => *id == name,
                None => member.client_id == client,
            };
            if let Some(member) = members.iter().find(is) {
                let shards = member.partitions.iter().filter_map(|partition| self.layout.shard(partition));
                self.by_task.insert(*task, shards.collect());
            }
        }
    }

    /// Of other tasks nothing is to be known any more.
    pub fn keep(&mut self, tasks: &BTreeSet<u32>) {
        self.by_task.retain(|task, _| tasks.contains(task));
    }

    /// All that the tasks have.
    pub fn all(&self) -> BTreeSet<Shard> {
        self.by_task.values().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    /// As `Stages` numbers them.
    #[test]
    fn shards_are_numbered_through_all_stages() {
        let cuts = || vec![("r1".into(), 5), ("r2".into(), 2)];
        let layout = Layout::new(10, cuts(), "o".into());
        let shards = [("in", 2), ("on", 2), ("r1", 0), ("r2", 1), ("o", 1)];
        let numbers = shards.map(|(topic, partition)| layout.shard(&at(topic, partition)));
        assert_eq!(numbers, [Some(2), Some(2), Some(3), Some(9), None]);
        // A first stage without state takes no shards.
        let layout = Layout::new(7, cuts(), "o".into());
        let numbers = shards.map(|(topic, partition)| layout.shard(&at(topic, partition)));
        assert_eq!(numbers, [None, None, Some(0), Some(6), None]);
    }

    #[test]
    fn a_task_has_what_its_member_reads_and_keeps_it_while_nothing_is_told() {
        let mut shards = Shards::new(Layout::new(4, Vec::new(), "o".into()));
        let member = |instance: Option<&str>, client: &str, partitions: &[i32]| AssignedMember {
            instance_id: instance.map(str::to_owned),
            client_id: client.to_owned(),
            partitions: partitions.iter().map(|partition| at("in", *partition)).collect(),
        };
        let spec = FollowSpec { connector: "c".into(), config: Arc::default(), tasks: [0, 2].into(), of: 3 };
        shards.take(&spec, &[member(Some("c-0"), "x", &[0, 1]), member(Some("c-1"), "x", &[2])]);
        assert_eq!(shards.all(), [0, 1].into());
        shards.take(&spec, &[member(Some("c-0"), "x", &[1]), member(None, "connector-consumer-c-2", &[3])]);
        assert_eq!(shards.all(), [1, 3].into());
        shards.take(&spec, &[member(Some("c-1"), "x", &[0, 1, 2, 3])]);
        assert_eq!(shards.all(), [1, 3].into());
        shards.keep(&[2].into());
        assert_eq!(shards.all(), [3].into());
    }
}
