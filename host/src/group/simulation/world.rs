//! Workers, the network between them and the coordinator, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::membership::{Action, Input, MemberSettings, Membership, RestartTime};
use super::super::protocol::PROTOCOLS;
use super::super::{Assignment, ClusterSnapshot, ConnectorShape};
use super::coordinator::{Coordinator, State};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;
const SESSION: u64 = 3 * SECOND;
const REBALANCE: u64 = 8 * SECOND;
/// For so long things go wrong, and for so long they may take to settle then.
const TROUBLE: u64 = 25 * SECOND;
const PEACE: u64 = 40 * SECOND;
/// In the end nothing may change for so long.
pub(super) const QUIET: u64 = 15 * SECOND;

/// A worker's process. A restarted worker is another node with the same URL.
pub(super) struct Node {
    pub(super) url: String,
    machine: Membership,
    pub(super) alive: bool,
    pub(super) leaving: bool,
    paused_until: u64,
    /// What arrived while it was paused.
    inbox: VecDeque<Input>,
    /// The herder's calls, one at a time.
    calls: VecDeque<Call>,
    calling: bool,
    lease_until: u64,
    pub(super) running: BTreeSet<(String, Option<u32>)>,
    /// Whose state it follows.
    standbys: BTreeSet<(String, Option<u32>)>,
    known_config: usize,
    coordinator: u64,
    wake: u64,
}

#[derive(Debug, Clone)]
enum Call {
    Ask(Option<i64>),
    Assigned(Assignment),
    Revoke(Assignment),
    Lost,
}

#[derive(Debug, Clone)]
enum Event {
    /// A node's request arrives.
    Request {
        node: usize,
        coordinator: u64,
        action: Action,
    },
    /// Something reaches a node.
    Input {
        node: usize,
        coordinator: Option<u64>,
        input: Input,
    },
    Search {
        node: usize,
    },
    Called {
        node: usize,
    },
    Wake {
        node: usize,
    },
    Resume {
        node: usize,
    },
    ConfigSeen {
        node: usize,
    },
    Coordinator,
    Up,
    Trouble,
}

pub(super) struct World {
    seed: u64,
    verbose: bool,
    /// Nothing goes wrong by itself.
    calm: bool,
    pub(super) random: StdRng,
    pub(super) now: u64,
    number: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    coordinator: Coordinator,
    /// Counts the brokers that have been coordinator; connections to earlier ones are broken.
    reign: u64,
    up: bool,
    pub(super) nodes: Vec<Node>,
    /// How often each connector and task was started.
    pub(super) starts: BTreeMap<(String, Option<u32>), usize>,
    configs: Vec<ClusterSnapshot>,
    last_change: u64,
}

impl World {
    /// Some workers and connectors, and trouble.
    pub(super) fn new(seed: u64, verbose: bool) -> Self {
        let mut world = Self::empty(seed, verbose, false);
        for _ in 0..world.random.random_range(0..8) {
            world.change_config();
        }
        for _ in 0..world.random.random_range(1..4) {
            world.start(None);
        }
        world.at(0, Event::Trouble);
        world
    }

    /// A coordinator, and nobody yet.
    pub(super) fn empty(seed: u64, verbose: bool, calm: bool) -> Self {
        let mut world = Self {
            seed,
            verbose,
            calm,
            random: StdRng::seed_from_u64(seed),
            now: SECOND,
            number: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            coordinator: Coordinator::new(SESSION, REBALANCE),
            reign: 1,
            up: true,
            nodes: Vec::new(),
            starts: BTreeMap::new(),
            configs: vec![ClusterSnapshot::default()],
            last_change: 0,
        };
        world.at(0, Event::Coordinator);
        world
    }

    pub(super) fn run(mut self) {
        self.run_until(SECOND + TROUBLE + PEACE);
        self.judge();
    }

    pub(super) fn run_until(&mut self, until: u64) {
        while let Some(&Reverse((at, _, index))) = self.queue.peek()
            && at <= until
        {
            self.queue.pop();
            self.now = at;
            if let Some(event) = self.events[index].take() {
                self.event(event);
            }
        }
        self.now = until;
    }

