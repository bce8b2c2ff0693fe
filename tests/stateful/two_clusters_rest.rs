//! Two clusters as users see them: offsets by REST, groups on both sides, topics that come later, addresses that say nothing.

use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tributary_harness::{BrokerOptions, KafkaBroker, Result, Seed, TributaryWorker, WorkerOptions, wait};

use crate::events::{Events, values};
use crate::rig::{PARTITIONS, extend, produce, sorted, stopped, unique};
use crate::two_clusters::{Between, Side};

fn options(group: &str) -> WorkerOptions {
    WorkerOptions::default().set("group.id", group).set("offset.flush.interval.ms", "200")
}

fn copy(topics: &Value, more: &Value) -> Value {
    let mut config = json!({
        "connector.class": "KafkaSink", "transaction.interval.ms": 100, "errors.restart.backoff.initial.ms": "50",
        "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
    });
    extend(&mut config, topics);
    extend(&mut config, more);
    config
}

/// Waits until a topic has these values.
fn has(broker: &KafkaBroker, topic: &str, expected: &[String]) -> Result<()> {
    wait::until(&format!("{topic} has {} records", expected.len()), wait::PATIENCE, || {
        crate::rig::same(topic, &sorted(values(broker, topic)?), expected).map(Some)
    })
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    let mut numbers: Vec<String> = range.map(|n| format!("{{\"n\":{n}}}")).collect();
    numbers.sort();
    numbers
}

/// What a group has committed of the partitions of a topic.
fn committed(broker: &KafkaBroker, group: &str, topic: &str, partitions: i32) -> Result<Vec<Option<i64>>> {
    let consumer: BaseConsumer = ClientConfig::from_iter([
        ("bootstrap.servers".to_owned(), broker.bootstrap()),
        ("group.id".to_owned(), group.to_owned()),
    ])
    .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let found = consumer.committed_offsets(list, Duration::from_secs(30))?;
    let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
    Ok(found.elements().iter().map(|element| offset(element.offset())).collect())
}

fn cluster_id(broker: &KafkaBroker) -> Result<String> {
    let consumer: BaseConsumer = broker.client().create()?;
    let id = consumer.client().fetch_cluster_id(Duration::from_secs(30));
    id.ok_or_else(|| tributary_harness::Error::new("the cluster has no id"))
}

/// Offsets are read and set where they are; a reset empties offsets and state; the source's group shows how far it is.
#[test]
fn offsets_are_those_in_the_target() -> Result<()> {
    let mut seed = Seed::announce("offsets between two clusters");
    let dir = tempfile::tempdir()?;
    let between = Between::new("rest", Side::Target, dir.path(), &BrokerOptions::default(), false)?;
    let mut worker = TributaryWorker::start_with(&between.home(), options("rest"))?;
    let rest = worker.rest();
    let mut events = Events::new(&between.source, &between.rig.input)?;
    events.produce(2_000, &mut seed)?;
    events.finish(PARTITIONS)?;
    between.create(rest, 2, &json!({}))?;
    between.check(rest).map_err(|error| worker.with_log(error.to_string()))?;
    let ends: Vec<_> = between.source.watermarks(&between.rig.input)?.into_iter().map(|(_, end)| Some(end)).collect();
    let (name, input) = (&between.rig.first, &between.rig.input);
    let (from, to) = (cluster_id(&between.source)?, cluster_id(&between.target)?);

    // Where everything is.
    let group = format!("connect-{name}-from-{from}");
    let stand_in = between.target.topics()?.into_iter().find(|topic| topic.starts_with(&format!("{group}.{input}.")));
    let stand_in = stand_in.expect("a topic that stands for the input");
    assert_eq!(committed(&between.target, &group, &stand_in, PARTITIONS)?, ends);
    assert_eq!(between.target.watermarks(&stand_in)?, [(0, 0); PARTITIONS as usize]);
    let changelog = format!("rest-from-{from}-{name}-changelog");
    assert!(between.target.topics()?.contains(&changelog) && !between.source.topics()?.contains(&changelog));
    let shown = format!("connect-{name}-to-{to}");
    wait::until("the source's group follows", wait::PATIENCE, || {
        Ok((committed(&between.source, &shown, input, PARTITIONS)? == ends).then_some(()))
    })?;
    // A group of the connector's usual name is nobody's.
    assert_eq!(committed(&between.source, &format!("connect-{name}"), input, PARTITIONS)?, [None, None, None]);

    // Set, with the state as it is: what is read again is known.
    let count = |topic: &str| Ok::<_, tributary_harness::Error>(sorted(values(&between.target, topic)?).len());
    let once = count(name)?;
    let place = |topic: &str, partition: i32, offset: Value| json!({"offsets": [{"partition": {"kafka_topic": topic, "kafka_partition": partition}, "offset": offset}]});
    let offsets = format!("/connectors/{name}/offsets");
    stopped(rest, name)?;
    rest.patch(&offsets, &place(input, 0, json!({"kafka_offset": 4})))?.ok()?;
    let shown = rest.get(&offsets)?.ok()?;
    assert!(
        shown["offsets"].as_array().into_iter().flatten().any(|entry| {
            entry["partition"] == json!({"kafka_topic": input, "kafka_partition": 0})
                && entry["offset"]["kafka_offset"] == 4
        }),
        "{shown}"
    );
    for wrong in [place("no-such-topic", 0, json!({"kafka_offset": 4})), place(input, 99, json!({"kafka_offset": 4}))] {
        let answer = rest.patch(&offsets, &wrong)?;
        assert!(answer.status == 400 && answer.body.to_string().contains("there is no partition"), "{}", answer.body);
    }
    rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    between.check(rest).map_err(|error| worker.with_log(error.to_string()))?;
    assert_eq!(count(name)?, once);

    // Reset: everything is made again.
    stopped(rest, name)?;
    let said = rest.delete(&offsets)?.ok()?.to_string();
    assert!(said.contains("state of its transforms has been purged"), "{said}");
    assert!(!between.target.topics()?.contains(&changelog));
    rest.put(&format!("/connectors/{name}/resume"), &json!({}))?;
    let twice = wait::until("everything is written again", wait::PATIENCE, || {
        let count = count(name)?;
        Ok((count >= 2 * once).then_some(count))
    });
    assert_eq!(twice.map_err(|error| worker.with_log(error.to_string()))?, 2 * once);
    worker.stop()
}

