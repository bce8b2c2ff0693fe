//! The consumer of a sink task, which parks while nothing comes.
//!
//! ```text
//!              nothing for a while, and the lot has confirmed the membership
//!   ┌ Member ───────────────────────────────────────────────────────────► Parked ┐
//!   │  a client of librdkafka in the group        ▲                              │ a record, a partition resumed
//!   │                                             └── nothing for a while ── Reading
//!   │                                                       a client that only reads; the lot keeps the membership
//!   └◄── the group rebalances, the topics change, the membership is lost: partitions are given up, a new client joins
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::super::{
    ClientSettings, CommittedOffset, ConsumerEvent, LogConsumer, LogError, ParkingSettings, Sleeper, TopicPartition,
    Waker,
};
use super::super::batch_calls::Client;
use super::super::consumer::KafkaConsumer;
use super::book::{Baseline, Guest, Membership};
use super::lot::{FENCED, Place, Ticket};
use super::slot::{Signal, Slot};

/// How long the lot may take to admit a consumer before that is tried anew.
const ADMISSION: Duration = Duration::from_secs(20);
/// How long the coordinator may take to answer a commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long leaving the group may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes a client of librdkafka.
pub(in super::super) type MakeClient = Box<dyn FnMut() -> Result<Client, LogError> + Send>;

/// Whether a consumer of these settings may park, and why not.
pub(in super::super) fn possible(settings: &ClientSettings) -> Result<(), &'static str> {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|text| text.trim().eq_ignore_ascii_case(value));
    if settings.get("group.instance.id").is_none_or(|id| id.trim().is_empty()) {
        return Err("it is no static member of its group");
    }
    if is("group.protocol", "consumer") {
        return Err("group.protocol=consumer");
    }
    if settings.get("client.rack").is_some_and(|rack| !rack.trim().is_empty()) {
        return Err("it reads from followers (client.rack)");
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Member,
    Parked,
    Reading,
}

/// See the module's documentation.
pub(in super::super) struct ParkingConsumer {
    make: MakeClient,
    topics: Vec<String>,
    settings: GroupSettings,
    parking: ParkingSettings,
    place: Arc<Place>,
    slot: Arc<Slot>,
    mode: Mode,
    client: Option<KafkaConsumer>,
    ticket: Option<Ticket>,
    /// The topics at the time when the partitions were given out, or a little before.
    baseline: Arc<Baseline>,
    /// The assignment, with where each partition was begun.
    assigned: BTreeMap<TopicPartition, Option<i64>>,
    /// Partitions that have been read to their end, and that end.
    ended: BTreeMap<TopicPartition, i64>,
    paused: BTreeSet<TopicPartition>,
    /// Until when there is nothing to be done about parking.
    busy_until: Instant,
    /// Since when the lot has been asked to admit this consumer.
    asked: Option<Instant>,
    /// The membership has ended: once the partitions are given up, a client joins. With whether to leave the group first.
    ending: Option<bool>,
}

struct GroupSettings {
    group: String,
    instance: String,
    heartbeat: Duration,
    session: Duration,
    survey: Duration,
    /// Whether a partition without a committed offset is read from its beginning.
    from_start: bool,
}

impl ParkingConsumer {
    /// A member of the group of these settings.
    pub(in super::super) fn new(
        place: Arc<Place>,
        make: MakeClient,
        settings: &ClientSettings,
        topics: &[String],
        parking: ParkingSettings,
    ) -> Result<Self, LogError> {
        let text = |name: &str| settings.get(name).map(|value| value.trim().to_owned()).unwrap_or_default();
        let millis = |name: &str, default| Duration::from_millis(text(name).parse().unwrap_or(default));
        let mut consumer = Self {
            make,
            topics: topics.to_vec(),
            settings: GroupSettings {
                group: text("group.id"),
                instance: text("group.instance.id"),
                heartbeat: millis("heartbeat.interval.ms", 3_000).max(Duration::from_millis(10)),
                session: millis("session.timeout.ms", 45_000),
                survey: millis("metadata.max.age.ms", 60_000).max(Duration::from_secs(1)),
                from_start: matches!(&*text("auto.offset.reset"), "earliest" | "smallest" | "beginning"),
            },
            parking,
            baseline: Arc::default(),
            place,
            slot: Arc::default(),
            mode: Mode::Member,
            client: None,
            ticket: None,
            assigned: BTreeMap::new(),
            ended: BTreeMap::new(),
            paused: BTreeSet::new(),
            busy_until: Instant::now(),
            asked: None,
            ending: None,
        };
        consumer.join()?;
        Ok(consumer)
    }

