//! The positions of a consumer group, committed in the transactions of its member.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::log::{LogConsumer, LogError, TopicPartition, TransactionError, TransactionalProducer};
use crate::task::transaction::{Outcome, Positions};

/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(30);
/// How long adding offsets may take.
const CALL: Duration = Duration::from_secs(30);

/// Next-to-read offsets of one member: what is committed, and what the open transaction brings.
///
/// A member that the group does not count in any more learns it here: its offsets are refused, and the transaction with them.
pub struct GroupOffsets {
    /// The member.
    pub consumer: Box<dyn LogConsumer>,
    /// What is committed of the partitions that are read.
    committed: BTreeMap<TopicPartition, Option<i64>>,
    /// Of the open transaction.
    open: BTreeMap<TopicPartition, i64>,
    /// Whether the open transaction writes something.
    dirty: bool,
    gone: bool,
}

impl GroupOffsets {
    /// Of a member that has no partitions yet.
    pub fn new(consumer: Box<dyn LogConsumer>) -> Self {
        Self { consumer, committed: BTreeMap::new(), open: BTreeMap::new(), dirty: false, gone: false }
    }

    /// Partitions are read from here on.
    pub fn begin(&mut self, committed: &[(TopicPartition, Option<i64>)]) {
        self.committed.extend(committed.iter().cloned());
    }

    /// Partitions are not read any more. What the open transaction has of them is gone.
    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.committed.remove(partition);
            self.open.remove(partition);
        }
    }

    /// What is committed of a partition.
    pub fn committed_at(&self, partition: &TopicPartition) -> Option<i64> {
        self.committed.get(partition).copied().flatten()
    }

    /// The open transaction brings the partition here.
    pub fn advance(&mut self, partition: TopicPartition, next: i64) {
        self.open.insert(partition, next);
    }

    /// The open transaction writes something.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// What the open transaction brings.
    pub fn open(&self) -> Vec<(TopicPartition, i64)> {
        self.open.iter().map(|(partition, next)| (partition.clone(), *next)).collect()
    }

    /// What is committed for certain.
    pub fn committed(&self) -> impl Iterator<Item = (TopicPartition, i64)> {
        self.committed.iter().filter_map(|(partition, next)| Some((partition.clone(), (*next)?)))
    }

    /// Where partitions are, with what the open transaction brings.
    pub fn all(&self) -> BTreeMap<TopicPartition, i64> {
        self.committed().chain(self.open()).collect()
    }

    /// Whether the group has, or will have, a position of a partition.
    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.open.contains_key(partition) || self.committed.get(partition).is_some_and(Option::is_some)
    }

    /// Whether a transaction would commit something.
    pub fn is_clean(&self) -> bool {
        self.open.is_empty() && !self.dirty
    }

    /// Begins anew: what is committed is told with [`Self::begin`].
    pub fn reset(&mut self) {
        self.committed.clear();
        self.open.clear();
        (self.dirty, self.gone) = (false, false);
    }
}

impl Positions for GroupOffsets {
    fn load(&mut self) -> Result<(), LogError> {
        // They are read when partitions are given to the member.
        Ok(())
    }

    fn look(&mut self) -> Result<Outcome, LogError> {
        let partitions = self.committed.keys().cloned().collect::<Vec<_>>();
        if partitions.is_empty() {
            return Ok(Outcome::Before);
        }
        let found: BTreeMap<_, _> = self.consumer.committed(&partitions, ASK)?.into_iter().collect();
        Ok(judge(&self.committed, &self.open, &found))
    }

    fn add(&mut self, producer: &mut dyn TransactionalProducer, _number: u64) -> Result<u64, TransactionError> {
        // All of them, also those that have not moved: the group checks with them that this is still its member. Results of timers
        // would be committed by one that stood still and does not know yet that others have its partitions.
        let all = self.all();
        if all.is_empty() {
            return Ok(0);
        }
        let kept = all.iter().map(|(partition, next)| (self.consumer.kept_as(partition), *next)).collect::<Vec<_>>();
        let group = self.consumer.group_metadata().inspect_err(|error| self.gone |= is_gone(error))?;
        producer.send_offsets(&kept, &group, CALL)?;
        Ok(0)
    }

    fn tells(&self) -> bool {
        // Results that no input has moved with (of timers) leave no trace in the offsets, nor does one that stays where it is.
        self.open.iter().any(|(partition, next)| self.committed.get(partition).is_some_and(|at| *at != Some(*next)))
    }

    fn settled(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.consumer.committed_in_transaction(&open.iter().map(|(at, next)| (at.clone(), *next)).collect::<Vec<_>>());
        self.committed.extend(open.into_iter().map(|(partition, next)| (partition, Some(next))));
        self.dirty = false;
    }

