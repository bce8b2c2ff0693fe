//! Sinks that prepare their transactions, with the real loops, between a group and a store that remember what must not happen: tasks that are
//! killed, stand still and come back, or stop; commits whose request or answer is lost, or comes late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tributary_sdk::prepared::{Claim, Claims, Prepared, PreparedToken};
use tributary_sdk::sink::{Failures, TopicPartition, TopicPartitionOffset};
use tributary_sdk::{Batch, Config, Error, Result};

use super::fakes::{Journal, converters, fetched, partition, services};
use crate::log::{
    self, CommitError, CommittedOffset, ConsumerEvent, Log, LogAdmin, LogConsumer, LogError, LogProducer, NewTopic,
    Subscription, TopicDescription,
};
use crate::plugin::SinkTaskHandle;
use crate::plugin::handle::Canceller;
use crate::task::control::TaskControl;
use crate::task::error_policy::ErrorPolicy;
use crate::task::inbound_converter::InboundConverter;
use crate::task::prepared::{Carried, Claiming, StartAt};
use crate::task::{ConsumeSettings, SinkTask};
use crate::transform::TransformChain;

const PARTITIONS: i32 = 2;
const RECORDS: i64 = 300;
/// Records of one fetch.
const FETCH: i64 = 7;

/// The group, the log and the store.
struct World {
    rng: StdRng,
    /// The member that has all partitions.
    owner: u64,
    /// Which of its owners it is.
    generation: u64,
    members: BTreeMap<u64, Process>,
    committed: BTreeMap<log::TopicPartition, CommittedOffset>,
    /// Commits that are still under way, with their generation.
    late: Vec<(u64, Vec<CommittedOffset>)>,
    /// No more faults.
    calm: bool,
    prepared: BTreeMap<Arc<str>, Vec<String>>,
    visible: Vec<String>,
    done: BTreeSet<Arc<str>>,
    aborted: BTreeSet<Arc<str>>,
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<World>>;

fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            owner: 0,
            generation: 0,
            members: BTreeMap::new(),
            committed: BTreeMap::new(),
            late: Vec::new(),
            calm: false,
            prepared: BTreeMap::new(),
            visible: Vec::new(),
            done: BTreeSet::new(),
            aborted: BTreeSet::new(),
            wrong: Vec::new(),
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        !self.calm && self.rng.random_range(0..one_in) == 0
    }

    /// Some of what is under way arrives. The group takes it from the owner only.
    fn deliver(&mut self) {
        while !self.late.is_empty() && self.rng.random_range(0..3) == 0 {
            let at = self.rng.random_range(0..self.late.len());
            let (generation, offsets) = self.late.remove(at);
            if generation == self.generation {
                self.store(offsets);
            }
        }
    }

    /// All partitions are another member's.
    fn give(&mut self, owner: u64) {
        self.owner = owner;
        self.generation += 1;
    }

    fn store(&mut self, offsets: Vec<CommittedOffset>) {
        for commit in offsets {
            let before = self.committed.insert(commit.partition.clone(), commit.clone());
            let token = |commit: &CommittedOffset| Carried::parse(&commit.metadata).and_then(|carried| carried.token);
            let replaced = before.as_ref().and_then(token).filter(|before| Some(before) != token(&commit).as_ref());
            if let Some(replaced) = replaced.filter(|token| !self.done.contains(token)) {
                self.wrong.push(format!("{replaced} was replaced in the group before it was committed"));
            }
            if before.is_some_and(|before| before.offset > commit.offset) {
                self.wrong.push(format!("{:?} went back", commit.partition));
            }
        }
    }

    fn commit(&mut self, token: &Arc<str>) {
        match self.prepared.remove(token) {
            Some(lines) => {
                self.visible.extend(lines);
                self.done.insert(token.clone());
            }
            None if self.done.contains(token) => {}
            None => self.wrong.push(format!("{token} was to be committed, and is lost")),
        }
    }

    fn abort(&mut self, token: &Arc<str>) {
        if self.prepared.remove(token).is_some() {
            self.aborted.insert(token.clone());
        }
        if self.done.contains(token) {
            self.wrong.push(format!("{token} was to be aborted, and is committed"));
        }
    }
}

