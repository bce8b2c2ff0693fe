//! The assignor against a naive model: members that follow every decision at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::assignor::{Assignor, Decision};
use super::protocol::MemberMetadata;
use super::{Assignment, ClusterSnapshot, ConnectorShape};
use crate::worker::TaskId;

/// A group whose members do what they are told, at once.
struct Group {
    assignor: Assignor,
    members: BTreeMap<String, MemberMetadata>,
    snapshot: ClusterSnapshot,
    generation: i32,
    now: u64,
    stopped: usize,
}

impl Group {
    fn new(delay: Option<Duration>, tasks: &[u32]) -> Self {
        let mut group = Self {
            assignor: Assignor::new(delay),
            members: BTreeMap::new(),
            snapshot: ClusterSnapshot::default(),
            generation: 0,
            now: 1_000_000_000_000,
            stopped: 0,
        };
        group.configure(tasks);
        group
    }

    fn configure(&mut self, tasks: &[u32]) {
        // Some have no standbys, some have one or two for each task.
        let shape = |tasks: &u32| ConnectorShape { tasks: *tasks, standbys: tasks % 3, ..ConnectorShape::default() };
        let named = |(number, tasks)| (format!("c{number:02}"), shape(tasks));
        self.snapshot.connectors = tasks.iter().enumerate().map(named).collect();
    }

