//! What a stage hands to the next one: its records by their keys, and how far the partitions are that it reads.
//!
//! Each record goes to the partition that murmur2 of its key names, so equal keys meet. A shard behind the topic gets records of many
//! partitions, which are read at different paces; its event time is that of the slowest. So whoever reads a partition also tells all
//! shards of its latest time, in the transaction that has the records, and when nothing has come for long: one that gets none of its
//! records waits no longer than it has to.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::{BinaryArray, Int32Array, StringArray, builder::BinaryBuilder};
use tributary_sdk::Batch;

use super::stages::{CutTopic, Stages};
use crate::log::{FetchedBatch, LogRecords, TopicPartition, murmur2_partition};
use crate::task::delivery::Part;
use crate::task::errors::TaskError;
use crate::transform::Place;
use crate::transform::stateful::passed::{self, From, Passed, Reader, Writer};
use crate::transform::stateful::unread;

/// No record yet.
const BEGINNING: i64 = i64::MIN;

/// What became of a batch at a cut.
pub struct Crossing {
    /// To be written, unless there is nothing.
    pub part: Part,
    /// Records that count for nothing.
    pub dropped: usize,
    /// Rows that the transform behind the cut would refuse, and why.
    pub refused: Vec<(usize, String)>,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    latest: i64,
    idle: bool,
    /// When the last record came, by the clock.
    heard: i64,
    /// What was told last.
    told: (i64, bool),
}

/// The task's side of repartition topics.
#[derive(Default)]
pub struct Repartition {
    reader: Reader,
    /// By stage and origin.
    progress: BTreeMap<(usize, TopicPartition), Progress>,
    /// When time was told last.
    asked: Option<i64>,
}

impl Repartition {
    /// A partition is read from now on: its silence begins.
    pub fn begin(&mut self, stages: &Stages, partition: &TopicPartition, now: i64) {
        let stage = stages.stage(&partition.topic);
        if stage < stages.last() {
            let origin = stages.origin(stage, partition);
            let new = Progress { latest: BEGINNING, idle: false, heard: now, told: (BEGINNING, false) };
            self.progress.entry((stage, origin)).and_modify(|progress| progress.heard = now).or_insert(new);
        }
    }

    /// Records of a partition are read. What a stage makes of its records may come much later: it is not silent meanwhile.
    pub fn hear(&mut self, stages: &Stages, partition: &TopicPartition, now: i64) {
        let stage = stages.stage(&partition.topic);
        if stages.makes_records(stage)
            && let Some(progress) = self.progress.get_mut(&(stage, stages.origin(stage, partition)))
        {
            progress.heard = now;
        }
    }

    /// Only what comes of these partitions is told from now on.
    pub fn retain(&mut self, stages: &Stages, assigned: &[TopicPartition]) {
        let origin = |partition: &TopicPartition| {
            let stage = stages.stage(&partition.topic);
            (stage, stages.origin(stage, partition))
        };
        let left: Vec<_> = assigned.iter().map(origin).collect();
        self.progress.retain(|key, _| left.contains(key));
    }

    /// The open transaction has come to nothing: its records are read again, and until then nothing is known of them.
    pub fn reset(&mut self) {
        for progress in self.progress.values_mut() {
            (progress.latest, progress.told) = (BEGINNING, (BEGINNING, false));
        }
    }

