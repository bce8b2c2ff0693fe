//! Joining, leaving, crashing.

use std::time::Duration;

use tributary::group::Group;
use tributary_harness::KafkaBroker;

use crate::support::{Cluster, Worker, group_id, member_file, settings, wait_for};

fn urls<'a>(workers: &'a [&Worker]) -> Vec<&'a str> {
    workers.iter().map(|worker| worker.url.as_str()).collect()
}

fn nothing_ran_twice(cluster: &Cluster) {
    let twice = cluster.twice.lock().unwrap();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn a_joining_worker_gets_its_part_and_nothing_else_moves() {
    let broker = KafkaBroker::shared().unwrap();
    let group = group_id("joining");
    let cluster = Cluster::new(100, 1);
    let first = Worker::start(&cluster, &broker.bootstrap(), &group, "http://a:1");
    let alone = cluster.wait_until_even(&urls(&[&first]));
    assert!(first.member().lease().holds());
    // The member may hear of its own round after its callbacks.
    wait_for("the first to lead", || {
        let state = first.member().state();
        state.leader && state.leader_url.as_deref() == Some("http://a:1")
    });

    let second = Worker::start(&cluster, &broker.bootstrap(), &group, "http://b:2");
    let balanced = cluster.wait_until_even(&urls(&[&first, &second]));
    println!("alone after {} ms, two balanced after {} ms", alone.as_millis(), balanced.as_millis());
    assert_eq!(cluster.stops(), 100, "half of 100 connectors and 100 tasks moved");
    // The leader may hear of its own round last.
    wait_for("the leader to know the owner", || first.member().owner_url("c000", None).is_some());
    assert_eq!(second.member().owner_url("c000", None), None, "only the leader knows");

    // A new connector touches nobody else's.
    cluster.configure(101, 1);
    first.member().request_rejoin("a connector was created");
    cluster.wait_until_even(&urls(&[&first, &second]));
    assert_eq!((cluster.starts(), cluster.stops()), (302, 100));
    nothing_ran_twice(&cluster);
}

#[test]
fn a_killed_workers_part_is_taken_over_when_its_session_ends() {
    let broker = KafkaBroker::shared().unwrap();
    let group = group_id("killed");
    let cluster = Cluster::new(9, 4);
    let first = Worker::start(&cluster, &broker.bootstrap(), &group, "http://a:1");
    let mut second = Worker::start(&cluster, &broker.bootstrap(), &group, "http://b:2");
    let third = Worker::start(&cluster, &broker.bootstrap(), &group, "http://c:3");
    cluster.wait_until_even(&urls(&[&first, &second, &third]));
    let stops = cluster.stops();
    second.kill();
    let taken_over = cluster.wait_until_even(&urls(&[&first, &third]));
    println!("taken over after {} ms; the session is 6000 ms", taken_over.as_millis());
    assert_eq!(cluster.stops() - stops, 15, "only what the killed one had");
    nothing_ran_twice(&cluster);
}

#[test]
fn a_leaving_worker_is_waited_for_no_longer_than_a_restart_takes() {
    let broker = KafkaBroker::shared().unwrap();
    let group = group_id("leaving");
    let cluster = Cluster::new(10, 2);
    let patient = |url| {
        let mut settings = settings(&broker.bootstrap(), &group, url);
        settings.lost_worker_delay = Some(Duration::from_secs(300));
        Worker::start_with(&cluster, settings)
    };
    let mut first = patient("http://a:1");
    cluster.wait_until_even(&urls(&[&first]));
    let mut second = patient("http://b:2");
    let third = patient("http://c:3");
    cluster.wait_until_even(&urls(&[&first, &second, &third]));
    second.leave();
    let one_gone = cluster.wait_until_even(&urls(&[&first, &third]));
    first.leave();
    let leader_gone = cluster.wait_until_even(&urls(&[&third]));
    println!("after {} ms, and the leader's after {} ms", one_gone.as_millis(), leader_gone.as_millis());
    wait_for("the last one to lead", || third.member().state().leader);
    nothing_ran_twice(&cluster);
}

#[test]
fn a_lost_worker_is_waited_for_and_has_its_part_back() {
    let broker = KafkaBroker::shared().unwrap();
    let group = group_id("waited-for");
    let cluster = Cluster::new(10, 2);
    let patient = |url| {
        let mut settings = settings(&broker.bootstrap(), &group, url);
        settings.lost_worker_delay = Some(Duration::from_secs(300));
        Worker::start_with(&cluster, settings)
    };
    let first = patient("http://a:1");
    cluster.wait_until_even(&urls(&[&first]));
    let mut second = patient("http://b:2");
    cluster.wait_until_even(&urls(&[&first, &second]));
    let before = cluster.owners();
    let stops = cluster.stops();
    second.kill();
    wait_for("the leader to wait", || first.assignments().last().is_some_and(|last| !last.delay.is_zero()));
    assert!(cluster.owners().len() < before.len(), "nobody took over");
    let second = patient("http://b:2");
    cluster.wait_until_even(&urls(&[&first, &second]));
    assert_eq!(cluster.owners(), before);
    assert_eq!(cluster.stops() - stops, 15);
    nothing_ran_twice(&cluster);
}

#[test]
fn a_restarted_worker_does_not_wait_for_its_former_session() {
    let broker = KafkaBroker::shared().unwrap();
    let group = group_id("restarted");
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(10, 2);
    let first = Worker::start(&cluster, &broker.bootstrap(), &group, "http://a:1");
    cluster.wait_until_even(&urls(&[&first]));
    let mut keeping = settings(&broker.bootstrap(), &group, "http://b:2");
    keeping.member_file = member_file(&dir);
    // A session so long that nobody could wait for its end.
    keeping.session_timeout = Duration::from_secs(600);
    let mut second = Worker::start_with(&cluster, keeping.clone());
    cluster.wait_until_even(&urls(&[&first, &second]));
    let before = cluster.owners();
    second.kill();
    let mut second = Worker::start_with(&cluster, keeping);
    let back = cluster.wait_until_even(&urls(&[&first, &second]));
    println!("back after {} ms", back.as_millis());
    assert_eq!(cluster.owners(), before, "it has what it had");
    second.leave();
    assert!(!dir.path().join("group-member").exists());
    cluster.wait_until_even(&urls(&[&first]));
    nothing_ran_twice(&cluster);
}