    fn join(&mut self, id: &str, labels: &[&str]) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let url = format!("http://{id}");
        let (ours, follows) = (true, true);
        let member = MemberMetadata { url, labels, ours, follows, followed: -1, ..MemberMetadata::default() };
        self.members.insert(id.to_owned(), member);
    }

    fn round(&mut self) -> Decision {
        self.generation += 1;
        self.now += 1_000_000;
        let decision = self.assignor.assign(self.now, self.generation, &self.members, &self.snapshot);
        for (id, part) in &decision.members {
            let member = self.members.get_mut(id).unwrap();
            self.stopped += part.revoked.len();
            member.owned.remove(&part.revoked);
            member.owned.add(&part.assigned);
            member.followed = self.generation;
            member.standbys = part.standbys.clone();
            assert!(member.standbys.is_disjoint(&member.owned.tasks), "{id} follows what it runs");
        }
        self.nothing_twice();
        decision
    }

    /// Rounds until one changes nothing; how many did.
    fn settle(&mut self) -> usize {
        for rounds in 0..10 {
            let decision = self.round();
            if decision.members.values().all(|part| part.assigned.is_empty() && part.revoked.is_empty()) {
                return rounds;
            }
        }
        panic!("it does not settle");
    }

    fn nothing_twice(&self) {
        let mut seen = BTreeSet::new();
        for member in self.members.values() {
            for connector in &member.owned.connectors {
                assert!(seen.insert((connector.clone(), None)), "{connector} twice");
            }
            for task in &member.owned.tasks {
                assert!(seen.insert((task.connector.clone(), Some(task.task))), "{task:?} twice");
            }
        }
    }

    fn counts(&self, count: impl Fn(&Assignment) -> usize) -> Vec<usize> {
        let mut counts: Vec<usize> = self.members.values().map(|member| count(&member.owned)).collect();
        counts.sort_unstable();
        counts
    }

    /// Who follows a task, by member id.
    fn followers(&self, connector: &str, task: u32) -> Vec<&str> {
        let task = TaskId::from((connector, task));
        let follow = self.members.iter().filter(|(_, member)| member.standbys.contains(&task));
        follow.map(|(id, _)| id.as_str()).collect()
    }

    /// As many follow each task as should and can, and the next round changes nothing of it.
    fn is_followed(&mut self) {
        for (name, shape) in &self.snapshot.connectors {
            let most = self.members.len().saturating_sub(1).min(shape.standbys as usize);
            for task in 0..shape.tasks {
                assert_eq!(self.followers(name, task).len(), most, "followers of {name}-{task}");
            }
        }
        let standbys = |members: &BTreeMap<String, MemberMetadata>| -> Vec<_> {
            members.values().map(|member| member.standbys.clone()).collect()
        };
        let before = standbys(&self.members);
        self.round();
        assert_eq!(standbys(&self.members), before, "followers flap");
    }

    /// What a naive model says: each thing dealt out in turn.
    fn is_dealt_out(&self) {
        let dealt = |units: usize| {
            let members = self.members.len();
            let mut counts: Vec<usize> =
                (0..members).map(|member| units / members + usize::from(member < units % members)).collect();
            counts.sort_unstable();
            counts
        };
        let tasks: usize = self.snapshot.connectors.values().map(|shape| shape.tasks as usize).sum();
        assert_eq!(self.counts(|owned| owned.connectors.len()), dealt(self.snapshot.connectors.len()), "connectors");
        assert_eq!(self.counts(|owned| owned.tasks.len()), dealt(tasks), "tasks");
        for (name, shape) in &self.snapshot.connectors {
            let counts = self.counts(|owned| owned.tasks.iter().filter(|task| task.connector == *name).count());
            assert_eq!(counts, dealt(shape.tasks as usize), "tasks of {name}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_all_is_dealt_out(
        tasks in prop::collection::vec(0u32..9, 0..12),
        later in prop::collection::vec(0u32..9, 0..12),
        members in 1usize..6,
        steps in prop::collection::vec(0u8..4, 0..8),
    ) {
        let mut group = Group::new(None, &tasks);
        for member in 0..members {
            group.join(&format!("m{member}"), &[]);
        }
        group.settle();
        group.is_dealt_out();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                0 => group.join(&format!("n{number}"), &[]),
                1 if group.members.len() > 1 => {
                    let id = group.members.keys().next().cloned().unwrap();
                    group.members.remove(&id);
                }
                2 => group.assignor.forget(),
                _ => group.configure(&later),
            }
            // Somebody who was lost again and again is waited for.
            group.now += 60_000_000_000;
            group.settle();
            group.is_dealt_out();
            group.is_followed();
        }
    }

    #[test]
    fn a_join_moves_the_new_ones_part_in_two_rounds(
        tasks in prop::collection::vec(0u32..9, 1..20),
        members in 1usize..6,
    ) {
        let mut group = Group::new(None, &tasks);
        for member in 0..members {
            group.join(&format!("m{member}"), &[]);
        }
        group.settle();
        group.stopped = 0;
        group.join("new", &[]);
        let rounds = group.settle();
        prop_assert!(rounds <= 2, "{} rounds", rounds);
        let part = group.members["new"].owned.len();
        // Evenness by connector may need a few moves among the others.
        prop_assert!(group.stopped <= part + tasks.len() / 2, "{} stopped for {}", group.stopped, part);
        group.is_dealt_out();
    }

    #[test]
    fn a_leave_moves_little_else(tasks in prop::collection::vec(0u32..9, 1..20), members in 2usize..6) {
        let mut group = Group::new(None, &tasks);
        for member in 0..members {
            group.join(&format!("m{member}"), &[]);
        }
        group.settle();
        group.stopped = 0;
        group.members.remove("m0");
        group.settle();
        prop_assert!(group.stopped <= tasks.len() / 2, "{} stopped", group.stopped);
        group.is_dealt_out();
    }

    #[test]
    fn loads_become_even_where_weights_differ(weights in prop::collection::vec(1u32..20, 4..20), members in 2usize..5) {
        let mut group = Group::new(None, &[]);
        for (number, weight) in weights.iter().enumerate() {
            let shape = ConnectorShape { tasks: 1, weight: f64::from(*weight), ..ConnectorShape::default() };
            group.snapshot.connectors.insert(format!("c{number:02}"), shape);
        }
        for member in 0..members {
            group.join(&format!("m{member}"), &[]);
        }
        group.settle();
        let load = |member: &MemberMetadata| -> f64 {
            member.owned.tasks.iter().map(|task| group.snapshot.connectors[&task.connector].weight).sum()
        };
        let loads: Vec<f64> = group.members.values().map(load).collect();
        let most = loads.iter().copied().fold(0.0, f64::max);
        let least = loads.iter().copied().fold(f64::MAX, f64::min);
        let heaviest = weights.iter().copied().max().map_or(0.0, f64::from);
        let mean: f64 = loads.iter().sum::<f64>() / members as f64;
        prop_assert!(most - least <= heaviest + 0.1 * mean + 1e-6, "{:?}", loads);
    }
}

