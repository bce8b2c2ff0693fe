//! The leader's part: which member is to run which connectors and tasks.
//!
//! Pure: what members own and are, what is to run, what the leader remembers of the last rounds, and the time go in; what
//! each member is given and has to stop comes out. Cooperative: what moves is revoked in one round and given to its new
//! owner in the next, when the old one has reported that it stopped.
//!
//! The part of a lost worker is held back for a while if `scheduled.rebalance.max.delay.ms` says so; without that key only
//! where the same worker (by URL) has been coming back lately: after its second loss in ten minutes for one second, then
//! two, four, up to thirty. A worker that announced its leave is never waited for, and one that came back has its part at
//! once. The memory is the leader's alone: a new leader waits for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::balance::{Moves, Unit, UnitGroup, balance};
use super::protocol::MemberMetadata;
use super::{Assignment, ClusterSnapshot, ConnectorShape};
use crate::worker::TaskId;

/// How long losses of a worker count towards its being waited for.
const FLAPPING: u64 = 600 * SECOND;
const LONGEST_WAIT: u64 = 30 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// A connector (`None`) or one of its tasks.
type Resource = (String, Option<u32>);

/// What a round gives and takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Decision {
    /// By member id; every member is in it.
    pub(super) members: BTreeMap<String, MemberDecision>,
    /// Who owns what when the round is done: member ids.
    pub(super) owners: BTreeMap<Resource, String>,
    /// What no member has the labels for.
    pub(super) unplaced: Assignment,
    /// Another round is needed at once.
    pub(super) unsettled: bool,
    /// Until when a lost worker's part is held back, on the caller's clock.
    pub(super) held_until: Option<u64>,
}

/// One member's part of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MemberDecision {
    pub(super) assigned: Assignment,
    pub(super) revoked: Assignment,
}

