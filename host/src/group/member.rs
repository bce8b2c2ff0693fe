//! The member: runs the [`Membership`] on a thread of its own, with two connections to the coordinator.
//!
//! Joining blocks its connection until all members have joined, so heartbeats have another one. The herder's callbacks run
//! on a second thread, in order; the first one never waits for them.
//!
//! Promises: the lease is extended and ended before the herder is told. A crash of the worker needs no cleaning up: the
//! next start with the same member file takes the former member out as soon as the new one is joining, so that both are
//! settled in one rebalance.
//!
//! Fails: while no coordinator can be reached it goes on trying, pausing up to `reconnect.backoff.max.ms`, with one log line
//! in ten seconds; [`GroupState::problem`] has the reason.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::membership::{Action, Input, MemberSettings, Membership, RestartTime};
use super::requests::Requests;
use super::restarts::Restarts;
use super::wire::{Cluster, Connection, CoordinatorKind, WireError};
use super::{Assignment, Group, GroupAssignment, GroupCallbacks, GroupSettings, GroupState, Lease};

/// How long the herder may take to read the config topic to its end.
const REFRESH: Duration = Duration::from_secs(5);
/// Between log lines about a coordinator that cannot be reached.
const QUIET: Duration = Duration::from_secs(10);
/// Until a broker that refused this client is asked again.
const REFUSED_PAUSE: Duration = Duration::from_secs(3);
/// The machine is woken at least so often: its clock goes on while the runtime's may stand still.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Gives the new member's join time to arrive before the former member is taken out.
const JOIN_FIRST: Duration = Duration::from_millis(20);

/// A worker's membership in its group. Dropped without [`Group::leave`] it ends as in a crash.
#[derive(Debug)]
pub struct GroupMember {
    events: UnboundedSender<Event>,
    shared: Arc<Shared>,
    lease: Lease,
    /// Ends when the member has left.
    left: Mutex<Receiver<()>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<GroupState>,
    owners: Mutex<BTreeMap<(String, Option<u32>), String>>,
}

/// What the driver's thread is told.
#[derive(Debug)]
enum Event {
    Input(Input),
    /// The coordinator was found.
    Coordinator {
        search: u64,
        connection: Connection,
    },
    /// Nothing was found yet.
    Searching {
        search: u64,
        problem: String,
    },
    /// A request is answered; its connection is free again, if it still works.
    Answered {
        slot: usize,
        lap: u64,
        connection: Option<Connection>,
        input: Input,
    },
    Abandon,
}

impl GroupMember {
    /// Becomes a member of the group, as soon as a coordinator can be reached.
    pub fn start(settings: GroupSettings, callbacks: Arc<dyn GroupCallbacks>) -> std::io::Result<Arc<Self>> {
        let (events, inbox) = unbounded_channel();
        let (calls, called) = channel();
        let (left_sender, left) = channel();
        let shared = Arc::new(Shared::default());
        let lease = Lease::ended();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let restarts = Restarts::read(settings.restarts_file.clone());
        let driver = Driver {
            requests: Requests {
                group: settings.group_id.clone(),
                session: settings.session_timeout,
                rebalance: settings.rebalance_timeout,
                timeout: settings.wire.request_timeout,
            },
            membership: Membership::new(MemberSettings {
                group: settings.group_id.clone(),
                url: settings.url.clone(),
                labels: settings.labels.clone(),
                session: settings.session_timeout,
                heartbeat: settings.heartbeat_interval,
                delay: settings.lost_worker_delay,
                restart: RestartTime {
                    told: settings.restart_delay,
                    starting: settings.started.elapsed(),
                    last: restarts.took(),
                },
            }),
            cluster: Cluster::new(settings.wire.clone()),
            former: read_member_file(&settings),
            restarts,
            settings,
            events: events.clone(),
            calls,
            shared: shared.clone(),
            lease: lease.clone(),
            coordinator: None,
            slots: [Slot::default(), Slot::default()],
            search: 0,
            searching: None,
        };
        let answers = events.clone();
        let herder = std::thread::Builder::new()
            .name("group-herder".to_owned())
            .spawn(move || run_callbacks(&*callbacks, &called, &answers))?;
        let member = std::thread::Builder::new().name("group-member".to_owned()).spawn(move || {
            runtime.block_on(driver.run(inbox));
            drop(left_sender);
            runtime.shutdown_timeout(Duration::from_millis(100));
        })?;
        Ok(Arc::new(Self { events, shared, lease, left: Mutex::new(left), threads: Mutex::new(vec![member, herder]) }))
    }

