//! Workers that are not in the group and may come back, as the leader knows them: what they had, and how long it is kept
//! for them.
//!
//! What is kept runs nowhere meanwhile; that is the price of not being moved twice. So a worker is waited for only where
//! its return is to be expected soon: it announced with its leave how long a restart takes, or `scheduled.rebalance.max.delay.ms`
//! says so, or it has been lost and come back several times lately (after the second loss in ten minutes for one second, then
//! two, four, up to thirty).
//!
//! What others took over goes back to a worker that returns, as far as the balance demands that it gets anything: the same
//! tasks move back, and no others for them.
//!
//! What an absent worker followed (see [`super::standbys`]) stays its own for the same time: a restarted worker goes on from its
//! files, where another one would have to read everything.
//!
//! Each round tells all members of the absences, and members tell them when they join, so that the next leader goes on
//! waiting where the one before it was restarted itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::protocol::Absence;
use super::types::{Resource, resources};
use crate::worker::TaskId;

/// How long losses of a worker count towards its being waited for, and how long it is remembered what an absent one had.
const MEMORY: u64 = 600 * SECOND;
const LONGEST_WAIT: u64 = 30 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// See the module. Times are nanoseconds of the caller's clock.
#[derive(Debug, Default)]
pub(super) struct Absences {
    /// `scheduled.rebalance.max.delay.ms`, if it is set.
    delay: Option<Duration>,
    /// By URL.
    away: BTreeMap<String, Away>,
    /// When workers were lost, by URL.
    losses: BTreeMap<String, Vec<u64>>,
}

#[derive(Debug)]
struct Away {
    /// Until when its part is kept for it.
    until: u64,
    forget_at: u64,
    part: BTreeSet<Resource>,
    /// Tasks whose state it followed.
    standbys: BTreeSet<TaskId>,
}

impl Absences {
    pub(super) fn new(delay: Option<Duration>) -> Self {
        Self { delay, ..Self::default() }
    }

    /// What a member heard of from the leader before: for one that has just become the leader.
    pub(super) fn learn(&mut self, now: u64, absence: &Absence) {
        let part = resources(&absence.part).collect();
        self.add(now, &absence.url, nanos(absence.wait), part, absence.standbys.clone());
    }

    /// A worker is gone without a word.
    pub(super) fn lost(&mut self, now: u64, url: &str, part: BTreeSet<Resource>, standbys: BTreeSet<TaskId>) {
        let times = self.losses.entry(url.to_owned()).or_default();
        times.retain(|time| now.saturating_sub(*time) < MEMORY);
        times.push(now);
        let wait = self.delay.map_or_else(|| adaptive(times.len()), nanos);
        self.add(now, url, wait, part, standbys);
    }

    /// A worker has said that it leaves, and that it may be back within `wait`.
    pub(super) fn leaves(
        &mut self,
        now: u64,
        url: &str,
        wait: Duration,
        part: BTreeSet<Resource>,
        standbys: BTreeSet<TaskId>,
    ) {
        if !part.is_empty() || !standbys.is_empty() {
            self.add(now, url, nanos(wait), part, standbys);
        }
    }

    fn add(&mut self, now: u64, url: &str, wait: u64, part: BTreeSet<Resource>, standbys: BTreeSet<TaskId>) {
        let until = now.saturating_add(wait);
        let new = || Away { until, forget_at: 0, part: BTreeSet::new(), standbys: BTreeSet::new() };
        let away = self.away.entry(url.to_owned()).or_insert_with(new);
        away.forget_at = now.saturating_add(MEMORY);
        away.until = away.until.max(until);
        away.part.extend(part);
        away.standbys.extend(standbys);
    }

    /// What is kept for absent workers.
    pub(super) fn kept(&self, now: u64, here: &BTreeSet<&String>) -> impl Iterator<Item = &Resource> {
        let waited_for = self.away.iter().filter(move |(url, away)| now < away.until && !here.contains(url));
        waited_for.flat_map(|(_, away)| &away.part)
    }

    /// Tasks that workers followed which are waited for, or have just come back, with their URLs.
    pub(super) fn standbys(&self, now: u64) -> impl Iterator<Item = (&TaskId, &String)> {
        let waited_for = self.away.iter().filter(move |(_, away)| now < away.until);
        waited_for.flat_map(|(url, away)| away.standbys.iter().map(move |task| (task, url)))
    }

    /// The URLs of the workers that had something before.
    pub(super) fn homes(&self) -> BTreeMap<&Resource, &String> {
        self.away.iter().flat_map(|(url, away)| away.part.iter().map(move |resource| (resource, url))).collect()
    }

    /// Forgets the workers that are back, once all that they had is `running`, and what is old or not there any more.
    pub(super) fn settle(
        &mut self,
        now: u64,
        here: &BTreeSet<&String>,
        running: impl Fn(&Resource) -> bool,
        is_configured: impl Fn(&Resource) -> bool,
    ) {
        self.losses.retain(|_, times| {
            times.retain(|time| now.saturating_sub(*time) < MEMORY);
            !times.is_empty()
        });
        self.away.retain(|url, away| {
            away.part.retain(&is_configured);
            away.standbys.retain(|task| is_configured(&(task.connector.clone(), Some(task.task))));
            if here.contains(url) || now >= away.until {
                away.standbys.clear();
            }
            let back = here.contains(url) && away.part.iter().all(&running);
            let away_with = !away.part.is_empty() || !away.standbys.is_empty();
            now < away.forget_at && !back && away_with
        });
    }

    /// Until when something is kept that is not in `running`; and then until when something is kept longer.
    pub(super) fn kept_until(
        &self,
        now: u64,
        here: &BTreeSet<&String>,
        running: impl Fn(&Resource) -> bool,
    ) -> Option<u64> {
        let waits = |(url, away): &(&String, &Away)| {
            let kept = !away.part.iter().all(&running) || !away.standbys.is_empty();
            now < away.until && !here.contains(url) && kept
        };
        self.away.iter().filter(waits).map(|(_, away)| away.until).min()
    }

    /// For the members.
    pub(super) fn told(&self, now: u64) -> Vec<Absence> {
        let told = |(url, away): (&String, &Away)| Absence {
            url: url.clone(),
            wait: Duration::from_nanos(away.until.saturating_sub(now)),
            part: away.part.iter().collect(),
            standbys: away.standbys.clone(),
        };
        self.away.iter().map(told).collect()
    }
}

/// How long a worker is waited for that was lost `losses` times lately.
fn adaptive(losses: usize) -> u64 {
    match losses {
        0 | 1 => 0,
        more => (SECOND << (more - 2).min(5)).min(LONGEST_WAIT),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}