    /// Joins the group with a client.
    fn join(&mut self) -> Result<(), LogError> {
        self.forget_client();
        self.ticket = None;
        self.asked = None;
        self.ending = None;
        self.assigned.clear();
        self.ended.clear();
        self.paused.clear();
        self.set_mode(Mode::Member);
        // Before the partitions are given out: an older state is found to have changed, a newer one would hide a change.
        self.baseline = self.place.baseline(self.topics.clone());
        let mut client = (self.make)()?;
        client.subscribe(&self.topics)?;
        self.use_client(KafkaConsumer::new(client, None));
        Ok(())
    }

    /// Reads on from where each partition stands, while the lot keeps the membership.
    fn read(&mut self) -> Result<(), LogError> {
        let Some(ticket) = &self.ticket else { return Ok(()) };
        ticket.watch(None);
        let mut client = KafkaConsumer::new((self.make)()?, None);
        for (partition, end) in std::mem::take(&mut self.ended) {
            if let Some(start) = self.assigned.get_mut(&partition) {
                *start = Some(end);
            }
        }
        let start: Vec<_> = self.assigned.iter().map(|(partition, start)| (partition.clone(), *start)).collect();
        if !start.is_empty() {
            client.assign(&start)?;
        }
        let paused: Vec<_> = self.paused.iter().cloned().collect();
        if !paused.is_empty() {
            client.pause(&paused)?;
        }
        self.use_client(client);
        self.asked = None;
        self.set_mode(Mode::Reading);
        Ok(())
    }

    fn park(&mut self) {
        self.forget_client();
        self.asked = None;
        self.set_mode(Mode::Parked);
    }

    fn use_client(&mut self, client: KafkaConsumer) {
        self.slot.set_queue(Some(client.queue_waker()));
        self.client = Some(client);
        self.touch();
    }

    /// Lets the client go without waiting for its end. It does not leave the group.
    fn forget_client(&mut self) {
        self.slot.set_queue(None);
        self.client = None;
    }

    fn set_mode(&mut self, mode: Mode) {
        if (self.mode == Mode::Parked) != (mode == Mode::Parked) {
            let (group, instance) = (&self.settings.group, &self.settings.instance);
            tracing::debug!(group, instance, "{}", if mode == Mode::Parked { "parked" } else { "not parked any more" });
            (self.parking.parked)(mode == Mode::Parked);
        }
        self.mode = mode;
    }

    fn touch(&mut self) {
        self.busy_until = Instant::now() + self.parking.after;
    }

    /// Something goes on: not now. A membership that the lot keeps already stays with it.
    fn stay(&mut self) {
        self.touch();
        if self.asked.take().is_none() {
            return;
        }
        match self.mode {
            Mode::Member => self.ticket = None,
            Mode::Reading | Mode::Parked => {
                if let Some(ticket) = &self.ticket {
                    ticket.watch(None);
                }
            }
        }
    }

    /// Where to watch, if each partition has been read to its end. What is paused is not watched.
    fn places(&mut self) -> Option<Vec<(TopicPartition, i64)>> {
        let mut watch = Vec::new();
        for partition in self.assigned.keys() {
            match self.ended.get(partition) {
                Some(end) if !self.paused.contains(partition) => watch.push((partition.clone(), *end)),
                None if !self.paused.contains(partition) => return None,
                _ => {}
            }
        }
        Some(watch)
    }

    /// Where paused partitions stand that have not been read to their end. `None` where only the client knows.
    fn settle_paused(&mut self) -> Option<()> {
        let open: Vec<_> =
            self.paused.iter().filter(|partition| !self.ended.contains_key(partition)).cloned().collect();
        if open.is_empty() {
            return Some(());
        }
        let positions = self.client.as_mut()?.positions(&open).ok()?;
        for (partition, position) in positions {
            // Not begun yet: it begins where it would have. What begins at the end begins now, or not at the same place.
            match (position, self.assigned.get(&partition)) {
                (Some(position), _) => _ = self.assigned.insert(partition, Some(position)),
                (None, Some(Some(_))) => {}
                (None, _) if self.settings.from_start => {}
                (None, _) => return None,
            }
        }
        Some(())
    }

