//! One cluster with parked consumers: does what the book says is due, and tells it the answers.
//!
//! Everything runs on the parking lot's one thread. A broker does one request of a connection after the other, so the fetch that
//! waits for records has a connection of its own; heartbeats and the rest share another.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{
    FetchRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, MetadataRequest, OffsetCommitRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::super::super::{ClientSettings, LogError, TopicPartition};
use super::super::client_log::ClientLog;
use super::book::{Book, Fetched, Heartbeats, Membership, Surveyed, Work};
use crate::group::wire::{Cluster, Connection, CoordinatorKind, WireError, WireErrorKind, WireSettings};

/// How long a broker holds back the answer to a fetch while there is nothing.
const LONG_POLL: Duration = Duration::from_secs(1);
/// How long a broker may take for what it answers at once.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes that a broker may send of a partition: the first byte already says that there is something.
const TASTE: i32 = 1;
/// How long to wait before a commit is tried again, at first and at most.
const COMMIT_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// See the module's documentation.
pub(super) struct Site {
    settings: ClientSettings,
    cluster: Mutex<Cluster>,
    /// `isolation.level=read_committed`: what is not committed is not there.
    committed: bool,
    book: Mutex<Book>,
    /// There may be something to do.
    changed: Notify,
    /// Connections that nobody uses at present, by broker.
    idle: Mutex<HashMap<String, Vec<Connection>>>,
    log: ClientLog,
}

impl Site {
    pub(super) fn new(settings: ClientSettings, committed: bool) -> Result<Self, WireError> {
        let cluster = Cluster::new(WireSettings::new(&settings)?);
        let log = ClientLog::new("parking", cluster.settings().bootstrap.join(","));
        let (book, changed, idle) = (Mutex::default(), Notify::new(), Mutex::default());
        Ok(Self { settings, cluster: Mutex::new(cluster), committed, book, changed, idle, log })
    }

    /// Looks into the book, or writes to it; what follows from that is done at once.
    pub(super) fn with<T>(&self, what: impl FnOnce(&mut Book) -> T) -> T {
        let answer = self.look(what);
        self.changed.notify_one();
        answer
    }

    fn look<T>(&self, what: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.book();
        let answer = what(&mut book);
        let told = book.take_told();
        // Whoever is roused may look into the book.
        drop(book);
        told.iter().for_each(|slot| slot.rouse());
        answer
    }

    pub(super) fn cluster(&self) -> Cluster {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls the cluster; where TLS or SASL fail, once more with the certificates that the files have now: they may have been
    /// replaced since they were read.
    async fn reach<T, F: Future<Output = Result<T, WireError>>>(
        &self,
        attempt: impl Fn(Cluster) -> F,
    ) -> Result<T, WireError> {
        match attempt(self.cluster()).await {
            Err(error) if error.kind == WireErrorKind::Refused => {
                let Ok(settings) = WireSettings::new(&self.settings) else { return Err(error) };
                let cluster = Cluster::new(settings);
                *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = cluster.clone();
                attempt(cluster).await
            }
            outcome => outcome,
        }
    }

    async fn any(&self) -> Result<Connection, WireError> {
        self.reach(|cluster| async move { cluster.any().await }).await
    }

    async fn connect(&self, server: &str) -> Result<Connection, WireError> {
        self.reach(|cluster| async move { cluster.connect(server).await }).await
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let Work { find, survey, heartbeats, fetch, next } = self.look(|book| book.work(Instant::now()));
            if !find.is_empty() {
                tokio::spawn(self.clone().find(find));
            }
            if !survey.is_empty() {
                tokio::spawn(self.clone().survey(survey));
            }
            for (server, heartbeats) in heartbeats {
                tokio::spawn(self.clone().beat(server, heartbeats));
            }
            for server in fetch {
                tokio::spawn(self.clone().watch(server));
            }
            match next {
                Some(at) => _ = tokio::time::timeout_at(at.into(), self.changed.notified()).await,
                None => self.changed.notified().await,
            }
        }
    }

    async fn find(self: Arc<Self>, groups: Vec<String>) {
        let found = async {
            let mut connection = self.any().await?;
            let requests: Vec<_> = groups
                .iter()
                .map(|group| FindCoordinatorRequest::default().with_key(text(group)).with_key_type(0))
                .collect();
            connection.call_all(ANSWER * 3, &requests).await
        };
        let found = match found.await {
            Ok(found) => found,
            Err(error) => {
                self.failed(&error);
                return self.with(|book| {
                    book.found(&groups, Vec::new(), Instant::now());
                    if !error.retriable() {
                        book.refused_groups(&groups, &error.message);
                    }
                });
            }
        };
        let found = groups.iter().zip(found).filter(|(_, answer)| answer.error_code == 0);
        let found = found.map(|(group, answer)| (group.clone(), format!("{}:{}", answer.host, answer.port))).collect();
        self.with(|book| book.found(&groups, found, Instant::now()));
    }

