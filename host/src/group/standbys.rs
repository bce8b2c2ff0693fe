//! Who follows whose state: the copies of `state.standby.replicas`.
//!
//! A standby of a task is a worker that reads the changelog of the task's state into its own files, so that the task has little left to
//! read when it comes there. The leader chooses: never the task's owner nor a worker that leaves, only workers with the connector's labels,
//! and none that knows nothing of standbys, which are Java's and earlier versions of ours.
//!
//! - Whoever follows a task goes on with it, as long as it may and there are not too many.
//! - A worker that a task is taken from follows it: it has the state.
//! - An absent worker that is waited for keeps its tasks, as it keeps what it runs: it goes on from its files when it is back.
//! - What is missing then goes to the worker that would run the fewest of the connector's tasks if the task's worker were lost and those that
//!   follow its tasks had them; of these to the one that follows the fewest. So whoever follows has room for the task.
//!
//! Nothing here starts, stops or moves a task. What follows from it when a task has lost its worker is in [`super::balance`].

use std::collections::{BTreeMap, BTreeSet};

use super::assignor::may_run;
use super::protocol::MemberMetadata;
use super::types::Resource;
use super::{ClusterSnapshot, ConnectorShape};
use crate::worker::TaskId;

/// Who follows what, by URL: a worker that was restarted is another member, with the same files.
#[derive(Debug, Default)]
pub(super) struct Standbys {
    /// Whether anything is known: a new leader asks what members say.
    learned: bool,
    by_task: BTreeMap<Resource, BTreeSet<String>>,
}

/// What a round looks like when owners are chosen.
pub(super) struct Candidates<'a> {
    pub(super) members: &'a BTreeMap<String, MemberMetadata>,
    pub(super) snapshot: &'a ClusterSnapshot,
    /// Who owns what when the round is done: member ids.
    pub(super) owners: &'a BTreeMap<Resource, String>,
    /// Who owned what when it began: member ids.
    pub(super) claims: &'a BTreeMap<Resource, String>,
    /// Of what absent workers had: their URLs.
    pub(super) homes: BTreeMap<&'a Resource, &'a String>,
    /// What workers followed that are waited for, or have just come back.
    pub(super) returning: Vec<(&'a TaskId, &'a String)>,
}

impl<'a> Candidates<'a> {
    /// The URL of whoever owns it, or will when it is back.
    fn owner(&self, resource: &Resource) -> Option<&'a str> {
        match self.owners.get(resource) {
            Some(id) => self.members.get(id).map(|member| member.url.as_str()),
            None => self.homes.get(resource).map(|url| url.as_str()),
        }
    }

    /// The URL of the member that it is taken from in this round.
    fn taken_from(&self, resource: &Resource) -> Option<&'a str> {
        let from = self.claims.get(resource).filter(|_| !self.owners.contains_key(resource))?;
        self.members.get(from).map(|member| member.url.as_str())
    }
}

fn may_follow(member: &MemberMetadata, shape: &ConnectorShape) -> bool {
    member.follows && may_run(member, shape)
}

impl Standbys {
    /// A new leader believes what members say.
    pub(super) fn learn(&mut self, members: &BTreeMap<String, MemberMetadata>) {
        if std::mem::replace(&mut self.learned, true) {
            return;
        }
        for member in members.values() {
            for TaskId { connector, task } in &member.standbys {
                self.by_task.entry((connector.clone(), Some(*task))).or_default().insert(member.url.clone());
            }
        }
    }

    /// The URLs of the workers that follow a task.
    pub(super) fn of(&self, resource: &Resource) -> impl Iterator<Item = &String> {
        self.by_task.get(resource).into_iter().flatten()
    }

    /// The URLs of all that follow something.
    pub(super) fn urls(&self) -> BTreeSet<String> {
        self.by_task.values().flatten().cloned().collect()
    }

    /// A worker goes: what it followed.
    pub(super) fn take(&mut self, url: &str) -> BTreeSet<TaskId> {
        let its = self.by_task.iter_mut().filter_map(|((connector, task), urls)| {
            let task = (*task)?;
            urls.remove(url).then(|| TaskId { connector: connector.clone(), task })
        });
        its.collect()
    }

