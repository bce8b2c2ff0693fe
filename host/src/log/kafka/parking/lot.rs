//! The parking lot: one thread for all parked consumers of a worker, and the clusters that it looks after.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::super::super::{ClientSettings, LogError, TopicPartition};
use super::book::{Baseline, Guest, Membership};
use super::site::Site;
use crate::group::wire::WireErrorKind;

/// Client settings that say how a cluster is reached, by their beginnings.
const OF_THE_CLUSTER: &[&str] = &[
    "bootstrap.servers",
    "security.",
    "ssl.",
    "sasl.",
    "request.timeout.ms",
    "reconnect.",
    "socket.connection.setup.",
    "client.dns.lookup",
    "isolation.level",
];

/// The code of the error that says that another consumer has the `group.instance.id`.
pub(super) const FENCED: &str = "FENCED_INSTANCE_ID";

/// See the module's documentation.
#[derive(Default)]
pub(in super::super) struct ParkingLot {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    thread: Option<Handle>,
    sites: HashMap<ClientSettings, Weak<Place>>,
    /// Why there was no place, as it was logged.
    told: HashSet<String>,
}

/// A cluster that somebody is parked in, or may be.
pub(in super::super) struct Place {
    site: Arc<Site>,
    runtime: Handle,
    running: AbortHandle,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl ParkingLot {
    /// The place for consumers with these client settings. `None` where only librdkafka understands them, which is logged once.
    pub(in super::super) fn place(&self, settings: &ClientSettings) -> Option<Arc<Place>> {
        self.try_place(settings)
            .map_err(|error| {
                let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
                if inside.told.insert(error.message.clone()) {
                    tracing::info!("sink tasks without records keep their Kafka clients: {error}");
                }
            })
            .ok()
    }

    fn try_place(&self, settings: &ClientSettings) -> Result<Arc<Place>, LogError> {
        let of_cluster = |name: &str| OF_THE_CLUSTER.iter().any(|beginning| name.starts_with(beginning));
        let mut key: ClientSettings = settings
            .iter()
            .filter(|(name, _)| of_cluster(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        key.insert("client.id".into(), "connector-parking".into());
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.sites.retain(|_, place| place.strong_count() > 0);
        if let Some(place) = inside.sites.get(&key).and_then(Weak::upgrade) {
            return Ok(place);
        }
        // librdkafka's default, which is not Java's.
        let uncommitted = |level: &String| level.trim().eq_ignore_ascii_case("read_uncommitted");
        let committed = !key.get("isolation.level").is_some_and(uncommitted);
        let site = Site::new(key.clone(), committed).map_err(|error| LogError::fatal(error.to_string()))?;
        let site = Arc::new(site);
        let runtime = match &inside.thread {
            Some(runtime) => runtime.clone(),
            None => inside.thread.insert(thread()?).clone(),
        };
        let running = runtime.spawn(site.clone().run()).abort_handle();
        let place = Arc::new(Place { site, runtime, running });
        inside.sites.insert(key, Arc::downgrade(&place));
        Ok(place)
    }
}

/// Lives as long as the process: clusters come and go.
fn thread() -> Result<Handle, LogError> {
    let failed =
        |error: std::io::Error| LogError::retriable(format!("cannot start the thread of parked consumers: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("kafka-parking".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(failed)?;
    Ok(handle)
}

impl Place {
    /// What these topics are like now, as soon as a broker has told.
    pub(super) fn baseline(&self, topics: Vec<String>) -> Arc<Baseline> {
        let baseline = Arc::new(Baseline::new(topics));
        self.site.with(|book| book.note(baseline.clone(), Instant::now()));
        baseline
    }

    /// Takes a consumer in; its slot is told when it is admitted, and what happens.
    pub(super) fn enter(self: &Arc<Self>, guest: Guest) -> Ticket {
        let membership = guest.membership.clone();
        let id = self.site.with(|book| book.enter(guest, Instant::now()));
        Ticket { place: self.clone(), id, membership }
    }
}

/// A consumer's stay. Dropped, the lot does nothing more for it; the group hears no more of the member.
pub(super) struct Ticket {
    place: Arc<Place>,
    pub(super) id: u64,
    membership: Membership,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.place.site.with(|book| book.leave(self.id));
    }
}

impl Ticket {
    /// Watches from these places (anew: it has to be admitted), or nothing while the consumer reads.
    pub(super) fn watch(&self, watch: Option<Vec<(TopicPartition, i64)>>) {
        self.place.site.with(|book| book.watch(self.id, watch));
    }

    /// Commits next-to-read offsets and waits for the answer.
    pub(super) fn commit(&self, offsets: &[(TopicPartition, i64)], timeout: Duration) -> Result<(), LogError> {
        let (site, membership, offsets) = (self.place.site.clone(), self.membership.clone(), offsets.to_vec());
        self.wait(timeout, "committing offsets", async move { site.commit(&membership, &offsets, timeout).await })
    }

    /// Takes the member out of its group, so that the group rebalances. Whoever has the `group.instance.id` by now stays in.
    pub(super) fn leave_group(&self, timeout: Duration) -> Result<(), LogError> {
        let (cluster, membership) = (self.place.site.cluster(), self.membership.clone());
        self.wait(timeout + Duration::from_secs(1), "leaving the group", async move {
            let Membership { group, member, instance, .. } = &membership;
            let left = cluster.remove_static_member(group, member, instance, timeout).await;
            left.map_err(|error| {
                let fenced = error.kind == WireErrorKind::Code(ResponseError::FencedInstanceId);
                let message = format!("leaving group {group}: {error}");
                LogError { message, retriable: !fenced, code: fenced.then_some(FENCED) }
            })
        })
    }

    fn wait(
        &self,
        timeout: Duration,
        what: &str,
        doing: impl Future<Output = Result<(), LogError>> + Send + 'static,
    ) -> Result<(), LogError> {
        let (done, answer) = mpsc::sync_channel(1);
        self.place.runtime.spawn(async move {
            let outcome = tokio::time::timeout(timeout, doing).await;
            _ = done.try_send(outcome);
        });
        match answer.recv_timeout(timeout + Duration::from_secs(5)) {
            Ok(Ok(outcome)) => outcome,
            _ => Err(LogError::retriable(format!("{what}: no answer in {} ms", timeout.as_millis()))),
        }
    }
}
