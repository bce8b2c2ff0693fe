//! Workers that run nothing but notice everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tributary::group::wire::WireSettings;
use tributary::group::{
    Assignment, ClusterSnapshot, ConnectorShape, Group, GroupAssignment, GroupCallbacks, GroupMember, GroupSettings,
    Lease,
};
use tributary_harness::Seed;

pub type Resource = (String, Option<u32>);

/// Longer than anything takes on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the workers of a test share: the config topic, and who runs what.
#[derive(Debug, Default)]
pub struct Cluster {
    config: Mutex<ClusterSnapshot>,
    running: Mutex<BTreeMap<Resource, Vec<(String, Option<Lease>)>>>,
    starts: Mutex<BTreeMap<Resource, usize>>,
    stops: Mutex<usize>,
    /// What was run by two that both might write.
    pub twice: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    pub fn new(connectors: usize, tasks: u32) -> Arc<Self> {
        let cluster = Arc::new(Self::default());
        cluster.configure(connectors, tasks);
        cluster
    }

    /// There are so many connectors now.
    pub fn configure(&self, connectors: usize, tasks: u32) {
        let mut config = lock(&self.config);
        config.config_offset += 1;
        let shape = ConnectorShape { tasks, ..ConnectorShape::default() };
        config.connectors = (0..connectors).map(|number| (format!("c{number:03}"), shape.clone())).collect();
    }

    /// Who runs what: URLs.
    pub fn owners(&self) -> BTreeMap<Resource, Vec<String>> {
        let url = |(url, _): &(String, _)| url.clone();
        lock(&self.running)
            .iter()
            .map(|(resource, owners)| (resource.clone(), owners.iter().map(url).collect()))
            .collect()
    }

    pub fn starts(&self) -> usize {
        lock(&self.starts).values().sum()
    }

    pub fn stops(&self) -> usize {
        *lock(&self.stops)
    }

    /// Units by worker.
    pub fn loads(&self) -> BTreeMap<String, usize> {
        let mut loads = BTreeMap::new();
        for owner in self.owners().into_values().flatten() {
            *loads.entry(owner).or_default() += 1;
        }
        loads
    }

