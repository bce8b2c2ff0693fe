//! The log on a Kafka cluster, through librdkafka.
//!
//! | File | Noun |
//! |---|---|
//! | `settings` | Java's client settings as librdkafka's |
//! | `batch_calls/` | the calls into librdkafka; the only `unsafe` of the log |
//! | `producer`, `consumer`, `admin` | the traits; transactions are the producer's |
//! | `static_members` | taking sink tasks out of their group |
//! | `fencing` | fencing transactional ids |
//! | `parking/` | sink tasks without records: no clients of their own |
//! | `topic_pattern` | subscription by regular expression |
//! | `client_log`, `errors` | what librdkafka says, in our words |
//!
//! Promises: no client is destroyed on a caller's thread, no call outlasts its time-out by more than a
//! request's own, and a broker that is away is an event in the log, not an error of the task.

mod admin;
mod assigned_members;
mod batch_calls;
mod client_log;
mod consumer;
mod errors;
mod fencing;
mod member_commits;
mod parking;
mod producer;
mod settings;
mod static_members;
mod topic_pattern;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka_sys as sys;

use self::admin::KafkaAdmin;
use self::batch_calls::Client;
use self::consumer::KafkaConsumer;
use self::parking::{ParkingConsumer, ParkingLot};
use self::producer::KafkaProducer;
use self::settings::{ClientKind, NativeSettings};
use self::topic_pattern::TopicPattern;
use super::{
    AssignedMember, ClientSettings, GroupMetadata, Log, LogAdmin, LogConsumer, LogError, LogProducer, ParkingSettings,
    Subscription, TopicPartition, TransactionalProducer,
};

/// How long a reader that is being made looks for beginnings.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// A Kafka cluster.
pub struct KafkaLog {
    settings: ClientSettings,
    admin: KafkaAdmin,
    lot: ParkingLot,
}

impl KafkaLog {
    /// The cluster of these servers. `settings` (security, client.dns.lookup, …) hold for all clients; those of a
    /// single client come on top. Nothing is connected yet.
    pub fn new(bootstrap_servers: &str, settings: &ClientSettings) -> Self {
        let mut settings = settings.clone();
        settings.insert("bootstrap.servers".into(), bootstrap_servers.into());
        Self { admin: KafkaAdmin::new(settings.clone()), settings, lot: ParkingLot::default() }
    }

    fn client(&self, kind: ClientKind, settings: &ClientSettings, name: &str) -> Result<Client, LogError> {
        self.client_with(kind, settings, name, |_| {})
    }

    /// Replaces beginnings by the offsets that they are now. A new client does not know the partitions' leaders yet; asked for the
    /// beginning, librdkafka then tries again after half a second, which is longer than everything else that a start takes.
    fn look_up_beginnings(&self, start: &mut [(TopicPartition, Option<i64>)]) {
        let unknown = |offset: &Option<i64>| *offset == Some(sys::RD_KAFKA_OFFSET_BEGINNING.into());
        let partitions: Vec<_> =
            start.iter().filter(|(_, o)| unknown(o)).map(|(partition, _)| partition.clone()).collect();
        if partitions.is_empty() {
            return;
        }
        match self.admin.start_offsets(&partitions, LOOK_UP_WITHIN) {
            Ok(offsets) => {
                let offsets: BTreeMap<_, _> = offsets.into_iter().collect();
                for (partition, offset) in start.iter_mut().filter(|(_, offset)| unknown(offset)) {
                    *offset = offsets.get(partition).copied().or(*offset);
                }
            }
            // The client finds out by itself.
            Err(error) => tracing::debug!("{error}"),
        }
    }

    fn client_with(
        &self,
        kind: ClientKind,
        settings: &ClientSettings,
        name: &str,
        adjust: impl FnOnce(&mut NativeSettings),
    ) -> Result<Client, LogError> {
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(k, v)| (k.clone(), v.clone())));
        let name = all.get("client.id").cloned().unwrap_or_else(|| name.to_owned());
        all.insert("client.id".into(), name.clone());
        let mut native = NativeSettings::translate(kind, &all)?;
        adjust(&mut native);
        Client::new(kind, native, &name)
    }
}

/// The place of a member in its group that is not a member by librdkafka.
pub(super) fn group_metadata(
    group: &str,
    generation: i32,
    member: &str,
    instance: Option<&str>,
) -> Result<GroupMetadata, LogError> {
    batch_calls::group_metadata(group, generation, member, instance).map(GroupMetadata)
}

impl Log for KafkaLog {
    fn cluster_id(&self, timeout: Duration) -> Result<String, LogError> {
        self.admin.with(|client| client.cluster_id(timeout))
    }