    /// What each member follows from now on, by member id.
    pub(super) fn place(&mut self, candidates: &Candidates<'_>) -> BTreeMap<String, BTreeSet<TaskId>> {
        let before = std::mem::take(&mut self.by_task);
        let mut given: BTreeMap<String, BTreeSet<TaskId>> = BTreeMap::new();
        let wanted = candidates.snapshot.connectors.iter().filter(|(_, shape)| shape.standbys > 0 && shape.tasks > 0);
        let wanted: Vec<(&String, &ConnectorShape)> = wanted.collect();
        if wanted.is_empty() {
            return given;
        }
        let here: BTreeMap<&str, (&String, &MemberMetadata)> =
            candidates.members.iter().map(|(id, member)| (member.url.as_str(), (id, member))).collect();
        let mut returning: BTreeMap<Resource, Vec<&str>> = BTreeMap::new();
        for (TaskId { connector, task }, url) in &candidates.returning {
            returning.entry((connector.clone(), Some(*task))).or_default().push(url);
        }
        let mut loads: BTreeMap<&str, usize> = BTreeMap::new();
        before.values().flatten().for_each(|url| *loads.entry(url).or_default() += 1);
        let mut chosen: Vec<(Resource, &ConnectorShape, BTreeSet<&str>)> = Vec::new();
        for &(name, shape) in &wanted {
            for resource in (0..shape.tasks).map(|task| (name.clone(), Some(task))) {
                let owner = candidates.owner(&resource);
                // Of workers that are not here, those that are waited for; they have not lost their labels.
                let may = |url: &&str| {
                    owner != Some(*url) && here.get(url).is_none_or(|(_, member)| may_follow(member, shape))
                };
                let followed = before.get(&resource).into_iter().flatten().map(String::as_str);
                let known = followed.chain(returning.get(&resource).into_iter().flatten().copied());
                let mut known: Vec<&str> = known.filter(may).collect::<BTreeSet<_>>().into_iter().collect();
                known.sort_by_key(|url| loads.get(url).copied().unwrap_or_default());
                known.truncate(shape.standbys as usize);
                // One more than there should be, until the task is at its new owner, which may be one of the others.
                known.extend(candidates.taken_from(&resource).filter(may));
                chosen.push((resource, shape, known.into_iter().collect()));
            }
        }
        loads.clear();
        // How many of a connector's tasks each would run if the worker in front were lost; and without losses.
        let mut after: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        let mut runs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let names: BTreeMap<&str, &str> = wanted.iter().map(|(name, _)| (name.as_str(), name.as_str())).collect();
        for (resource, _, urls) in &chosen {
            let (name, owner) = (names[resource.0.as_str()], candidates.owner(resource).unwrap_or_default());
            *runs.entry((name, owner)).or_default() += 1;
            for url in urls {
                *loads.entry(url).or_default() += 1;
                *after.entry((name, owner, url)).or_default() += 1;
            }
        }
        for (resource, shape, urls) in &mut chosen {
            let (name, owner) = (names[resource.0.as_str()], candidates.owner(resource));
            while urls.len() < shape.standbys as usize {
                let may = |url: &&str| owner != Some(*url) && !urls.contains(url) && may_follow(here[url].1, shape);
                let others = here.keys().copied().filter(may);
                let load = |url: &&str| {
                    let more = after.get(&(name, owner.unwrap_or_default(), *url)).copied().unwrap_or_default();
                    let would_run = runs.get(&(name, *url)).copied().unwrap_or_default() + more;
                    (would_run, loads.get(url).copied().unwrap_or_default())
                };
                let Some(url) = others.min_by_key(load) else { break };
                urls.insert(url);
                *loads.entry(url).or_default() += 1;
                *after.entry((name, owner.unwrap_or_default(), url)).or_default() += 1;
            }
        }
        for ((connector, task), _, urls) in chosen {
            for (url, id) in urls.into_iter().filter_map(|url| Some((url, here.get(url)?.0))) {
                let number = task.unwrap_or_default();
                given.entry(id.clone()).or_default().insert(TaskId { connector: connector.clone(), task: number });
                self.by_task.entry((connector.clone(), task)).or_default().insert(url.to_owned());
            }
        }
        given
    }
}