    /// A batch that leaves a stage.
    pub fn cross(
        &mut self,
        cut: &CutTopic,
        (stage, origin): (usize, TopicPartition),
        batch: &Batch,
        places: &[Place],
        now: i64,
    ) -> Result<Crossing, TaskError> {
        let from = From { alias: &cut.cut.alias, topic: &origin.topic, partition: origin.partition };
        let writer = Writer::new(batch, from).map_err(|error| TaskError::of_call("a repartition", error))?;
        let (mut keys, mut values) = (BinaryBuilder::new(), BinaryBuilder::new());
        let (mut partitions, mut dropped, mut refused) = (Vec::with_capacity(places.len()), 0, Vec::new());
        let (mut latest, mut bytes) = (BEGINNING, Vec::new());
        for (row, place) in places.iter().enumerate() {
            let key = match place {
                Place::Key { key, .. } => Some(passed::partition_key(key)),
                Place::Anywhere => None,
                Place::Nowhere => {
                    dropped += 1;
                    continue;
                }
                Place::Refused(message) => {
                    refused.push((row, message.clone()));
                    continue;
                }
            };
            bytes.clear();
            if let Err(message) = writer.write(row, &mut bytes) {
                refused.push((row, message));
                continue;
            }
            if let Place::Key { time, .. } = place {
                latest = latest.max(*time);
            }
            partitions.push(match &key {
                Some(key) => murmur2_partition(key, cut.partitions),
                None => origin.partition.rem_euclid(cut.partitions.max(1)),
            });
            keys.append_option(key.as_deref());
            values.append_value(&bytes);
        }
        let new = Progress { latest, idle: false, heard: now, told: (BEGINNING, false) };
        let progress = self.progress.entry((stage, origin)).or_insert(new);
        (progress.latest, progress.idle, progress.heard) = (progress.latest.max(latest), false, now);
        let records = LogRecords {
            keys: Some(keys.finish()),
            values: values.finish(),
            headers: None,
            timestamps: None,
            partitions: Some(Int32Array::from(partitions)),
        };
        let part = Part { topic: cut.topic.clone(), source_partition: None, records, offsets: None::<StringArray> };
        Ok(Crossing { part, dropped, refused })
    }

    /// Time has passed by the clock, or the transaction is complete: what is to be told. Silence of partitions that are not `held` means
    /// that there was nothing.
    pub fn news(&mut self, stages: &Stages, now: i64, held: &[TopicPartition]) -> Vec<Part> {
        let of = |partition: &TopicPartition| {
            let stage = stages.stage(&partition.topic);
            (stage, stages.origin(stage, partition))
        };
        let held: BTreeSet<_> = held.iter().map(of).collect();
        let passed = self.asked.map_or(0, |asked| (now - asked).max(0));
        self.asked = Some(now);
        let mut parts = Vec::new();
        for (place, progress) in &mut self.progress {
            let (stage, origin) = place;
            let Some(cut) = stages.cuts().get(*stage) else { continue };
            progress.heard = now.min(progress.heard + unread(passed, !held.contains(place)));
            progress.idle = cut.cut.idle_timeout.is_some_and(|timeout| now - progress.heard >= timeout);
            if progress.told == (progress.latest, progress.idle) {
                continue;
            }
            progress.told = (progress.latest, progress.idle);
            let from = From { alias: &cut.cut.alias, topic: &origin.topic, partition: origin.partition };
            let value = passed::write_news(from, progress.latest, progress.idle);
            let all = 0..cut.partitions;
            let records = LogRecords {
                keys: None,
                values: BinaryArray::from_iter_values(all.clone().map(|_| &value)),
                headers: None,
                timestamps: None,
                partitions: Some(all.collect()),
            };
            parts.push(Part { topic: cut.topic.clone(), source_partition: None, records, offsets: None });
        }
        parts
    }

