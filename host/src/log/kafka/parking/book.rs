//! Who is parked where: a state machine without I/O. It says what to ask brokers when, and what their answers mean.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;

use super::super::super::TopicPartition;
use super::slot::{Signal, Slot};

/// How long nothing is asked again after it failed.
const PAUSE: Duration = Duration::from_millis(500);

/// How long what no broker can tell is not asked again.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// A membership in a group, as the coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: String,
    pub(super) member: String,
    pub(super) generation: i32,
    pub(super) instance: String,
}

/// Partitions of topics at some time; none: there is no such topic.
pub(super) type Counts = BTreeMap<String, Option<i32>>;

/// What topics were like when their partitions were given out, once it is known.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    pub(super) topics: Vec<String>,
    counts: Mutex<Option<Counts>>,
}

impl Baseline {
    pub(super) fn new(topics: Vec<String>) -> Self {
        Self { topics, counts: Mutex::default() }
    }

    pub(super) fn counts(&self) -> Option<Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fill(&self, known: &Counts) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.is_none() && self.topics.iter().all(|topic| known.contains_key(topic)) {
            *counts = Some(self.topics.iter().map(|topic| (topic.clone(), known[topic])).collect());
        }
    }
}

/// A consumer that wants to park.
pub(super) struct Guest {
    pub(super) membership: Membership,
    pub(super) heartbeat: Duration,
    pub(super) session: Duration,
    /// How often to look at the topics.
    pub(super) survey: Duration,
    pub(super) baseline: Arc<Baseline>,
    /// Where the first record to come is waited for.
    pub(super) watch: Vec<(TopicPartition, i64)>,
    pub(super) slot: Arc<Slot>,
}

struct Entry {
    guest: Guest,
    next_heartbeat: Instant,
    beating: bool,
    /// When the last heartbeat was sent, or about to be.
    sent: Instant,
    /// When the last heartbeat was sent that was answered well. How long the answer took to be looked at does not count: the
    /// process may have been frozen.
    last_ok: Option<Instant>,
    /// What it watches is in a fetch that was sent.
    watched: bool,
    admitted: bool,
    /// Something came, and the membership is older than a session: it is asked for first.
    wanted: bool,
    /// Wanted was said: it is not watched until it says so again.
    reading: bool,
    /// The topics differ, as the last survey had it.
    suspect: bool,
    /// The group rebalances, which was said.
    rebalancing: bool,
    /// Nothing more is asked for it.
    over: bool,
}

/// Whom to rouse once the book is closed.
type Told = Vec<Arc<Slot>>;

impl Entry {
    fn say(&self, id: u64, signal: Signal, told: &mut Told) {
        self.guest.slot.signal(id, signal);
        told.push(self.guest.slot.clone());
    }

    fn watching(&self) -> bool {
        !self.over && !self.reading && !self.wanted
    }

    fn fresh(&self, now: Instant) -> bool {
        self.last_ok.is_some_and(|ok| now.saturating_duration_since(ok) < self.guest.session)
    }

    fn want(&mut self, id: u64, now: Instant, told: &mut Told) {
        if !self.watching() {
            return;
        }
        if self.fresh(now) {
            self.reading = true;
            self.say(id, Signal::Wanted, told);
        } else {
            self.wanted = true;
            self.next_heartbeat = now;
        }
    }

    fn admit(&mut self, id: u64, told: &mut Told) {
        if !self.admitted
            && !self.over
            && !self.rebalancing
            && self.last_ok.is_some()
            && (self.watched || self.guest.watch.is_empty())
        {
            self.admitted = true;
            self.guest.slot.admit(id);
            told.push(self.guest.slot.clone());
        }
    }

    fn end(&mut self, id: u64, signal: Signal, told: &mut Told) {
        self.over = true;
        self.say(id, signal, told);
    }
}

/// Heartbeats to one coordinator.
pub(super) type Heartbeats = Vec<(u64, Membership)>;

