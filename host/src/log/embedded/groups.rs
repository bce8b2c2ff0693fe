//! Consumer groups: who reads which partitions. No I/O: events in, state, events out.
//!
//! Kafka's eager protocol with the range assignor, among the members of one process: when the members or
//! the topics change, everyone is told to give up its partitions, and once all have, everyone is told the new
//! ones. A static member (`group.instance.id`) that closes keeps its partitions until its session time-out, and
//! its successor takes them over without a rebalance of the others; while both are there, the older is fenced.
//!
//! A member that does not give up its partitions within its `max.poll.interval.ms` loses them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::super::{LogError, TopicPartition};

/// Topics and their partition counts.
pub(super) type Topics = BTreeMap<std::sync::Arc<str>, i32>;

/// Which topics a member wants.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Names(BTreeSet<String>),
    Pattern(tributary_sdk::Pattern),
}

impl Wanted {
    fn has(&self, topic: &str) -> bool {
        match self {
            Wanted::Names(names) => names.contains(topic),
            Wanted::Pattern(pattern) => crate::log::name_matches(pattern, topic),
        }
    }
}

/// A member that joins.
#[derive(Debug, Clone)]
pub(super) struct Joining {
    pub(super) wanted: Wanted,
    pub(super) instance: Option<String>,
    pub(super) session_timeout: Duration,
    pub(super) poll_interval: Duration,
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupEvent {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<String, Group>,
    next_member: u64,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<u64, Member>,
    /// Static members that were replaced while they were there.
    fenced: BTreeSet<u64>,
    /// Partitions are being given up, until then.
    revoking: Option<Instant>,
    /// A rebalance began or ended, and the others do not know yet.
    moved: bool,
}

#[derive(Debug)]
struct Member {
    joined: Joining,
    /// Its partitions, told or about to be.
    owned: BTreeSet<TopicPartition>,
    /// They are still to be told.
    offered: bool,
    /// It was told to give them up.
    asked: bool,
    /// They were taken from it; still to be told.
    lost: BTreeSet<TopicPartition>,
    /// Closed, but its session lasts until then.
    absent: Option<Instant>,
}

impl Groups {
    pub(super) fn join(&mut self, group: &str, joining: Joining) -> u64 {
        self.next_member += 1;
        let id = self.next_member;
        let group = self.groups.entry(group.to_owned()).or_default();
        let instance = joining.instance.as_deref();
        let before = instance.and_then(|i| {
            group.members.iter().find(|(_, m)| m.joined.instance.as_deref() == Some(i)).map(|(id, _)| *id)
        });
        let mut member = Member {
            joined: joining,
            owned: BTreeSet::new(),
            offered: false,
            asked: false,
            lost: BTreeSet::new(),
            absent: None,
        };
        if let Some((before, predecessor)) = before.and_then(|id| group.members.remove_entry(&id)) {
            if predecessor.absent.is_none() {
                group.fenced.insert(before);
            }
            // It takes over, unless its partitions are just being given up.
            if group.revoking.is_none() {
                member.offered = !predecessor.owned.is_empty();
                member.owned = predecessor.owned;
            }
        }
        group.members.insert(id, member);
        id
    }

    /// The member closes.
    pub(super) fn leave(&mut self, group: &str, id: u64, now: Instant) {
        let Some(state) = self.groups.get_mut(group) else { return };
        state.fenced.remove(&id);
        if let Some(member) = state.members.get_mut(&id) {
            if member.joined.instance.is_some() && state.revoking.is_none() {
                member.absent = Some(now + member.joined.session_timeout);
            } else {
                state.members.remove(&id);
            }
        }
        if state.members.is_empty() && state.fenced.is_empty() {
            self.groups.remove(group);
        }
    }