    fn send(&self, event: Event) {
        // An ended member takes no part any more.
        let _ = self.events.send(event);
    }
}

impl Group for GroupMember {
    fn request_rejoin(&self, reason: &str) {
        self.send(Event::Input(Input::Rejoin(reason.to_owned())));
    }

    fn leave(&self, timeout: Duration) {
        self.send(Event::Input(Input::Leave));
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the group's coordinator did not confirm the leave in time; it ends with the session");
                self.send(Event::Abandon);
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
        }
    }

    fn lease(&self) -> Lease {
        self.lease.clone()
    }

    fn state(&self) -> GroupState {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn owner_url(&self, connector: &str, task: Option<u32>) -> Option<String> {
        let owners = self.shared.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.get(&(connector.to_owned(), task)).cloned()
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        self.send(Event::Abandon);
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A callback may hold the last reference: a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the group membership panicked; this is a bug of the worker");
            }
        }
    }
}

/// What the herder is asked and told.
enum Call {
    Ask(Option<i64>),
    Assigned(Box<GroupAssignment>),
    Revoke(Assignment),
    Lost(String),
}

fn run_callbacks(herder: &dyn GroupCallbacks, calls: &Receiver<Call>, events: &UnboundedSender<Event>) {
    for call in calls {
        let answer = match call {
            Call::Ask(refresh) => {
                if let Some(offset) = refresh {
                    herder.refresh(offset, REFRESH);
                }
                Input::Snapshot(herder.snapshot())
            }
            Call::Assigned(assignment) => {
                herder.assigned(*assignment);
                continue;
            }
            Call::Revoke(revoked) => {
                herder.revoke(&revoked);
                Input::Revoked
            }
            Call::Lost(reason) => {
                herder.lost(&reason);
                continue;
            }
        };
        if events.send(Event::Input(answer)).is_err() {
            return;
        }
    }
}

/// A connection to the coordinator, and the request on it.
#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    running: Option<AbortHandle>,
    /// Tells the answer of a request that was given up.
    lap: u64,
}

