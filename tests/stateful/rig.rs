//! Connectors with state on one input, and the judge of what they write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_harness::{Error, KafkaBroker, Rest, Result, wait};
pub use tributary_tests::{rounds, unique};

use crate::events::{DISORDER, SIZE, TTL, deduplicated, values, windows};

/// Partitions of the input.
pub const PARTITIONS: i32 = 3;

/// Connectors, named as what they write.
pub struct Rig {
    pub input: String,
    /// The first of each event.
    pub first: String,
    /// Sums of these by user and window.
    pub windows: String,
    /// The same sums, in a file.
    pub sink: String,
    pub file: PathBuf,
}

impl Rig {
    /// Makes the topics.
    pub fn new(broker: &KafkaBroker, what: &str, dir: &Path) -> Result<Self> {
        Self::between(broker, broker, what, dir)
    }

    /// The same with the input in one cluster and what comes of it in another.
    pub fn between(source: &KafkaBroker, target: &KafkaBroker, what: &str, dir: &Path) -> Result<Self> {
        let own = unique(what);
        let name = |what: &str| format!("{own}-{what}");
        let rig = Self {
            input: name("in"),
            first: name("first"),
            windows: name("windows"),
            sink: name("sink"),
            file: dir.join(name("lines")),
        };
        source.create_topic(&rig.input, PARTITIONS, &[])?;
        target.create_topic(&rig.first, PARTITIONS, &[])?;
        target.create_topic(&rig.windows, 1, &[])?;
        Ok(rig)
    }

    /// The names of the connectors.
    pub fn names(&self) -> [&str; 3] {
        [&self.first, &self.windows, &self.sink]
    }

    /// Creates the connectors, or changes the number of their tasks.
    pub fn create(&self, rest: &Rest, tasks: usize, more: &Value) -> Result<()> {
        let mut sink = self.create_from_topic_to_topic(rest, tasks, more)?;
        extend(&mut sink, &json!({"connector.class": "FileStreamSink", "file": self.file, "tasks.max": 1}));
        rest.put_connector(&self.sink, &sink).map(drop)
    }

    /// The same without the sink, whose config this answers but for its class.
    pub fn create_from_topic_to_topic(&self, rest: &Rest, tasks: usize, more: &Value) -> Result<Value> {
        let mut common = json!({
            "topics": self.input, "tasks.max": tasks,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
            "errors.restart.backoff.initial.ms": "50",
            "transforms.once.type": "Deduplicate", "transforms.once.key": "v.id", "transforms.once.ttl.ms": TTL,
            "transforms.once.eventtime.expr": "v.at", "transforms.once.eventtime.max.out.of.orderness.ms": DISORDER,
        });
        extend(&mut common, more);
        let with = |more: Value| {
            let mut config = common.clone();
            extend(&mut config, &more);
            config
        };
        let sums = json!({
            "transforms": "once,sums",
            "transforms.sums.type": "Aggregate", "transforms.sums.key": "v.user", "transforms.sums.window": "tumbling",
            "transforms.sums.size.ms": SIZE, "transforms.sums.aggs": "n:count(), total:sum(v.amount)",
            "transforms.sums.eventtime.expr": "v.at", "transforms.sums.eventtime.max.out.of.orderness.ms": DISORDER,
        });
        let kafka = json!({"connector.class": "KafkaSink", "transaction.interval.ms": 100});
        let mut first = with(kafka.clone());
        extend(&mut first, &json!({"topic": self.first, "transforms": "once"}));
        rest.put_connector(&self.first, &first)?;
        let mut by_window = with(kafka);
        extend(&mut by_window, &sums);
        extend(&mut by_window, &json!({"topic": self.windows}));
        rest.put_connector(&self.windows, &by_window)?;
        Ok(with(sums))
    }

    /// Waits until all have committed everything.
    pub fn finished(&self, rest: &Rest, broker: &KafkaBroker) -> Result<()> {
        self.names().into_iter().try_for_each(|name| finished(rest, broker, &self.input, name))
    }

