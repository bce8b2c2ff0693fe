//! What may go wrong while a task is parked.

use std::thread;
use std::time::Duration;

use tributary_harness::{BrokerOptions, KafkaBroker, Result, wait};

use super::Sink;

/// Some lines went through, were committed, and the task is parked.
fn settled(broker: &KafkaBroker) -> Result<Sink> {
    let mut sink = Sink::start(broker, 2)?;
    sink.send(0, 100)?;
    sink.send(1, 100)?;
    sink.check()?;
    sink.wait_parked()?;
    thread::sleep(Duration::from_millis(500));
    Ok(sink)
}

#[test]
fn a_worker_that_is_killed_goes_on() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut sink = settled(&broker)?;
    sink.worker.kill9()?;
    sink.send(0, 10)?;
    sink.worker.restart()?;
    sink.check()?;
    sink.wait_parked()?;
    sink.send(1, 10)?;
    sink.check()
}

#[test]
fn a_worker_that_was_frozen_for_longer_than_the_session_joins_again() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut sink = settled(&broker)?;
    sink.worker.sigstop()?;
    thread::sleep(Duration::from_secs(9));
    sink.send(0, 10)?;
    sink.worker.sigcont()?;
    sink.check()?;
    sink.wait_parked()?;
    sink.send(1, 10)?;
    sink.check()
}

#[test]
fn a_broker_that_restarts_is_waited_for() -> Result<()> {
    let mut broker = KafkaBroker::start()?;
    let mut sink = settled(&broker)?;
    for kill in [true, false] {
        if kill {
            broker.kill()?
        } else {
            broker.stop()?
        }
        thread::sleep(Duration::from_secs(2));
        assert!(sink.is_parked()?, "it has no client that tries to connect");
        broker.restart()?;
        sink.send(0, 10)?;
        sink.send(1, 10)?;
        sink.wait_written()?;
        assert_eq!(sink.judge()?.missing, 0);
        sink.wait_parked()?;
    }
    sink.judge()?.at_least_once()
}

#[test]
fn a_topic_that_is_made_anew_is_read_from_its_beginning() -> Result<()> {
    let broker = KafkaBroker::start_with(BrokerOptions::default().auto_create_topics(false))?;
    let mut sink = settled(&broker)?;
    broker.delete_topic(&sink.name)?;
    wait::until("the topic to be gone", wait::PATIENCE, || {
        Ok(broker.describe_topic(&sink.name)?.is_none().then_some(()))
    })?;
    thread::sleep(Duration::from_secs(3));
    broker.create_topic(&sink.name, 2, &[])?;
    sink.send(0, 5)?;
    sink.check()
}

#[test]
fn tls_and_sasl_are_spoken_for_parked_tasks_too() -> Result<()> {
    let broker = KafkaBroker::start_with(BrokerOptions::default().secured())?;
    let secured = broker.secured();
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"alice\" password=\"alice-secret\";";
    let settings = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.jaas.config", jaas),
        ("ssl.truststore.location", &secured.file("broker.pem")),
        ("ssl.truststore.type", "PEM"),
    ];
    let mut sink = Sink::start_with(&broker, &secured.bootstrap("SASLTLS"), 2, &settings)?;
    for _ in 0..3 {
        sink.wait_parked()?;
        sink.send(0, 10)?;
        sink.send(1, 10)?;
        sink.check()?;
    }
    Ok(())
}

#[test]
fn parking_can_be_turned_off() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut sink = Sink::start_with(&broker, &broker.bootstrap(), 1, &[("sink.parking.delay.ms", "0")])?;
    sink.send(0, 1)?;
    sink.check()?;
    thread::sleep(Duration::from_secs(5));
    assert!(!sink.is_parked()?);
    Ok(())
}
