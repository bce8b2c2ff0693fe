//! The membership: joins, is given partitions, says that it is alive, gives them up and joins again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;

use super::super::{LogError, TopicPartition};
use super::MemberSettings;
use super::assignor::{Assigned, Subscriber, range};
use super::coordinator::{Coordinator, Joined, Refusal};
use super::protocol;
use super::shared::{Identity, Shared};
use super::survey::Survey;

/// Pauses between tries: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often topics are looked for that are wanted by name and missing.
const MISSING: Duration = Duration::from_secs(2);
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(3);
/// How long somebody who was a member goes on trying although the target refuses it (SASL, TLS).
const REFUSED: Duration = Duration::from_secs(300);
/// How often the same trouble is told.
const QUIET: Duration = Duration::from_secs(10);

/// Why a round ended otherwise than by joining again.
enum End {
    /// The member is to leave.
    Closing,
    /// The group has gone on without this member's answer: it joins again.
    Rejoin,
    /// Another round may do better.
    Again(String),
    /// A person has to mend something.
    Failed(LogError),
}

/// See the module.
pub(super) struct Member {
    settings: MemberSettings,
    coordinator: Coordinator,
    shared: Arc<Shared>,
    survey: Arc<Mutex<Survey>>,
    /// As the coordinator named it; empty before.
    id: String,
    /// Of the last join.
    identity: Option<Identity>,
    /// What the last look has found.
    found: Option<BTreeMap<String, i32>>,
    /// When the coordinator counted it in last.
    counted: Option<Instant>,
    pause: Duration,
    told: Option<Instant>,
}

impl Member {
    /// Nobody is asked yet.
    pub(super) fn new(settings: MemberSettings, shared: Arc<Shared>, survey: Survey) -> Self {
        Self {
            coordinator: Coordinator::new(settings.clone()),
            survey: Arc::new(Mutex::new(survey)),
            settings,
            shared,
            id: String::new(),
            identity: None,
            found: None,
            counted: None,
            pause: PAUSES.0,
            told: None,
        }
    }