    /// Compares what was written with a batch computation. What a sink does at least once may be there twice.
    pub fn check(&self, broker: &KafkaBroker) -> Result<()> {
        self.check_topics(broker, broker)?;
        let expected = windows(&values(broker, &self.input)?);
        let lines = std::fs::read(&self.file)?;
        let lines = String::from_utf8_lossy(&lines);
        // A line that was torn by a kill is no result, and comes again.
        let whole = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
        let written: BTreeSet<String> = lines.lines().filter(whole).map(str::to_owned).collect();
        same("windows in the file", &written.into_iter().collect::<Vec<_>>(), &expected)
    }

    /// The same of what was written to topics.
    pub fn check_topics(&self, source: &KafkaBroker, target: &KafkaBroker) -> Result<()> {
        let input = values(source, &self.input)?;
        same("deduplicated", &sorted(values(target, &self.first)?), &sorted(deduplicated(&input)))?;
        same("windows", &sorted(values(target, &self.windows)?), &windows(&input))
    }
}

/// Values of all partitions.
pub fn sorted(by_partition: BTreeMap<i32, Vec<String>>) -> Vec<String> {
    let mut all: Vec<String> = by_partition.into_values().flatten().collect();
    all.sort();
    all
}

pub fn extend(config: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
}

/// Waits until a connector has committed everything.
pub fn finished(rest: &Rest, broker: &KafkaBroker, input: &str, connector: &str) -> Result<()> {
    let ends = broker.watermarks(input)?;
    wait::until(&format!("{connector} reads its input to the end"), Duration::from_secs(180), || {
        let offsets = rest.get(&format!("/connectors/{connector}/offsets"))?.ok()?;
        let committed = |partition: usize| {
            offsets["offsets"].as_array().into_iter().flatten().any(|entry| {
                entry["partition"]["kafka_partition"] == partition as i64
                    && entry["offset"]["kafka_offset"] == ends[partition].1
            })
        };
        if (0..ends.len()).all(committed) {
            return Ok(Some(()));
        }
        let status = rest.status(connector)?;
        if status["tasks"].as_array().into_iter().flatten().any(|task| task["state"] == "FAILED") {
            return Err(Error::new(format!("{connector} failed: {status}")));
        }
        Ok(None)
    })
}

pub fn same(what: &str, got: &[String], expected: &[String]) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let missing: Vec<_> = expected.iter().filter(|value| !got.contains(value)).take(5).collect();
    let wrong: Vec<_> = got.iter().filter(|value| !expected.contains(value)).take(5).collect();
    Err(Error::new(format!(
        "{what}: {} records where {} are expected; missing for instance {missing:#?}, not expected {wrong:#?}",
        got.len(),
        expected.len()
    )))
}

/// Writes records without a key.
pub fn produce(broker: &KafkaBroker, topic: &str, payloads: impl IntoIterator<Item = String>) -> Result<()> {
    let producer: BaseProducer = broker.client().create()?;
    for payload in payloads {
        producer.send(BaseRecord::<str, str>::to(topic).payload(&payload)).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

/// Waits until a task of the connector has failed with this in its trace.
pub fn failed(rest: &Rest, name: &str, what: &str) -> Result<()> {
    wait::until(&format!("{name} fails with '{what}'"), wait::PATIENCE, || {
        let status = rest.status(name)?;
        let traces = status["tasks"].as_array().into_iter().flatten().filter_map(|task| task["trace"].as_str());
        match traces.into_iter().any(|trace| trace.contains(what)) {
            true => Ok(Some(())),
            false => Err(Error::new(status.to_string())),
        }
    })
}

/// Stops the connector, and waits until all of it has stopped.
pub fn stopped(rest: &Rest, name: &str) -> Result<()> {
    rest.put(&format!("/connectors/{name}/stop"), &json!({}))?;
    let is = |status: &Value| status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([]);
    wait::until(&format!("{name} is stopped"), wait::PATIENCE, || Ok(is(&rest.status(name)?).then_some(())))
}
