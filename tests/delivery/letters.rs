//! Dead letters, as the tests read them: with an independent client.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::Value;
use tributary_harness::tributary::binary;
use tributary_harness::{Error, KafkaBroker, Result};

/// A record of a dead-letter topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letter {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: Option<i64>,
    /// The record's own headers.
    pub own: Vec<(String, Option<Vec<u8>>)>,
    /// `__connect.errors.*`, without the prefix.
    pub context: BTreeMap<String, String>,
}

/// All letters of a topic; none if there is no such topic yet.
pub fn read(broker: &KafkaBroker, topic: &str) -> Result<Vec<Letter>> {
    let Ok(ends) = broker.watermarks(topic) else { return Ok(Vec::new()) };
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "letters")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.message.max.bytes", "100000000")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for (partition, _) in (0..).zip(&ends).filter(|(_, (first, next))| next > first) {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    let mut open = assignment.count();
    consumer.assign(&assignment)?;
    let mut letters = Vec::new();
    while open > 0 {
        match consumer.poll(Duration::from_secs(30)) {
            Some(Ok(record)) => letters.push(letter(&record)),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Error::new(format!("nothing came from {topic} for 30 s"))),
        }
    }
    Ok(letters)
}

fn letter(record: &impl Message) -> Letter {
    let mut letter = Letter {
        key: record.key().map(<[u8]>::to_vec),
        value: record.payload().map(<[u8]>::to_vec),
        timestamp: record.timestamp().to_millis(),
        ..Letter::default()
    };
    for header in record.headers().into_iter().flat_map(|headers| headers.iter()) {
        match header.key.strip_prefix("__connect.errors.") {
            Some(name) => {
                let text = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
                letter.context.insert(name.to_owned(), text);
            }
            None => letter.own.push((header.key.to_owned(), header.value.map(<[u8]>::to_vec))),
        }
    }
    letter
}

/// Writes records without headers.
pub fn write(broker: &KafkaBroker, topic: &str, values: impl Iterator<Item = String>) -> Result<()> {
    let producer: BaseProducer = broker.client().create()?;
    for value in values {
        producer.send(BaseRecord::<(), _>::to(topic).payload(&value)).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}

/// `tributary dlq …`.
pub fn command(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("dlq").args(args);
    Ok(command)
}

/// Runs `tributary dlq …` and answers with its output.
pub fn dlq(args: &[&str]) -> Result<String> {
    let output = command(args)?.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(Error::new(format!("dlq {args:?}: {}{}", text(&output.stdout), text(&output.stderr))))
}

/// The same with JSON.
pub fn dlq_json(args: &[&str]) -> Result<Value> {
    let text = dlq(&[args, &["-J"]].concat())?;
    serde_json::from_str(&text).map_err(|error| Error::new(format!("{error}: {text}")))
}

/// Puts the picky plugin with its manifest below a directory, for `plugin.path`.
pub fn install_picky(plugins: &Path) -> Result<()> {
    tributary_tests::install_plugin(plugins, "picky")
}