#[test]
fn labels_pin() {
    let mut group = Group::new(None, &[2, 2]);
    group.snapshot.connectors.get_mut("c01").unwrap().labels = vec!["zone=b".to_owned()];
    group.join("a", &["zone=a"]);
    let decision = group.round();
    assert_eq!(decision.unplaced.len(), 3);
    group.join("b", &["zone=b", "gpu"]);
    group.settle();
    assert!(group.members["b"].owned.connectors.contains("c01"));
    assert_eq!(group.members["b"].owned.tasks.iter().filter(|task| task.connector == "c01").count(), 2);
    // The label is taken away from the connector's wish: nothing has to move but for evenness.
    group.snapshot.connectors.get_mut("c01").unwrap().labels = vec!["zone".to_owned()];
    group.settle();
    group.is_dealt_out();
    // A wish that nobody meets any more stops it.
    group.snapshot.connectors.get_mut("c00").unwrap().labels = vec!["tape".to_owned()];
    group.settle();
    assert!(group.members.values().all(|member| !member.owned.connectors.contains("c00")));
}

#[test]
fn a_lost_worker_is_waited_for_as_the_key_says() {
    let delay = Duration::from_secs(300);
    let mut group = Group::new(Some(delay), &[4, 4]);
    for member in ["a", "b"] {
        group.join(member, &[]);
    }
    group.settle();
    let lost = group.members.remove("b").unwrap();
    let decision = group.round();
    assert_eq!(decision.kept_until, Some(group.now + 300_000_000_000));
    assert_eq!(group.members["a"].owned.len(), 5, "nothing was taken over");
    // It comes back as another member: it has what it had.
    group.join("b2", &[]);
    group.members.get_mut("b2").unwrap().url = "http://b".to_owned();
    let decision = group.round();
    assert_eq!(decision.kept_until, None);
    assert_eq!(group.members["b2"].owned, lost.owned);
    // Lost again, and not back in time.
    group.members.remove("b2");
    group.round();
    group.now += 300_000_000_000;
    group.settle();
    assert_eq!(group.members["a"].owned.len(), 10);
}

#[test]
fn by_default_only_workers_that_come_and_go_are_waited_for() {
    let mut group = Group::new(None, &[4, 4]);
    group.join("a", &[]);
    for (number, waited) in [(0, 0), (1, 1), (2, 2), (3, 4)] {
        group.join(&format!("b{number}"), &[]);
        group.members.get_mut(&format!("b{number}")).unwrap().url = "http://b".to_owned();
        group.settle();
        group.members.remove(&format!("b{number}"));
        let decision = group.round();
        let until = decision.kept_until.map_or(0, |until| (until - group.now) / 1_000_000_000);
        assert_eq!(until, waited, "loss {number}");
    }
}

/// A member says that it leaves, is gone in the next round, and says how long its restart takes.
fn leave(group: &mut Group, id: &str, back_within: Duration) -> Decision {
    let leaving = group.members.get_mut(id).unwrap();
    (leaving.leaving, leaving.back_within) = (true, back_within);
    group.round();
    group.members.remove(id);
    group.round()
}

#[test]
fn who_says_good_bye_is_not_waited_for() {
    let mut group = Group::new(Some(Duration::from_secs(300)), &[4, 4]);
    for member in ["a", "b"] {
        group.join(member, &[]);
    }
    group.settle();
    let leaving = group.members.get_mut("b").unwrap();
    leaving.leaving = true;
    let decision = group.round();
    assert_eq!(decision.kept_until, None);
    assert_eq!(group.members["a"].owned.len(), 10, "in the very round in which it says so");
    group.members.remove("b");
    assert_eq!(group.settle(), 0);
}