    /// What the member has to be told now. Changes of the group that were waiting for this are made, too.
    pub(super) fn poll(
        &mut self,
        group: &str,
        id: u64,
        topics: &Topics,
        now: Instant,
    ) -> Result<Vec<GroupEvent>, LogError> {
        let Some(state) = self.groups.get_mut(group).filter(|g| !g.fenced.contains(&id)) else {
            return Err(fenced(group));
        };
        state.expire(now);
        state.advance(topics, now);
        let mut events = Vec::new();
        let Some(member) = state.members.get_mut(&id) else { return Err(fenced(group)) };
        if !member.lost.is_empty() {
            // Alone: what it is given next comes after it has let go of these.
            return Ok(vec![GroupEvent::Lost(std::mem::take(&mut member.lost).into_iter().collect())]);
        }
        if state.revoking.is_some() && !member.owned.is_empty() && !member.asked {
            member.asked = true;
            events.push(GroupEvent::Revoked(member.owned.iter().cloned().collect()));
        } else if std::mem::take(&mut member.offered) && !member.owned.is_empty() {
            events.push(GroupEvent::Assigned(member.owned.iter().cloned().collect()));
        }
        Ok(events)
    }

    /// The member gives up partitions. What it was given since and not told of is not meant.
    pub(super) fn release(&mut self, group: &str, id: u64, partitions: &[TopicPartition]) {
        if let Some(member) = self.groups.get_mut(group).and_then(|g| g.members.get_mut(&id)).filter(|m| !m.offered) {
            member.owned.retain(|p| !partitions.contains(p));
        }
    }

    /// Whether the member may commit for these partitions.
    pub(super) fn check_owner<'a>(
        &self,
        group: &str,
        id: u64,
        mut partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Result<(), LogError> {
        let Some(state) = self.groups.get(group).filter(|g| !g.fenced.contains(&id)) else { return Err(fenced(group)) };
        let Some(member) = state.members.get(&id) else { return Err(fenced(group)) };
        match partitions.find(|p| !member.owned.contains(p)) {
            None => Ok(()),
            Some(partition) => Err(LogError {
                message: format!(
                    "committing the offset of {}-{} for group {group}: the partition is no longer this member's: poll to learn its new ones",
                    partition.topic, partition.partition
                ),
                retriable: true,
                code: Some("ILLEGAL_GENERATION"),
            }),
        }
    }

    /// Whether a rebalance began or ended since the last call, so that all members have to look.
    pub(super) fn take_moved(&mut self, group: &str) -> bool {
        self.groups.get_mut(group).is_some_and(|state| std::mem::take(&mut state.moved))
    }

    /// When something happens in the group without anyone's doing.
    pub(super) fn deadline(&self, group: &str) -> Option<Instant> {
        let state = self.groups.get(group)?;
        state.members.values().filter_map(|m| m.absent).chain(state.revoking).min()
    }

    /// Whether the group has members; absent static ones are dismissed.
    pub(super) fn dismiss(&mut self, group: &str) -> bool {
        let Some(state) = self.groups.get_mut(group) else { return false };
        state.members.retain(|_, member| member.absent.is_none());
        if state.members.is_empty() {
            self.groups.remove(group);
            return false;
        }
        true
    }
}

impl Group {
    fn expire(&mut self, now: Instant) {
        self.members.retain(|_, member| member.absent.is_none_or(|until| until > now));
        if self.revoking.is_some_and(|until| until <= now) {
            for member in self.members.values_mut().filter(|m| !m.owned.is_empty()) {
                member.lost = std::mem::take(&mut member.owned);
                member.asked = false;
            }
        }
    }

