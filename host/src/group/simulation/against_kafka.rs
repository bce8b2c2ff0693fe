//! The modelled coordinator beside a broker's: the same requests in the same order, the same answers.
//!
//! A few clients join, sync, tell that they live and leave, in seeded order, also with generations and member ids that are
//! wrong, and without caring for what they were answered. After each step both have to have answered the same requests with
//! the same: codes, generations, members with their metadata, assignments. Which member leads where a new leader is needed
//! is the broker's choice, and the model takes it over; that it keeps one that is still there is compared.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tributary_harness::KafkaBroker;

use super::super::membership::{Action, Input, JoinAnswer, Refusal};
use super::super::protocol::{MemberMetadata, PROTOCOLS};
use super::super::requests::Requests;
use super::super::wire::{Cluster, CoordinatorKind, WireSettings};
use super::coordinator::{Answer, Coordinator};
use super::number;

const CLIENTS: usize = 4;
const STEPS: usize = 60;
const SCHEDULES: u64 = 6;
/// How long a broker on a busy machine may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// What comes within this time after the answers that the model gives is one too many.
const MORE: Duration = Duration::from_millis(30);
/// Of members that are never late.
const LONG: Duration = Duration::from_secs(60);
/// Of members that are; the others tell that they live several times within it.
const SHORT: Duration = Duration::from_secs(8);

#[derive(Debug, Default)]
struct Client {
    /// The member id that it was given last.
    id: Option<String>,
    generation: i32,
    /// On the leader: the members.
    members: Vec<String>,
    /// Requests that are not answered.
    joining: bool,
    syncing: bool,
    version: i64,
}

#[derive(Debug, Clone)]
enum Step {
    Join { client: usize, id: String, version: i64 },
    Sync { client: usize, id: String, generation: i32, assignments: Vec<(String, Bytes)> },
    Heartbeat { client: usize, id: String, generation: i32 },
    Leave { id: String },
}

struct Judge {
    seed: u64,
    random: StdRng,
    group: String,
    cluster: Cluster,
    server: String,
    requests: Requests,
    model: Coordinator,
    begun: Instant,
    clients: Vec<Client>,
    /// The broker's member ids by the model's.
    real: BTreeMap<String, String>,
    calls: u64,
    sender: UnboundedSender<((usize, u64), Input)>,
    answers: UnboundedReceiver<((usize, u64), Input)>,
    history: Vec<String>,
}

fn metadata(version: i64) -> MemberMetadata {
    let url = "http://w:1/".to_owned();
    MemberMetadata { url, config_offset: version, ours: true, follows: true, ..MemberMetadata::default() }
}

/// The coordinator, once it knows that it is; a broker that has just started does not yet.
async fn ready(cluster: &Cluster, requests: &Requests) -> Result<String, String> {
    let found = cluster.coordinator(CoordinatorKind::Group, &requests.group).await;
    let server = found.map_err(|error| error.to_string())?;
    let mut connection = cluster.connect(&server).await.map_err(|error| error.to_string())?;
    let heartbeat = Action::Heartbeat { call: 0, generation: 0, member_id: "nobody".to_owned() };
    match requests.run(&mut connection, heartbeat).await {
        Some(Input::Heartbeat { answer: Err(Refusal::Code(ResponseError::UnknownMemberId)), .. }) => Ok(server),
        other => Err(format!("{other:?}")),
    }
}