/// Topics that match later, and partitions that are added, are read; offsets of them can be set before.
#[test]
fn topics_and_partitions_come_later() -> Result<()> {
    let (source, target) = (KafkaBroker::start()?, KafkaBroker::start()?);
    let mut worker = TributaryWorker::start_with(&source.bootstrap(), options("later"))?;
    let rest = worker.rest();
    source.create_topic("orders-1", 1, &[])?;
    source.create_topic("other", 1, &[])?;
    produce(&source, "orders-1", numbers(0..100))?;
    produce(&source, "other", numbers(0..100))?;
    let more = json!({
        "producer.override.bootstrap.servers": target.bootstrap(), "tasks.max": 2,
        "consumer.override.metadata.max.age.ms": 1000,
    });
    rest.put_connector("later", &copy(&json!({"topics.regex": "orders-\\d+"}), &more))?;
    let copied =
        |topic: &str, range| has(&target, topic, &numbers(range)).map_err(|error| worker.with_log(error.to_string()));
    copied("orders-1", 0..100)?;
    source.create_topic("orders-2", 2, &[])?;
    produce(&source, "orders-2", numbers(0..500))?;
    copied("orders-2", 0..500)?;
    source.add_partitions("orders-1", 3)?;
    // The producer learns of them, too.
    thread::sleep(Duration::from_secs(2));
    produce(&source, "orders-1", numbers(100..1000))?;
    copied("orders-1", 0..1000)?;
    assert!(source.watermarks("orders-1")?.iter().all(|(_, end)| *end > 0), "all partitions have records");
    assert!(!target.topics()?.contains(&"other".to_owned()));
    worker.stop()
}

/// Two addresses of one cluster are one cluster: offsets stay where they are. As long as it does not say, the task waits.
#[test]
fn clusters_are_told_apart_by_their_ids() -> Result<()> {
    let broker = KafkaBroker::start()?;
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options("ids"))?;
    let rest = worker.rest();
    let [input, output] = ["in", "out"].map(unique);
    broker.create_topic(&input, 1, &[])?;
    produce(&broker, &input, numbers(0..100))?;
    let name = unique("ids");
    rest.put_connector(&name, &copy(&json!({"topics": input, "topic": output}), &json!({})))?;
    has(&broker, &output, &numbers(0..100))?;
    let (host, port) =
        broker.bootstrap().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap_or_default();
    let other = if host == "localhost" { "127.0.0.1" } else { "localhost" };
    let alias = json!({"producer.override.bootstrap.servers": format!("{other}:{port}")});
    rest.put_connector(&name, &copy(&json!({"topics": input, "topic": output}), &alias))?;
    produce(&broker, &input, numbers(100..200))?;
    has(&broker, &output, &numbers(0..200)).map_err(|error| worker.with_log(error.to_string()))?;
    assert_eq!(committed(&broker, &format!("connect-{name}"), &input, 1)?, [Some(200)]);
    assert!(!broker.topics()?.iter().any(|topic| topic.contains("-from-")));

    // A cluster that is away is not taken for another one.
    let mut away = KafkaBroker::start()?;
    away.create_topic(&input, 1, &[])?;
    away.kill()?;
    let there = json!({"producer.override.bootstrap.servers": away.bootstrap()});
    let waits = unique("waits");
    rest.put_connector(&waits, &copy(&json!({"topics": input}), &there))?;
    let retries = wait::until("the task waits for the cluster", wait::PATIENCE, || {
        let status = rest.status(&waits)?;
        let text = status.to_string();
        Ok(text.contains("does not tell its id").then_some(()))
    });
    retries.map_err(|error| worker.with_log(error.to_string()))?;
    away.restart()?;
    has(&away, &input, &numbers(0..200)).map_err(|error| worker.with_log(error.to_string()))?;
    worker.stop()
}