#[test]
fn who_says_that_it_will_be_back_soon_finds_its_part_even_under_another_leader() {
    let wait = Duration::from_secs(2);
    let mut group = Group::new(None, &[4, 1, 1, 2]);
    for member in ["a", "b", "c"] {
        group.join(member, &[]);
    }
    group.settle();
    let before = group.members["b"].owned.clone();
    let decision = leave(&mut group, "b", wait);
    assert!(decision.kept_until.is_some_and(|until| until <= group.now + 2_000_000_000));
    let told = decision.absences;
    assert_eq!((told[0].url.as_str(), &told[0].part), ("http://b", &before));
    // The leader is another one, which knows only what members were told.
    group.assignor.forget();
    for member in group.members.values_mut() {
        member.absences = told.clone();
    }
    let (stopped, decision) = (group.stopped, group.round());
    assert!(decision.kept_until.is_some(), "it goes on waiting");
    group.join("b2", &[]);
    group.members.get_mut("b2").unwrap().url = "http://b".to_owned();
    group.settle();
    assert_eq!(group.members["b2"].owned, before);
    assert_eq!(group.stopped, stopped, "nothing else moved");
}

#[test]
fn who_comes_back_late_gets_back_what_it_had_and_nothing_else_moves() {
    let mut group = Group::new(None, &[4, 1, 1, 2, 1, 1, 1]);
    for member in ["a", "b", "c"] {
        group.join(member, &[]);
    }
    group.settle();
    let before = group.members["b"].owned.clone();
    leave(&mut group, "b", Duration::from_secs(2));
    group.now += 3_000_000_000;
    group.settle();
    let (everything, stopped) = (group.counts(Assignment::len).iter().sum::<usize>(), group.stopped);
    assert_eq!(everything, 18);
    group.join("b", &[]);
    group.settle();
    let back = &group.members["b"].owned;
    assert!(back.connectors.is_subset(&before.connectors) && back.tasks.is_subset(&before.tasks), "{back:?}");
    assert_eq!(group.stopped - stopped, back.len());
    group.is_dealt_out();
}

#[test]
fn what_was_revoked_is_given_to_nobody_on_the_strength_of_an_old_word() {
    let mut group = Group::new(None, &[4, 2]);
    group.join("a", &[]);
    // A request that was on its way for very long says this once more, after all that follows.
    let old = group.members["a"].clone();
    group.settle();
    group.join("b", &[]);
    let revoked = group.round().members["a"].revoked.clone();
    assert_eq!(revoked.len(), 4);
    let current = group.members.insert("a".to_owned(), old).unwrap();
    let given = group.round().members["b"].assigned.clone();
    assert!(given.is_empty(), "{given} may still be running where it was");
    // What it says itself counts.
    let followed = group.members["a"].followed;
    group.members.insert("a".to_owned(), MemberMetadata { followed, ..current });
    group.settle();
    group.is_dealt_out();
}

/// Three workers, four tasks, one follower each.
fn followed() -> Group {
    let mut group = Group::new(None, &[4]);
    for member in ["a", "b", "c"] {
        group.join(member, &[]);
    }
    group.settle();
    group.is_followed();
    group
}

fn owner(group: &Group, task: u32) -> Option<&str> {
    let task = TaskId::from(("c00", task));
    group.members.iter().find(|(_, member)| member.owned.tasks.contains(&task)).map(|(id, _)| id.as_str())
}

#[test]
fn a_lost_task_goes_to_a_worker_that_follows_it() {
    let mut inherited = 0;
    for lost in ["a", "b", "c"] {
        let mut group = followed();
        let its: Vec<u32> = (0..4).filter(|task| owner(&group, *task) == Some(lost)).collect();
        let heirs: Vec<(u32, String)> =
            its.iter().map(|task| (*task, group.followers("c00", *task)[0].to_owned())).collect();
        group.stopped = 0;
        group.members.remove(lost);
        group.round();
        // As far as they share the connector's tasks evenly then.
        for (task, heir) in &heirs {
            let owner = owner(&group, *task).unwrap();
            let full = group.members[heir].owned.tasks.len() == 2;
            assert!(owner == heir || full, "c00-{task} went to {owner} and not to {heir}");
        }
        inherited += heirs.iter().filter(|(task, heir)| owner(&group, *task) == Some(heir)).count();
        assert_eq!(group.stopped, 0, "nothing that ran was stopped");
        group.is_followed();
    }
    assert_eq!(inherited, 4, "each task was lost once");
}

