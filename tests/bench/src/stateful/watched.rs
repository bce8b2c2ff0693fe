//! One job from its start until its input is committed, whoever does it.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tributary_harness::{Error, KafkaBroker, Result, Usage};

use crate::pace::Watch;

const LOOK: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(200);
/// Who commits nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(90);
const ASK: Duration = Duration::from_secs(10);

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Records a second, from the first commit on.
    pub rate: f64,
    /// CPU seconds per million records.
    pub cpu: f64,
    /// The most bytes that were resident.
    pub peak_rss: u64,
}

/// The input of a consumer group, in a topic of one partition.
pub struct Watched {
    client: BaseConsumer,
    partition: TopicPartitionList,
    topic: String,
    records: u64,
}

impl Watched {
    /// Looks at what the group commits.
    pub fn new(broker: &KafkaBroker, group: &str, topic: &str, records: u64) -> Result<Self> {
        // What is committed counts, also while another transaction is under way.
        let client = broker.client().set("group.id", group).set("isolation.level", "read_uncommitted").create()?;
        let mut partition = TopicPartitionList::new();
        partition.add_partition(topic, 0);
        Ok(Self { client, partition, topic: topic.to_owned(), records })
    }

    fn committed(&self) -> Result<u64> {
        let found = self.client.committed_offsets(self.partition.clone(), ASK)?;
        match found.find_partition(&self.topic, 0).map(|found| found.offset()) {
            Some(Offset::Offset(next)) => Ok(next.unsigned_abs()),
            _ => Ok(0),
        }
    }

    /// Follows the work of a process, from its order on, until all is committed.
    pub fn follow(&self, pid: u32, order: impl FnOnce() -> Result<()>) -> Result<Run> {
        self.follow_and_look(pid, order, || Ok(()))
    }

    /// The same, with a look at something else now and then.
    pub fn follow_and_look(
        &self,
        pid: u32,
        order: impl FnOnce() -> Result<()>,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<Run> {
        let before = Usage::of(pid)?;
        let mut watch = Watch::start();
        order()?;
        let (mut progress, mut moved, mut looked) = (0, Instant::now(), Instant::now());
        loop {
            // A group that is not there yet, or a broker that is busy: the next look tells.
            let done = self.committed().unwrap_or(progress);
            watch.see(done, self.records);
            if done >= self.records {
                break;
            }
            if done != progress {
                (progress, moved) = (done, Instant::now());
            } else if moved.elapsed() > STUCK {
                let (all, seconds) = (self.records, STUCK.as_secs());
                return Err(Error::new(format!("{done} of {all} records were committed, then none for {seconds} s")));
            }
            // Fails when the process is gone.
            Usage::of(pid)?;
            if looked.elapsed() > SELDOM {
                looked = Instant::now();
                look()?;
            }
            thread::sleep(LOOK);
        }
        let (pace, after) = (watch.stop(), Usage::of(pid)?);
        Ok(Run {
            rate: pace.rate(self.records),
            cpu: (after.cpu - before.cpu).as_secs_f64() * 1e6 / self.records as f64,
            peak_rss: after.peak_rss,
        })
    }
}
