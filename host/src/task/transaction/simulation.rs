//! The commit loop against a model of Kafka's transaction coordinator: two workers that believe they have the same task, lost
//! answers, requests that arrive late, aborts and deaths, in an order that a seed decides. What is committed has to be each
//! record once, in order, and every transaction whole.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::boundary::Ending;
use super::commit_loop::{CommitLoop, Outcome, Step};

/// Records of a transaction, and transactions in all.
const CHUNK: u64 = 3;
const CHUNKS: u64 = 40;

/// The source drops some transactions.
fn discarded(chunk: u64) -> bool {
    chunk % 5 == 4
}

/// What the cluster knows of one `transactional.id`.
#[derive(Default)]
struct Cluster {
    epoch: u32,
    open: Vec<u64>,
    position_in_open: Option<u64>,
    committed: Vec<u64>,
    position: u64,
    /// A request to commit that has not arrived yet, with the epoch of its producer.
    under_way: Option<u32>,
}

impl Cluster {
    fn init(&mut self) -> u32 {
        self.epoch += 1;
        self.abort();
        self.epoch
    }

    fn abort(&mut self) {
        self.open.clear();
        self.position_in_open = None;
    }

    fn commit(&mut self) {
        self.committed.append(&mut self.open);
        self.position = self.position_in_open.take().unwrap_or(self.position);
    }

    /// The late request arrives. It ends whatever its producer has open by now.
    fn arrive(&mut self) {
        if self.under_way.take() == Some(self.epoch) {
            self.commit();
        }
    }
}

/// A worker that has the task, or believes so.
#[derive(Default)]
struct Worker {
    machine: CommitLoop,
    epoch: u32,
    /// The position that the task began at or has committed; `None` before it was read.
    before: Option<u64>,
    held: Vec<u64>,
    next: u64,
    begun: bool,
}

impl Worker {
    /// Polls the source: one record, and the end of the transaction after the last of a chunk.
    fn poll(&mut self) {
        if self.machine.ending().is_some() || self.next >= CHUNK * CHUNKS {
            return;
        }
        self.held.push(self.next);
        self.machine.add();
        self.next += 1;
        if self.next.is_multiple_of(CHUNK) {
            let chunk = self.next / CHUNK - 1;
            self.machine.end(if discarded(chunk) { Ending::Discard } else { Ending::Commit });
        }
    }

    fn step(&mut self, cluster: &mut Cluster, faults: f64, random: &mut StdRng) {
        let fault = random.random_bool(faults);
        let step = self.machine.next();
        let outcome = match step {
            Step::Wait => return self.poll(),
            Step::End(_) => {
                *self = Self::default();
                return;
            }
            Step::Init => {
                if fault && random.random_bool(0.5) {
                    // Perhaps it did come to pass.
                    if random.random_bool(0.5) {
                        cluster.init();
                    }
                    Outcome::Again
                } else {
                    self.epoch = cluster.init();
                    self.begun = false;
                    if self.before.is_none() {
                        (self.before, self.next) = (Some(cluster.position), cluster.position);
                    }
                    Outcome::Done
                }
            }
            Step::Renew => Outcome::Done,
            // Offsets that are not told yet.
            Step::Look if fault => Outcome::Again,
            Step::Look => {
                let before = self.before.unwrap_or_default();
                if cluster.position == before {
                    Outcome::Before
                } else if cluster.position == self.next {
                    Outcome::After
                } else {
                    Outcome::Other
                }
            }
            Step::Begin => {
                self.begun = true;
                Outcome::Done
            }
            Step::Settle => {
                self.before = Some(self.next);
                self.held.clear();
                Outcome::Done
            }
            _ if self.epoch != cluster.epoch => Outcome::Fenced,
            Step::Send => {
                let sent = self.machine.sent();
                if fault {
                    // Some of it came through.
                    cluster.open.extend(self.held[sent..].iter().take(1));
                    [Outcome::Abort, Outcome::Close][random.random_range(0..2)]
                } else {
                    cluster.open.extend(&self.held[sent..]);
                    Outcome::Done
                }
            }
            Step::Unblock => {
                // It is open for a while, in which late requests may arrive.
                cluster.position_in_open = Some(self.next);
                cluster.arrive();
                cluster.abort();
                if fault { Outcome::Close } else { Outcome::Done }
            }
            Step::AddPositions => {
                cluster.position_in_open = Some(self.next);
                if fault { Outcome::Abort } else { Outcome::Done }
            }
            Step::Flush if fault => [Outcome::Abort, Outcome::Close][random.random_range(0..2)],
            Step::Flush => Outcome::Done,
            Step::Commit if fault => match random.random_range(0..6) {
                // Done, and the answer is lost.
                0 => {
                    cluster.commit();
                    Outcome::Again
                }
                // Not done yet, perhaps never.
                1 => {
                    cluster.under_way = Some(self.epoch);
                    Outcome::Again
                }
                2 => Outcome::Close,
                3 => {
                    cluster.abort();
                    Outcome::Abort
                }
                // The first request is late, the second one was answered.
                4 => {
                    cluster.commit();
                    cluster.under_way = Some(self.epoch);
                    Outcome::DoneLate
                }
                // The cluster was faster.
                _ => {
                    cluster.commit();
                    Outcome::Abort
                }
            },
            Step::Commit => {
                cluster.commit();
                Outcome::Done
            }
            Step::Abort if fault => [Outcome::Again, Outcome::Close][random.random_range(0..2)],
            Step::Abort => {
                cluster.abort();
                Outcome::Done
            }
        };
        self.machine.outcome(outcome);
    }
}

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::default();
    let mut workers = [Worker::default(), Worker::default()];
    // The second one is a zombie most of the time, and sometimes wakes up.
    for _ in 0..random.random_range(100..1500) {
        let acting = usize::from(random.random_bool(0.08));
        workers[acting].step(&mut cluster, 0.12, &mut random);
        if random.random_bool(0.05) {
            cluster.arrive();
        }
        match random.random_range(0..400) {
            0 => workers[0] = Worker::default(),
            // They change places.
            1 => workers.swap(0, 1),
            _ => {}
        }
    }
    let mut steps = 0;
    while cluster.position < CHUNK * CHUNKS {
        workers[0].step(&mut cluster, 0.0, &mut random);
        cluster.arrive();
        steps += 1;
        assert!(steps < 5_000, "seed {seed}: it does not end; {:?}", workers[0].machine);
    }
    let expected = (0..CHUNK * CHUNKS).filter(|record| !discarded(record / CHUNK)).collect::<Vec<_>>();
    assert_eq!(cluster.committed, expected, "seed {seed}");
}

#[test]
fn every_record_once_whatever_happens() {
    for seed in 0..3_000 {
        run(seed);
    }
}