    /// Parks when it is time.
    fn consider(&mut self) -> Result<(), LogError> {
        let now = Instant::now();
        if let Some(ticket) = self.ticket.as_ref().filter(|_| self.asked.is_some()) {
            if self.slot.admitted(ticket.id) {
                if self.settle_paused().is_none() {
                    self.stay();
                } else {
                    self.park();
                }
            } else if self.asked.is_some_and(|asked| now > asked + ADMISSION) {
                self.stay();
            }
            return Ok(());
        }
        if now < self.busy_until || self.ending.is_some() {
            return Ok(());
        }
        let Some(watch) = self.places() else {
            // Some partition has not told its end yet, as while its broker is away.
            self.busy_until = now + self.parking.after.min(Duration::from_secs(1));
            return Ok(());
        };
        if self.mode == Mode::Reading {
            if let Some(ticket) = &self.ticket {
                ticket.watch(Some(watch));
            }
        } else {
            let membership = self.client.as_mut().and_then(KafkaConsumer::membership);
            let Some((member, generation)) = membership.filter(|_| self.baseline.counts().is_some()) else {
                self.touch();
                return Ok(());
            };
            let (group, instance) = (self.settings.group.clone(), self.settings.instance.clone());
            self.slot.dismiss();
            self.ticket = Some(self.place.enter(Guest {
                membership: Membership { group, member, generation, instance },
                heartbeat: self.settings.heartbeat,
                session: self.settings.session,
                survey: self.settings.survey,
                baseline: self.baseline.clone(),
                watch,
                slot: self.slot.clone(),
            }));
        }
        self.asked = Some(now);
        Ok(())
    }

    /// What the lot has said, as events.
    fn heed(&mut self) -> Result<Option<ConsumerEvent>, LogError> {
        let Some(id) = self.ticket.as_ref().map(|ticket| ticket.id) else { return Ok(None) };
        let Some(signal) = self.slot.take_signal(id) else { return Ok(None) };
        if self.ending.is_some() {
            return Ok(None);
        }
        match (signal, self.mode) {
            (Signal::Wanted, Mode::Parked) => self.read().map(|()| None),
            // The client is there and does what has to be done.
            (_, Mode::Member) | (Signal::Wanted, Mode::Reading) => {
                self.asked.get_or_insert_with(Instant::now);
                self.stay();
                Ok(None)
            }
            (Signal::Fenced, _) => Err(LogError {
                message: format!(
                    "group {}: another consumer runs with the same group.instance.id {}",
                    self.settings.group, self.settings.instance
                ),
                retriable: false,
                code: Some(FENCED),
            }),
            (Signal::Rebalance, _) => self.give_up(false, false),
            (Signal::TopicsChanged, _) => {
                tracing::info!(
                    group = self.settings.group,
                    "the topics' partitions have changed: joining the group again"
                );
                self.give_up(true, false)
            }
            // The group still knows the member, as far as anybody can tell: its last offsets can be committed.
            (Signal::Refused(reason), _) => {
                tracing::info!(group = self.settings.group, "a client of its own keeps the membership: {reason}");
                self.give_up(false, false)
            }
            (Signal::Lost(reason), _) => {
                tracing::info!(group = self.settings.group, "the membership has ended, joining again: {reason}");
                self.give_up(false, true)
            }
        }
    }

    /// The partitions are to be given up, then the group is joined.
    fn give_up(&mut self, leave: bool, lost: bool) -> Result<Option<ConsumerEvent>, LogError> {
        self.ending = Some(leave);
        let partitions: Vec<_> = self.assigned.keys().cloned().collect();
        if partitions.is_empty() {
            return self.rejoin().map(|()| None);
        }
        Ok(Some(if lost { ConsumerEvent::Lost(partitions) } else { ConsumerEvent::Revoked(partitions) }))
    }

    fn rejoin(&mut self) -> Result<(), LogError> {
        let mut kept = None;
        if self.ending == Some(true)
            && let Some(ticket) = &self.ticket
            && let Err(error) = ticket.leave_group(LEAVE_TIMEOUT)
        {
            if error.code == Some(FENCED) {
                return Err(error);
            }
            tracing::warn!("{error}; tried again when the task is parked next");
            // The coordinator gives a static member what it had: the change is still to be found.
            kept = Some(self.baseline.clone());
        }
        self.join()?;
        if let Some(baseline) = kept {
            self.baseline = baseline;
        }
        Ok(())
    }

