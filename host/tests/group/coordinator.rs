//! The coordinator away, or members cut off from it.

use std::time::Duration;

use tributary::group::Group;
use tributary_harness::{BrokerOptions, KafkaBroker};

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