    /// Begins a rebalance that is due, and ends one that all have answered.
    fn advance(&mut self, topics: &Topics, now: Instant) {
        if self.revoking.is_none() {
            let target = self.range(topics);
            let same = self
                .members
                .iter()
                .all(|(id, member)| target.get(id).map_or(member.owned.is_empty(), |t| *t == member.owned));
            if same {
                return;
            }
            let patience = self.members.values().map(|m| m.joined.poll_interval).max().unwrap_or_default();
            self.revoking = Some(now + patience);
            self.moved = true;
            for member in self.members.values_mut() {
                // What was not told yet, or whose holder is away, need not be given up.
                if member.offered || member.absent.is_some() {
                    member.owned.clear();
                }
                member.offered = false;
                member.asked = false;
            }
        }
        if self.members.values().all(|member| member.owned.is_empty()) {
            let mut target = self.range(topics);
            for (id, member) in &mut self.members {
                member.owned = target.remove(id).unwrap_or_default();
                member.offered = !member.owned.is_empty();
                member.asked = false;
            }
            self.revoking = None;
            self.moved = true;
        }
    }

    /// Each topic's partitions in equal runs over the members that want it, in the members' order.
    fn range(&self, topics: &Topics) -> BTreeMap<u64, BTreeSet<TopicPartition>> {
        let mut given: BTreeMap<u64, BTreeSet<TopicPartition>> = BTreeMap::new();
        for (topic, count) in topics {
            let mut members: Vec<_> = self.members.iter().filter(|(_, m)| m.joined.wanted.has(topic)).collect();
            // Static members by their name, so that a restart changes nothing.
            members.sort_by_key(|(id, m)| (m.joined.instance.clone(), **id));
            let (share, extra) = match members.len() as i32 {
                0 => continue,
                n => (count / n, count % n),
            };
            let mut next = 0;
            for (i, (id, _)) in members.into_iter().enumerate() {
                let take = share + i32::from((i as i32) < extra);
                let partitions =
                    (next..next + take).map(|partition| TopicPartition { topic: topic.clone(), partition });
                given.entry(*id).or_default().extend(partitions);
                next += take;
            }
        }
        given
    }
}

fn fenced(group: &str) -> LogError {
    LogError {
        message: format!(
            "group {group}: another consumer runs with the same group.instance.id, and this one is fenced"
        ),
        retriable: false,
        code: Some("FENCED_INSTANCE_ID"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(counts: &[(&str, i32)]) -> Topics {
        counts.iter().map(|(name, count)| ((*name).into(), *count)).collect()
    }

    fn joining(instance: Option<&str>) -> Joining {
        Joining {
            wanted: Wanted::Names(["t".to_string()].into()),
            instance: instance.map(str::to_owned),
            session_timeout: Duration::from_secs(10),
            poll_interval: Duration::from_secs(300),
        }
    }

    fn partitions(range: std::ops::Range<i32>) -> Vec<TopicPartition> {
        range.map(|partition| TopicPartition { topic: "t".into(), partition }).collect()
    }

    #[test]
    fn a_second_member_gets_its_share_after_the_first_gave_up() {
        let (mut groups, topics, now) = (Groups::default(), topics(&[("t", 5), ("other", 1)]), Instant::now());
        let first = groups.join("g", joining(None));
        assert_eq!(groups.poll("g", first, &topics, now).unwrap(), [GroupEvent::Assigned(partitions(0..5))]);
        assert!(groups.poll("g", first, &topics, now).unwrap().is_empty());
        let second = groups.join("g", joining(None));
        assert!(groups.poll("g", second, &topics, now).unwrap().is_empty());
        assert_eq!(groups.poll("g", first, &topics, now).unwrap(), [GroupEvent::Revoked(partitions(0..5))]);
        assert!(groups.poll("g", second, &topics, now).unwrap().is_empty(), "until the first has given up");
        assert!(groups.check_owner("g", first, partitions(0..5).iter()).is_ok(), "it may still commit");
        groups.release("g", first, &partitions(0..5));
        assert_eq!(groups.poll("g", second, &topics, now).unwrap(), [GroupEvent::Assigned(partitions(3..5))]);
        assert_eq!(groups.poll("g", first, &topics, now).unwrap(), [GroupEvent::Assigned(partitions(0..3))]);
        let error = groups.check_owner("g", first, partitions(4..5).iter()).unwrap_err();
        assert_eq!((error.code, error.retriable), (Some("ILLEGAL_GENERATION"), true));
        groups.leave("g", second, now);
        assert_eq!(groups.poll("g", first, &topics, now).unwrap(), [GroupEvent::Revoked(partitions(0..3))]);
        groups.release("g", first, &partitions(0..3));
        assert_eq!(groups.poll("g", first, &topics, now).unwrap(), [GroupEvent::Assigned(partitions(0..5))]);
    }

    #[test]
    fn new_partitions_and_topics_cause_a_rebalance() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        let member = groups.join("g", joining(None));
        assert!(groups.poll("g", member, &topics(&[]), now).unwrap().is_empty());
        assert_eq!(
            groups.poll("g", member, &topics(&[("t", 1)]), now).unwrap(),
            [GroupEvent::Assigned(partitions(0..1))]
        );
        assert_eq!(
            groups.poll("g", member, &topics(&[("t", 2)]), now).unwrap(),
            [GroupEvent::Revoked(partitions(0..1))]
        );
    }

    #[test]
    fn a_static_member_comes_back_to_its_partitions() {
        let (mut groups, topics, now) = (Groups::default(), topics(&[("t", 4)]), Instant::now());
        let a = groups.join("g", joining(Some("a")));
        let b = groups.join("g", joining(Some("b")));
        assert_eq!(groups.poll("g", a, &topics, now).unwrap(), [GroupEvent::Assigned(partitions(0..2))]);
        groups.poll("g", b, &topics, now).unwrap();
        groups.leave("g", a, now);
        assert!(groups.poll("g", b, &topics, now + Duration::from_secs(9)).unwrap().is_empty());
        let again = groups.join("g", joining(Some("a")));
        assert_eq!(groups.poll("g", again, &topics, now).unwrap(), [GroupEvent::Assigned(partitions(0..2))]);
        assert!(groups.poll("g", b, &topics, now).unwrap().is_empty(), "the other was not disturbed");
        // A second one with the same name fences the first.
        let third = groups.join("g", joining(Some("a")));
        assert_eq!(groups.poll("g", again, &topics, now).unwrap_err().code, Some("FENCED_INSTANCE_ID"));
        assert!(groups.check_owner("g", again, partitions(0..1).iter()).is_err());
        assert_eq!(groups.poll("g", third, &topics, now).unwrap(), [GroupEvent::Assigned(partitions(0..2))]);
        // Gone for good: the other gets all.
        groups.leave("g", third, now);
        let later = now + Duration::from_secs(11);
        assert_eq!(groups.poll("g", b, &topics, later).unwrap(), [GroupEvent::Revoked(partitions(2..4))]);
        groups.release("g", b, &partitions(2..4));
        assert_eq!(groups.poll("g", b, &topics, later).unwrap(), [GroupEvent::Assigned(partitions(0..4))]);
    }

    #[test]
    fn who_does_not_answer_loses_its_partitions() {
        let (mut groups, topics, now) = (Groups::default(), topics(&[("t", 2)]), Instant::now());
        let slow = groups.join("g", joining(None));
        groups.poll("g", slow, &topics, now).unwrap();
        let other = groups.join("g", joining(None));
        assert!(groups.poll("g", other, &topics, now).unwrap().is_empty());
        assert_eq!(groups.deadline("g"), Some(now + Duration::from_secs(300)));
        let later = now + Duration::from_secs(301);
        assert_eq!(groups.poll("g", other, &topics, later).unwrap(), [GroupEvent::Assigned(partitions(1..2))]);
        assert_eq!(groups.poll("g", slow, &topics, later).unwrap(), [GroupEvent::Lost(partitions(0..2))]);
        groups.release("g", slow, &partitions(0..2));
        assert_eq!(groups.poll("g", slow, &topics, later).unwrap(), [GroupEvent::Assigned(partitions(0..1))]);
    }
}