/// What the leader remembers from round to round.
#[derive(Debug, Default)]
pub(super) struct Assignor {
    /// `scheduled.rebalance.max.delay.ms`, if it is set.
    delay: Option<Duration>,
    /// Who was given what, lately.
    owners: BTreeMap<Resource, Owner>,
    /// Where what was revoked is to go: member ids.
    targets: BTreeMap<Resource, String>,
    /// Workers that are waited for, by URL.
    lost: BTreeMap<String, Lost>,
    /// When workers were lost, by URL.
    losses: BTreeMap<String, Vec<u64>>,
    /// URLs of workers that have announced their leave.
    leaving: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Owner {
    member: String,
    url: String,
    /// Since when.
    generation: i32,
}

#[derive(Debug)]
struct Lost {
    until: u64,
    part: BTreeSet<Resource>,
}

impl Assignor {
    pub(super) fn new(delay: Option<Duration>) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Another member leads: what this one remembers grows old.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.delay);
    }

    /// The round of a generation, at the time `now` in nanoseconds.
    pub(super) fn assign(
        &mut self,
        now: u64,
        generation: i32,
        members: &BTreeMap<String, MemberMetadata>,
        snapshot: &ClusterSnapshot,
    ) -> Decision {
        let claims = self.claims(members);
        let again = self.not_followed(members, &claims);
        let since: BTreeMap<Resource, Owner> = self.owners.clone();
        let overtaken = self.owners.is_empty() && some_word_is_old(members);
        let former = self.lose(now, members, &claims, snapshot);
        let mut held: BTreeSet<Resource> = self.lost.values().flat_map(|lost| lost.part.iter().cloned()).collect();
        if overtaken {
            held.extend(configured(snapshot).filter(|resource| !claims.contains_key(resource)));
        }
        let targets = std::mem::take(&mut self.targets);
        let mut round = Round {
            members: members.iter().collect(),
            snapshot,
            moves: if held.is_empty() { Moves::Free } else { Moves::Forced },
            claims,
            again,
            held,
            former,
            targets,
            new_targets: BTreeMap::new(),
            decision: Decision::default(),
        };
        round.place(false);
        round.place(true);
        round.revoke_rest();
        let Round { mut decision, new_targets, .. } = round;
        self.targets = new_targets;
        self.owners = decision
            .owners
            .iter()
            .map(|(resource, id)| {
                let url = members.get(id).map(|member| member.url.clone()).unwrap_or_default();
                let before = since.get(resource).filter(|owner| owner.member == *id);
                let generation = before.map_or(generation, |owner| owner.generation);
                (resource.clone(), Owner { member: id.clone(), url, generation })
            })
            .collect();
        decision.unsettled |= overtaken;
        decision.held_until = self.lost.values().map(|lost| lost.until).min();
        decision
    }

    /// Who owns what. Where several claim the same (it should not be), the one that was given it last, or else the first, keeps it.
    fn claims(&self, members: &BTreeMap<String, MemberMetadata>) -> BTreeMap<Resource, String> {
        let mut claims = BTreeMap::new();
        for (id, member) in members {
            for resource in resources(&member.owned) {
                let rightful = self.owners.get(&resource).is_some_and(|owner| owner.member == *id);
                if rightful || !claims.contains_key(&resource) {
                    claims.insert(resource, id.clone());
                }
            }
        }
        claims
    }

    /// What was given to a member that has not followed yet, as far as it tells. It may be running there all the same (its
    /// word may have been overtaken by a newer one): nobody else may have it before the member has spoken again.
    fn not_followed(
        &self,
        members: &BTreeMap<String, MemberMetadata>,
        claims: &BTreeMap<Resource, String>,
    ) -> BTreeMap<Resource, String> {
        let silent = |(resource, owner): (&Resource, &Owner)| {
            let member = members.get(&owner.member)?;
            let open = !member.leaving && member.followed < owner.generation && !claims.contains_key(resource);
            open.then(|| (resource.clone(), owner.member.clone()))
        };
        self.owners.iter().filter_map(silent).collect()
    }

    /// Notices who is gone and who is back. Returns the URLs of the former owners of what is to be given out now.
    fn lose(
        &mut self,
        now: u64,
        members: &BTreeMap<String, MemberMetadata>,
        claims: &BTreeMap<Resource, String>,
        snapshot: &ClusterSnapshot,
    ) -> BTreeMap<Resource, String> {
        let urls =
            |leaving: bool| members.values().filter(move |member| member.leaving == leaving).map(|member| &member.url);
        let here: BTreeSet<&String> = urls(false).collect();
        self.leaving.extend(urls(true).cloned());
        self.leaving.retain(|url| !here.contains(url));
        self.losses.retain(|_, times| {
            times.retain(|time| now.saturating_sub(*time) < FLAPPING);
            !times.is_empty()
        });

        let mut gone: BTreeMap<String, BTreeSet<Resource>> = BTreeMap::new();
        for (resource, owner) in std::mem::take(&mut self.owners) {
            if !members.contains_key(&owner.member) {
                gone.entry(owner.url).or_default().insert(resource);
            }
        }
        let mut former = BTreeMap::new();
        for (url, part) in gone {
            if !self.leaving.contains(&url) {
                let times = self.losses.entry(url.clone()).or_default();
                times.push(now);
                let wait = self
                    .delay
                    .map_or_else(|| adaptive(times.len()), |delay| u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
                let lost =
                    self.lost.entry(url).or_insert(Lost { until: now.saturating_add(wait), part: BTreeSet::new() });
                lost.part.extend(part);
            } else {
                former.extend(part.into_iter().map(|resource| (resource, url.clone())));
            }
        }
        self.lost.retain(|url, lost| {
            lost.part.retain(|resource| is_configured(snapshot, resource) && !claims.contains_key(resource));
            if here.contains(url) || now >= lost.until {
                former.extend(std::mem::take(&mut lost.part).into_iter().map(|resource| (resource, url.clone())));
            }
            !lost.part.is_empty()
        });
        former
    }
}

/// Whether a member's word is older than others'. A leader that remembers nothing cannot tell then what the member was given
/// since and may be running: it gives nothing out before everybody has spoken of the same round.
fn some_word_is_old(members: &BTreeMap<String, MemberMetadata>) -> bool {
    let mut followed = members.values().map(|member| member.followed);
    let first = followed.next();
    followed.any(|generation| Some(generation) != first)
}

fn configured(snapshot: &ClusterSnapshot) -> impl Iterator<Item = Resource> + '_ {
    snapshot.connectors.iter().flat_map(|(name, shape)| {
        let numbers = std::iter::once(None).chain((0..shape.tasks).map(Some));
        numbers.map(|task| (name.clone(), task))
    })
}

/// How long a worker is waited for that was lost `losses` times lately.
fn adaptive(losses: usize) -> u64 {
    match losses {
        0 | 1 => 0,
        more => (SECOND << (more - 2).min(5)).min(LONGEST_WAIT),
    }
}

/// One round under way.
struct Round<'a> {
    members: Vec<(&'a String, &'a MemberMetadata)>,
    snapshot: &'a ClusterSnapshot,
    moves: Moves,
    claims: BTreeMap<Resource, String>,
    /// Is given once more to whom it was given before.
    again: BTreeMap<Resource, String>,
    held: BTreeSet<Resource>,
    former: BTreeMap<Resource, String>,
    targets: BTreeMap<Resource, String>,
    new_targets: BTreeMap<Resource, String>,
    decision: Decision,
}