    /// A worker ends in order: everything of it is stopped, and it leaves.
    pub(super) fn leave(&mut self, node: usize) {
        self.log(|| format!("leave {node}"));
        self.nodes[node].leaving = true;
        self.nodes[node].running.clear();
        self.input(node, Input::Leave);
    }

    fn at(&mut self, after: u64, event: Event) {
        self.number += 1;
        self.events.push(Some(event));
        self.queue.push(Reverse((self.now + after, self.number, self.events.len() - 1)));
    }

    fn log(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:9.3} {}", self.now as f64 / SECOND as f64, text());
        }
    }

    fn troubled(&self) -> bool {
        !self.calm && self.now < SECOND + TROUBLE
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.troubled() && self.random.random_range(0..one_in) == 0
    }

    fn latency(&mut self) -> u64 {
        if self.chance(40) {
            return self.random.random_range(0..2 * SECOND);
        }
        self.random.random_range(MS / 10..4 * MS)
    }

    pub(super) fn start(&mut self, url: Option<String>) {
        let url = url.unwrap_or_else(|| format!("http://w{}", self.nodes.len()));
        let delay = [None, None, Some(0), Some(2 * SECOND)][self.random.random_range(0..4)].filter(|_| !self.calm);
        let machine = Membership::new(MemberSettings {
            group: "g".to_owned(),
            url: url.clone(),
            labels: Vec::new(),
            session: Duration::from_nanos(SESSION),
            heartbeat: Duration::from_millis(500),
            delay: delay.map(Duration::from_nanos),
            restart: RestartTime { told: None, starting: Duration::from_millis(150), last: None },
        });
        self.nodes.push(Node {
            url,
            machine,
            alive: true,
            leaving: false,
            paused_until: 0,
            inbox: VecDeque::new(),
            calls: VecDeque::new(),
            calling: false,
            lease_until: 0,
            running: BTreeSet::new(),
            standbys: BTreeSet::new(),
            known_config: self.configs.len() - 1,
            coordinator: 0,
            wake: u64::MAX,
        });
        let node = self.nodes.len() - 1;
        self.log(|| format!("start {node}"));
        self.input(node, Input::Tick);
    }

    pub(super) fn change_config(&mut self) {
        let mut next = self.configs.last().cloned().unwrap_or_default();
        next.config_offset += 1;
        let name = format!("c{}", self.random.random_range(0..12));
        if next.connectors.contains_key(&name) && self.random.random_range(0..3) == 0 {
            next.connectors.remove(&name);
        } else {
            let (tasks, standbys) = (self.random.random_range(0..7), self.random.random_range(0..3));
            next.connectors.insert(name, ConnectorShape { tasks, standbys, ..ConnectorShape::default() });
        }
        self.configs.push(next);
        for node in 0..self.nodes.len() {
            let after = self.latency();
            self.at(after, Event::ConfigSeen { node });
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Request { node, coordinator, action } => self.request(node, coordinator, action),
            Event::Input { node, coordinator, input } => {
                // What was on its way on a connection that broke since.
                if coordinator.is_none_or(|coordinator| coordinator == self.nodes[node].coordinator) {
                    self.input(node, input);
                }
            }
            Event::Search { node } => self.search(node),
            Event::Called { node } => self.called(node),
            Event::Wake { node } => {
                if self.now >= self.nodes[node].wake {
                    self.input(node, Input::Tick);
                }
            }
            Event::Resume { node } => {
                self.log(|| format!("resume {node}"));
                while let Some(input) = self.nodes[node].inbox.pop_front() {
                    self.input(node, input);
                }
                self.input(node, Input::Tick);
                self.next_call(node);
            }
            Event::ConfigSeen { node } => {
                if self.nodes[node].paused_until > self.now {
                    return self.at(100 * MS, Event::ConfigSeen { node });
                }
                self.nodes[node].known_config = self.configs.len() - 1;
                self.input(node, Input::Rejoin("config".to_owned()));
            }
            Event::Coordinator => {
                if self.up {
                    self.coordinator.tick(self.now);
                    self.deliver();
                }
                self.at(20 * MS, Event::Coordinator);
            }
            Event::Up => {
                self.log(|| "coordinator up".to_owned());
                self.up = true;
                self.coordinator.fail_over(self.now);
            }
            Event::Trouble => self.trouble(),
        }
    }

    fn trouble(&mut self) {
        if !self.troubled() {
            return;
        }
        let node = self.random.random_range(0..self.nodes.len());
        let alive = self.nodes[node].alive && !self.nodes[node].leaving;
        match self.random.random_range(0..12) {
            0 | 1 if self.nodes.iter().filter(|node| node.alive).count() < 6 => self.start(None),
            2 | 3 if alive => {
                self.log(|| format!("kill {node}"));
                self.nodes[node].alive = false;
                // Nobody writes for a process that is not there.
                self.nodes[node].running.clear();
                if self.random.random() {
                    let url = self.nodes[node].url.clone();
                    self.start(Some(url));
                }
            }
            4 if alive => {
                self.leave(node);
            }
            5 | 6 if alive && self.nodes[node].paused_until <= self.now => {
                let pause = self.random.random_range(0..2 * SESSION);
                self.log(|| format!("pause {node} for {} ms", pause / MS));
                self.nodes[node].paused_until = self.now + pause;
                self.at(pause, Event::Resume { node });
            }
            7 if self.up => {
                self.log(|| "coordinator down".to_owned());
                self.up = false;
                self.reign += 1;
                let after = self.random.random_range(10 * MS..2 * SESSION);
                self.at(after, Event::Up);
                for node in 0..self.nodes.len() {
                    let after = self.latency();
                    let coordinator = Some(self.nodes[node].coordinator);
                    self.at(after, Event::Input { node, coordinator, input: Input::CoordinatorLost("down".into()) });
                }
            }
            8 => {
                // A cut network: nothing more arrives on the connections of one node; it notices after a while.
                let coordinator = self.nodes[node].coordinator;
                self.nodes[node].coordinator = u64::MAX - self.number;
                let coordinator_now = self.nodes[node].coordinator;
                let after = self.random.random_range(0..SESSION);
                self.log(|| format!("cut {node} from {coordinator} for {} ms", after / MS));
                let input = Input::CoordinatorLost("cut".into());
                self.at(after, Event::Input { node, coordinator: Some(coordinator_now), input });
            }
            _ => self.change_config(),
        }
        let after = self.random.random_range(0..2 * SECOND);
        self.at(after, Event::Trouble);
    }

    fn search(&mut self, node: usize) {
        if !self.up || self.nodes[node].paused_until > self.now {
            let after = self.random.random_range(20 * MS..300 * MS);
            return self.at(after, Event::Search { node });
        }
        self.nodes[node].coordinator = self.reign;
        self.input(node, Input::CoordinatorFound);
    }

    /// A request arrives at the coordinator, if it still is there.
    fn request(&mut self, node: usize, coordinator: u64, action: Action) {
        let lost = self.chance(60);
        if !self.up || coordinator != self.reign || lost {
            let after = self.random.random_range(0..SESSION);
            let input = Input::CoordinatorLost("no answer".to_owned());
            return self.at(after, Event::Input { node, coordinator: Some(coordinator), input });
        }
        // A request that is sent again after a time-out arrives twice; the first answer is not waited for any more.
        let again = self.chance(80);
        for _ in 0..=usize::from(again) {
            let now = self.now;
            match action.clone() {
                Action::Join { call, member_id, metadata, .. } => {
                    self.coordinator.join(now, (node, call), &member_id, metadata.encode(PROTOCOLS[0].1));
                }
                Action::Sync { call, generation, member_id, assignments, .. } => {
                    self.coordinator.sync(now, (node, call), &member_id, generation, assignments);
                }
                Action::Heartbeat { call, generation, member_id } => {
                    self.coordinator.heartbeat(now, (node, call), &member_id, generation);
                }
                Action::Leave { member_id } => self.coordinator.leave(now, &member_id),
                _ => {}
            }
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        for ((node, call), answer) in std::mem::take(&mut self.coordinator.answers) {
            let input = answer.input(call);
            let coordinator = Some(self.nodes[node].coordinator);
            let after = self.latency();
            if self.chance(80) {
                // The connection breaks before the answer is there.
                let input = Input::CoordinatorLost("broke".to_owned());
                self.at(after, Event::Input { node, coordinator, input });
                continue;
            }
            if self.chance(50) {
                let after = self.latency();
                self.at(after, Event::Input { node, coordinator, input: input.clone() });
            }
            self.at(after, Event::Input { node, coordinator, input });
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        if !self.nodes[node].alive {
            return;
        }
        if self.nodes[node].paused_until > self.now {
            return self.nodes[node].inbox.push_back(input);
        }
        if self.verbose && !matches!(input, Input::Tick | Input::Heartbeat { .. }) {
            let text: String = format!("{input:?}").chars().take(160).collect();
            self.log(|| format!("  {node} ← {text}"));
        }
        let actions = self.nodes[node].machine.handle(self.now, input);
        for action in actions {
            self.act(node, action);
        }
        let wake = self.nodes[node].machine.wake_at();
        if wake != self.nodes[node].wake {
            self.nodes[node].wake = wake;
            if wake != u64::MAX {
                self.at(wake.saturating_sub(self.now), Event::Wake { node });
            }
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        if self.verbose && !matches!(action, Action::Heartbeat { .. } | Action::Extend { .. }) {
            let text: String = format!("{action:?}").chars().take(200).collect();
            self.log(|| format!("  {node} → {text}"));
        }
        match action {
            Action::FindCoordinator => {
                self.nodes[node].coordinator = 0;
                let after = self.latency();
                self.at(after, Event::Search { node });
            }
            Action::Join { .. } | Action::Sync { .. } | Action::Heartbeat { .. } | Action::Leave { .. } => {
                let ends = matches!(action, Action::Leave { .. });
                let coordinator = self.nodes[node].coordinator;
                let after = self.latency();
                self.at(after, Event::Request { node, coordinator, action });
                if ends {
                    self.nodes[node].alive = false;
                }
            }
            Action::Ask { refresh } => self.call(node, Call::Ask(refresh)),
            Action::Assigned(assignment) => {
                self.last_change = self.now;
                let followed = assignment.standbys.iter().map(|task| (task.connector.clone(), Some(task.task)));
                self.nodes[node].standbys = followed.collect();
                self.call(node, Call::Assigned(assignment.added.clone()));
            }
            Action::Revoke(revoked) => self.call(node, Call::Revoke(revoked)),
            Action::Lost(_) => self.call(node, Call::Lost),
            Action::Extend { sent } => {
                let until = sent + SESSION;
                self.nodes[node].lease_until = self.nodes[node].lease_until.max(until);
            }
            Action::EndLease => self.nodes[node].lease_until = 0,
        }
    }

    fn call(&mut self, node: usize, call: Call) {
        self.nodes[node].calls.push_back(call);
        if !self.nodes[node].calling {
            self.next_call(node);
        }
    }

    fn next_call(&mut self, node: usize) {
        let Some(call) = self.nodes[node].calls.front() else {
            self.nodes[node].calling = false;
            return;
        };
        let most = match call {
            Call::Revoke(_) => 500 * MS,
            Call::Ask(Some(_)) => 50 * MS,
            _ => 2 * MS,
        };
        self.nodes[node].calling = true;
        let after = self.random.random_range(0..most);
        self.at(after, Event::Called { node });
    }

    fn called(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        if self.nodes[node].paused_until > self.now {
            let after = self.nodes[node].paused_until - self.now + MS;
            return self.at(after, Event::Called { node });
        }
        let Some(call) = self.nodes[node].calls.pop_front() else { return };
        match call {
            Call::Ask(refresh) => {
                if refresh.is_some() && !self.chance(10) {
                    self.nodes[node].known_config = self.configs.len() - 1;
                }
                let snapshot = self.configs[self.nodes[node].known_config].clone();
                self.input(node, Input::Snapshot(snapshot));
            }
            // Who has stopped everything in order to leave starts nothing more, whatever came meanwhile.
            Call::Assigned(_) if self.nodes[node].leaving => {}
            Call::Assigned(added) => {
                self.log(|| format!("  {node} starts {added:?}"));
                for resource in resources(&added) {
                    self.start_running(node, resource);
                }
            }
            Call::Revoke(revoked) => {
                for resource in resources(&revoked) {
                    self.nodes[node].running.remove(&resource);
                }
                self.input(node, Input::Revoked);
            }
            Call::Lost => self.nodes[node].running.clear(),
        }
        self.next_call(node);
    }

    /// The heart of it: whoever starts something must be the only one who may write for it.
    fn start_running(&mut self, node: usize, resource: (String, Option<u32>)) {
        if self.now < self.nodes[node].lease_until {
            for (other, owner) in self.nodes.iter().enumerate() {
                let writes = owner.running.contains(&resource) && self.now < owner.lease_until;
                assert!(
                    other == node || !writes,
                    "seed {}: at {} ms {resource:?} starts on {node} while {other} runs it, whose lease ends at {} ms",
                    self.seed,
                    self.now / MS,
                    owner.lease_until / MS
                );
            }
        }
        if self.nodes[node].running.insert(resource.clone()) {
            *self.starts.entry(resource).or_default() += 1;
        }
    }

    /// Everything that is to run.
    pub(super) fn wanted(&self) -> BTreeMap<(String, Option<u32>), usize> {
        let mut wanted = BTreeMap::new();
        for (name, shape) in &self.configs[self.configs.len() - 1].connectors {
            wanted.insert((name.clone(), None), 1);
            wanted.extend((0..shape.tasks).map(|task| ((name.clone(), Some(task)), 1)));
        }
        wanted
    }

    /// How many workers run each thing.
    pub(super) fn owners(&self) -> BTreeMap<(String, Option<u32>), usize> {
        let mut owners = BTreeMap::new();
        for resource in self.nodes.iter().filter(|node| node.alive).flat_map(|node| &node.running) {
            *owners.entry(resource.clone()).or_default() += 1;
        }
        owners
    }

    pub(super) fn judge(&self) {
        let seed = self.seed;
        let alive: Vec<&Node> = self.nodes.iter().filter(|node| node.alive).collect();
        let config = &self.configs[self.configs.len() - 1];
        if alive.is_empty() {
            return;
        }
        let quiet = self.now.saturating_sub(self.last_change);
        assert!(quiet >= QUIET, "seed {seed}: the last rebalance was {} ms before the end", quiet / MS);
        assert_eq!(self.coordinator.state(), State::Stable, "seed {seed}");
        assert_eq!(self.coordinator.members().len(), alive.len(), "seed {seed}: members");
        for node in &alive {
            assert!(self.now < node.lease_until, "seed {seed}: {} has no lease", node.url);
        }
        assert_eq!(self.owners(), self.wanted(), "seed {seed}: owners");
        for (name, shape) in &config.connectors {
            for task in (0..shape.tasks).map(|task| (name.clone(), Some(task))) {
                let followers = alive.iter().filter(|node| node.standbys.contains(&task));
                let wanted = (shape.standbys as usize).min(alive.len() - 1);
                assert_eq!(followers.count(), wanted, "seed {seed}: followers of {task:?}");
            }
        }
        for node in &alive {
            let own = node.standbys.intersection(&node.running).next();
            assert_eq!(own, None, "seed {seed}: {} follows what it runs", node.url);
            let known = |(name, task): &(String, Option<u32>)| {
                config.connectors.get(name).is_some_and(|shape| *task < Some(shape.tasks) && shape.standbys > 0)
            };
            assert!(node.standbys.iter().all(known), "seed {seed}: {} follows {:?}", node.url, node.standbys);
        }
        let even = |what: &str, count: &dyn Fn(&Node) -> usize| {
            let counts: Vec<usize> = alive.iter().map(|node| count(node)).collect();
            let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
            assert!(most <= least.map(|least| least + 1), "seed {seed}: {what}: {counts:?}");
        };
        even("connectors", &|node| node.running.iter().filter(|(_, task)| task.is_none()).count());
        even("tasks", &|node| node.running.iter().filter(|(_, task)| task.is_some()).count());
        for name in config.connectors.keys() {
            even(name, &|node| node.running.iter().filter(|(of, task)| of == name && task.is_some()).count());
        }
    }
}

fn resources(assignment: &Assignment) -> Vec<(String, Option<u32>)> {
    let connectors = assignment.connectors.iter().map(|name| (name.clone(), None));
    connectors.chain(assignment.tasks.iter().map(|task| (task.connector.clone(), Some(task.task)))).collect()
}
