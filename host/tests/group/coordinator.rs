//! The coordinator away, or members cut off from it.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tributary::group::{Group, wire};
use tributary_harness::{BrokerOptions, KafkaBroker, KafkaCluster};

use crate::support::{Cluster, Worker, group_id, settings, wait_for};

#[test]
fn a_worker_that_is_cut_off_stops_before_others_start() {
    let broker = KafkaBroker::start_with(BrokerOptions::default().proxied()).unwrap();
    let group = group_id("cut-off");
    let cluster = Cluster::new(10, 2);
    let near = Worker::start(&cluster, &broker.bootstrap(), &group, "http://a:1");
    let far = Worker::start(&cluster, &broker.proxied_bootstrap(), &group, "http://b:2");
    cluster.wait_until_even(&["http://a:1", "http://b:2"]);

    // Silence, as of a cable that is pulled: no connection breaks.
    broker.proxy().stall();
    cluster.wait_until_even(&["http://a:1"]);
    assert!(!far.member().lease().holds());
    assert_eq!(far.losses().len(), 1, "{:?}", far.losses());
    broker.proxy().resume();
    cluster.wait_until_even(&["http://a:1", "http://b:2"]);
    wait_for("the lease", || far.member().lease().holds());
    assert!(near.losses().is_empty());

    // Broken connections alone change nothing.
    let (starts, stops) = (cluster.starts(), cluster.stops());
    for _ in 0..5 {
        broker.proxy().reset();
        std::thread::sleep(Duration::from_millis(300));
    }
    cluster.wait_until_even(&["http://a:1", "http://b:2"]);
    assert_eq!((cluster.starts(), cluster.stops()), (starts, stops));
    assert!(cluster.twice.lock().unwrap().is_empty());
}

#[test]
fn a_coordinator_that_is_restarted_stops_nobody() {
    let mut broker = KafkaBroker::start().unwrap();
    let group = group_id("restart");
    let cluster = Cluster::new(6, 2);
    let patient = |url| {
        let mut settings = settings(&broker.bootstrap(), &group, url);
        settings.session_timeout = Duration::from_secs(60);
        Worker::start_with(&cluster, settings)
    };
    let first = patient("http://a:1");
    let second = patient("http://b:2");
    cluster.wait_until_even(&["http://a:1", "http://b:2"]);
    let (starts, stops) = (cluster.starts(), cluster.stops());
    broker.kill().unwrap();
    broker.restart().unwrap();
    for worker in [&first, &second] {
        wait_for("the coordinator to be found again", || worker.member().state().coordinator.is_some());
    }
    // The group goes on: a new connector finds an owner.
    cluster.configure(7, 2);
    first.member().request_rejoin("a connector was created");
    second.member().request_rejoin("a connector was created");
    cluster.wait_until_even(&["http://a:1", "http://b:2"]);
    assert_eq!(cluster.starts() - starts, 3);
    assert_eq!(cluster.stops(), stops);
    assert!(first.losses().is_empty() && second.losses().is_empty());
    assert!(cluster.twice.lock().unwrap().is_empty());
}

#[test]
fn the_coordinator_of_a_cluster_is_killed() {
    let mut kafka =
        KafkaCluster::start(3, BrokerOptions::default().set("auto.leader.rebalance.enable", "false")).unwrap();
    let group = group_id("cluster");
    let cluster = Cluster::new(6, 2);
    let patient = |url| {
        let mut settings = settings(&kafka.bootstrap(), &group, url);
        settings.session_timeout = Duration::from_secs(60);
        Worker::start_with(&cluster, settings)
    };
    let first = patient("http://a:1");
    let second = patient("http://b:2");
    cluster.wait_until_even(&["http://a:1", "http://b:2"]);
    let (starts, stops) = (cluster.starts(), cluster.stops());
    let coordinator = first.member().state().coordinator.unwrap();
    let index = kafka.brokers.iter().position(|broker| broker.bootstrap() == coordinator).unwrap();
    kafka.brokers[index].kill().unwrap();
    for worker in [&first, &second] {
        wait_for("another coordinator", || worker.member().state().coordinator.is_some_and(|now| now != coordinator));
    }
    cluster.configure(7, 2);
    first.member().request_rejoin("a connector was created");
    second.member().request_rejoin("a connector was created");
    cluster.wait_until_even(&["http://a:1", "http://b:2"]);
    assert_eq!(cluster.starts() - starts, 3);
    assert_eq!(cluster.stops(), stops);
    assert!(first.losses().is_empty() && second.losses().is_empty());
    assert!(cluster.twice.lock().unwrap().is_empty());
}

#[test]
fn fencing_a_transactional_id_ends_its_producer() {
    let broker = KafkaBroker::shared().unwrap();
    let id = group_id("fenced");
    let producer: BaseProducer =
        broker.client().set("transactional.id", &id).set("transaction.timeout.ms", "60000").create().unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), _>::to("fenced").payload("zombie")).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();

    let wire = settings(&broker.bootstrap(), "none", "http://a:1").wire;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fence =
        || runtime.block_on(wire::Cluster::new(wire.clone()).fence_producer(&id, Duration::from_secs(30))).unwrap();
    let first = fence();
    let error = producer.commit_transaction(Duration::from_secs(30)).unwrap_err();
    assert!(matches!(&error, KafkaError::Transaction(inner) if inner.is_fatal()), "{error:?}");
    let second = fence();
    assert!(second.producer_id != first.producer_id || second.epoch > first.epoch);
}