/// One process with the task. A dead one does nothing more, whatever its threads still try.
#[derive(Clone)]
struct Process {
    world: Shared,
    dead: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
    /// Its sink stands still in `put`, alone.
    put_held: Arc<AtomicBool>,
    /// It has come to a `put`.
    putting: Arc<AtomicBool>,
    /// How long it waits for its sink to give partitions up.
    revoke_timeout: Duration,
}

impl Process {
    fn new(world: &Shared, revoke_timeout: Duration) -> Self {
        Self {
            world: world.clone(),
            dead: Arc::default(),
            held: Arc::default(),
            put_held: Arc::default(),
            putting: Arc::default(),
            revoke_timeout,
        }
    }

    /// Every call of the outside world passes here: this is where a process stands still, or is dead.
    fn alive(&self) -> bool {
        while self.held.load(Ordering::Acquire) && !self.dead.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        !self.dead.load(Ordering::Acquire)
    }
}

struct Member {
    id: u64,
    process: Process,
    positions: BTreeMap<log::TopicPartition, i64>,
    /// In which it was given its partitions.
    generation: u64,
}

impl Member {
    /// The new member takes all partitions; a lost one is told when it asks next.
    fn join(process: &Process) -> Self {
        let mut world = lock(&process.world);
        let id = world.generation + 1;
        world.members.insert(id, process.clone());
        world.give(id);
        Self { id, process: process.clone(), positions: BTreeMap::new(), generation: 0 }
    }
}

fn dead() -> LogError {
    LogError::fatal("this process is dead")
}

impl LogConsumer for Member {
    fn poll(&mut self, _: usize, _: usize, timeout: Duration) -> std::result::Result<Vec<ConsumerEvent>, LogError> {
        if !self.process.alive() {
            return Err(dead());
        }
        let (owner, generation) = {
            let world = lock(&self.process.world);
            (world.owner, world.generation)
        };
        if generation != self.generation && !self.positions.is_empty() {
            return Ok(vec![ConsumerEvent::Lost(self.positions.keys().cloned().collect())]);
        }
        if owner == self.id && generation != self.generation {
            self.generation = generation;
            return Ok(vec![ConsumerEvent::Assigned((0..PARTITIONS).map(|number| partition("t", number)).collect())]);
        }
        for (at, position) in &mut self.positions {
            let values: Vec<_> =
                (*position..RECORDS.min(*position + FETCH)).map(|offset| value(at.partition, offset)).collect();
            if !values.is_empty() && lock(&self.process.world).rng.random_range(0..2) == 0 {
                let event = fetched(at, *position, &values.iter().map(String::as_str).collect::<Vec<_>>());
                *position += values.len() as i64;
                return Ok(vec![event]);
            }
        }
        thread::sleep(timeout.min(Duration::from_millis(1)));
        Ok(Vec::new())
    }

    fn assign(&mut self, partitions: &[(log::TopicPartition, Option<i64>)]) -> std::result::Result<(), LogError> {
        self.positions.extend(partitions.iter().map(|(at, offset)| (at.clone(), offset.expect("claims say where"))));
        Ok(())
    }

    fn unassign(&mut self, partitions: &[log::TopicPartition]) -> std::result::Result<(), LogError> {
        partitions.iter().for_each(|at| _ = self.positions.remove(at));
        Ok(())
    }

    fn pause(&mut self, _: &[log::TopicPartition]) -> std::result::Result<(), LogError> {
        Ok(())
    }

    fn resume(&mut self, _: &[log::TopicPartition]) -> std::result::Result<(), LogError> {
        Ok(())
    }