/// What to do now.
#[derive(Default)]
pub(super) struct Work {
    /// Groups whose coordinator has to be found.
    pub(super) find: Vec<String>,
    /// Topics to describe.
    pub(super) survey: Vec<String>,
    /// By coordinator.
    pub(super) heartbeats: Vec<(String, Heartbeats)>,
    /// Brokers to fetch from.
    pub(super) fetch: Vec<String>,
    /// When to ask again.
    pub(super) next: Option<Instant>,
}

/// A topic as a survey found it.
pub(super) struct Surveyed {
    pub(super) topic: String,
    /// Brokers of its partitions, where they have one; `None`: it does not exist.
    pub(super) leaders: Option<BTreeMap<i32, Option<String>>>,
}

/// What a broker said about a partition.
pub(super) struct Fetched {
    pub(super) partition: TopicPartition,
    pub(super) code: i16,
    /// The offset after the last record that the consumer may have.
    pub(super) end: i64,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Book {
    entries: HashMap<u64, Entry>,
    last_id: u64,
    coordinators: HashMap<String, String>,
    finding: BTreeSet<String>,
    find_after: Option<Instant>,
    leaders: HashMap<TopicPartition, String>,
    surveying: bool,
    survey_at: Option<Instant>,
    last_survey: Option<Instant>,
    baselines: Vec<Arc<Baseline>>,
    beating: BTreeSet<String>,
    fetching: BTreeSet<String>,
    fetch_after: HashMap<String, Instant>,
    told: Told,
}

impl Book {
    /// Whose slots were written to since the last call. They are roused when the book is not locked any more: whoever is roused may
    /// look into it.
    pub(super) fn take_told(&mut self) -> Vec<Arc<Slot>> {
        std::mem::take(&mut self.told)
    }

    /// Takes a consumer in. It is admitted once the coordinator has confirmed it and all is watched.
    pub(super) fn enter(&mut self, guest: Guest, now: Instant) -> u64 {
        self.last_id += 1;
        let entry = Entry {
            guest,
            next_heartbeat: now,
            beating: false,
            sent: now,
            last_ok: None,
            watched: false,
            admitted: false,
            wanted: false,
            reading: false,
            suspect: false,
            rebalancing: false,
            over: false,
        };
        self.entries.insert(self.last_id, entry);
        self.last_id
    }

    pub(super) fn leave(&mut self, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        let group = entry.guest.membership.group;
        if !self.entries.values().any(|entry| entry.guest.membership.group == group) {
            self.coordinators.remove(&group);
        }
        if self.entries.is_empty() {
            self.leaders.clear();
        }
    }

    /// Watches again, from these places; or nothing at present.
    pub(super) fn watch(&mut self, id: u64, watch: Option<Vec<(TopicPartition, i64)>>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.reading = watch.is_none();
        entry.guest.watch = watch.unwrap_or_default();
        (entry.watched, entry.admitted, entry.wanted) = (false, false, false);
        entry.guest.slot.dismiss();
        if !entry.reading {
            entry.admit(id, &mut self.told);
        }
    }

    pub(super) fn note(&mut self, baseline: Arc<Baseline>, now: Instant) {
        self.baselines.push(baseline);
        self.survey_soon(now);
    }

    pub(super) fn coordinator(&self, group: &str) -> Option<String> {
        self.coordinators.get(group).cloned()
    }

    fn survey_soon(&mut self, now: Instant) {
        let soonest = self.last_survey.map_or(now, |last| now.max(last + PAUSE));
        self.survey_at = Some(self.survey_at.map_or(soonest, |at| at.min(soonest)));
    }