/// What cannot be is said when the config is given.
#[test]
fn impossible_clusters_are_refused() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut embedded = TributaryWorker::start_embedded()?;
    let refused = |worker: &TributaryWorker, more: Value, key: &str, why: &str| -> Result<()> {
        let config = copy(&json!({"topics": "t", "name": "refused"}), &more);
        let answer = worker.rest().put("/connector-plugins/KafkaSink/config/validate", &config)?.ok()?;
        let found = answer["configs"].as_array().into_iter().flatten().find(|entry| entry["value"]["name"] == key);
        let errors = found.map_or(Value::Null, |entry| entry["value"]["errors"].clone());
        assert!(errors.to_string().contains(why), "{key}: {errors}");
        Ok(())
    };
    let elsewhere = json!({"producer.override.bootstrap.servers": "localhost:1"});
    refused(&embedded, elsewhere, "producer.override.bootstrap.servers", "the worker is on the embedded log")?;
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options(&unique("refused")))?;
    let into = json!({"producer.override.bootstrap.servers": "embedded"});
    refused(&worker, into, "producer.override.bootstrap.servers", "this worker is on Kafka")?;
    let protocol = json!({
        "producer.override.bootstrap.servers": "localhost:1", "consumer.override.group.protocol": "consumer",
    });
    refused(&worker, protocol, "consumer.override.group.protocol", "cannot be used between two clusters")?;
    embedded.stop()?;
    worker.stop()
}

/// The example of `config/connectors`, from a cluster with TLS and SASL to the worker's, which has neither; and back, where the worker's own
/// settings are not those of the other cluster.
#[test]
fn each_cluster_has_its_own_security() -> Result<()> {
    let (plant, home) = (KafkaBroker::start_with(BrokerOptions::default().secured())?, KafkaBroker::start()?);
    let secured = plant.secured();
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"alice\" password=\"alice-secret\";";
    let with = [
        ("bootstrap.servers", secured.bootstrap("SASLTLS")),
        ("security.protocol", "SASL_SSL".to_owned()),
        ("sasl.mechanism", "PLAIN".to_owned()),
        ("sasl.jaas.config", jaas.to_owned()),
        ("ssl.truststore.location", secured.file("broker.pem")),
        ("ssl.truststore.type", "PEM".to_owned()),
    ];
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/connectors/kafka-to-kafka.json");
    let mut example: Value = serde_json::from_slice(&std::fs::read(path)?).expect("an example");
    for (setting, value) in &with {
        example["config"][format!("consumer.override.{setting}")] = json!(value);
    }
    plant.create_topic("orders-7", 3, &[])?;
    produce(&plant, "orders-7", numbers(0..300))?;
    let mut worker = TributaryWorker::start_with(&home.bootstrap(), options("plant"))?;
    let name = example["name"].as_str().unwrap_or_default();
    worker.rest().put_connector(name, &example["config"])?;
    has(&home, "orders-7", &numbers(0..300)).map_err(|error| worker.with_log(error.to_string()))?;
    let shown = format!("connect-{name}-to-{}", cluster_id(&home)?);
    wait::until("the source's group follows", wait::PATIENCE, || {
        let shown = committed(&plant, &shown, "orders-7", 3)?;
        Ok((shown.iter().flatten().sum::<i64>() == 300).then_some(()))
    })?;
    assert!(!worker.log().contains("alice-secret"));

    // Both ends of the same pair, by the worker of the secured one: the other one is plain.
    let mut there = options("back");
    for (setting, value) in &with {
        if *setting != "bootstrap.servers" {
            there = there.set(setting, value);
        }
    }
    let mut back = TributaryWorker::start_with(&secured.bootstrap("SASLTLS"), there)?;
    let plain = json!({
        "producer.override.bootstrap.servers": home.bootstrap(), "producer.override.security.protocol": "PLAINTEXT",
    });
    back.rest().put_connector("pushed", &copy(&json!({"topics": "orders-7", "topic": "pushed"}), &plain))?;
    has(&home, "pushed", &numbers(0..300)).map_err(|error| back.with_log(error.to_string()))?;
    back.stop()?;
    worker.stop()
}

