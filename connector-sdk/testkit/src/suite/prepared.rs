//! What sinks promise that prepare their transactions ([`tributary_sdk::prepared`]).

use std::sync::Arc;

use tributary_sdk::prepared::{Claim, Prepared, PreparedToken};
use tributary_sdk::sink::{SinkConnector, SinkTask, TopicPartition, TopicPartitionOffset};
use tributary_sdk::source::ExactlyOnceSupport;
use tributary_sdk::{Config, Error};

use super::common::Dice;
use super::sink::{SinkSubject, TOPIC};
use super::sinks::{self, each_once, start};
use crate::sink_run::{SinkRun, next_epoch};

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC.into(), partition }
}

/// What the group would say to the owner of this epoch.
fn recover<S: SinkSubject>(run: &mut SinkRun<S::Connector>, epoch: i64, token: Option<Arc<str>>) {
    let claim = Claim { at: at(0), epoch, token };
    run.task().recover(&[claim]).unwrap_or_else(|error| panic!("recover failed: {error}"));
    run.task().open(&[]).unwrap_or_else(|error| panic!("open failed: {error}"));
}

fn claimed<S: SinkSubject>(config: &Config, token: Option<Arc<str>>) -> SinkRun<S::Connector> {
    let mut run = start::<S>(config);
    recover::<S>(&mut run, next_epoch(), token);
    run
}

fn put<S: SinkSubject>(run: &mut SinkRun<S::Connector>, subject: &S, from: usize, rows: usize) {
    sinks::put::<S>(run, subject.batch(from, rows));
}

/// Prepares what was put of the only partition up to this offset.
fn prepare<S: SinkSubject>(run: &mut SinkRun<S::Connector>, offset: usize) -> PreparedToken {
    let offered = TopicPartitionOffset { topic: TOPIC.into(), partition: 0, offset: Some(offset as i64) };
    let prepared = run.task().prepare(&[offered]).unwrap_or_else(|error| panic!("prepare failed: {error}"));
    let [Prepared { at, offset: up_to, token: Some(token) }] = &prepared[..] else {
        panic!("prepare answered {prepared:?} where one token was expected");
    };
    assert_eq!(*up_to, offset as i64, "all that was put is prepared");
    PreparedToken { at: at.clone(), token: token.clone() }
}

/// The connector says that it prepares transactions, and a task writes nothing of a partition that it has not been given by `recover`.
pub fn says_what_it_is<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let supports = S::Connector::default().exactly_once_support(&config);
    assert_eq!(supports, Some(ExactlyOnceSupport::Prepared), "exactly_once_support says what the worker has to do");
    let mut run = start::<S>(&config);
    assert!(run.put(subject.batch(0, 1)).is_err(), "an older worker would not commit what is prepared");
}

/// What is prepared is not visible, and survives a kill: another task commits it by its token.
pub fn prepared_survives_a_kill<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = claimed::<S>(&config, None);
    put(&mut run, subject, 0, 30);
    let prepared = prepare::<S>(&mut run, 30);
    each_once(subject, 0..0);
    drop(run);
    each_once(subject, 0..0);
    let mut run = claimed::<S>(&config, Some(prepared.token));
    each_once(subject, 0..30);
    put(&mut run, subject, 30, 10);
    let prepared = prepare::<S>(&mut run, 40);
    run.task().commit_prepared(&[prepared]).expect("commit_prepared succeeds");
    each_once(subject, 0..40);
}

/// What no offset carries is aborted by the next task, and comes again.
pub fn orphans_are_aborted<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = claimed::<S>(&config, None);
    put(&mut run, subject, 0, 30);
    let orphan = prepare::<S>(&mut run, 30);
    drop(run);
    let mut run = claimed::<S>(&config, None);
    each_once(subject, 0..0);
    put(&mut run, subject, 0, 40);
    let prepared = prepare::<S>(&mut run, 40);
    assert_ne!(prepared.token, orphan.token, "a token is never used twice");
    run.task().commit_prepared(&[prepared]).expect("commit_prepared succeeds");
    each_once(subject, 0..40);
}

/// What was aborted by its token is gone, also if that is told twice.
pub fn aborted_is_gone<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = claimed::<S>(&config, None);
    put(&mut run, subject, 0, 30);
    let prepared = [prepare::<S>(&mut run, 30)];
    run.task().abort_prepared(&prepared).expect("abort_prepared succeeds");
    run.task().abort_prepared(&prepared).expect("abort_prepared succeeds where there is nothing");
    drop(run);
    each_once(subject, 0..0);
}

