//! What sinks promise that keep their offsets in their own store ([`tributary_sdk::own_offsets`]).

use tributary_sdk::sink::{SinkConnector, TopicPartitionOffset};
use tributary_sdk::source::ExactlyOnceSupport;
use tributary_sdk::{Batch, Offsets, Origin};

use super::common::Dice;
use super::sink::{SinkSubject, TOPIC};
use super::sinks::{each_once, put, start};
use crate::sink_run::SinkRun;

/// Opens the partition as a group would that has no offset of it. Answers where the sink goes on.
fn open<S: SinkSubject>(run: &mut SinkRun<S::Connector>) -> usize {
    run.open(TOPIC, 0, 0).unwrap_or_else(|error| panic!("open failed: {error}")) as usize
}

fn at<S: SinkSubject>(subject: &S, from: usize, rows: usize) -> Batch {
    let mut batch = subject.batch(from, rows);
    batch.offsets = Offsets::Sink((from as i64..(from + rows) as i64).collect::<Vec<_>>().into());
    batch
}

/// After a kill without any commit, `open` answers with the offset behind what is there, and what comes again is not written again.
pub fn goes_on_from_its_own_offsets<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = start::<S>(&config);
    assert_eq!(open::<S>(&mut run), 0);
    put::<S>(&mut run, at(subject, 0, 30));
    drop(run);
    let written = subject.stored().len();
    let mut run = start::<S>(&config);
    assert_eq!(open::<S>(&mut run), written);
    put::<S>(&mut run, at(subject, 0, 40));
    run.stop().expect("stop succeeds");
    each_once(subject, 0..40);
}

/// Kills at any moment, with a group that has lost its offsets: each record is there once.
pub fn exactly_once_under_kills<S: SinkSubject>(subject: &mut S) {
    const RECORDS: usize = 200;
    for seed in 1..=5 {
        let config = subject.prepare();
        let mut dice = Dice::new(seed);
        loop {
            let mut run = start::<S>(&config);
            let mut next = open::<S>(&mut run);
            for _ in 0..1 + dice.below(5) {
                let rows = (1 + dice.below(30)).min(RECORDS - next);
                if rows > 0 {
                    put::<S>(&mut run, at(subject, next, rows));
                    next += rows;
                }
                if dice.below(3) == 0 {
                    run.pre_commit().expect("pre_commit succeeds");
                }
            }
            if next >= RECORDS {
                run.stop().expect("stop succeeds");
                break;
            }
        }
        each_once(subject, 0..RECORDS);
    }
}

/// A task that stood still while another one opened its partition writes nothing more, and says so.
pub fn former_tasks_write_nothing<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut former = start::<S>(&config);
    open::<S>(&mut former);
    put::<S>(&mut former, at(subject, 0, 10));
    former.pre_commit().expect("pre_commit succeeds");
    let mut run = start::<S>(&config);
    assert_eq!(open::<S>(&mut run), 10);
    let late = former.put(at(subject, 10, 10)).map(drop).and_then(|()| former.pre_commit().map(drop));
    assert!(late.is_err(), "the former task has written, or believes so");
    put::<S>(&mut run, at(subject, 10, 20));
    run.stop().expect("stop succeeds");
    each_once(subject, 0..30);
}

/// A record that the task itself has passed and that is put again (because it was named in the failures, say) is not skipped in silence: it
/// may be missing.
pub fn passed_records_are_not_skipped<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = start::<S>(&config);
    open::<S>(&mut run);
    put::<S>(&mut run, at(subject, 0, 10));
    let refused = match run.put(at(subject, 4, 1)) {
        Ok(failures) => !failures.is_empty() || run.pre_commit().is_err(),
        Err(_) => true,
    };
    assert!(refused, "a record that was put again is skipped, or written twice, without an error");
    drop(run);
    each_once(subject, 0..10);
}

/// Records of a topic of their own, which came through the one that was opened.
fn through<S: SinkSubject>(subject: &S, from: usize, rows: usize) -> Batch {
    let mut batch = subject.batch(from, rows);
    batch.topic = "of-the-records".into();
    batch.partition = Some(3);
    batch.offsets = Offsets::None;
    let offsets = (from as i64..(from + rows) as i64).collect::<Vec<_>>().into();
    batch.origin = Some(Origin { topic: TOPIC.into(), partition: 0, offsets });
    batch
}

/// Behind transforms that keep state, records come through an outbox: they have a topic and offsets of their own, or none, and it is the
/// outbox's that count. The connector has to say that it can be given them.
pub fn outboxes_are_followed<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let supports = S::Connector::default().exactly_once_support(&config);
    assert_eq!(supports, Some(ExactlyOnceSupport::Supported), "exactly_once_support says whether an outbox is made");
    let mut run = start::<S>(&config);
    assert_eq!(open::<S>(&mut run), 0);
    put::<S>(&mut run, through(subject, 0, 30));
    drop(run);
    let written = subject.stored().len();
    let mut run = start::<S>(&config);
    assert_eq!(open::<S>(&mut run), written);
    put::<S>(&mut run, through(subject, 0, 40));
    run.stop().expect("stop succeeds");
    each_once(subject, 0..40);
}

/// Offsets that a user has changed are those that the next task begins at.
pub fn changed_offsets_are_followed<S: SinkSubject>(subject: &mut S) {
    let config = subject.prepare();
    let mut run = start::<S>(&config);
    open::<S>(&mut run);
    put::<S>(&mut run, at(subject, 0, 10));
    run.stop().expect("stop succeeds");
    let change = |offset: Option<i64>| {
        let offset = TopicPartitionOffset { topic: TOPIC.into(), partition: 0, offset };
        let known = S::Connector::default().alter_offsets(&config, &[offset]).expect("alter_offsets succeeds");
        assert!(known, "the connector has to say that it has changed its own offsets");
    };
    change(Some(20));
    let mut run = start::<S>(&config);
    assert_eq!(open::<S>(&mut run), 20);
    drop(run);
    change(None);
    let mut run = start::<S>(&config);
    assert_eq!(open::<S>(&mut run), 0);
    drop(run);
}