/// A connector that gets another target begins there anew, and goes on where it was when it comes back. Dead letters are where the output is.
#[test]
fn another_target_is_another_beginning() -> Result<()> {
    let (here, there) = (KafkaBroker::start()?, KafkaBroker::start()?);
    let mut worker = TributaryWorker::start_with(&here.bootstrap(), options("moves"))?;
    let rest = worker.rest();
    here.create_topic("in", 2, &[])?;
    produce(&here, "in", numbers(0..100))?;
    produce(&here, "in", ["no JSON".to_owned()])?;
    let json = json!({
        "topics": "in", "topic": "out", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": false, "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": "letters", "errors.deadletterqueue.topic.replication.factor": 1,
    });
    let to = |more: Value| rest.put_connector("moves", &copy(&json, &more));
    let letters = |broker: &KafkaBroker| has(broker, "letters", &["no JSON".to_owned()]);
    to(json!({}))?;
    has(&here, "out", &numbers(0..100)).map_err(|error| worker.with_log(error.to_string()))?;
    letters(&here)?;
    let away = json!({"producer.override.bootstrap.servers": there.bootstrap()});
    to(away.clone())?;
    has(&there, "out", &numbers(0..100)).map_err(|error| worker.with_log(error.to_string()))?;
    letters(&there)?;
    produce(&here, "in", numbers(100..200))?;
    has(&there, "out", &numbers(0..200))?;
    assert_eq!(committed(&here, "connect-moves", "in", 2)?.iter().flatten().sum::<i64>(), 101);
    to(json!({}))?;
    has(&here, "out", &numbers(0..200)).map_err(|error| worker.with_log(error.to_string()))?;
    to(away)?;
    produce(&here, "in", numbers(200..300))?;
    has(&there, "out", &numbers(0..300)).map_err(|error| worker.with_log(error.to_string()))?;
    letters(&here)?;
    letters(&there)?;
    worker.stop()
}

/// Both ends in a cluster that is not the worker's: one cluster, in the ordinary way.
#[test]
fn both_ends_may_be_elsewhere() -> Result<()> {
    let (home, there) = (KafkaBroker::shared()?, KafkaBroker::start()?);
    let mut worker = TributaryWorker::start_with(&home.bootstrap(), options(&unique("elsewhere")))?;
    let rest = worker.rest();
    there.create_topic("in", 3, &[])?;
    produce(&there, "in", numbers(0..100))?;
    let both = json!({
        "producer.override.bootstrap.servers": there.bootstrap(), "consumer.override.bootstrap.servers": there.bootstrap(),
        "consumer.override.session.timeout.ms": 6000, "tasks.max": 2,
    });
    let once = json!({
        "topics": "in", "topic": "out", "transforms": "once", "transforms.once.type": "Deduplicate",
        "transforms.once.key": "v.n", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": false,
    });
    let mut config = copy(&once, &both);
    extend(&mut config, &json!({"value.converter": "org.apache.kafka.connect.json.JsonConverter"}));
    rest.put_connector("elsewhere", &config)?;
    has(&there, "out", &numbers(0..100)).map_err(|error| worker.with_log(error.to_string()))?;
    worker.kill9()?;
    produce(&there, "in", numbers(50..200))?;
    worker.spawn()?;
    // Records have no key, so that the second of a pair may be in another partition, and known to nobody there.
    let all = wait::until("the rest is there", wait::PATIENCE, || {
        let written = sorted(values(&there, "out")?);
        let numbers: std::collections::BTreeSet<_> = written.iter().cloned().collect();
        Ok((numbers.len() == 200).then_some(written))
    });
    all.map_err(|error| worker.with_log(error.to_string()))?;
    let sums = |group: &str| {
        Ok::<_, tributary_harness::Error>(committed(&there, group, "in", 3)?.iter().flatten().sum::<i64>())
    };
    wait::until("the group is at the end", wait::PATIENCE, || Ok((sums("connect-elsewhere")? == 250).then_some(())))?;
    assert!(there.topics()?.iter().any(|topic| topic.ends_with("-elsewhere-changelog") && !topic.contains("-from-")));
    stopped(worker.rest(), "elsewhere")?;
    worker.rest().delete("/connectors/elsewhere/offsets")?.ok()?;
    assert!(!there.topics()?.iter().any(|topic| topic.ends_with("-elsewhere-changelog")));
    worker.stop()
}