    /// Until it is closed, or cannot go on.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let ended = tokio::select! {
                ended = self.round() => ended,
                () = shared.closed() => Err(End::Closing),
            };
            match ended {
                Ok(()) | Err(End::Rejoin) => self.pause = PAUSES.0,
                Err(End::Closing) => break,
                Err(End::Again(reason)) => {
                    self.coordinator.drop_connection();
                    self.tell(&reason);
                    shared.changed(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSES.1);
                }
                Err(End::Failed(error)) => {
                    shared.fail(error);
                    shared.closed().await;
                    break;
                }
            }
        }
        if !self.id.is_empty()
            && let Err(error) = self.coordinator.leave(&self.id, LEAVE).await
        {
            tracing::debug!("leaving group {}: {error}; the session ends by itself", self.settings.group);
        }
    }

    /// From joining to what makes it necessary to join again.
    async fn round(&mut self) -> Result<(), End> {
        let topics = self.look().await?;
        let joined = self.join(&topics).await?;
        let given = self.given(&joined, &topics).await?;
        if let Some(other) = given.keys().find(|name| !topics.contains_key(*name)) {
            return self.start_afresh(other).await;
        }
        let Joined { identity, leads, keeps, led, members } = joined;
        let (partitions, kept) = self.partitions(&given);
        tracing::info!(
            "{} of group {}, generation {}: {} partitions",
            self.id,
            self.settings.group,
            identity.generation,
            partitions.len()
        );
        self.pause = PAUSES.0;
        self.shared.assigned(identity.clone(), partitions, kept);
        // In a former leader's place: the group has what that had given out, and there may be more by now. A known leader's join makes the
        // group rebalance.
        let outdated = led || leads && keeps && !self.is_as_it_would_be(&members, &topics).await;
        self.stay(&identity, leads.then_some(topics), outdated).await
    }

    /// Whether every member has what it would be given now.
    async fn is_as_it_would_be(&mut self, members: &[Subscriber], topics: &BTreeMap<String, i32>) -> bool {
        match self.coordinator.shares().await {
            Ok(shares) => shares.is_some_and(|shares| shares == range(members, topics)),
            Err(refusal) => {
                tracing::debug!("group {} does not tell who has what: {refusal:?}; it rebalances", self.settings.group);
                false
            }
        }
    }

    /// What a former member with this one's instance id had was of another config, or of a topic that was made anew since. The coordinator has
    /// taken what this one wants for that one's, and rebalances only when the member leaves.
    async fn start_afresh(&mut self, other: &str) -> Result<(), End> {
        let left = self.coordinator.leave(&self.id, LEAVE).await;
        self.id.clear();
        self.identity = None;
        let reason =
            format!("{other}, which a task before this one had in group {}, is not read any more", self.settings.group);
        Err(End::Again(match left {
            Ok(()) => reason,
            Err(error) => format!("{reason}; leaving: {error}"),
        }))
    }

    /// Which topics and partitions there are. A member of the group stays one meanwhile. If a cluster is away, what there was last: others
    /// wait for this member, and the leader looks again.
    async fn look(&mut self) -> Result<BTreeMap<String, i32>, End> {
        let mut looking = self.start_look();
        loop {
            tokio::select! {
                found = &mut looking => match (of_look(found), &self.found) {
                    (Err(End::Again(reason)), Some(found)) => {
                        let found = found.clone();
                        self.tell(&reason);
                        return Ok(found);
                    }
                    (found, _) => {
                        self.found = Some(found?);
                        return Ok(self.found.clone().unwrap_or_default());
                    }
                },
                () = tokio::time::sleep(self.settings.heartbeat) => {
                    if let Some(identity) = self.identity.clone() {
                        // What it says is learnt when it joins.
                        _ = self.coordinator.beat(&identity).await;
                    }
                }
            }
        }
    }

    fn start_look(&self) -> tokio::task::JoinHandle<Result<BTreeMap<String, i32>, LogError>> {
        let survey = self.survey.clone();
        tokio::task::spawn_blocking(move || survey.lock().unwrap_or_else(PoisonError::into_inner).look())
    }

    async fn join(&mut self, topics: &BTreeMap<String, i32>) -> Result<Joined, End> {
        self.shared.forget();
        self.identity = None;
        loop {
            match self.coordinator.join(&self.id, topics).await {
                Ok(joined) => {
                    self.id.clone_from(&joined.identity.member);
                    self.identity = Some(joined.identity.clone());
                    self.counted = Some(Instant::now());
                    return Ok(joined);
                }
                // A dynamic member is given its id first.
                Err((_, Some(id))) => self.id = id,
                Err((Refusal::Code(ResponseError::UnknownMemberId), _)) if !self.id.is_empty() => self.id.clear(),
                Err((refusal, _)) => return Err(self.refused("joining", refusal)),
            }
        }
    }

    /// What this member is given; as the leader, after it has said who is given what.
    async fn given(&mut self, joined: &Joined, topics: &BTreeMap<String, i32>) -> Result<Assigned, End> {
        let hopeless = |error: String| End::Failed(LogError::fatal(format!("assigning partitions: {error}")));
        let mut assignments = Vec::new();
        if joined.leads && !joined.keeps {
            for (member, assigned) in range(&joined.members, topics) {
                assignments.push((member, protocol::assignment(&assigned).map_err(hopeless)?));
            }
        }
        match self.coordinator.sync(&joined.identity, assignments).await {
            Ok(assignment) => protocol::assigned(assignment).map_err(hopeless),
            Err(Refusal::Code(ResponseError::RebalanceInProgress)) => Err(End::Rejoin),
            Err(refusal) if self.excluded(&refusal) => {
                self.identity = None;
                Err(End::Rejoin)
            }
            Err(refusal) => Err(self.refused("waiting for its partitions", refusal)),
        }
    }

    /// A member until the group rebalances, or this one has to. The leader looks for topics and partitions that are new.
    async fn stay(
        &mut self,
        identity: &Identity,
        mut known: Option<BTreeMap<String, i32>>,
        outdated: bool,
    ) -> Result<(), End> {
        if outdated {
            return self.give_up(identity).await;
        }
        let mut looked = Instant::now();
        let mut looking = None;
        loop {
            self.shared.changed(self.settings.heartbeat).await;
            if self.shared.since_poll() > self.settings.rebalance {
                return self.stand_back().await;
            }
            if let Some(topics) = &known {
                let misses = self.survey.try_lock().is_ok_and(|survey| survey.misses());
                let every = if misses { MISSING.min(self.settings.refresh) } else { self.settings.refresh };
                match looking.take() {
                    None if looked.elapsed() >= every => looking = Some(self.start_look()),
                    None => {}
                    Some(look) if !tokio::task::JoinHandle::is_finished(&look) => looking = Some(look),
                    Some(look) => {
                        looked = Instant::now();
                        match of_look(look.await) {
                            Ok(found) if found != *topics => {
                                tracing::info!(
                                    "the topics of group {} have changed: it rebalances",
                                    self.settings.group
                                );
                                return self.give_up(identity).await;
                            }
                            Ok(_) => {}
                            Err(End::Again(reason)) => self.tell(&reason),
                            Err(End::Failed(error)) => self.tell(&error.message),
                            Err(End::Closing | End::Rejoin) => known = None,
                        }
                    }
                }
            }
            match self.coordinator.beat(identity).await {
                Ok(()) => self.counted = Some(Instant::now()),
                Err(Refusal::Code(ResponseError::RebalanceInProgress)) => return self.give_up(identity).await,
                Err(refusal) => {
                    if self.excluded(&refusal) {
                        return self.lost().await;
                    }
                    self.trouble(refusal)?;
                }
            }
        }
    }

    /// The task gives up its partitions, in its own time; the coordinator knows how long that may take.
    async fn give_up(&mut self, identity: &Identity) -> Result<(), End> {
        self.shared.revoke();
        while !self.shared.has_given_up() {
            match self.coordinator.beat(identity).await {
                Ok(()) | Err(Refusal::Code(ResponseError::RebalanceInProgress)) => {}
                Err(refusal) => {
                    if self.excluded(&refusal) {
                        return self.lost().await;
                    }
                    self.trouble(refusal)?;
                }
            }
            self.shared.changed(self.settings.heartbeat).await;
        }
        Ok(())
    }

    /// The coordinator has given the partitions to others, or will.
    async fn lost(&mut self) -> Result<(), End> {
        self.identity = None;
        self.shared.lose();
        while !self.shared.has_given_up() {
            self.shared.changed(self.settings.heartbeat).await;
        }
        Ok(())
    }

    /// A task that does not poll has its partitions taken away, as from Kafka's own consumers.
    async fn stand_back(&mut self) -> Result<(), End> {
        tracing::warn!(
            "{} of group {} has not polled for longer than max.poll.interval.ms ({:?}): others get its partitions",
            self.id,
            self.settings.group,
            self.settings.rebalance
        );
        if let Err(error) = self.coordinator.leave(&self.id, LEAVE).await {
            tracing::debug!("leaving group {}: {error}", self.settings.group);
        }
        self.id.clear();
        self.lost().await
    }

    /// Whether the coordinator does not count the member in any more.
    fn excluded(&mut self, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::Code(ResponseError::UnknownMemberId) => {
                self.id.clear();
                true
            }
            Refusal::Code(ResponseError::IllegalGeneration) => true,
            _ => false,
        }
    }

    /// What a heartbeat that did not come through means: nothing, as long as nobody says so.
    fn trouble(&mut self, refusal: Refusal) -> Result<(), End> {
        match self.refused("a heartbeat", refusal) {
            End::Again(reason) => {
                self.tell(&reason);
                Ok(())
            }
            end => {
                // The task must not go on as a member.
                self.shared.lose();
                Err(end)
            }
        }
    }

    fn refused(&self, what: &str, refusal: Refusal) -> End {
        let said = |reason: &dyn std::fmt::Display| {
            format!("{what} of the task in group {} of the target cluster: {reason}", self.settings.group)
        };
        match refusal {
            Refusal::Away(reason) => End::Again(said(&reason)),
            // Credentials that are just being replaced, a broker that does not have them yet: others of the task's clients wait, too.
            Refusal::Hopeless(reason) if self.counted.is_some_and(|at| at.elapsed() < REFUSED) => {
                End::Again(said(&reason))
            }
            Refusal::Hopeless(reason) => End::Failed(LogError::fatal(said(&reason))),
            Refusal::Code(code) => {
                let hint = match code {
                    ResponseError::FencedInstanceId => ": another task has its group.instance.id",
                    ResponseError::InconsistentGroupProtocol => {
                        ": it has members of another kind; give the connector a group.id of its own with consumer.override.group.id"
                    }
                    ResponseError::GroupAuthorizationFailed => ": give the producer's principal Read on the group",
                    ResponseError::InvalidSessionTimeout => {
                        ": set consumer.override.session.timeout.ms to what the brokers allow (group.min.session.timeout.ms, \
                         group.max.session.timeout.ms)"
                    }
                    ResponseError::GroupMaxSizeReached => ": set tasks.max to no more than the brokers' group.max.size",
                    ResponseError::InvalidGroupId => ": correct consumer.override.group.id",
                    _ => return End::Again(said(&code)),
                };
                let name = if code == ResponseError::FencedInstanceId { Some("FENCED_INSTANCE_ID") } else { None };
                End::Failed(LogError { message: said(&format!("{code}{hint}")), retriable: false, code: name })
            }
        }
    }

    /// As the task knows them, and what stands for their topics.
    fn partitions(&self, given: &Assigned) -> (Vec<TopicPartition>, BTreeMap<Arc<str>, Arc<str>>) {
        let (mut all, mut kept) = (Vec::new(), BTreeMap::new());
        for (name, partitions) in given {
            let topic = match self.settings.names.topic(name) {
                _ if self.settings.own.contains(name) => name,
                Some(topic) => topic,
                None => {
                    tracing::warn!("group {} was assigned {name}, which it does not read", self.settings.group);
                    continue;
                }
            };
            let topic: Arc<str> = topic.into();
            kept.insert(topic.clone(), name.as_str().into());
            all.extend(
                partitions.iter().map(|partition| TopicPartition { topic: topic.clone(), partition: *partition }),
            );
        }
        (all, kept)
    }

    /// A cluster that is away fills no log.
    fn tell(&mut self, reason: &str) {
        if self.told.is_none_or(|told| told.elapsed() >= QUIET) {
            self.told = Some(Instant::now());
            tracing::warn!("{reason}; it is tried again");
        }
    }
}

fn of_look(
    found: Result<Result<BTreeMap<String, i32>, LogError>, tokio::task::JoinError>,
) -> Result<BTreeMap<String, i32>, End> {
    match found {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) if error.retriable => Err(End::Again(error.message)),
        Ok(Err(error)) => Err(End::Failed(error)),
        Err(error) => {
            Err(End::Failed(LogError::fatal(format!("looking for topics: {error}; this is a bug of the worker"))))
        }
    }
}