    /// Takes records of a repartition topic apart. `shard` is theirs.
    pub fn read(&mut self, cut: &CutTopic, shard: i32, fetched: &FetchedBatch) -> Result<Vec<Passed>, TaskError> {
        let values = fetched.records.values.iter();
        let read = self.reader.read(values, &cut.cut.alias, shard);
        read.map_err(|error| {
            let TopicPartition { topic, partition } = &fetched.topic_partition;
            TaskError::new(format!("{topic}-{partition} from offset {}: {error}", fetched.offsets.value(0)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::stream::stages::StageFacts;
    use crate::transform::Cut;
    use tributary_sdk::Column;

    fn stages() -> Stages {
        let cut = Cut { alias: "sums".into(), class: "Aggregate".into(), partitions: None, idle_timeout: Some(1000) };
        let cut = CutTopic { cut, topic: "r".into(), partitions: 3 };
        let facts = |stateful| StageFacts { partitions: 3, stateful, makes_records: stateful };
        Stages::new(vec!["in".into()], vec![cut], &[facts(false), facts(true)])
    }

    fn told(repartition: &mut Repartition, stages: &Stages, now: i64, reading: bool) -> Vec<(i64, bool)> {
        let held = if reading { Vec::new() } else { vec![TopicPartition { topic: "in".into(), partition: 0 }] };
        let parts = repartition.news(stages, now, &held);
        let mut reader = Reader::default();
        let mut all = Vec::new();
        for part in parts {
            assert_eq!(part.records.partitions.as_ref().unwrap().values().as_ref(), [0, 1, 2]);
            for passed in reader.read(part.records.values.iter().take(1), "sums", 0).unwrap() {
                let Passed::News(news) = passed else { panic!("no news") };
                assert_eq!(&*news.upstream, "in-0");
                all.push((news.latest, news.idle));
            }
        }
        all
    }

    #[test]
    fn records_go_where_their_keys_meet_and_what_is_new_is_told_once() {
        let (stages, mut repartition) = (stages(), Repartition::default());
        let origin = TopicPartition { topic: "in".into(), partition: 0 };
        repartition.begin(&stages, &origin, 0);
        assert_eq!(told(&mut repartition, &stages, 999, true), []);
        assert_eq!(told(&mut repartition, &stages, 1000, true), [(BEGINNING, true)]);
        let batch = Batch::new("t", Column::json(StringArray::from(vec!["1", "2", "3", "4"])));
        let key = |text: &str, time| Place::Key { key: [b"\x05", text.as_bytes()].concat().into(), time };
        let places = [key("21", 7), Place::Nowhere, Place::Refused("no key".into()), key("foobar", 5)];
        let crossing = repartition.cross(&stages.cuts()[0], (0, origin.clone()), &batch, &places, 1500).unwrap();
        assert_eq!((crossing.dropped, crossing.refused), (1, vec![(2, "no key".to_owned())]));
        let records = crossing.part.records;
        let expected = ["21", "foobar"].map(|key| murmur2_partition(key.as_bytes(), 3));
        assert_eq!(records.partitions.unwrap().values().as_ref(), expected);
        assert_eq!(told(&mut repartition, &stages, 2000, true), [(7, false)]);
        assert_eq!(told(&mut repartition, &stages, 2400, true), []);
        // Not read: silence means nothing.
        assert_eq!(told(&mut repartition, &stages, 3400, false), []);
        assert_eq!(told(&mut repartition, &stages, 3600, true), [(7, true)]);
        repartition.reset();
        assert_eq!(told(&mut repartition, &stages, 3601, true), [(BEGINNING, true)]);
        // Whoever begins anew has to listen first.
        repartition.begin(&stages, &origin, 4000);
        assert_eq!(told(&mut repartition, &stages, 4999, true), [(BEGINNING, false)]);
        repartition.retain(&stages, &[]);
        assert_eq!(told(&mut repartition, &stages, 9000, true), []);
    }

    #[test]
    fn a_standstill_of_the_task_is_no_silence() {
        let cut = Cut { alias: "sums".into(), class: "A".into(), partitions: None, idle_timeout: Some(10_000) };
        let cut = CutTopic { cut, topic: "r".into(), partitions: 3 };
        let facts = |stateful| StageFacts { partitions: 3, stateful, makes_records: stateful };
        let stages = Stages::new(vec!["in".into()], vec![cut], &[facts(false), facts(true)]);
        let mut repartition = Repartition::default();
        repartition.begin(&stages, &TopicPartition { topic: "in".into(), partition: 0 }, 0);
        assert_eq!(told(&mut repartition, &stages, 0, true), []);
        assert_eq!(told(&mut repartition, &stages, 90_000, true), []);
        assert_eq!(told(&mut repartition, &stages, 95_000, true), [(BEGINNING, true)]);
    }

    #[test]
    fn a_stage_whose_results_come_seldom_is_not_silent_while_it_reads() {
        let cut = |topic: &str| CutTopic {
            cut: Cut { alias: "sums".into(), class: "Aggregate".into(), partitions: None, idle_timeout: Some(1000) },
            topic: topic.into(),
            partitions: 3,
        };
        let facts = StageFacts { partitions: 3, stateful: true, makes_records: true };
        let stages = Stages::new(vec!["in".into()], vec![cut("r1"), cut("r2")], &[facts; 3]);
        let at = |topic: &str| TopicPartition { topic: topic.into(), partition: 0 };
        let mut repartition = Repartition::default();
        repartition.begin(&stages, &at("r1"), 0);
        assert!(repartition.news(&stages, 900, &[]).is_empty());
        repartition.hear(&stages, &at("r1"), 900);
        repartition.hear(&stages, &at("r2"), 900);
        assert!(repartition.news(&stages, 1800, &[]).is_empty());
        assert_eq!(repartition.news(&stages, 1900, &[]).len(), 1);
    }
}