    fn producer(&self, settings: &ClientSettings) -> Result<Box<dyn LogProducer>, LogError> {
        Ok(Box::new(KafkaProducer::new(self.client(ClientKind::Producer, settings, "tributary-producer")?)))
    }

    fn transactional_producer(
        &self,
        transactional_id: &str,
        settings: &ClientSettings,
    ) -> Result<Box<dyn TransactionalProducer>, LogError> {
        let mut settings = settings.clone();
        settings.insert("transactional.id".into(), transactional_id.into());
        Ok(Box::new(KafkaProducer::new(self.client(ClientKind::Producer, &settings, transactional_id)?)))
    }

    fn fence_producers(&self, transactional_ids: &[String], timeout: Duration) -> Result<(), LogError> {
        fencing::fence(&self.settings, transactional_ids, timeout)
    }

    fn consumer(
        &self,
        settings: &ClientSettings,
        subscription: &Subscription,
    ) -> Result<Box<dyn LogConsumer>, LogError> {
        if settings.get("group.id").is_none_or(|group| group.is_empty()) {
            return Err(LogError::fatal("a consumer needs the client setting group.id"));
        }
        let mut client = self.client(ClientKind::Consumer, settings, "tributary-consumer")?;
        let pattern = match subscription {
            Subscription::Topics(topics) => {
                client.subscribe(topics)?;
                None
            }
            Subscription::Pattern(pattern) => Some(TopicPattern::new(pattern, settings)?),
        };
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(name, value)| (name.clone(), value.clone())));
        Ok(Box::new(KafkaConsumer::new(client, pattern).with_settings(all)))
    }

    fn sink_consumer(
        &self,
        settings: &ClientSettings,
        subscription: &Subscription,
        parking: ParkingSettings,
    ) -> Result<Box<dyn LogConsumer>, LogError> {
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(name, value)| (name.clone(), value.clone())));
        let Subscription::Topics(topics) = subscription else { return self.consumer(settings, subscription) };
        if let Err(reason) = parking::possible(&all) {
            tracing::debug!("the consumer is not parked when it has nothing to read: {reason}");
            return self.consumer(settings, subscription);
        }
        let Some(place) = self.lot.place(&all) else { return self.consumer(settings, subscription) };
        let name = all.get("client.id").cloned().unwrap_or_else(|| "tributary-consumer".to_owned());
        let of_clients = all.clone();
        let mut told = false;
        let make = move || {
            let mut native = NativeSettings::translate(ClientKind::Consumer, &of_clients)?;
            native.told = std::mem::replace(&mut told, true);
            // A partition that has been read to its end tells where that is.
            native.values.insert("enable.partition.eof".into(), "true".into());
            Client::new(ClientKind::Consumer, native, &name)
        };
        Ok(Box::new(ParkingConsumer::new(place, Box::new(make), &all, topics, parking)?))
    }

    fn reader(
        &self,
        settings: &ClientSettings,
        start: &[(TopicPartition, i64)],
    ) -> Result<Box<dyn LogConsumer>, LogError> {
        let mut settings = settings.clone();
        // librdkafka assigns only inside a group; this one is neither joined nor committed to.
        settings.entry("group.id".into()).or_insert_with(|| "tributary-reader".into());
        let ends = settings.get("enable.partition.eof").is_some_and(|value| value == "true");
        let client = self.client_with(ClientKind::Consumer, &settings, "tributary-reader", |native| {
            native.values.insert("enable.partition.eof".into(), ends.to_string());
        })?;
        let mut reader = KafkaConsumer::new(client, None);
        let mut start: Vec<_> = start.iter().map(|(partition, offset)| (partition.clone(), Some(*offset))).collect();
        if settings
            .get("bootstrap.servers")
            .is_none_or(|servers| self.settings.get("bootstrap.servers") == Some(servers))
        {
            self.look_up_beginnings(&mut start);
        }
        LogConsumer::assign(&mut reader, &start)?;
        Ok(Box::new(reader))
    }

    fn admin(&self) -> &dyn LogAdmin {
        &self.admin
    }

    fn admin_with(&self, settings: &ClientSettings) -> Option<Box<dyn LogAdmin>> {
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(k, v)| (k.clone(), v.clone())));
        Some(Box::new(KafkaAdmin::new(all)))
    }

    fn static_membership(&self) -> bool {
        static_members::possible(&self.settings)
    }

    fn assigned_members(&self, group: &str, timeout: Duration) -> Result<Option<Vec<AssignedMember>>, LogError> {
        assigned_members::ask(&self.settings, group, timeout)
    }

    fn remove_static_members(&self, group: &str, members: &[String], timeout: Duration) -> Result<(), LogError> {
        static_members::remove(&self.settings, group, members, timeout)
    }
}