    fn seek(&mut self, _: &log::TopicPartition, _: i64) -> std::result::Result<(), LogError> {
        Ok(())
    }

    fn commit(&mut self, _: &[(log::TopicPartition, i64)]) -> std::result::Result<(), LogError> {
        panic!("offsets without tokens are not committed here");
    }

    fn committed(
        &mut self,
        _: &[log::TopicPartition],
        _: Duration,
    ) -> std::result::Result<Vec<(log::TopicPartition, Option<i64>)>, LogError> {
        Ok(Vec::new())
    }

    fn commit_with(&mut self, offsets: &[CommittedOffset]) -> std::result::Result<(), CommitError> {
        if !self.process.alive() {
            return Err(CommitError::Refused(dead()));
        }
        let mut world = lock(&self.process.world);
        world.deliver();
        if world.chance(12) {
            // It is under way for a while, or for ever.
            world.late.push((self.generation, offsets.to_vec()));
            return Err(CommitError::InDoubt(LogError::retriable("the request is lost, or late")));
        }
        if world.generation != self.generation {
            let code = Some("UNKNOWN_MEMBER_ID");
            return Err(CommitError::Refused(LogError {
                code,
                ..LogError::retriable("another member has the partitions")
            }));
        }
        world.store(offsets.to_vec());
        match world.chance(12) {
            true => Err(CommitError::InDoubt(LogError::retriable("the answer is lost"))),
            false => Ok(()),
        }
    }

    fn committed_with(
        &mut self,
        partitions: &[log::TopicPartition],
        _: Duration,
    ) -> std::result::Result<Vec<CommittedOffset>, LogError> {
        if !self.process.alive() {
            return Err(dead());
        }
        let world = lock(&self.process.world);
        Ok(partitions.iter().filter_map(|at| world.committed.get(at).cloned()).collect())
    }

    fn lag(&mut self) -> Vec<(log::TopicPartition, i64)> {
        Vec::new()
    }

    fn close(self: Box<Self>, _: Duration) -> std::result::Result<(), LogError> {
        let mut world = lock(&self.process.world);
        world.members.remove(&self.id);
        if world.owner == self.id {
            let alive = |(id, process): (&u64, &Process)| (!process.dead.load(Ordering::Acquire)).then_some(*id);
            let next = world.members.iter().rev().find_map(alive);
            world.give(next.unwrap_or(0));
        }
        Ok(())
    }
}

/// Only what a claim asks: where partitions begin.
struct Beginnings;

fn unused() -> LogError {
    LogError::fatal("not asked here")
}

impl Log for Beginnings {
    fn cluster_id(&self, _: Duration) -> std::result::Result<String, LogError> {
        Err(unused())
    }
    fn producer(&self, _: &log::ClientSettings) -> std::result::Result<Box<dyn LogProducer>, LogError> {
        Err(unused())
    }
    fn consumer(
        &self,
        _: &log::ClientSettings,
        _: &Subscription,
    ) -> std::result::Result<Box<dyn LogConsumer>, LogError> {
        Err(unused())
    }
    fn reader(
        &self,
        _: &log::ClientSettings,
        _: &[(log::TopicPartition, i64)],
    ) -> std::result::Result<Box<dyn LogConsumer>, LogError> {
        Err(unused())
    }
    fn admin(&self) -> &dyn LogAdmin {
        self
    }
}