impl Judge {
    async fn new(seed: u64, bootstrap: &str, session: Duration) -> Self {
        let settings = [("bootstrap.servers".to_owned(), bootstrap.to_owned())].into_iter().collect();
        let cluster = Cluster::new(WireSettings::new(&settings).unwrap());
        let group = format!("judged-{seed}-{:08x}", rand::random::<u32>());
        let requests = Requests { group: group.clone(), session, rebalance: LONG, timeout: PATIENCE };
        let deadline = Instant::now() + PATIENCE;
        let server = loop {
            match ready(&cluster, &requests).await {
                Ok(server) => break server,
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(problem) => panic!("{problem}"),
            }
        };
        let nanos = |time: Duration| time.as_nanos() as u64;
        let (sender, answers) = unbounded_channel();
        Self {
            seed,
            random: StdRng::seed_from_u64(seed),
            group,
            cluster,
            server,
            requests,
            model: Coordinator::new(nanos(session), nanos(LONG)),
            begun: Instant::now(),
            clients: (0..CLIENTS).map(|_| Client { generation: -1, ..Client::default() }).collect(),
            real: BTreeMap::new(),
            calls: 0,
            sender,
            answers,
            history: Vec::new(),
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// The broker's member id for one of the model's.
    fn real(&self, id: &str) -> String {
        self.real.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    /// The model's member id for one of the broker's.
    fn modelled(&self, real: &str) -> String {
        let found = self.real.iter().find(|(_, known)| *known == real);
        found.map_or_else(|| real.to_owned(), |(id, _)| id.clone())
    }

    /// Something that a client could do now.
    fn choose(&mut self) -> Option<Step> {
        let client = self.random.random_range(0..CLIENTS);
        let odd = self.random.random_range(0..12) == 0;
        let kind = self.random.random_range(0..10);
        let at = &mut self.clients[client];
        let id = if odd { Some("nobody".to_owned()) } else { at.id.clone() };
        let generation = at.generation + if self.random.random_range(0..12) == 0 { 1 } else { 0 };
        match kind {
            0..=4 if !at.joining && !at.syncing => {
                at.version += i64::from(self.random.random_range(0..3) == 0);
                Some(Step::Join { client, id: id.unwrap_or_default(), version: at.version })
            }
            5..=6 if !at.joining && !at.syncing => {
                let round = self.calls;
                let assignment = |id: &String| (id.clone(), Bytes::from(format!("{id} in {round}")));
                let assignments = at.members.iter().map(assignment).collect();
                Some(Step::Sync { client, id: id?, generation, assignments })
            }
            7..=8 => Some(Step::Heartbeat { client, id: id?, generation }),
            // Not while it waits: whether such a request is still answered does not matter to anybody.
            9 if !at.joining && !at.syncing && self.random.random_range(0..3) == 0 => {
                (at.generation, at.members) = (-1, Vec::new());
                Some(Step::Leave { id: at.id.take()? })
            }
            _ => None,
        }
    }

    fn ask_model(&self, model: &mut Coordinator, now: u64, call: u64, step: &Step) {
        model.tick(now);
        match step.clone() {
            Step::Join { client, id, version } => {
                model.join(now, (client, call), &id, metadata(version).encode(PROTOCOLS[0].1));
            }
            Step::Sync { client, id, generation, assignments } => {
                model.sync(now, (client, call), &id, generation, assignments);
            }
            Step::Heartbeat { client, id, generation } => model.heartbeat(now, (client, call), &id, generation),
            Step::Leave { id } => model.leave(now, &id),
        }
    }

    async fn ask_broker(&mut self, call: u64, step: &Step) {
        let (client, action) = match step.clone() {
            Step::Join { client, id, version } => {
                self.clients[client].joining = true;
                let member_id = self.real(&id);
                (client, Action::Join { call, member_id, metadata: metadata(version), reason: "judged".to_owned() })
            }
            Step::Sync { client, id, generation, assignments } => {
                self.clients[client].syncing = true;
                let assignments = assignments.into_iter().map(|(id, bytes)| (self.real(&id), bytes)).collect();
                let (member_id, protocol) = (self.real(&id), PROTOCOLS[0].0.to_owned());
                (client, Action::Sync { call, generation, member_id, protocol, assignments })
            }
            Step::Heartbeat { client, id, generation } => {
                (client, Action::Heartbeat { call, generation, member_id: self.real(&id) })
            }
            Step::Leave { id } => {
                let mut connection = self.cluster.connect(&self.server).await.unwrap();
                // Whether it was known is not asked of the model.
                let _ = self.requests.leave(&mut connection, &self.real(&id), "judged").await;
                return;
            }
        };
        let mut connection = self.cluster.connect(&self.server).await.unwrap();
        let (requests, sender) = (self.requests.clone(), self.sender.clone());
        tokio::spawn(async move {
            if let Some(input) = requests.run(&mut connection, action).await {
                let _ = sender.send(((client, call), input));
            }
        });
    }

    /// What the broker answers; at least so many, and as many more as there are.
    async fn broker_answers(&mut self, count: usize) -> Vec<((usize, u64), Input)> {
        let mut answers = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let wait = if answers.len() < count { deadline.saturating_duration_since(Instant::now()) } else { MORE };
            match tokio::time::timeout(wait, self.answers.recv()).await {
                Ok(Some(answer)) => answers.push(answer),
                _ => return answers,
            }
        }
    }

    async fn step(&mut self, step: Step) {
        self.calls += 1;
        let call = self.calls;
        self.history.push(format!("{call}: {step:?}"));
        let now = self.now();
        let mut trial = self.model.clone();
        self.ask_model(&mut trial, now, call, &step);
        self.ask_broker(call, &step).await;
        let count = trial.answers.len();
        let answers = self.broker_answers(count).await;
        // An id that was given to the same request is the same member.
        for (caller, input) in &answers {
            if let Input::Joined { answer: Err((Refusal::Code(ResponseError::MemberIdRequired), real)), .. } = input
                && let Some((_, Answer::Joined(Err((_, id))))) = trial.answers.iter().find(|(other, _)| other == caller)
            {
                self.real.insert(id.clone(), real.clone());
            }
        }
        self.model.candidate = answers.iter().find_map(|(_, input)| match input {
            Input::Joined { answer: Ok(answer), .. } => Some(self.modelled(&answer.leader)),
            _ => None,
        });
        let mut model = std::mem::take(&mut self.model);
        self.ask_model(&mut model, now, call, &step);
        self.model = model;
        self.model.candidate = None;
        self.compare(answers);
    }

    fn compare(&mut self, answers: Vec<((usize, u64), Input)>) {
        let told = std::mem::take(&mut self.model.answers);
        let modelled: BTreeMap<_, _> =
            told.into_iter().map(|(caller, answer)| (caller, answer.input(caller.1))).collect();
        let answered: BTreeMap<_, _> =
            answers.into_iter().map(|(caller, input)| (caller, self.translated(input))).collect();
        let (model, broker) = (format!("{modelled:#?}"), format!("{answered:#?}"));
        assert!(
            model == broker,
            "TRIBUTARY_SEED={}, group {}: after\n{}\nthe model answers\n{model}\nand the broker\n{broker}",
            self.seed,
            self.group,
            self.history.join("\n")
        );
        for ((client, _), input) in modelled {
            self.learn(client, input);
        }
    }

    /// With the model's member ids, in their order.
    fn translated(&self, input: Input) -> Input {
        match input {
            Input::Joined { call, answer: Ok(answer) } => {
                let mut members: Vec<_> =
                    answer.members.into_iter().map(|(id, metadata)| (self.modelled(&id), metadata)).collect();
                members.sort();
                let (member_id, leader) = (self.modelled(&answer.member_id), self.modelled(&answer.leader));
                Input::Joined { call, answer: Ok(JoinAnswer { member_id, leader, members, ..answer }) }
            }
            Input::Joined { call, answer: Err((refusal, id)) } => {
                Input::Joined { call, answer: Err((refusal, self.modelled(&id))) }
            }
            other => other,
        }
    }

    fn learn(&mut self, client: usize, input: Input) {
        let at = &mut self.clients[client];
        match input {
            Input::Joined { answer, .. } => {
                at.joining = false;
                match answer {
                    Ok(answer) => {
                        at.id = Some(answer.member_id);
                        at.generation = answer.generation;
                        at.members = answer.members.into_iter().map(|(id, _)| id).collect();
                    }
                    Err((Refusal::Code(ResponseError::MemberIdRequired), id)) => at.id = Some(id),
                    Err(_) => {}
                }
            }
            Input::Synced { .. } => at.syncing = false,
            _ => {}
        }
    }

    /// Everybody joins, and has the assignment.
    async fn settle(&mut self, members: usize) {
        for client in 0..members {
            self.step(Step::Join { client, id: String::new(), version: 0 }).await;
        }
        // The first one does not wait for the others.
        for client in (0..members).chain([0]) {
            let id = self.clients[client].id.clone().unwrap();
            self.step(Step::Join { client, id, version: 1 }).await;
        }
        for client in 0..members {
            let at = &self.clients[client];
            let (id, generation) = (at.id.clone().unwrap(), at.generation);
            let assignments = at.members.iter().map(|id| (id.clone(), Bytes::from_static(b"all"))).collect();
            self.step(Step::Sync { client, id, generation, assignments }).await;
        }
    }

    /// All but one tell that they live, until the one is out. Nothing is asked around the time at which that happens, which
    /// the two do not decide in the same moment.
    async fn silence(&mut self, silent: usize, members: usize) {
        let begun = Instant::now();
        while begun.elapsed() < SHORT * 6 / 10 {
            for client in (0..members).filter(|client| *client != silent) {
                let at = &self.clients[client];
                let (id, generation) = (at.id.clone().unwrap(), at.generation);
                self.step(Step::Heartbeat { client, id, generation }).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep((SHORT * 13 / 10).saturating_sub(begun.elapsed())).await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_broker_answers_as_the_model_does() {
    let bootstrap = KafkaBroker::shared().unwrap().bootstrap();
    let first = number("TRIBUTARY_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    std::thread::scope(|scope| {
        for seed in first..first + SCHEDULES {
            let bootstrap = &bootstrap;
            scope.spawn(move || {
                runtime().block_on(async {
                    let mut judge = Judge::new(seed, bootstrap, LONG).await;
                    let mut steps = 0;
                    while steps < STEPS {
                        if let Some(step) = judge.choose() {
                            judge.step(step).await;
                            steps += 1;
                        }
                    }
                });
            });
        }
    });
}

/// Members whose session ends, the leader among them, and an id that was asked for and never used.
#[test]
fn a_broker_removes_silent_members_as_the_model_does() {
    let bootstrap = KafkaBroker::shared().unwrap().bootstrap();
    std::thread::scope(|scope| {
        for silent in 0..3 {
            let bootstrap = &bootstrap;
            scope.spawn(move || {
                runtime().block_on(async {
                    let mut judge = Judge::new(silent as u64, bootstrap, SHORT).await;
                    judge.settle(3).await;
                    judge.step(Step::Join { client: 3, id: String::new(), version: 0 }).await;
                    judge.silence(silent, 3).await;
                    // Who is left goes on without them.
                    for client in (0..3).filter(|client| *client != silent) {
                        let id = judge.clients[client].id.clone().unwrap();
                        judge.step(Step::Join { client, id, version: 2 }).await;
                    }
                    let gone = judge.clients[silent].id.clone().unwrap();
                    judge.step(Step::Join { client: silent, id: gone, version: 2 }).await;
                    let generation = judge.clients[silent].generation;
                    let unused = judge.clients[3].id.clone().unwrap();
                    judge.step(Step::Heartbeat { client: 3, id: unused, generation }).await;
                });
            });
        }
    });
}