    async fn survey(self: Arc<Self>, topics: Vec<String>) {
        let surveyed = async {
            let mut connection = self.any().await?;
            let wanted =
                topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(TopicName(text(topic)))));
            let request =
                MetadataRequest::default().with_topics(Some(wanted.collect())).with_allow_auto_topic_creation(false);
            connection.call(ANSWER, |_| request).await
        };
        let surveyed = surveyed.await;
        if let Err(error) = &surveyed {
            self.failed(error);
            if !error.retriable() {
                return self.with(|book| book.refused_survey(&error.message, Instant::now()));
            }
        }
        let surveyed = surveyed.ok().map(|answer| {
            let brokers: BTreeMap<i32, String> = answer
                .brokers
                .iter()
                .map(|broker| (broker.node_id.0, format!("{}:{}", broker.host, broker.port)))
                .collect();
            let topics = answer.topics.into_iter().filter_map(|topic| {
                let leaders = match ResponseError::try_from_code(topic.error_code) {
                    None => {
                        let leader = |id: i32| brokers.get(&id).cloned();
                        Some(topic.partitions.iter().map(|p| (p.partition_index, leader(p.leader_id.0))).collect())
                    }
                    Some(ResponseError::UnknownTopicOrPartition) => None,
                    // Not known at present.
                    Some(_) => return None,
                };
                Some(Surveyed { topic: topic.name?.0.to_string(), leaders })
            });
            topics.collect()
        });
        self.with(|book| book.surveyed(surveyed, Instant::now()));
    }

    async fn beat(self: Arc<Self>, server: String, heartbeats: Heartbeats) {
        let requests: Vec<_> = heartbeats
            .iter()
            .map(|(_, membership)| {
                HeartbeatRequest::default()
                    .with_group_id(GroupId(text(&membership.group)))
                    .with_generation_id(membership.generation)
                    .with_member_id(text(&membership.member))
                    .with_group_instance_id(Some(text(&membership.instance)))
            })
            .collect();
        let answers = self.ask(&server, &requests).await;
        let answers: Vec<_> = match answers {
            Ok(answers) => {
                heartbeats.iter().zip(answers).map(|((id, _), answer)| (*id, Some(answer.error_code))).collect()
            }
            Err(error) => {
                self.failed(&error);
                if !error.retriable() {
                    let members: Vec<_> = heartbeats.iter().map(|(id, _)| *id).collect();
                    self.with(|book| book.refused_members(&members, &error.message));
                }
                heartbeats.iter().map(|(id, _)| (*id, None)).collect()
            }
        };
        self.with(|book| book.heard(&server, &answers, Instant::now()));
    }

    /// Waits for records on all partitions that a broker leads, as long as there are any to wait for.
    async fn watch(self: Arc<Self>, server: String) {
        let mut connection = None;
        loop {
            let partitions = self.with(|book| book.fetch(&server));
            if partitions.is_empty() {
                return;
            }
            let answer = async {
                let connection = match &mut connection {
                    Some(connection) => connection,
                    none => none.insert(self.connect(&server).await?),
                };
                connection.call(LONG_POLL + ANSWER, |_| self.fetch_request(partitions)).await
            };
            match answer.await {
                Ok(answer) => {
                    let committed = self.committed;
                    let fetched = answer.responses.into_iter().flat_map(|topic| {
                        let name: Arc<str> = topic.topic.0.as_str().into();
                        topic.partitions.into_iter().map(move |data| Fetched {
                            partition: TopicPartition { topic: name.clone(), partition: data.partition_index },
                            code: data.error_code,
                            end: if committed { data.last_stable_offset } else { data.high_watermark },
                        })
                    });
                    let (fetched, rests) = (fetched.collect(), answer.error_code != 0);
                    let goes_on = self.with(|book| {
                        book.fetched(&server, fetched, Instant::now());
                        if rests {
                            book.unreachable(&server, Instant::now());
                        }
                        book.fetches_from(&server)
                    });
                    if !goes_on {
                        return;
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    return self.with(|book| {
                        if error.retriable() {
                            book.unreachable(&server, Instant::now());
                        } else {
                            book.unreadable(&server, Instant::now());
                        }
                    });
                }
            }
        }
    }

    fn fetch_request(&self, partitions: Vec<(TopicPartition, i64)>) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (TopicPartition { topic, partition }, offset) in partitions {
            let wanted = FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(offset)
                .with_partition_max_bytes(TASTE);
            match topics.last_mut() {
                Some(last) if last.topic.0.as_str() == &*topic => last.partitions.push(wanted),
                _ => {
                    topics.push(FetchTopic::default().with_topic(TopicName(text(&topic))).with_partitions(vec![wanted]))
                }
            }
        }
        FetchRequest::default()
            .with_max_wait_ms(LONG_POLL.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(TASTE)
            .with_isolation_level(i8::from(self.committed))
            .with_topics(topics)
    }

    /// Commits next-to-read offsets for a member. Tried again until `timeout` while the coordinator moves or is away.
    pub(super) async fn commit(
        &self,
        membership: &Membership,
        offsets: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<(), LogError> {
        let deadline = Instant::now() + timeout;
        let (mut pause, longest) = COMMIT_PAUSE;
        let mut known = self.book().coordinator(&membership.group);
        loop {
            // Where it was a moment ago is not asked for again: who is refused there asks anew.
            let error = match self.commit_at(known.take(), membership, offsets).await {
                Err(error) if elsewhere(&error) && Instant::now() + pause < deadline => error,
                outcome => {
                    return outcome.map_err(|error| {
                        let message = format!("committing offsets of {} partitions: {error}", offsets.len());
                        LogError { message, retriable: true, code: None }
                    });
                }
            };
            tracing::debug!("offsets of group {} are committed again: {error}", membership.group);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn commit_at(
        &self,
        known: Option<String>,
        membership: &Membership,
        offsets: &[(TopicPartition, i64)],
    ) -> Result<(), WireError> {
        let server = match known {
            Some(server) => server,
            None => {
                let group = &*membership.group;
                self.reach(|cluster| async move { cluster.coordinator(CoordinatorKind::Group, group).await }).await?
            }
        };
        let mut topics = BTreeMap::<&str, Vec<OffsetCommitRequestPartition>>::new();
        for (TopicPartition { topic, partition }, offset) in offsets {
            let wanted =
                OffsetCommitRequestPartition::default().with_partition_index(*partition).with_committed_offset(*offset);
            topics.entry(topic).or_default().push(wanted);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&membership.group)))
            .with_generation_id_or_member_epoch(membership.generation)
            .with_member_id(text(&membership.member))
            .with_group_instance_id(Some(text(&membership.instance)))
            .with_topics(topics.collect());
        let answers = self.ask(&server, &[request]).await?;
        let codes = answers.iter().flat_map(|answer| &answer.topics).flat_map(|topic| &topic.partitions);
        match codes.filter_map(|partition| ResponseError::try_from_code(partition.error_code)).next() {
            None => Ok(()),
            Some(code) => {
                Err(WireError { kind: WireErrorKind::Code(code), message: format!("broker {server}: {code}") })
            }
        }
    }

    /// Asks a broker on a connection that is there, or a new one; again where the broker had only closed the former.
    async fn ask<Request: crate::group::wire::Api>(
        &self,
        server: &str,
        requests: &[Request],
    ) -> Result<Vec<Request::Answer>, WireError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(server).and_then(Vec::pop);
        if let Some(mut connection) = idle
            && let Ok(answers) = connection.call_all(ANSWER, requests).await
        {
            self.keep(server, connection);
            return Ok(answers);
        }
        let mut connection = self.connect(server).await?;
        let answers = connection.call_all(ANSWER, requests).await?;
        self.keep(server, connection);
        Ok(answers)
    }

    fn keep(&self, server: &str, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let of_server = idle.entry(server.to_owned()).or_default();
        // One for heartbeats and one for commits.
        if of_server.len() < 2 {
            of_server.push(connection);
        }
    }

    fn failed(&self, error: &WireError) {
        if error.retriable() {
            self.log.broker_away(&error.message);
        } else {
            self.log.broker_away(&format!("parked consumers get clients of their own: {error}"));
        }
    }
}