/// A token may be committed again, and by a task that has none of its partitions.
pub fn commits_are_idempotent<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = claimed::<S>(&config, None);
    put(&mut run, subject, 0, 30);
    let prepared = [prepare::<S>(&mut run, 30)];
    let mut other = start::<S>(&config);
    other.task().commit_prepared(&prepared).expect("any task can commit");
    run.task().commit_prepared(&prepared).expect("commit_prepared succeeds where it is committed");
    drop((run, other));
    claimed::<S>(&config, Some(prepared[0].token.clone()));
    each_once(subject, 0..30);
}

/// A task that stood still in the middle of `recover` aborts nothing of its successor's.
pub fn later_epochs_are_left_alone<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let (mut former, epoch) = (start::<S>(&config), next_epoch());
    let mut run = claimed::<S>(&config, None);
    put(&mut run, subject, 0, 30);
    let prepared = prepare::<S>(&mut run, 30);
    recover::<S>(&mut former, epoch, None);
    run.task().commit_prepared(&[prepared]).expect("commit_prepared succeeds");
    drop((run, former));
    each_once(subject, 0..30);
}

/// What was put and not prepared is dropped with its partition, and what is prepared then stays.
pub fn closing_drops_what_is_not_prepared<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = claimed::<S>(&config, None);
    put(&mut run, subject, 0, 30);
    let prepared = prepare::<S>(&mut run, 30);
    put(&mut run, subject, 30, 10);
    run.task().close(&[at(0)]).expect("close succeeds");
    run.task().commit_prepared(&[prepared]).expect("commit_prepared succeeds");
    run.task().stop().expect("stop succeeds");
    drop(run);
    each_once(subject, 0..30);
}

/// Kills between any two steps, with a group that carries the token or does not: each record is there once.
pub fn exactly_once_under_kills<S: SinkSubject>(subject: &mut S) {
    const RECORDS: usize = 200;
    for seed in 1..=5 {
        let config = subject.prepare();
        let mut dice = Dice::new(seed);
        // What the group has.
        let (mut offset, mut token) = (0, None);
        while offset < RECORDS {
            let mut run = claimed::<S>(&config, token.clone());
            for _ in 0..1 + dice.below(5) {
                let rows = (1 + dice.below(30)).min(RECORDS - offset);
                if rows == 0 {
                    break;
                }
                put(&mut run, subject, offset, rows);
                let killed = dice.below(6);
                if killed == 0 {
                    break;
                }
                let prepared = prepare::<S>(&mut run, offset + rows);
                if killed == 1 {
                    break;
                }
                (offset, token) = (offset + rows, Some(prepared.token.clone()));
                if killed == 2 {
                    break;
                }
                run.task().commit_prepared(&[prepared]).expect("commit_prepared succeeds");
            }
        }
        claimed::<S>(&config, token);
        each_once(subject, 0..RECORDS);
    }
}

/// While the store is away, the calls fail for now, and succeed later.
pub fn outages_pass<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = claimed::<S>(&config, None);
    put(&mut run, subject, 0, 30);
    let prepared = [prepare::<S>(&mut run, 30)];
    if !subject.set_broken(true) {
        return;
    }
    let retriable = |error: Error| assert!(error.is_retriable(), "it passes by itself: {error}");
    run.task().commit_prepared(&prepared).map(|()| panic!("the store is away")).unwrap_or_else(retriable);
    let mut next = start::<S>(&config);
    let claim = Claim { at: at(0), epoch: next_epoch(), token: Some(prepared[0].token.clone()) };
    next.task().recover(std::slice::from_ref(&claim)).map(|()| panic!("the store is away")).unwrap_or_else(retriable);
    subject.set_broken(false);
    next.task().recover(&[claim]).expect("recover succeeds");
    run.task().commit_prepared(&prepared).expect("commit_prepared succeeds");
    drop((run, next));
    each_once(subject, 0..30);
    // The same before anything is prepared: what comes of it is the next task's to abort.
    let mut run = claimed::<S>(&config, Some(prepared[0].token.clone()));
    put(&mut run, subject, 30, 10);
    subject.set_broken(true);
    let offered = TopicPartitionOffset { topic: TOPIC.into(), partition: 0, offset: Some(40) };
    run.task().prepare(&[offered]).map(|answer| panic!("the store is away: {answer:?}")).unwrap_or_else(retriable);
    subject.set_broken(false);
    drop(run);
    let mut run = claimed::<S>(&config, Some(prepared[0].token.clone()));
    put(&mut run, subject, 30, 10);
    let prepared = prepare::<S>(&mut run, 40);
    run.task().commit_prepared(&[prepared]).expect("commit_prepared succeeds");
    each_once(subject, 0..40);
}