impl Slot {
    /// Gives up the request under way, and its connection with it.
    fn reset(&mut self) {
        self.lap += 1;
        self.connection = None;
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

const JOINING: usize = 0;
const HEARTBEATS: usize = 1;

struct Driver {
    settings: GroupSettings,
    requests: Requests,
    membership: Membership,
    cluster: Cluster,
    /// The member that an earlier run of this worker was, if it did not leave.
    former: Option<String>,
    restarts: Restarts,
    events: UnboundedSender<Event>,
    calls: Sender<Call>,
    shared: Arc<Shared>,
    lease: Lease,
    coordinator: Option<String>,
    slots: [Slot; 2],
    search: u64,
    searching: Option<AbortHandle>,
}

impl Driver {
    async fn run(mut self, mut inbox: UnboundedReceiver<Event>) {
        let mut input = Some(Input::Tick);
        loop {
            if let Some(input) = input.take() {
                for action in self.membership.handle(Lease::clock(), input) {
                    if let Action::Leave { member_id } = action {
                        return self.leave(&member_id).await;
                    }
                    self.act(action);
                }
                self.publish();
            }
            let sleep = Duration::from_nanos(self.membership.wake_at().saturating_sub(Lease::clock()));
            input = tokio::select! {
                event = inbox.recv() => match event {
                    Some(Event::Abandon) | None => break,
                    Some(event) => self.event(event),
                },
                () = tokio::time::sleep(sleep.min(LONGEST_SLEEP)) => Some(Input::Tick),
            };
        }
        // As in a crash: the coordinator is told nothing, and nothing may be written any more.
        self.lease.end();
    }

    fn event(&mut self, event: Event) -> Option<Input> {
        match event {
            Event::Input(input) => Some(input),
            Event::Coordinator { search, connection } if search == self.search => {
                tracing::info!(group = self.settings.group_id, "the group's coordinator is {}", connection.server());
                self.coordinator = Some(connection.server().to_owned());
                self.slots[JOINING].connection = Some(connection);
                self.set_problem(None);
                Some(Input::CoordinatorFound)
            }
            Event::Searching { search, problem } if search == self.search => {
                self.set_problem(Some(problem));
                None
            }
            Event::Answered { slot, lap, connection, input } if lap == self.slots[slot].lap => {
                self.slots[slot].running = None;
                self.slots[slot].connection = connection;
                Some(input)
            }
            Event::Coordinator { .. } | Event::Searching { .. } | Event::Answered { .. } | Event::Abandon => None,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::FindCoordinator => self.find_coordinator(),
            Action::Join { ref member_id, .. } => {
                if !member_id.is_empty() {
                    self.remove_former(&member_id.clone());
                }
                self.request(JOINING, action);
            }
            Action::Sync { .. } => self.request(JOINING, action),
            Action::Heartbeat { .. } => self.request(HEARTBEATS, action),
            Action::Ask { refresh } => self.call(Call::Ask(refresh)),
            Action::Assigned(assignment) => {
                self.write_member_file(&assignment.member_id);
                if let Some(away) = self.restarts.back(SystemTime::now()) {
                    self.membership.was_away(away);
                }
                log_assignment(&self.settings.group_id, &assignment);
                *self.shared.owners.lock().unwrap_or_else(PoisonError::into_inner) = self.membership.owners();
                self.call(Call::Assigned(assignment));
            }
            Action::Revoke(revoked) => self.call(Call::Revoke(revoked)),
            Action::Lost(reason) => {
                tracing::warn!(group = self.settings.group_id, "out of the group, all tasks stop: {reason}");
                self.shared.owners.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.call(Call::Lost(reason));
            }
            Action::Extend { sent } => self.lease.extend(sent, self.settings.session_timeout),
            Action::EndLease => self.lease.end(),
            Action::Leave { .. } => {}
        }
    }

    fn call(&self, call: Call) {
        if self.calls.send(call).is_err() {
            tracing::error!("the herder's callbacks have ended; this is a bug of the worker");
        }
    }

    fn publish(&self) {
        let state = GroupState { coordinator: self.coordinator.clone(), ..self.membership.state() };
        let mut shared = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = state.problem.clone().or_else(|| shared.problem.take().filter(|_| self.coordinator.is_none()));
        *shared = GroupState { problem, ..state };
    }

    fn set_problem(&self, problem: Option<String>) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).problem = problem;
    }

    /// Looks for the coordinator until it is found.
    fn find_coordinator(&mut self) {
        self.coordinator = None;
        for slot in &mut self.slots {
            slot.reset();
        }
        if let Some(searching) = self.searching.take() {
            searching.abort();
        }
        self.search += 1;
        let (search, events, cluster) = (self.search, self.events.clone(), self.cluster.clone());
        let group = self.settings.group_id.clone();
        let task = tokio::spawn(async move {
            let mut pause = cluster.settings().backoff;
            let mut logged: Option<Instant> = None;
            loop {
                let found = async {
                    let server = cluster.coordinator(CoordinatorKind::Group, &group).await?;
                    cluster.connect(&server).await
                };
                let error: WireError = match found.await {
                    Ok(connection) => {
                        let _ = events.send(Event::Coordinator { search, connection });
                        return;
                    }
                    Err(error) => error,
                };
                let problem = format!("group {group}: the coordinator cannot be reached: {error}");
                if logged.is_none_or(|at| at.elapsed() >= QUIET) {
                    tracing::warn!("{problem}; trying again");
                    logged = Some(Instant::now());
                }
                if events.send(Event::Searching { search, problem }).is_err() {
                    return;
                }
                tokio::time::sleep(if error.retriable() { pause } else { REFUSED_PAUSE }).await;
                pause = (pause * 2).min(cluster.settings().backoff_max);
            }
        });
        self.searching = Some(task.abort_handle());
    }