/// Whether the coordinator has moved, or may have. Other codes that may pass by themselves, as that of a deleted topic, are not
/// waited for: the task commits again anyway.
fn elsewhere(error: &WireError) -> bool {
    match error.kind {
        WireErrorKind::Code(code) => matches!(
            code,
            ResponseError::NotCoordinator
                | ResponseError::CoordinatorNotAvailable
                | ResponseError::CoordinatorLoadInProgress
        ),
        _ => error.retriable(),
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::super::super::Sleeper;
    use super::super::book::{Baseline, Guest};
    use super::super::slot::Slot;
    use super::*;

    #[test]
    fn whoever_is_roused_may_look_into_the_book() {
        let settings = ClientSettings::from([("bootstrap.servers".to_owned(), "localhost:1".to_owned())]);
        let site = Arc::new(Site::new(settings, true).unwrap());
        let slot = Arc::<Slot>::default();
        let guest = Guest {
            membership: Membership { group: "g".into(), member: "m".into(), generation: 1, instance: "i".into() },
            heartbeat: Duration::from_secs(3),
            session: Duration::from_secs(45),
            survey: Duration::from_secs(60),
            baseline: Arc::new(Baseline::default()),
            watch: Vec::new(),
            slot: slot.clone(),
        };
        let id = site.with(|book| book.enter(guest, Instant::now()));
        let of_sleeper = site.clone();
        // As a consumer does whose thread cannot be started.
        let slept = slot.sleep(Box::new(move || of_sleeper.with(|book| book.leave(id))));
        assert!(slept.is_none());
        site.with(|book| book.refused_members(&[id], "no such certificate"));
        assert!(slot.has_signal());
        site.with(|book| book.refused_groups(&["g".to_owned()], "nobody is left"));
    }
}