    /// What is to be done now; it counts as begun.
    pub(super) fn work(&mut self, now: Instant) -> Work {
        let mut work = Work::default();
        let mut next: Option<Instant> = None;
        let mut due = |at: Instant| next = Some(next.map_or(at, |next: Instant| next.min(at)));
        // Reading on is only for members.
        for (id, entry) in &mut self.entries {
            if entry.reading && !entry.over && entry.last_ok.is_some() {
                if entry.fresh(now) {
                    due(entry.last_ok.unwrap_or(now) + entry.guest.session);
                } else {
                    entry.end(
                        *id,
                        Signal::Lost("its coordinator has not answered for longer than session.timeout.ms".into()),
                        &mut self.told,
                    );
                }
            }
        }
        let may_find = self.find_after.is_none_or(|at| at <= now);
        let mut heartbeats = BTreeMap::<&String, Heartbeats>::new();
        for (id, entry) in &mut self.entries {
            if entry.over || entry.beating {
                continue;
            }
            let membership = &entry.guest.membership;
            match self.coordinators.get(&membership.group) {
                None if self.finding.contains(&membership.group) => {}
                None if may_find => {
                    self.finding.insert(membership.group.clone());
                    work.find.push(membership.group.clone());
                }
                None => due(self.find_after.unwrap_or(now)),
                // What is nearly due goes with what is, so that there are few writes.
                Some(server) if entry.next_heartbeat <= now + entry.guest.heartbeat / 6 => {
                    if !self.beating.contains(server) {
                        heartbeats.entry(server).or_default().push((*id, membership.clone()));
                    }
                }
                Some(_) => due(entry.next_heartbeat),
            }
        }
        for (server, list) in heartbeats {
            if !list.iter().any(|(id, _)| self.entries[id].next_heartbeat <= now) {
                list.iter().for_each(|(id, _)| due(self.entries[id].next_heartbeat));
                continue;
            }
            for (id, _) in &list {
                if let Some(entry) = self.entries.get_mut(id) {
                    (entry.beating, entry.sent) = (true, now);
                }
            }
            self.beating.insert(server.clone());
            work.heartbeats.push((server.clone(), list));
        }
        self.plan_fetches(now, &mut work, &mut due);
        if !self.surveying
            && let Some(at) = self.next_survey(now)
        {
            if at > now {
                due(at);
            } else {
                let topics = self.topics();
                if topics.is_empty() {
                    // Nobody answers what nobody asks.
                    self.survey_at = None;
                    self.last_survey = Some(now);
                } else {
                    self.surveying = true;
                    work.survey = topics;
                }
            }
        }
        work.next = next;
        work
    }

    fn plan_fetches(&mut self, now: Instant, work: &mut Work, due: &mut impl FnMut(Instant)) {
        let mut servers = BTreeSet::new();
        let mut homeless = false;
        for entry in self.entries.values().filter(|entry| entry.watching()) {
            for (partition, _) in &entry.guest.watch {
                match self.leaders.get(partition) {
                    Some(server) => _ = servers.insert(server.clone()),
                    None => homeless = true,
                }
            }
        }
        if homeless && self.survey_at.is_none() {
            self.survey_at = Some(self.last_survey.map_or(now, |last| last + PAUSE * 2));
        }
        for server in servers {
            if self.fetching.contains(&server) {
                continue;
            }
            match self.fetch_after.get(&server) {
                Some(at) if *at > now => due(*at),
                _ => {
                    self.fetching.insert(server.clone());
                    work.fetch.push(server);
                }
            }
        }
    }

    /// All that is to be described.
    fn topics(&self) -> Vec<String> {
        let entries = self.entries.values().filter(|entry| !entry.over);
        let guests = entries.flat_map(|entry| {
            let watched = entry.guest.watch.iter().map(|(partition, _)| &*partition.topic);
            entry.guest.baseline.topics.iter().map(String::as_str).chain(watched)
        });
        let noted = self.baselines.iter().flat_map(|baseline| baseline.topics.iter().map(String::as_str));
        guests.chain(noted).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
    }

    fn next_survey(&self, now: Instant) -> Option<Instant> {
        let often = self.entries.values().filter(|entry| !entry.over).map(|entry| entry.guest.survey).min();
        let regular = often.map(|often| self.last_survey.map_or(now, |last| last + often));
        match (regular, self.survey_at) {
            (Some(regular), Some(at)) => Some(regular.min(at)),
            (regular, at) => regular.or(at),
        }
    }

    /// Where groups are coordinated. Those that are not named were not found.
    pub(super) fn found(&mut self, asked: &[String], found: Vec<(String, String)>, now: Instant) {
        for group in asked {
            self.finding.remove(group);
        }
        self.find_after = (found.len() < asked.len()).then_some(now + PAUSE);
        self.coordinators.extend(found);
    }