    /// Does a request on one of the connections, opening it first where there is none.
    fn request(&mut self, slot: usize, action: Action) {
        let Some(server) = self.coordinator.clone() else { return };
        if self.slots[slot].running.is_some() {
            self.slots[slot].reset();
        }
        let (lap, connection) = (self.slots[slot].lap, self.slots[slot].connection.take());
        let (events, cluster, requests) = (self.events.clone(), self.cluster.clone(), self.requests.clone());
        let task = tokio::spawn(async move {
            let opened = match connection {
                Some(connection) => Ok(connection),
                None => cluster.connect(&server).await,
            };
            let mut connection = match opened {
                Ok(connection) => connection,
                Err(error) => {
                    let _ = events.send(Event::Answered {
                        slot,
                        lap,
                        connection: None,
                        input: Input::CoordinatorLost(error.to_string()),
                    });
                    return;
                }
            };
            if let Some(input) = requests.run(&mut connection, action).await {
                let _ = events.send(Event::Answered { slot, lap, connection: Some(connection), input });
            }
        });
        self.slots[slot].running = Some(task.abort_handle());
    }

    /// Takes the member out that this worker was before it crashed.
    fn remove_former(&mut self, member_id: &str) {
        let Some(former) = self.former.take().filter(|former| former != member_id) else { return };
        let Some(server) = self.coordinator.clone() else { return };
        let (cluster, requests) = (self.cluster.clone(), self.requests.clone());
        tokio::spawn(async move {
            tokio::time::sleep(JOIN_FIRST).await;
            let removed = async {
                let mut connection = cluster.connect(&server).await?;
                requests.leave(&mut connection, &former, "this worker was restarted").await
            };
            match removed.await {
                Ok(()) => tracing::info!(member = former, "took this worker's former member out of the group"),
                Err(error) => {
                    tracing::warn!(member = former, "the former member stays until its session ends: {error}")
                }
            }
        });
    }

    async fn leave(mut self, member_id: &str) {
        self.lease.end();
        self.restarts.leave(SystemTime::now());
        if let Some(server) = self.coordinator.clone().filter(|_| !member_id.is_empty()) {
            let idle = self.slots[HEARTBEATS].connection.take();
            let left = async {
                let mut connection = match idle {
                    Some(connection) => connection,
                    None => self.cluster.connect(&server).await?,
                };
                self.requests.leave(&mut connection, member_id, "the worker stops").await
            };
            match left.await {
                Ok(()) => tracing::info!(group = self.settings.group_id, "left the group"),
                Err(error) => {
                    tracing::warn!(group = self.settings.group_id, "left the group without its coordinator: {error}")
                }
            }
        }
        for slot in &mut self.slots {
            slot.reset();
        }
        if let Some(file) = &self.settings.member_file {
            let _ = std::fs::remove_file(file);
        }
        *self.shared.state.lock().unwrap_or_else(PoisonError::into_inner) = GroupState::default();
    }

    fn write_member_file(&self, member_id: &str) {
        let Some(file) = &self.settings.member_file else { return };
        let text = format!("{}\n{member_id}\n", self.settings.group_id);
        if std::fs::read_to_string(file).is_ok_and(|old| old == text) {
            return;
        }
        if let Err(error) = std::fs::write(file, text) {
            tracing::warn!(
                "cannot write {}: {error}; after a crash this worker will wait for its former session to end",
                file.display()
            );
        }
    }
}

fn read_member_file(settings: &GroupSettings) -> Option<String> {
    let text = std::fs::read_to_string(settings.member_file.as_ref()?).ok()?;
    let mut lines = text.lines();
    (lines.next()? == settings.group_id).then(|| lines.next().map(str::to_owned)).flatten()
}

fn log_assignment(group: &str, assignment: &GroupAssignment) {
    tracing::info!(
        group,
        generation = assignment.generation,
        leader = assignment.leader_url,
        "assigned {}: {} more, {} to stop",
        assignment.owned,
        assignment.added,
        assignment.revoking,
    );
    if !assignment.delay.is_zero() {
        tracing::info!(group, "the part of an absent worker is kept for it, up to {} ms", assignment.delay.as_millis());
    }
    if !assignment.unplaced.is_empty() {
        tracing::warn!(group, "no worker has the labels for {}", assignment.unplaced);
    }
}