impl Round<'_> {
    /// Places the connectors, or their tasks.
    fn place(&mut self, tasks: bool) {
        let index: BTreeMap<&String, usize> =
            self.members.iter().enumerate().map(|(index, (id, _))| (*id, index)).collect();
        let by_url: BTreeMap<&String, usize> =
            self.members.iter().enumerate().map(|(index, (_, member))| (&member.url, index)).collect();
        let mut groups = Vec::new();
        let mut units = Vec::new();
        let mut resources = Vec::new();
        for (name, shape) in &self.snapshot.connectors {
            let numbers = if tasks { (0..shape.tasks).map(Some).collect() } else { vec![None] };
            if numbers.is_empty() {
                continue;
            }
            let allowed = self.members.iter().map(|(_, member)| may_run(member, shape)).collect();
            groups.push(UnitGroup { allowed, weight: if tasks { weight(shape) } else { 1.0 } });
            for number in numbers {
                let resource = (name.clone(), number);
                if self.held.contains(&resource) {
                    continue;
                }
                let owner = self.claims.get(&resource).or_else(|| self.again.get(&resource));
                let target = self.targets.get(&resource).and_then(|id| index.get(id).copied());
                let former = || self.former.get(&resource).and_then(|url| by_url.get(url).copied());
                units.push(Unit {
                    group: groups.len() - 1,
                    current: owner.and_then(|id| index.get(id).copied()),
                    hint: target.or_else(former),
                });
                resources.push(resource);
            }
        }
        let placed = balance(&groups, &units, self.members.len(), self.moves);
        for ((resource, unit), target) in resources.into_iter().zip(units).zip(placed) {
            self.settle(resource, unit.current, target);
        }
    }

    fn settle(&mut self, resource: Resource, current: Option<usize>, target: Option<usize>) {
        let id = |member: usize| self.members[member].0.clone();
        match (current, target) {
            // It has to be said again before it can be moved.
            (Some(current), target) if self.again.contains_key(&resource) => {
                let id = id(current);
                self.decision.unsettled |= target != Some(current);
                add(&mut self.decision.members.entry(id.clone()).or_default().assigned, &resource);
                self.decision.owners.insert(resource, id);
            }
            (Some(current), Some(target)) if current == target => {
                self.decision.owners.insert(resource, id(current));
            }
            // Revoked with the rest; given to its new owner in the next round.
            (Some(_), Some(target)) => {
                self.new_targets.insert(resource, id(target));
            }
            (None, Some(target)) => {
                let id = id(target);
                add(&mut self.decision.members.entry(id.clone()).or_default().assigned, &resource);
                self.decision.owners.insert(resource, id);
            }
            (_, None) => add(&mut self.decision.unplaced, &resource),
        }
    }

    /// Takes from each member what it claims and is not to own: what moves, what is deleted, what another one owns too.
    fn revoke_rest(&mut self) {
        for (id, member) in &self.members {
            let decision = self.decision.members.entry((*id).clone()).or_default();
            for resource in resources(&member.owned) {
                if self.decision.owners.get(&resource) != Some(*id) {
                    add(&mut decision.revoked, &resource);
                }
            }
        }
    }
}

fn resources(assignment: &Assignment) -> impl Iterator<Item = Resource> + '_ {
    let connectors = assignment.connectors.iter().map(|name| (name.clone(), None));
    connectors.chain(assignment.tasks.iter().map(|task| (task.connector.clone(), Some(task.task))))
}

fn add(assignment: &mut Assignment, (connector, task): &Resource) {
    match task {
        None => assignment.connectors.insert(connector.clone()),
        Some(task) => assignment.tasks.insert(TaskId { connector: connector.clone(), task: *task }),
    };
}

fn is_configured(snapshot: &ClusterSnapshot, (connector, task): &Resource) -> bool {
    let shape = snapshot.connectors.get(connector);
    shape.is_some_and(|shape| task.is_none_or(|task| task < shape.tasks))
}

fn weight(shape: &ConnectorShape) -> f64 {
    if shape.weight.is_finite() && shape.weight > 0.0 { shape.weight } else { 1.0 }
}

/// Whether the member has every label that the connector wants; a wanted `name` is met by `name=anything` too.
fn may_run(member: &MemberMetadata, shape: &ConnectorShape) -> bool {
    let has = |wanted: &String| {
        let wanted = wanted.trim();
        member.labels.iter().any(|label| {
            let label = label.trim();
            label == wanted || label.split_once('=').is_some_and(|(name, _)| name.trim_end() == wanted)
        })
    };
    !member.leaving && shape.labels.iter().all(has)
}