    /// The coordinator has answered a heartbeat, or not in time (`None`).
    pub(super) fn heard(&mut self, server: &str, answers: &[(u64, Option<i16>)], now: Instant) {
        self.beating.remove(server);
        for &(id, code) in answers {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.beating = false;
            entry.next_heartbeat = now + entry.guest.heartbeat;
            let Some(code) = code else {
                self.coordinators.remove(&entry.guest.membership.group);
                self.find_after = Some(now + PAUSE);
                entry.next_heartbeat = now + PAUSE;
                continue;
            };
            match ResponseError::try_from_code(code) {
                None => {
                    entry.last_ok = Some(entry.sent);
                    if std::mem::take(&mut entry.wanted) {
                        entry.reading = true;
                        entry.say(id, Signal::Wanted, &mut self.told);
                    }
                    entry.admit(id, &mut self.told);
                }
                Some(ResponseError::RebalanceInProgress) => {
                    entry.last_ok = Some(entry.sent);
                    if !std::mem::replace(&mut entry.rebalancing, true) {
                        entry.say(id, Signal::Rebalance, &mut self.told);
                    }
                }
                Some(ResponseError::FencedInstanceId) => entry.end(id, Signal::Fenced, &mut self.told),
                Some(
                    ResponseError::NotCoordinator
                    | ResponseError::CoordinatorNotAvailable
                    | ResponseError::CoordinatorLoadInProgress,
                ) => {
                    self.coordinators.remove(&entry.guest.membership.group);
                    self.find_after = Some(now + PAUSE);
                    entry.next_heartbeat = now + PAUSE;
                }
                Some(code) => entry.end(id, Signal::Lost(code.to_string()), &mut self.told),
            }
        }
    }

    /// What to ask this broker for; nothing: it is left alone until there is something.
    pub(super) fn fetch(&mut self, server: &str) -> Vec<(TopicPartition, i64)> {
        let mut wanted = BTreeMap::<TopicPartition, i64>::new();
        for (id, entry) in &mut self.entries {
            if !entry.watching() {
                continue;
            }
            let mut all = true;
            for (partition, offset) in &entry.guest.watch {
                match self.leaders.get(partition) {
                    Some(leader) if leader == server => {
                        let from = wanted.entry(partition.clone()).or_insert(*offset);
                        *from = (*from).min(*offset);
                    }
                    // With another broker, which has it in its own fetch sooner or later.
                    Some(other) => all &= self.fetching.contains(other),
                    None => all = false,
                }
            }
            if all && !entry.watched {
                entry.watched = true;
                entry.admit(*id, &mut self.told);
            }
        }
        if wanted.is_empty() {
            self.fetching.remove(server);
        }
        wanted.into_iter().collect()
    }

    /// A broker's answer to a fetch.
    pub(super) fn fetched(&mut self, server: &str, answers: Vec<Fetched>, now: Instant) {
        let mut refused = false;
        for answer in answers {
            let partition = answer.partition;
            match ResponseError::try_from_code(answer.code) {
                None => self.want(&partition, now, |offset| answer.end > offset),
                // The leader has moved, or is only about to lead.
                Some(code) if code.is_retriable() => {
                    self.leaders.remove(&partition);
                    self.survey_soon(now);
                    refused = true;
                }
                // Whatever it is, a real client says it, or goes where it has to.
                Some(_) => self.want(&partition, now, |_| true),
            }
        }
        if refused {
            self.rest(server, now + PAUSE);
        }
    }

    /// Whether more is to be asked of this broker now.
    pub(super) fn fetches_from(&self, server: &str) -> bool {
        self.fetching.contains(server)
    }

    fn want(&mut self, partition: &TopicPartition, now: Instant, which: impl Fn(i64) -> bool) {
        for (id, entry) in &mut self.entries {
            if entry.guest.watch.iter().any(|(watched, offset)| watched == partition && which(*offset)) {
                entry.want(*id, now, &mut self.told);
            }
        }
    }

