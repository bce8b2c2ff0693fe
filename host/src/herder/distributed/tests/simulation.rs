//! Whole clusters of herders in one thread, by seeded schedules: users change everything, workers die, freeze and come back,
//! messages take their time. Nothing may ever run twice with the right to write, and in the end everything has to run once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tributary_sdk::Config;

use super::fakes::{Later, Log, Member, Runner, Shared, Statuses, Wires, World};
use crate::group::{Assignment, GroupAssignment, Lease};
use crate::herder::View;
use crate::herder::command::{Command, PutConnector};
use crate::herder::distributed::actor::Actor;
use crate::herder::distributed::membership::shape;
use crate::herder::distributed::{DistributedDeps, DistributedSettings, Input};
use crate::herder::message::Message;
use crate::storage::ConfigLog;
use crate::worker::{State, TaskId};

const WORKERS: usize = 3;
const CONNECTORS: usize = 4;

struct Worker {
    actor: Actor,
    inbox: Receiver<Message>,
    log: Arc<Log>,
    member: Arc<Member>,
    jobs: Arc<Later>,
    owned: Assignment,
    /// Revocations that the group waits for.
    revoking: Vec<Receiver<()>>,
    frozen: bool,
    /// Counted out by the group while it was frozen.
    removed: bool,
}