#[test]
fn a_follower_gets_the_task_though_another_worker_has_a_little_less_to_do() {
    let mut group = Group::new(None, &[1, 2, 2]);
    for member in ["a", "b", "c"] {
        group.join(member, &[]);
    }
    group.settle();
    let holder = group.members.iter().find(|(_, m)| m.owned.tasks.contains(&("c00", 0).into())).unwrap().0.clone();
    let heir = group.followers("c00", 0)[0].to_owned();
    group.members.remove(&holder);
    group.settle();
    assert!(group.members[&heir].owned.tasks.contains(&("c00", 0).into()));
    group.is_followed();
}

#[test]
fn who_a_task_is_taken_from_follows_it() {
    let mut group = followed();
    let before: Vec<Option<String>> = (0..4).map(|task| owner(&group, task).map(str::to_owned)).collect();
    group.join("d", &[]);
    group.settle();
    let moved: Vec<u32> = (0..4).filter(|task| owner(&group, *task) == Some("d")).collect();
    assert_eq!(moved.len(), 1);
    for task in moved {
        assert!(group.followers("c00", task).len() == 1);
        let known = group.followers("c00", task)[0].to_owned();
        // It was one or the other: both have the state.
        assert!(before[task as usize].as_deref() == Some(&known) || known != "d", "{known} follows c00-{task}");
    }
    group.is_followed();
}

#[test]
fn a_worker_that_knows_nothing_of_standbys_follows_nothing() {
    let mut group = followed();
    assert!(!group.members["b"].standbys.is_empty());
    group.members.get_mut("b").unwrap().follows = false;
    group.settle();
    assert!(group.members["b"].standbys.is_empty());
    for task in 0..group.snapshot.connectors["c00"].tasks {
        assert!(!group.followers("c00", task).is_empty(), "the others follow c00-{task}");
    }
    // It is upgraded.
    group.members.get_mut("b").unwrap().follows = true;
    group.settle();
    group.is_followed();
}

#[test]
fn who_restarts_goes_on_following_what_it_followed_even_under_another_leader() {
    let mut group = followed();
    let (owned, standbys) = (group.members["b"].owned.clone(), group.members["b"].standbys.clone());
    assert!(!standbys.is_empty());
    let others = |group: &Group| {
        let others = group.members.iter().filter(|(id, _)| !id.starts_with('b'));
        others.map(|(_, member)| member.standbys.clone()).collect::<Vec<_>>()
    };
    let before = others(&group);
    let decision = leave(&mut group, "b", Duration::from_secs(2));
    assert_eq!(others(&group), before, "nobody else follows meanwhile");
    group.assignor.forget();
    for member in group.members.values_mut() {
        member.absences = decision.absences.clone();
    }
    group.round();
    assert_eq!(others(&group), before);
    group.join("b2", &[]);
    group.members.get_mut("b2").unwrap().url = "http://b".to_owned();
    group.settle();
    assert_eq!((&group.members["b2"].owned, &group.members["b2"].standbys), (&owned, &standbys));
    assert_eq!(others(&group), before);
}

#[test]
fn who_does_not_come_back_in_time_is_replaced() {
    let mut group = followed();
    let decision = leave(&mut group, "b", Duration::from_secs(2));
    let until = decision.kept_until.unwrap();
    group.now = until;
    group.settle();
    group.is_followed();
}

#[test]
fn a_worker_that_only_follows_is_waited_for_too() {
    let mut group = Group::new(None, &[1]);
    group.join("a", &[]);
    group.settle();
    group.join("b", &[]);
    group.join("c", &[]);
    group.settle();
    let follower = group.followers("c00", 0)[0].to_owned();
    let decision = leave(&mut group, &follower, Duration::from_secs(2));
    assert!(decision.kept_until.is_some());
    assert!(group.followers("c00", 0).is_empty(), "its place is kept");
    group.join(&follower, &[]);
    group.settle();
    assert_eq!(group.followers("c00", 0), [follower]);
}

#[test]
fn followers_have_the_labels_that_the_connector_wants() {
    let mut group = Group::new(None, &[4]);
    group.snapshot.connectors.get_mut("c00").unwrap().labels = vec!["disk".to_owned()];
    group.join("a", &["disk"]);
    group.join("b", &[]);
    group.settle();
    assert!((0..4).all(|task| group.followers("c00", task).is_empty()));
    group.join("c", &["disk"]);
    group.settle();
    assert!((0..4).all(|task| group.followers("c00", task).len() == 1 && group.followers("c00", task) != ["b"]));
}