    /// Waits until everything runs exactly once, and only on these workers, each with its even part. Returns how long it took.
    pub fn wait_until_even(&self, urls: &[&str]) -> Duration {
        let begin = Instant::now();
        loop {
            let missing = self.uneven(urls);
            let Some(missing) = missing else { return begin.elapsed() };
            assert!(begin.elapsed() < PATIENCE, "{missing}: {:?}", self.loads());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn uneven(&self, urls: &[&str]) -> Option<String> {
        let owners = self.owners();
        let wanted: usize = lock(&self.config).connectors.values().map(|shape| 1 + shape.tasks as usize).sum();
        if owners.values().any(|owners| owners.len() != 1) || owners.len() != wanted {
            return Some("not everything runs once".to_owned());
        }
        let loads = self.loads();
        let here: BTreeSet<&str> = loads.keys().map(String::as_str).collect();
        if here != urls.iter().copied().collect() {
            return Some(format!("not on {urls:?}"));
        }
        // One more of the connectors and one more of the tasks.
        let most = loads.values().max().copied().unwrap_or(0);
        let least = loads.values().min().copied().unwrap_or(0);
        (most > least + 2).then(|| "uneven".to_owned())
    }

    fn start(&self, url: &str, lease: Option<Lease>, assignment: &Assignment) {
        let mut running = lock(&self.running);
        for resource in resources(assignment) {
            *lock(&self.starts).entry(resource.clone()).or_default() += 1;
            let owners = running.entry(resource.clone()).or_default();
            for (other, lease) in owners.iter() {
                if lease.as_ref().is_none_or(Lease::holds) {
                    lock(&self.twice).push(format!("{resource:?} on {url} and {other}"));
                }
            }
            owners.push((url.to_owned(), lease.clone()));
        }
    }

    fn stop(&self, url: &str, which: impl Fn(&Resource) -> bool) {
        let mut running = lock(&self.running);
        running.retain(|resource, owners| {
            if which(resource) {
                let before = owners.len();
                owners.retain(|(owner, _)| owner != url);
                *lock(&self.stops) += before - owners.len();
            }
            !owners.is_empty()
        });
    }
}

fn resources(assignment: &Assignment) -> BTreeSet<Resource> {
    let connectors = assignment.connectors.iter().map(|name| (name.clone(), None));
    connectors.chain(assignment.tasks.iter().map(|task| (task.connector.clone(), Some(task.task)))).collect()
}

struct Herder {
    cluster: Arc<Cluster>,
    url: String,
    lease: Mutex<Option<Lease>>,
    stop_time: Duration,
    assigned: Mutex<Vec<GroupAssignment>>,
    lost: Mutex<Vec<(Instant, String)>>,
    dead: Mutex<bool>,
}

impl GroupCallbacks for Herder {
    fn snapshot(&self) -> ClusterSnapshot {
        lock(&self.cluster.config).clone()
    }

    fn refresh(&self, _config_offset: i64, _timeout: Duration) {}

    fn assigned(&self, assignment: GroupAssignment) {
        if !*lock(&self.dead) {
            self.cluster.start(&self.url, lock(&self.lease).clone(), &assignment.added);
        }
        lock(&self.assigned).push(assignment);
    }

    fn revoke(&self, revoked: &Assignment) {
        std::thread::sleep(self.stop_time);
        let revoked = resources(revoked);
        self.cluster.stop(&self.url, |resource| revoked.contains(resource));
    }

    fn lost(&self, reason: &str) {
        lock(&self.lost).push((Instant::now(), reason.to_owned()));
        self.cluster.stop(&self.url, |_| true);
    }
}

/// One worker.
pub struct Worker {
    pub member: Option<Arc<GroupMember>>,
    pub url: String,
    herder: Arc<Herder>,
    cluster: Arc<Cluster>,
}

/// A group id that no other test has.
pub fn group_id(name: &str) -> String {
    format!("{name}-{}", Seed::announce(name).value())
}

/// The settings of a member with this URL; a short session, so that tests are.
pub fn settings(bootstrap: &str, group: &str, url: &str) -> GroupSettings {
    let client =
        [("bootstrap.servers", bootstrap), ("client.id", &url.replace("http://", "connect-").replace(':', "-"))];
    let client = client.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    GroupSettings {
        group_id: group.to_owned(),
        wire: WireSettings::new(&client).unwrap(),
        url: url.to_owned(),
        labels: vec![format!("worker={url}")],
        session_timeout: Duration::from_secs(6),
        heartbeat_interval: Duration::from_millis(250),
        rebalance_timeout: Duration::from_secs(30),
        lost_worker_delay: None,
        restart_delay: None,
        started: std::time::Instant::now(),
        member_file: None,
        restarts_file: None,
    }
}

impl Worker {
    pub fn start(cluster: &Arc<Cluster>, bootstrap: &str, group: &str, url: &str) -> Self {
        Self::start_with(cluster, settings(bootstrap, group, url))
    }

    pub fn start_with(cluster: &Arc<Cluster>, settings: GroupSettings) -> Self {
        let herder = Arc::new(Herder {
            cluster: cluster.clone(),
            url: settings.url.clone(),
            lease: Mutex::default(),
            stop_time: Duration::from_millis(20),
            assigned: Mutex::default(),
            lost: Mutex::default(),
            dead: Mutex::default(),
        });
        let member = GroupMember::start(settings.clone(), herder.clone()).unwrap();
        *lock(&herder.lease) = Some(member.lease());
        Self { member: Some(member), url: settings.url, herder, cluster: cluster.clone() }
    }

    pub fn member(&self) -> &GroupMember {
        self.member.as_deref().expect("it lives")
    }

    pub fn assignments(&self) -> Vec<GroupAssignment> {
        lock(&self.herder.assigned).clone()
    }

    pub fn losses(&self) -> Vec<(Instant, String)> {
        lock(&self.herder.lost).clone()
    }

    /// As kill -9: nobody is told.
    pub fn kill(&mut self) {
        *lock(&self.herder.dead) = true;
        self.member = None;
        self.cluster.stop(&self.url, |_| true);
    }

    /// As SIGTERM.
    pub fn leave(&mut self) {
        *lock(&self.herder.dead) = true;
        self.cluster.stop(&self.url, |_| true);
        self.member().leave(Duration::from_secs(10));
        self.member = None;
    }
}

/// A file that is gone with its directory.
pub fn member_file(dir: &tempfile::TempDir) -> Option<PathBuf> {
    Some(dir.path().join("group-member"))
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}