impl LogAdmin for Beginnings {
    fn topics(&self, _: Duration) -> std::result::Result<Vec<TopicDescription>, LogError> {
        Err(unused())
    }
    fn topic(&self, _: &str, _: Duration) -> std::result::Result<Option<TopicDescription>, LogError> {
        Err(unused())
    }
    fn create_topic(&self, _: &NewTopic, _: Duration) -> std::result::Result<bool, LogError> {
        Err(unused())
    }
    fn delete_topic(&self, _: &str, _: Duration) -> std::result::Result<(), LogError> {
        Err(unused())
    }
    fn topic_settings(&self, _: &str, _: Duration) -> std::result::Result<BTreeMap<String, String>, LogError> {
        Err(unused())
    }
    fn watermarks(&self, _: &log::TopicPartition, _: Duration) -> std::result::Result<(i64, i64), LogError> {
        Ok((0, RECORDS))
    }
    fn size(&self, _: &log::TopicPartition, _: Duration) -> std::result::Result<Option<u64>, LogError> {
        Err(unused())
    }
    fn offset_at(&self, _: &log::TopicPartition, _: i64, _: Duration) -> std::result::Result<Option<i64>, LogError> {
        Err(unused())
    }
    fn group_commits(&self, _: &str, _: Duration) -> std::result::Result<Vec<CommittedOffset>, LogError> {
        Err(unused())
    }
    fn alter_group_offsets(
        &self,
        _: &str,
        _: &[(log::TopicPartition, Option<i64>)],
        _: Duration,
    ) -> std::result::Result<(), LogError> {
        Err(unused())
    }
    fn delete_group(&self, _: &str, _: Duration) -> std::result::Result<(), LogError> {
        Err(unused())
    }
}

/// Of a store that fails for good, until somebody starts the task again.
const DISK_FULL: &str = "the disk is full";

struct Sink {
    process: Process,
    claims: Claims,
    lines: BTreeMap<TopicPartition, Vec<String>>,
}

impl Sink {
    /// The store, unless the process is dead or the store away.
    fn store(&self) -> Result<MutexGuard<'_, World>> {
        if !self.process.alive() {
            return Err(Error::failed("this process is dead"));
        }
        let mut world = lock(&self.process.world);
        if world.chance(25) {
            return Err(Error::retriable("the store is away"));
        }
        Ok(world)
    }
}

impl SinkTaskHandle for Sink {
    fn start(&mut self, _: &Config) -> Result<()> {
        Ok(())
    }

    fn recover(&mut self, claims: &[Claim]) -> Result<()> {
        for claim in claims {
            if let Some(token) = &claim.token {
                self.store()?.commit(token);
            }
            // A process may stand still between the two.
            let listed: Vec<_> = self.store()?.prepared.keys().cloned().collect();
            for token in listed.iter().filter(|token| self.claims.is_orphan(claim, token)) {
                self.store()?.abort(token);
            }
        }
        self.claims.claim(claims);
        Ok(())
    }

    fn open(&mut self, _: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        Ok(Vec::new())
    }

    fn put(&mut self, batch: Batch, _: &mut Failures) -> Result<()> {
        self.process.putting.store(true, Ordering::Release);
        while self.process.put_held.load(Ordering::Acquire) && !self.process.dead.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        drop(self.store()?);
        let Some((at, _)) = batch.place() else { return Err(Error::failed("no offsets")) };
        self.claims.of(&at)?;
        let texts = batch.value.as_text().expect("texts").iter().flatten().map(str::to_owned);
        self.lines.entry(at).or_default().extend(texts);
        Ok(())
    }

    fn flush(&mut self, _: &[TopicPartitionOffset]) -> Result<()> {
        panic!("prepare comes in its place");
    }

    fn pre_commit(&mut self, _: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        panic!("prepare comes in its place");
    }