    /// A broker cannot be reached: its partitions may have moved.
    pub(super) fn unreachable(&mut self, server: &str, now: Instant) {
        self.leaders.retain(|_, leader| leader != server);
        self.survey_soon(now);
        self.rest(server, now + PAUSE);
    }

    /// A broker does not take this client, or cannot be understood: clients of librdkafka read from it, or say why they do not.
    /// What other brokers lead, and the memberships, are not touched.
    pub(super) fn unreadable(&mut self, server: &str, now: Instant) {
        let leaders = &self.leaders;
        let led = |partition: &TopicPartition| leaders.get(partition).is_some_and(|leader| leader == server);
        for (id, entry) in &mut self.entries {
            if entry.guest.watch.iter().any(|(partition, _)| led(partition)) {
                entry.want(*id, now, &mut self.told);
            }
        }
        self.rest(server, now + LONG_PAUSE);
    }

    fn rest(&mut self, server: &str, until: Instant) {
        self.fetching.remove(server);
        self.fetch_after.insert(server.to_owned(), until);
    }

    /// What topics are like now; `None` when no broker could tell.
    pub(super) fn surveyed(&mut self, surveyed: Option<Vec<Surveyed>>, now: Instant) {
        self.surveying = false;
        self.last_survey = Some(now);
        self.survey_at = None;
        let Some(surveyed) = surveyed else { return self.survey_soon(now) };
        let mut counts = Counts::new();
        for Surveyed { topic, leaders } in surveyed {
            counts.insert(topic.clone(), leaders.as_ref().map(|leaders| leaders.len() as i32));
            let name: Arc<str> = topic.as_str().into();
            for (partition, leader) in leaders.into_iter().flatten() {
                let partition = TopicPartition { topic: name.clone(), partition };
                match leader {
                    Some(leader) => _ = self.leaders.insert(partition, leader),
                    None => _ = self.leaders.remove(&partition),
                }
            }
        }
        self.baselines.retain(|baseline| {
            baseline.fill(&counts);
            baseline.counts().is_none() && Arc::strong_count(baseline) > 1
        });
        if !self.baselines.is_empty() {
            // Somebody may not see a topic, or its broker is away.
            self.survey_at = Some(now + LONG_PAUSE);
        }
        let mut again = false;
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| !entry.over) {
            let Some(baseline) = entry.guest.baseline.counts() else {
                entry.guest.baseline.fill(&counts);
                continue;
            };
            let differs = baseline.iter().any(|(topic, then)| counts.get(topic).is_some_and(|now| now != then));
            // A broker that has just started may not know all topics yet.
            if differs && std::mem::replace(&mut entry.suspect, true) && !entry.rebalancing {
                entry.rebalancing = true;
                entry.say(*id, Signal::TopicsChanged, &mut self.told);
            }
            again |= differs && !entry.rebalancing;
            entry.suspect = differs;
        }
        if again {
            self.survey_soon(now);
        }
    }

    /// A coordinator does not take this client, or cannot be understood. No waiting mends that: a client of librdkafka joins, or says in
    /// its own words why it cannot.
    pub(super) fn refused_members(&mut self, members: &[u64], reason: &str) {
        self.refuse(reason, |id, _| members.contains(&id));
    }

    /// The same, where the coordinators of these groups were asked for.
    pub(super) fn refused_groups(&mut self, groups: &[String], reason: &str) {
        self.refuse(reason, |_, membership| groups.contains(&membership.group));
    }

    /// The same, where no broker tells what topics are like: changes of them would not be seen.
    pub(super) fn refused_survey(&mut self, reason: &str, now: Instant) {
        self.surveying = false;
        self.last_survey = Some(now);
        self.survey_at = (!self.baselines.is_empty()).then_some(now + LONG_PAUSE);
        self.refuse(reason, |_, _| true);
    }

    fn refuse(&mut self, reason: &str, which: impl Fn(u64, &Membership) -> bool) {
        for (id, entry) in &mut self.entries {
            if !entry.over && which(*id, &entry.guest.membership) {
                entry.end(*id, Signal::Refused(reason.to_owned()), &mut self.told);
            }
        }
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
