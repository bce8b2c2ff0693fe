//! The leader's part: which member is to run which connectors and tasks.
//!
//! Pure: what members own and are, what is to run, what the leader remembers of the last rounds, and the time go in; what
//! each member is given, has to stop and is to follow comes out. Cooperative: what moves is revoked in one round and given to its new
//! owner in the next, when the old one has reported that it stopped.
//!
//! What an absent worker had may be kept for it for a while, and goes back to it: see [`super::absences`]. What a leader
//! remembers of who was given what is its own; a new leader believes what members say they own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::absences::Absences;
use super::balance::{Moves, Unit, UnitGroup, balance};
use super::protocol::{Absence, MemberMetadata};
use super::standbys::{Candidates, Standbys};
use super::types::{Resource, resources};
use super::{Assignment, ClusterSnapshot, ConnectorShape};
use crate::worker::TaskId;

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
    /// Until when an absent worker's part is kept for it, on the caller's clock.
    pub(super) kept_until: Option<u64>,
    /// Who is absent, for the members to remember.
    pub(super) absences: Vec<Absence>,
}

/// One member's part of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MemberDecision {
    pub(super) assigned: Assignment,
    pub(super) revoked: Assignment,
    /// Tasks whose state it is to follow: all of them.
    pub(super) standbys: BTreeSet<TaskId>,
}

/// What the leader remembers from round to round.
#[derive(Debug, Default)]
pub(super) struct Assignor {
    /// `scheduled.rebalance.max.delay.ms`, if it is set.
    delay: Option<Duration>,
    /// Who was given what, lately.
    owners: BTreeMap<Resource, Owner>,
    /// Who was told to stop what, and may not have heard it yet.
    revoked: BTreeMap<Resource, Owner>,
    /// Where what was revoked is to go: member ids.
    targets: BTreeMap<Resource, String>,
    absences: Absences,
    standbys: Standbys,
}

#[derive(Debug, Clone, PartialEq)]
struct Owner {
    member: String,
    url: String,
    /// Since when.
    generation: i32,
}

impl Assignor {
    pub(super) fn new(delay: Option<Duration>) -> Self {
        Self { delay, absences: Absences::new(delay), ..Self::default() }
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
        if self.owners.is_empty() {
            members.values().flat_map(|member| &member.absences).for_each(|told| self.absences.learn(now, told));
        }
        let claims = self.claims(members);
        let again = self.not_followed(members, &claims);
        let since: BTreeMap<Resource, Owner> = self.owners.clone();
        let overtaken = self.owners.is_empty() && some_word_is_old(members);
        self.standbys.learn(members);
        self.miss(now, members, &claims);
        let here: BTreeSet<&String> =
            members.values().filter(|member| !member.leaving).map(|member| &member.url).collect();
        let free = |resource: &&Resource| !claims.contains_key(*resource) && !again.contains_key(*resource);
        let mut kept: BTreeSet<Resource> = self.absences.kept(now, &here).filter(free).cloned().collect();
        if overtaken {
            kept.extend(configured(snapshot).filter(|resource| free(&resource)));
        }
        let targets = std::mem::take(&mut self.targets);
        let mut round = Round {
            members: members.iter().collect(),
            snapshot,
            moves: if kept.is_empty() { Moves::Free } else { Moves::Forced },
            claims,
            again,
            kept,
            homes: self.absences.homes(),
            standbys: &self.standbys,
            targets,
            new_targets: BTreeMap::new(),
            decision: Decision::default(),
        };
        round.place(false);
        round.place(true);
        round.revoke_rest();
        let Round { mut decision, new_targets, claims, .. } = round;
        self.targets = new_targets;
        let placed = self.standbys.place(&Candidates {
            members,
            snapshot,
            owners: &decision.owners,
            claims: &claims,
            homes: self.absences.homes(),
            returning: self.absences.standbys(now).collect(),
        });
        for (id, tasks) in placed {
            decision.members.entry(id).or_default().standbys = tasks;
        }
        self.remember_revoked(members, &decision);
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
        let running = |resource: &Resource| decision.owners.contains_key(resource);
        self.absences.settle(now, &here, running, |resource| is_configured(snapshot, resource));
        decision.kept_until = self.absences.kept_until(now, &here, running);
        decision.absences = self.absences.told(now);
        decision
    }