    fn prepare(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<Prepared>> {
        drop(self.store()?);
        let mut answer = Vec::new();
        for offered in offsets {
            let at = TopicPartition { topic: offered.topic.clone(), partition: offered.partition };
            let token = self.claims.next_token(&at)?;
            if !self.process.alive() {
                return Err(Error::failed("this process is dead"));
            }
            // Between two partitions, with what was put of the first one taken already; for now or for good.
            if lock(&self.process.world).chance(25) {
                return Err(Error::retriable("the store is away"));
            }
            if lock(&self.process.world).chance(50) {
                return Err(Error::failed(DISK_FULL));
            }
            let mut lines = self.lines.remove(&at).unwrap_or_default();
            // Not always all that was put.
            let mut offset = offered.offset.expect("it is known");
            if lines.len() > 1 && lock(&self.process.world).chance(4) {
                let kept = lines.split_off(lines.len() - 1);
                offset -= kept.len() as i64;
                self.lines.insert(at.clone(), kept);
            }
            if lock(&self.process.world).prepared.insert(token.clone(), lines).is_some() {
                lock(&self.process.world).wrong.push(format!("{token} comes twice"));
            }
            answer.push(Prepared { at, offset, token: Some(token) });
        }
        Ok(answer)
    }

    fn commit_prepared(&mut self, tokens: &[PreparedToken]) -> Result<()> {
        if lock(&self.process.world).chance(50) {
            return Err(Error::failed(DISK_FULL));
        }
        for token in tokens {
            self.store()?.commit(&token.token);
        }
        Ok(())
    }

    fn abort_prepared(&mut self, tokens: &[PreparedToken]) -> Result<()> {
        for token in tokens {
            self.store()?.abort(&token.token);
        }
        Ok(())
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.claims.close(partitions);
        partitions.iter().for_each(|at| _ = self.lines.remove(at));
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        Ok(())
    }

    fn canceller(&self) -> Canceller {
        Arc::new(|| {})
    }
}

fn value(partition: i32, offset: i64) -> String {
    format!("{partition}-{offset}")
}

/// Runs the task as the worker does: anew where that is all it needs. A task that has failed is started again, too, by its process.
fn run(process: &Process, control: &Arc<TaskControl>) {
    while !control.stopping() && process.alive() {
        let journal = Journal::default();
        let services = services(&journal, control);
        let task = SinkTask {
            name: "c-0".into(),
            handle: Box::new(Sink { process: process.clone(), claims: Claims::new("c"), lines: BTreeMap::new() }),
            config: Config::default(),
            converter: InboundConverter {
                converters: converters("StringConverter"),
                chain: TransformChain::build(&Config::default(), &mut |_, _| unreachable!()).unwrap(),
            },
            consumer: Box::new(Member::join(process)),
            errors: ErrorPolicy::default(),
            dead_letters: None,
            control: control.clone(),
            services,
            bounds: Default::default(),
            commit_interval: Duration::from_millis(3),
            consume: ConsumeSettings {
                max_records: 100,
                max_bytes: 1 << 20,
                revoke_timeout: process.revoke_timeout,
                topic_used: Arc::new(|_| {}),
            },
            report: Arc::new(|_| {}),
            left_behind: Vec::new(),
            claiming: Some(Claiming { log: Arc::new(Beginnings), start: StartAt::Earliest }),
        };
        if let Err(error) = task.run()
            && !error.anew
            && !error.message.contains(DISK_FULL)
            && process.alive()
        {
            lock(&process.world).wrong.push(error.message);
            return;
        }
    }
}

fn simulate(seed: u64) {
    let world: Shared = Arc::new(Mutex::new(World::new(seed)));
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let mut running = Vec::new();
    let mut held = Vec::new();
    for life in 0..8 {
        let last = life == 7;
        lock(&world).calm = last;
        let revoke_timeout =
            if rng.random_range(0..2) == 0 { Duration::from_millis(3) } else { Duration::from_secs(10) };
        let process = Process::new(&world, revoke_timeout);
        let control = Arc::new(TaskControl::default());
        let (own, orders) = (process.clone(), control.clone());
        running.push((thread::spawn(move || run(&own, &orders)), control.clone(), process.clone()));
        if last {
            // Whoever stood still comes back, in the middle of what the last one does, and is told to stop as the worker would.
            for (process, control) in held.drain(..) {
                let (process, control): (Process, Arc<TaskControl>) = (process, control);
                control.stop();
                process.held.store(false, Ordering::Release);
            }
            break;
        }
        thread::sleep(Duration::from_millis(rng.random_range(1..40)));
        match rng.random_range(0..3) {
            0 => process.dead.store(true, Ordering::Release),
            1 => control.stop(),
            _ => {
                process.held.store(true, Ordering::Release);
                held.push((process, control));
            }
        }
        if !held.is_empty() && rng.random_range(0..2) == 0 {
            let (process, control) = held.remove(0);
            if rng.random_range(0..2) == 0 {
                control.stop();
            }
            process.held.store(false, Ordering::Release);
        }
    }
    wait_for_all(&world);
    for (thread, control, _) in running {
        control.stop();
        thread.join().expect("no thread panics");
    }
    check(&world, &format!("seed {seed}"));
    ABORTED.fetch_add(lock(&world).aborted.len() as u64, Ordering::Relaxed);
}

fn expected() -> BTreeSet<String> {
    (0..PARTITIONS).flat_map(|number| (0..RECORDS).map(move |offset| value(number, offset))).collect()
}

fn wait_for_all(world: &Shared) {
    let expected = expected();
    wait_until(|| {
        let world = lock(world);
        world.visible.len() >= expected.len() || !world.wrong.is_empty()
    });
}

/// For 15 seconds at most; whoever waits judges afterwards.
fn wait_until(done: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if done() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn check(world: &Shared, what: &str) {
    let world = lock(world);
    let visible: BTreeSet<String> = world.visible.iter().cloned().collect();
    assert_eq!(world.wrong, Vec::<String>::new(), "{what}");
    assert_eq!(world.visible.len(), visible.len(), "{what}: records are there twice");
    assert_eq!(visible, expected(), "{what}: records are missing");
}

/// A sink stands still in `put` for longer than its partitions are waited for. They are taken from it, and come back to the same member: what it
/// prepares then is of the ownership before, and begins again from the offset.
#[test]
fn what_was_put_before_partitions_came_back_is_not_committed() {
    let world: Shared = Arc::new(Mutex::new(World::new(1)));
    lock(&world).calm = true;
    let process = Process::new(&world, Duration::from_millis(20));
    process.put_held.store(true, Ordering::Release);
    let control = Arc::new(TaskControl::default());
    let (own, orders) = (process.clone(), control.clone());
    let running = thread::spawn(move || run(&own, &orders));
    let epochs = || {
        let epoch = |commit: &CommittedOffset| Carried::parse(&commit.metadata).map_or(0, |carried| carried.epoch);
        lock(&world).committed.values().map(epoch).collect::<Vec<_>>()
    };
    wait_until(|| process.putting.load(Ordering::Acquire));
    let before = epochs();
    assert_eq!(before.len(), PARTITIONS as usize, "all partitions are claimed");
    {
        let mut world = lock(&world);
        let owner = world.owner;
        world.give(owner);
    }
    wait_until(|| epochs().iter().zip(&before).all(|(now, before)| now > before));
    assert_ne!(epochs(), before, "the partitions were claimed again while the sink stood still");
    process.put_held.store(false, Ordering::Release);
    wait_for_all(&world);
    control.stop();
    running.join().expect("no thread panics");
    check(&world, "partitions that came back");
    assert!(!lock(&world).aborted.is_empty(), "what was prepared late was aborted");
}

static ABORTED: AtomicU64 = AtomicU64::new(0);

#[test]
fn every_record_is_visible_once_whatever_happens() {
    let of_environment = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = of_environment("TRIBUTARY_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    let rounds = of_environment("STATEFUL_ROUNDS").unwrap_or(12);
    println!("seeds {first}.. of {rounds} rounds (TRIBUTARY_SEED={first})");
    (first..first + rounds).for_each(simulate);
    assert!(
        rounds < 10 || ABORTED.load(Ordering::Relaxed) > 0,
        "nothing was ever aborted: the simulation has lost its sting"
    );
}