    /// Takes out of a client's events what is only of interest here.
    fn note(&mut self, events: Vec<ConsumerEvent>) -> Vec<ConsumerEvent> {
        let mut passed = Vec::with_capacity(events.len());
        for event in events {
            match &event {
                ConsumerEvent::End(partition, offset) => {
                    self.ended.insert(partition.clone(), *offset);
                    continue;
                }
                ConsumerEvent::Batch(batch) => _ = self.ended.remove(&batch.topic_partition),
                ConsumerEvent::Assigned(_) => {}
                // As in `join`.
                ConsumerEvent::Revoked(_) | ConsumerEvent::Lost(_) => {
                    self.baseline = self.place.baseline(self.topics.clone());
                }
            }
            passed.push(event);
        }
        if !passed.is_empty() {
            self.stay();
        }
        passed
    }

    fn client(&mut self) -> Result<&mut KafkaConsumer, LogError> {
        if self.mode == Mode::Parked {
            self.read()?;
        }
        self.client.as_mut().ok_or_else(|| LogError::retriable("the consumer has no client at present"))
    }

    /// When there is something to look at without anybody's doing.
    fn next_look(&self) -> Option<Instant> {
        match self.asked {
            Some(asked) => Some(asked + ADMISSION),
            None if self.ending.is_some() => None,
            None => Some(self.busy_until),
        }
    }
}

impl LogConsumer for ParkingConsumer {
    fn poll(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Vec<ConsumerEvent>, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.heed()? {
                return Ok(vec![event]);
            }
            if self.mode == Mode::Parked {
                self.slot.wait(deadline);
            } else {
                let until = self.next_look().map_or(deadline, |at| at.min(deadline));
                let wait = until.saturating_duration_since(Instant::now());
                let Some(client) = &mut self.client else { return Ok(Vec::new()) };
                let events = client.poll(max_records, max_bytes, wait)?;
                let events = self.note(events);
                if !events.is_empty() {
                    return Ok(events);
                }
                self.consider()?;
                if self.mode == Mode::Parked {
                    // The caller may sleep.
                    return Ok(Vec::new());
                }
            }
            if self.slot.take_woken() || Instant::now() >= deadline {
                return Ok(Vec::new());
            }
        }
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        self.client()?.assign(partitions)?;
        self.assigned.extend(partitions.iter().cloned());
        self.stay();
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        for partition in partitions {
            self.assigned.remove(partition);
            self.ended.remove(partition);
            self.paused.remove(partition);
        }
        if self.mode == Mode::Member {
            self.stay();
            return self.client()?.unassign(partitions);
        }
        if self.ending.is_some() && self.assigned.is_empty() { self.rejoin() } else { Ok(()) }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        if self.ending.is_none() {
            self.client()?.pause(partitions)?;
            self.stay();
        }
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        self.paused.retain(|paused| !partitions.contains(paused));
        if self.ending.is_none() {
            self.client()?.resume(partitions)?;
            self.stay();
        }
        Ok(())
    }

    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), LogError> {
        self.client()?.seek(partition, offset)?;
        self.ended.remove(partition);
        self.stay();
        Ok(())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        match (self.mode, &self.ticket) {
            _ if offsets.is_empty() => Ok(()),
            (Mode::Parked | Mode::Reading, Some(ticket)) => ticket.commit(offsets, COMMIT_TIMEOUT),
            _ => self.client()?.commit(offsets),
        }
    }

    fn committed(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, LogError> {
        self.client()?.committed(partitions, timeout)
    }

    fn committed_with(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<CommittedOffset>, LogError> {
        self.client()?.committed_with(partitions, timeout)
    }

    fn lag(&mut self) -> Vec<(TopicPartition, i64)> {
        let mut lag: BTreeMap<_, _> =
            self.client.as_mut().map(|client| client.lag().into_iter().collect()).unwrap_or_default();
        let ended = self.ended.keys().filter(|partition| self.assigned.contains_key(partition));
        lag.extend(ended.map(|partition| (partition.clone(), 0)));
        lag.into_iter().collect()
    }

    fn waker(&self) -> Option<Waker> {
        let slot = self.slot.clone();
        Some(Arc::new(move || slot.wake()))
    }

    fn sleeper(&self) -> Option<Arc<dyn Sleeper>> {
        (self.mode == Mode::Parked && !self.slot.has_signal()).then(|| self.slot.clone() as Arc<dyn Sleeper>)
    }

    fn close(mut self: Box<Self>, timeout: Duration) -> Result<(), LogError> {
        self.ticket = None;
        self.set_mode(Mode::Member);
        self.slot.set_queue(None);
        self.client.take().map_or(Ok(()), |client| Box::new(client).close(timeout))
    }
}