    fn noticed(&mut self, error: &LogError) {
        self.gone |= is_gone(error);
    }

    fn gone(&self) -> bool {
        self.gone
    }
}

/// Whether an error says that the member has no say in its group any more.
fn is_gone(error: &LogError) -> bool {
    matches!(
        error.code,
        Some("ILLEGAL_GENERATION" | "UNKNOWN_MEMBER_ID" | "FENCED_INSTANCE_ID" | "REBALANCE_IN_PROGRESS")
    )
}

fn judge(
    committed: &BTreeMap<TopicPartition, Option<i64>>,
    open: &BTreeMap<TopicPartition, i64>,
    found: &BTreeMap<TopicPartition, Option<i64>>,
) -> Outcome {
    let at = |partition: &TopicPartition| found.get(partition).copied().flatten();
    if committed.iter().all(|(partition, before)| at(partition) == *before) {
        return Outcome::Before;
    }
    let after = |(partition, before): (&TopicPartition, &Option<i64>)| {
        at(partition) == open.get(partition).copied().or(*before)
    };
    if committed.iter().all(after) { Outcome::After } else { Outcome::Other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ConsumerEvent;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    #[test]
    fn offsets_tell_what_became_of_a_transaction() {
        let committed = BTreeMap::from([(at(0), Some(10)), (at(1), None), (at(2), Some(5))]);
        let open = BTreeMap::from([(at(0), 20), (at(1), 3)]);
        let found = |a, b, c| BTreeMap::from([(at(0), a), (at(1), b), (at(2), c)]);
        assert_eq!(judge(&committed, &open, &found(Some(10), None, Some(5))), Outcome::Before);
        assert_eq!(judge(&committed, &open, &found(Some(20), Some(3), Some(5))), Outcome::After);
        assert_eq!(
            judge(&committed, &open, &found(Some(20), None, Some(5))),
            Outcome::Other,
            "half of it is none of it"
        );
        assert_eq!(judge(&committed, &open, &found(Some(20), Some(3), Some(6))), Outcome::Other);
    }

    /// A member that is told offsets of the group.
    struct Member(BTreeMap<TopicPartition, Option<i64>>);

    impl LogConsumer for Member {
        fn poll(&mut self, _: usize, _: usize, _: Duration) -> Result<Vec<ConsumerEvent>, LogError> {
            Ok(Vec::new())
        }
        fn assign(&mut self, _: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
            Ok(())
        }
        fn unassign(&mut self, _: &[TopicPartition]) -> Result<(), LogError> {
            Ok(())
        }
        fn pause(&mut self, _: &[TopicPartition]) -> Result<(), LogError> {
            Ok(())
        }
        fn resume(&mut self, _: &[TopicPartition]) -> Result<(), LogError> {
            Ok(())
        }
        fn seek(&mut self, _: &TopicPartition, _: i64) -> Result<(), LogError> {
            Ok(())
        }
        fn commit(&mut self, _: &[(TopicPartition, i64)]) -> Result<(), LogError> {
            Ok(())
        }
        fn committed(
            &mut self,
            asked: &[TopicPartition],
            _: Duration,
        ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
            Ok(asked.iter().map(|at| (at.clone(), self.0.get(at).copied().flatten())).collect())
        }
        fn lag(&mut self) -> Vec<(TopicPartition, i64)> {
            Vec::new()
        }
        fn close(self: Box<Self>, _: Duration) -> Result<(), LogError> {
            Ok(())
        }
    }

    #[test]
    fn offsets_that_stay_where_they_are_tell_nothing() {
        let member = |found| Box::new(Member(BTreeMap::from([(at(0), found), (at(1), None)])));
        let mut offsets = GroupOffsets::new(member(Some(10)));
        offsets.begin(&[(at(0), Some(10)), (at(1), None)]);
        offsets.advance(at(0), 10);
        // The transaction may be there: the group's offsets are the same with it and without it.
        assert_eq!((offsets.look().unwrap(), offsets.tells()), (Outcome::Before, false));
        offsets.advance(at(2), 7);
        assert!(!offsets.tells(), "of a partition that is not looked at");
        offsets.advance(at(0), 11);
        assert_eq!((offsets.look().unwrap(), offsets.tells()), (Outcome::Before, true));
        offsets.consumer = member(Some(11));
        assert_eq!(offsets.look().unwrap(), Outcome::After);
        offsets.settled();
        assert_eq!((offsets.committed_at(&at(0)), offsets.tells()), (Some(11), false));
    }
}
