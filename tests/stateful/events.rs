//! Purchases with repetitions and out of order, and what must come of them: computed from the input topic as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use tributary_harness::checker::read_topic;
use tributary_harness::{KafkaBroker, Result, Seed};

/// How much out of order events come.
pub const DISORDER: i64 = 3000;
/// Of the windows, and how long an event's number is remembered.
pub const SIZE: i64 = 10_000;
/// See above.
pub const TTL: i64 = 60_000;

/// Makes events, a share at a time.
pub struct Events {
    producer: BaseProducer,
    topic: String,
    now: i64,
    next: u64,
    recent: Vec<(u64, i64, i64, i64)>,
    by_id: bool,
}

impl Events {
    /// Into a topic.
    pub fn new(broker: &KafkaBroker, topic: &str) -> Result<Self> {
        let producer = broker.client().create()?;
        let (topic, now) = (topic.to_owned(), 1_700_000_000_000);
        Ok(Self { producer, topic, now, next: 0, recent: Vec::new(), by_id: false })
    }

    /// Events of one user are in any partition: they are written by their number.
    pub fn by_id(broker: &KafkaBroker, topic: &str) -> Result<Self> {
        Ok(Self { by_id: true, ..Self::new(broker, topic)? })
    }

    /// Adds so many, one in five of them a repetition.
    pub fn produce(&mut self, count: usize, seed: &mut Seed) -> Result<()> {
        for _ in 0..count {
            self.now += seed.random_range(0..5);
            let repeated = !self.recent.is_empty() && seed.random_range(0..5) == 0;
            let event = if repeated {
                self.recent[seed.random_range(0..self.recent.len())]
            } else {
                self.next += 1;
                let at = self.now - seed.random_range(0..DISORDER);
                (self.next, seed.random_range(0..50), at, seed.random_range(-100..1000))
            };
            self.send(event)?;
            if self.recent.len() < 200 {
                self.recent.push(event);
            } else {
                let at = seed.random_range(0..200);
                self.recent[at] = event;
            }
        }
        Ok(self.producer.flush(Duration::from_secs(60))?)
    }

    /// One in each partition, far in the future: everything before is over.
    pub fn finish(&mut self, partitions: i32) -> Result<()> {
        for partition in 0..partitions {
            self.next += 1;
            let payload = payload((self.next, 1000 + i64::from(partition), self.now + 1_000_000, 0));
            let record = BaseRecord::<str, str>::to(&self.topic).payload(&payload).partition(partition);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(self.producer.flush(Duration::from_secs(60))?)
    }

    fn send(&self, event: (u64, i64, i64, i64)) -> Result<()> {
        let key = if self.by_id { event.0.to_string() } else { format!("user-{}", event.1) };
        let payload = payload(event);
        loop {
            match self.producer.send(BaseRecord::to(&self.topic).key(&key).payload(&payload)) {
                Ok(()) => return Ok(()),
                Err((error, _)) if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) => {
                    self.producer.poll(Duration::from_millis(50));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

fn payload((id, user, at, amount): (u64, i64, i64, i64)) -> String {
    format!(r#"{{"id":{id},"user":"user-{user}","at":{at},"amount":{amount}}}"#)
}

/// Values of a topic by partition, in their order.
pub fn values(broker: &KafkaBroker, topic: &str) -> Result<BTreeMap<i32, Vec<String>>> {
    let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    read_topic(broker, topic, |partition, value| {
        let text = value.map_or("null".to_owned(), |value| String::from_utf8_lossy(value).into_owned());
        values.entry(partition).or_default().push(text);
    })?;
    Ok(values)
}

/// The first of each number, by input partition.
pub fn deduplicated(input: &BTreeMap<i32, Vec<String>>) -> BTreeMap<i32, Vec<String>> {
    let of = |values: &Vec<String>| {
        let (mut known, mut watermark) = (BTreeMap::<i64, i64>::new(), i64::MIN);
        values
            .iter()
            .filter(|value| {
                let (id, at) = (number(value, "id"), number(value, "at"));
                assert!(at + TTL > watermark, "the test's events are not late");
                let before = watermark;
                watermark = watermark.max(at - DISORDER);
                let first = known.get(&id).is_none_or(|seen| seen + TTL <= before || (seen - at).abs() >= TTL);
                if first {
                    known.insert(id, at);
                }
                first
            })
            .cloned()
            .collect()
    };
    input.iter().map(|(partition, values)| (*partition, of(values))).collect()
}

/// Sums of all partitions together by user and window, of windows that are over in all of them.
pub fn windows_together(input: &BTreeMap<i32, Vec<String>>) -> Vec<String> {
    let deduplicated = deduplicated(input);
    let latest = |values: &Vec<String>| values.iter().map(|value| number(value, "at")).max();
    let watermark = deduplicated.values().filter_map(latest).min().unwrap_or(i64::MIN) - DISORDER;
    let mut windows: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
    for value in deduplicated.values().flatten() {
        let start = number(value, "at").div_euclid(SIZE) * SIZE;
        let user = field(value, "user").as_str().unwrap_or_default().to_owned();
        let window = windows.entry((user, start)).or_default();
        window.0 += 1;
        window.1 += number(value, "amount");
    }
    let over = windows.into_iter().filter(|((_, start), _)| start + SIZE <= watermark);
    let mut results: Vec<String> = over.map(|((user, start), sums)| result(&user, start, sums)).collect();
    results.sort();
    results
}

/// Sums of all partitions together by user, each with its number of events.
pub fn totals(input: &BTreeMap<i32, Vec<String>>) -> BTreeMap<String, (i64, i64)> {
    let mut totals: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for value in deduplicated(input).values().flatten() {
        let total = totals.entry(field(value, "user").as_str().unwrap_or_default().to_owned()).or_default();
        total.0 += 1;
        total.1 += number(value, "amount");
    }
    totals
}

fn result(user: &str, start: i64, (count, sum): (i64, i64)) -> String {
    let end = start + SIZE;
    format!(r#"{{"key":"{user}","window_start":{start},"window_end":{end},"n":{count},"total":{sum}}}"#)
}

/// The windows that are over, sorted.
pub fn windows(input: &BTreeMap<i32, Vec<String>>) -> Vec<String> {
    let mut results = Vec::new();
    for values in deduplicated(input).values() {
        let mut windows: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
        let mut watermark = i64::MIN;
        for value in values {
            let at = number(value, "at");
            let start = at.div_euclid(SIZE) * SIZE;
            if start + SIZE > watermark {
                let user = field(value, "user").as_str().unwrap_or_default().to_owned();
                let window = windows.entry((user, start)).or_default();
                window.0 += 1;
                window.1 += number(value, "amount");
            }
            watermark = watermark.max(at - DISORDER);
        }
        let over = windows.into_iter().filter(|((_, start), _)| start + SIZE <= watermark);
        results.extend(over.map(|((user, start), sums)| result(&user, start, sums)));
    }
    results.sort();
    results
}

pub fn field(value: &str, name: &str) -> Value {
    serde_json::from_str::<Value>(value).unwrap_or_default()[name].clone()
}

pub fn number(value: &str, name: &str) -> i64 {
    field(value, name).as_i64().unwrap_or(i64::MIN)
}
