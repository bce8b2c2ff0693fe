//! What other members of the group, and its tools, see of a parked task.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;
use tributary_harness::{Error, KafkaBroker, Result, wait};

use super::Sink;

/// State and members of the sink's group: member id, client id.
fn describe(broker: &KafkaBroker, sink: &Sink) -> Result<(String, Vec<(String, String)>)> {
    let client: BaseConsumer = broker.client().create()?;
    let group = format!("connect-{}", sink.name);
    let list = client.fetch_group_list(Some(&group), Duration::from_secs(30))?;
    let group = list.groups().first().ok_or_else(|| Error::new("no such group"))?;
    let members = group.members().iter().map(|member| (member.id().to_owned(), member.client_id().to_owned()));
    Ok((group.state().to_owned(), members.collect()))
}

#[test]
fn the_group_keeps_its_member() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut sink = Sink::start(&broker, 1)?;
    sink.send(0, 1)?;
    sink.check()?;
    let before = describe(&broker, &sink)?;
    assert_eq!((before.0.as_str(), before.1.len()), ("Stable", 1));
    for _ in 0..2 {
        sink.wait_parked()?;
        // Longer than a session.
        thread::sleep(Duration::from_secs(8));
        assert!(sink.is_parked()?);
        assert_eq!(describe(&broker, &sink)?, before);
        sink.send(0, 1)?;
        sink.check()?;
        assert_eq!(describe(&broker, &sink)?, before, "nothing was rebalanced for the record");
    }
    Ok(())
}

#[test]
fn a_member_that_joins_gets_its_part_and_gives_it_back() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut sink = Sink::start(&broker, 4)?;
    sink.wait_parked()?;
    let other: BaseConsumer = broker
        .client()
        .set("group.id", format!("connect-{}", sink.name))
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", "6000")
        .set("enable.auto.commit", "false")
        .create()?;
    other.subscribe(&[&sink.name])?;
    let begun = Instant::now();
    while other.assignment()?.count() != 2 {
        other.poll(Duration::from_millis(100));
        assert!(begun.elapsed() < wait::PATIENCE, "{:?}", other.assignment()?);
    }
    sink.wait_parked()?;
    // Two of the partitions are the sink's.
    let (mut theirs, begun) = (0, Instant::now());
    (0..4).try_for_each(|partition| sink.send(partition, 10))?;
    while theirs < 20 {
        theirs += i32::from(other.poll(Duration::from_millis(100)).is_some_and(|record| record.is_ok()));
        assert!(begun.elapsed() < wait::PATIENCE, "{theirs} records");
    }
    wait::until("the sink's part", wait::PATIENCE, || Ok((sink.judge()?.delivered == 20).then_some(())))?;
    drop(other);
    // What the other one has read and not committed comes to the sink.
    sink.check()?;
    sink.wait_parked()
}

#[test]
fn more_tasks_and_more_partitions_are_noticed() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut sink = Sink::start(&broker, 2)?;
    sink.send(0, 5)?;
    sink.check()?;
    sink.wait_parked()?;
    sink.configure(json!({"tasks.max": "2"}))?;
    wait::until("two members", wait::PATIENCE, || {
        let (state, members) = describe(&broker, &sink)?;
        Ok((state == "Stable" && members.len() == 2).then_some(()))
    })?;
    sink.send(0, 5)?;
    sink.send(1, 5)?;
    sink.check()?;
    sink.wait_parked()?;
    broker.add_partitions(&sink.name, 4)?;
    sink.more_partitions(&broker, 4)?;
    (0..4).try_for_each(|partition| sink.send(partition, 5))?;
    sink.check()?;
    sink.wait_parked()
}