struct Cluster {
    world: Shared,
    wires: Wires,
    next_id: usize,
    workers: BTreeMap<usize, Worker>,
    generation: i32,
    /// The group has to rebalance.
    unstable: bool,
    now: Instant,
    random: StdRng,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let mut cluster = Self {
            world: Arc::new(Mutex::new(World::default())),
            wires: Wires::default(),
            next_id: 0,
            workers: BTreeMap::new(),
            generation: 0,
            unstable: true,
            now: Instant::now(),
            random: StdRng::seed_from_u64(seed),
        };
        for _ in 0..WORKERS {
            cluster.start();
        }
        cluster
    }

    /// A new worker; a restarted one is a new one.
    fn start(&mut self) {
        let id = self.next_id;
        self.next_id += 1;
        let log = Arc::new(Log::new(self.world.clone(), id));
        let (messages, inbox) = std::sync::mpsc::channel();
        self.wires.0.lock().unwrap().insert(id, messages.clone());
        let member = Arc::new(Member {
            lease: Lease::unlimited(),
            rejoins: Mutex::new(false),
            left: Mutex::new(false),
            leads: AtomicBool::new(false),
        });
        let jobs = Arc::new(Later::default());
        let deps = DistributedDeps {
            configs: log.clone(),
            statuses: Arc::new(Statuses(self.world.clone())),
            group: member.clone(),
            peers: Arc::new(self.wires.clone()),
            runner: Arc::new(Runner { world: self.world.clone(), worker: id, messages: messages.clone() }),
            plugins: Arc::new(Vec::new()),
            jobs: jobs.clone(),
            fence_tasks: Arc::new(|_, _| Ok(())),
            set_level: Arc::new(|_, _| {}),
            member_since: Arc::new(|_| {}),
        };
        let settings = DistributedSettings {
            worker_id: id.to_string(),
            exactly_once: false,
            topic_tracking: true,
            patience: Duration::from_secs(30),
            key_ttl: Duration::from_secs(3600),
            key_algorithm: "HmacSHA256".to_owned(),
            key_bits: None,
            rejoin_after: Duration::from_millis(20),
        };
        let actor = Actor::new(deps, settings, messages, Arc::new(View::default()));
        let (owned, revoking) = (Assignment::default(), Vec::new());
        let worker = Worker { actor, inbox, log, member, jobs, owned, revoking, frozen: false, removed: false };
        self.workers.insert(id, worker);
        self.unstable = true;
    }

    fn any_worker(&mut self) -> Option<usize> {
        let all: Vec<usize> = self.workers.keys().copied().collect();
        (!all.is_empty()).then(|| all[self.random.random_range(0..all.len())])
    }

    /// One thing happens.
    fn step(&mut self) {
        let Some(id) = self.any_worker() else { return self.start() };
        match self.random.random_range(0..100) {
            0..35 => self.message(id),
            35..60 => self.job(id),
            60..75 => self.read(id),
            75..85 => self.rebalance(),
            85..93 => self.user(id),
            93..95 => self.freeze(id),
            95..98 => self.thaw(id),
            98 => self.kill(id),
            _ if self.workers.len() < WORKERS => self.start(),
            _ => {}
        }
        self.now += Duration::from_millis(self.random.random_range(0..30));
        if let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.frozen) {
            worker.actor.settle(self.now);
            if std::mem::take(&mut *worker.member.rejoins.lock().unwrap()) {
                self.unstable = true;
            }
        }
        self.check();
    }

    fn message(&mut self, id: usize) {
        let worker = self.workers.get_mut(&id).unwrap();
        if !worker.frozen
            && let Ok(message) = worker.inbox.try_recv()
        {
            worker.actor.message(message);
        }
    }

    fn job(&mut self, id: usize) {
        let worker = self.workers.get_mut(&id).unwrap();
        if worker.frozen {
            return;
        }
        let mut any = worker.jobs.any_order.lock().unwrap();
        let count = any.len();
        let job = if count > 0 && self.random.random_bool(0.6) {
            Some(any.swap_remove(self.random.random_range(0..count)))
        } else {
            worker.jobs.in_order.lock().unwrap().pop_front()
        };
        drop(any);
        if let Some(job) = job {
            job();
        }
    }

    fn read(&mut self, id: usize) {
        let worker = self.workers.get_mut(&id).unwrap();
        // Whatever reads the topic tells the herder.
        if !worker.frozen && (worker.log.behind() > 0 || worker.actor.config.offset < worker.log.snapshot().offset) {
            let further = self.random.random_range(1..5);
            worker.log.read_to(worker.log.position() + further);
            worker.actor.message(Message::Distributed(Input::ConfigChanged));
        }
    }

    /// A user asks something of a worker, which may not be able to.
    fn user(&mut self, id: usize) {
        let name = format!("c{}", self.random.random_range(0..CONNECTORS));
        let (reply, _answer) = tokio::sync::oneshot::channel();
        let (done, _end) = tokio::sync::oneshot::channel();
        let command = match self.random.random_range(0..10) {
            0..6 => {
                let (tasks, version) = (self.random.random_range(0..4), self.random.random_range(0..3));
                let config = config(tasks, version);
                let put = PutConnector { name, config, initial_state: None, replace: true, based_on: None };
                Command::Put(put, reply)
            }
            6 => Command::Delete(name, done),
            7 => Command::SetTarget(name, State::Stopped, done),
            8 => Command::SetTarget(name, State::Paused, done),
            _ => Command::SetTarget(name, State::Running, done),
        };
        let worker = self.workers.get_mut(&id).unwrap();
        if !worker.frozen {
            worker.actor.message(Message::Command(command));
        }
    }

    fn kill(&mut self, id: usize) {
        self.workers.remove(&id);
        let mut world = self.world.lock().unwrap();
        world.running.retain(|(worker, ..), _| *worker != id);
        world.following.retain(|(worker, _), _| *worker != id);
        self.wires.0.lock().unwrap().remove(&id);
        self.unstable = true;
    }

    /// SIGSTOP; for the group it dies when its session ends, which is when its lease has.
    fn freeze(&mut self, id: usize) {
        self.workers.get_mut(&id).unwrap().frozen = true;
    }

    fn thaw(&mut self, id: usize) {
        let worker = self.workers.get_mut(&id).unwrap();
        if !std::mem::take(&mut worker.frozen) || !std::mem::take(&mut worker.removed) {
            return;
        }
        let (done, fenced) = sync_channel(1);
        // The group's thread may be late with it; what runs looks at the lease.
        worker.actor.message(Message::Distributed(Input::Lost("the session has ended".to_owned(), done)));
        fenced.try_recv().expect("everything is fenced when the herder has been told");
        worker.owned = Assignment::default();
        worker.member.leads.store(false, Ordering::Relaxed);
        worker.revoking.clear();
        worker.member.lease.extend(Lease::clock(), Duration::from_secs(86_400));
        self.world.lock().unwrap().powerless.remove(&id);
        self.unstable = true;
    }

    /// A rebalance as the group does it: who does not answer is removed, what moves is taken first and given next time.
    fn rebalance(&mut self) {
        for worker in self.workers.values_mut() {
            worker.revoking.retain(|done| done.try_recv().is_err());
        }
        let answers = |worker: &Worker| !worker.frozen && worker.revoking.is_empty();
        if !self.unstable || self.workers.values().any(|worker| !worker.frozen && !worker.revoking.is_empty()) {
            return;
        }
        for (id, worker) in self.workers.iter_mut().filter(|(_, worker)| worker.frozen) {
            worker.removed = true;
            worker.member.lease.end();
            self.world.lock().unwrap().powerless.insert(*id);
        }
        let members: Vec<usize> =
            self.workers.iter().filter(|(_, worker)| answers(worker)).map(|(id, _)| *id).collect();
        let Some(&leader) = members.first() else { return };
        self.unstable = false;
        self.generation += 1;
        self.workers[&leader].log.refresh(Duration::ZERO).unwrap();
        let snapshot = shape(&self.workers[&leader].log.snapshot());
        let mut all = Assignment::default();
        for (name, shape) in &snapshot.connectors {
            all.connectors.insert(name.clone());
            all.tasks.extend((0..shape.tasks).map(|task| TaskId::from((name.as_str(), task))));
        }
        let target = |place: usize| members[place % members.len()];
        let mut wanted: BTreeMap<usize, Assignment> = members.iter().map(|id| (*id, Assignment::default())).collect();
        for (place, name) in all.connectors.iter().enumerate() {
            wanted.get_mut(&target(place)).unwrap().connectors.insert(name.clone());
        }
        for (place, task) in all.tasks.iter().enumerate() {
            wanted.get_mut(&target(place + 1)).unwrap().tasks.insert(task.clone());
        }
        // The next one follows, if there is one.
        let mut standbys: BTreeMap<usize, BTreeSet<TaskId>> = members.iter().map(|id| (*id, BTreeSet::new())).collect();
        for (place, task) in all.tasks.iter().enumerate().filter(|_| members.len() > 1) {
            standbys.get_mut(&target(place + 2)).unwrap().insert(task.clone());
        }
        let held = self.held();
        for id in &members {
            let wanted = &wanted[id];
            let worker = self.workers.get_mut(id).unwrap();
            let mut owned = wanted.clone();
            owned.connectors.retain(|name| held.0.get(name).is_none_or(|holder| holder == id));
            owned.tasks.retain(|task| held.1.get(task).is_none_or(|holder| holder == id));
            self.unstable |= owned != *wanted;
            let mut revoking = worker.owned.clone();
            revoking.remove(&owned);
            let mut added = owned.clone();
            added.remove(&worker.owned);
            let assignment = GroupAssignment {
                generation: self.generation,
                member_id: id.to_string(),
                leader: *id == leader,
                leader_id: leader.to_string(),
                leader_url: leader.to_string(),
                config_offset: snapshot.config_offset,
                owned: owned.clone(),
                added,
                revoking: revoking.clone(),
                standbys: standbys[id].clone(),
                delay: Duration::ZERO,
                unplaced: Assignment::default(),
            };
            worker.owned = owned;
            worker.member.leads.store(*id == leader, Ordering::Relaxed);
            worker.actor.message(Message::Distributed(Input::Assigned(Box::new(assignment))));
            if !revoking.is_empty() {
                let (done, ended) = sync_channel(1);
                worker.actor.message(Message::Distributed(Input::Revoked(revoking, done)));
                worker.revoking.push(ended);
                self.unstable = true;
            }
        }
    }

    /// What members hold, or have not yet reported stopped.
    fn held(&self) -> (BTreeMap<String, usize>, BTreeMap<TaskId, usize>) {
        let (mut connectors, mut tasks) = (BTreeMap::new(), BTreeMap::new());
        for (id, worker) in self.workers.iter().filter(|(_, worker)| !worker.removed) {
            connectors.extend(worker.owned.connectors.iter().map(|name| (name.clone(), *id)));
            tasks.extend(worker.owned.tasks.iter().map(|task| (task.clone(), *id)));
        }
        (connectors, tasks)
    }

    /// Nothing runs twice with the right to write.
    fn check(&self) {
        let world = self.world.lock().unwrap();
        let mut seen = BTreeSet::new();
        for (worker, name, task) in world.running.keys().filter(|(worker, ..)| !world.powerless.contains(worker)) {
            assert!(seen.insert((name, task)), "{name} {task:?} runs on worker {worker} and on another one");
        }
    }

    /// No more faults; everything gets time.
    fn settle(&mut self) {
        let ids: Vec<usize> = self.workers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.thaw(id));
        if self.workers.is_empty() {
            self.start();
        }
        for _ in 0..400 {
            self.now += Duration::from_millis(100);
            let ids: Vec<usize> = self.workers.keys().copied().collect();
            for id in ids {
                for _ in 0..20 {
                    self.message(id);
                    self.job(id);
                }
                self.read(id);
                let worker = self.workers.get_mut(&id).unwrap();
                worker.actor.settle(self.now);
                self.unstable |= std::mem::take(&mut *worker.member.rejoins.lock().unwrap());
                self.check();
            }
            self.rebalance();
        }
    }

    /// What the workers have of a connector, for messages.
    fn describe(&self, name: &str) -> String {
        let worker = |(id, worker): (&usize, &Worker)| {
            let (assignment, offset) = (&worker.actor.assignment, worker.actor.config.offset);
            let generation = assignment.as_ref().map(|assignment| (assignment.generation, assignment.config_offset));
            let entry = worker.actor.entries.get(name);
            let jobs = (worker.jobs.any_order.lock().unwrap().len(), worker.jobs.in_order.lock().unwrap().len());
            let writes = worker.actor.writes.describe();
            format!(
                "\nworker {id}, {jobs:?} {writes}, {generation:?}, read to {offset}, owns {:?}: {entry:#?}",
                worker.owned
            )
        };
        self.workers.iter().map(worker).collect()
    }

    /// What is wanted runs, once, with the configs that are wanted; nothing else does.
    fn check_end(&self) {
        let log = Log::new(self.world.clone(), usize::MAX);
        log.read_to(usize::MAX);
        let config = log.snapshot();
        let mut wanted = BTreeMap::new();
        for (name, connector) in config.connectors.iter().filter(|(_, c)| c.target != State::Stopped) {
            wanted.insert((name.clone(), None), (Config::clone(&connector.config), Config::default()));
            let asked = connector.applied.as_ref() == Some(&connector.config);
            assert!(
                asked || connector.target == State::Paused,
                "{name} was not asked for its tasks: {}",
                self.describe(name)
            );
            for (id, task) in connector.tasks.iter().enumerate() {
                wanted.insert((name.clone(), Some(id as u32)), (Config::clone(&connector.config), Config::clone(task)));
            }
            if connector.target == State::Running {
                assert_eq!(connector.tasks.len(), connector.config.parsed("tasks", 0).unwrap(), "{name}");
            }
        }
        let world = self.world.lock().unwrap();
        let running: BTreeMap<_, _> =
            world.running.iter().map(|((_, name, task), configs)| ((name.clone(), *task), configs.clone())).collect();
        assert_eq!(running.len(), world.running.len());
        let paused = |name: &String| config.connectors[name].target == State::Paused;
        for ((name, task), configs) in &wanted {
            let runs = running.get(&(name.clone(), *task));
            assert!(runs.is_some(), "{name} {task:?} does not run: {}", self.describe(name));
            assert!(runs == Some(configs) || paused(name), "{name} {task:?} runs with other configs");
        }
        // Each task is followed by one other worker, if there is one, and nothing else is.
        for (name, connector) in config.connectors.iter().filter(|(_, c)| c.target != State::Stopped) {
            for task in 0..connector.tasks.len() as u32 {
                let follow = world.following.iter().filter(|((_, of), spec)| of == name && spec.tasks.contains(&task));
                let follow: Vec<_> = follow.map(|((worker, _), spec)| (*worker, spec)).collect();
                assert_eq!(follow.len(), usize::from(self.workers.len() > 1), "{name}-{task}: {follow:?}");
                for (worker, spec) in follow {
                    assert!(
                        !world.running.contains_key(&(worker, name.clone(), Some(task))),
                        "{name}-{task} follows itself"
                    );
                    assert_eq!((&*spec.config, spec.of), (&*connector.config, connector.tasks.len() as u32));
                }
            }
        }
        let known = |name: &String| config.connectors.get(name).is_some_and(|c| c.target != State::Stopped);
        assert!(world.following.keys().all(|(_, name)| known(name)), "{:?}", world.following.keys());
        assert_eq!(running.len(), wanted.len(), "something runs that nobody wants: {:?}", running.keys());
        for ((name, task), status) in &world.statuses {
            let target = config.connectors.get(name).map(|connector| connector.target);
            let expected = if task.is_some() && target == Some(State::Stopped) {
                State::Unassigned
            } else {
                target.unwrap_or(State::Unassigned)
            };
            if wanted.contains_key(&(name.clone(), *task)) {
                assert_eq!(status.state, expected, "{name} {task:?}: {status:?}");
            }
        }
    }
}

fn config(tasks: usize, version: u32) -> Config {
    let (tasks, version) = (tasks.to_string(), version.to_string());
    [("tasks", tasks.as_str()), ("tasks.max", "10"), ("version", &version)].into_iter().collect()
}

fn run(seed: u64) {
    let mut cluster = Cluster::new(seed);
    for _ in 0..cluster.random.random_range(50..600) {
        cluster.step();
    }
    cluster.settle();
    cluster.check_end();
}

/// `TRIBUTARY_SEED` is the first seed, `TRIBUTARY_SCHEDULES` how many there are.
#[test]
fn schedules_end_with_everything_running_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let first = number("TRIBUTARY_SEED").unwrap_or_else(|| StdRng::from_os_rng().random_range(0..1 << 32));
    println!("schedules from TRIBUTARY_SEED={first} on");
    for seed in first..first + number("TRIBUTARY_SCHEDULES").unwrap_or(300) {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "the schedule of seed {seed} fails; TRIBUTARY_SEED={seed} runs it first");
    }
}