    /// Who owns what; a member that leaves has stopped all that it had. Where several claim the same (it should not be), the one that was given it last, or else the first, keeps it.
    fn claims(&self, members: &BTreeMap<String, MemberMetadata>) -> BTreeMap<Resource, String> {
        let mut claims = BTreeMap::new();
        for (id, member) in members.iter().filter(|(_, member)| !member.leaving) {
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
        self.revoked.iter().chain(&self.owners).filter_map(silent).collect()
    }

    /// What is revoked in this round is as good as owned, until its member says that it does not have it, in words that are
    /// not older than those in which it said that it has.
    fn remember_revoked(&mut self, members: &BTreeMap<String, MemberMetadata>, decision: &Decision) {
        let heard = |resource: &Resource, owner: &Owner| {
            let member = members.get(&owner.member).filter(|member| !member.leaving);
            member.is_none_or(|member| member.followed >= owner.generation) || decision.owners.contains_key(resource)
        };
        self.revoked.retain(|resource, owner| !heard(resource, owner));
        for (id, part) in &decision.members {
            let Some(MemberMetadata { url, followed, .. }) = members.get(id) else { continue };
            let owner = Owner { member: id.clone(), url: url.clone(), generation: *followed };
            self.revoked.extend(resources(&part.revoked).map(|resource| (resource, owner.clone())));
        }
    }

    /// Notices who is gone, and who says that it goes.
    fn miss(&mut self, now: u64, members: &BTreeMap<String, MemberMetadata>, claims: &BTreeMap<Resource, String>) {
        let mut gone: BTreeMap<String, BTreeSet<Resource>> = BTreeMap::new();
        let mut leaving: BTreeMap<String, BTreeSet<Resource>> = BTreeMap::new();
        for (resource, owner) in std::mem::take(&mut self.owners) {
            match members.get(&owner.member) {
                Some(member) if member.leaving => leaving.entry(owner.member).or_default().insert(resource),
                Some(_) => continue,
                None => gone.entry(owner.url).or_default().insert(resource),
            };
        }
        // Whoever followed only is gone without having been given anything.
        let here: BTreeSet<&String> = members.values().map(|member| &member.url).collect();
        let following = self.standbys.urls();
        following.into_iter().filter(|url| !here.contains(url)).for_each(|url| _ = gone.entry(url).or_default());
        for (url, part) in gone {
            let standbys = self.standbys.take(&url);
            self.absences.lost(now, &url, part, standbys);
        }
        for (id, member) in members.iter().filter(|(_, member)| member.leaving) {
            let mut part = leaving.remove(id).unwrap_or_default();
            part.extend(resources(&member.owned));
            part.retain(|resource| !claims.contains_key(resource));
            let standbys = self.standbys.take(&member.url);
            self.absences.leaves(now, &member.url, member.back_within, part, standbys);
        }
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

/// One round under way.
struct Round<'a> {
    members: Vec<(&'a String, &'a MemberMetadata)>,
    snapshot: &'a ClusterSnapshot,
    moves: Moves,
    claims: BTreeMap<Resource, String>,
    /// Is given once more to whom it was given before.
    again: BTreeMap<Resource, String>,
    /// For workers that are not here.
    kept: BTreeSet<Resource>,
    /// URLs of those who had it before they went.
    homes: BTreeMap<&'a Resource, &'a String>,
    /// Who follows whose state so far.
    standbys: &'a Standbys,
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
                if self.kept.contains(&resource) {
                    continue;
                }
                let owner = self.claims.get(&resource).or_else(|| self.again.get(&resource));
                let target = self.targets.get(&resource).and_then(|id| index.get(id).copied());
                let home = || self.homes.get(&resource).and_then(|url| by_url.get(url).copied());
                let standbys = self.standbys.of(&resource).filter_map(|url| by_url.get(url).copied()).collect();
                units.push(Unit {
                    group: groups.len() - 1,
                    current: owner.and_then(|id| index.get(id).copied()),
                    hint: target.or_else(home),
                    standbys,
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
pub(super) fn may_run(member: &MemberMetadata, shape: &ConnectorShape) -> bool {
    let has = |wanted: &String| {
        let wanted = wanted.trim();
        member.labels.iter().any(|label| {
            let label = label.trim();
            label == wanted || label.split_once('=').is_some_and(|(name, _)| name.trim_end() == wanted)
        })
    };
    !member.leaving && shape.labels.iter().all(has)
}
