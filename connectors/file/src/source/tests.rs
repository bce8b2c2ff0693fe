//! The source against real files; the clock is virtual.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tributary_sdk::{Batch, Form, Level};
use tributary_testkit::{TestServices, rows};

use super::*;
use crate::reader::{ROTATIONS, SKIPPED, TRUNCATIONS};

fn config(pairs: &[(&str, &str)]) -> Config {
    pairs.iter().copied().collect()
}

struct Rig {
    directory: TempDir,
    services: Arc<TestServices>,
    context: Context,
    task: FileStreamSourceTask,
    config: Vec<(String, String)>,
}

impl Rig {
    fn new(extra: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let services = TestServices::new();
        let context = services.context();
        let path = directory.path().join("in.txt").to_str().unwrap().to_owned();
        let mut config = vec![("file".to_owned(), path), ("topic".to_owned(), "t".to_owned())];
        config.extend(extra.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        Self { directory, services, context, task: FileStreamSourceTask::default(), config }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("in.txt")
    }

    fn append(&self, bytes: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    fn rotate(&self, to: &str) {
        fs::rename(self.path(), self.directory.path().join(to)).unwrap();
    }

    fn config(&self) -> Config {
        self.config.iter().cloned().collect()
    }

    fn start(&mut self) {
        self.task = FileStreamSourceTask::default();
        self.task.start(&self.context, &self.config()).unwrap();
    }

    /// One poll, whose offsets count as stored.
    fn batches(&mut self) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        let result = self.task.poll(&mut Output::new(&mut |batch: Batch| {
            batches.push(batch);
            Ok(())
        }));
        for batch in &batches {
            assert_eq!(**batch.source_partition.as_ref().unwrap(), *offsets::partition_text(&self.path()));
            self.store(serde_json::from_str(batch.resume_point().unwrap()).unwrap());
        }
        result.map(|()| batches)
    }

    fn poll(&mut self) -> Vec<String> {
        let batches = self.batches().unwrap();
        batches.iter().flat_map(|batch| batch.value.as_text().unwrap().iter().flatten().map(str::to_owned)).collect()
    }

    /// Polls until the virtual clock has gone on for two seconds without a record.
    fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut quiet = 0;
        while quiet < 10 {
            let polled = self.poll();
            quiet = if polled.is_empty() { quiet + 1 } else { 0 };
            lines.extend(polled);
        }
        lines
    }

    fn store(&self, offset: serde_json::Value) {
        self.services.set_offset(&offsets::partition(&self.path()), Some(offset));
    }

    fn position(&self) -> u64 {
        let stored = self.context.offset(&offsets::partition(&self.path())).unwrap().unwrap();
        stored["position"].as_u64().unwrap()
    }

    /// Warnings that contain `text`.
    fn warnings(&self, text: &str) -> usize {
        let logs = self.services.logs();
        logs.iter().filter(|line| line.level == Level::Warn && line.message.contains(text)).count()
    }
}

#[test]
fn lines_come_with_the_place_to_resume() {
    let mut rig = Rig::new(&[("batch.size", "2")]);
    rig.append("one\n\nthree\r\nfo");
    rig.start();
    let batch = rig.batches().unwrap().remove(0);
    assert_eq!((&*batch.topic, batch.len(), batch.value.form()), ("t", 2, Form::Text));
    assert!(batch.key.is_none() && batch.headers.is_none() && batch.partitions.is_none());
    assert_eq!(batch.resume_point(), Some(r#"{"position":5}"#));
    assert_eq!(rig.drain(), ["three"]);
    assert_eq!(rig.position(), 12);

    // The partial line is no record yet, and read again after a restart.
    rig.start();
    assert_eq!(rig.drain(), [""; 0]);
    rig.append("ur\nfive\n");
    assert_eq!(rig.drain(), ["four", "five"]);
    assert_eq!(rig.position(), 22);
}

#[test]
fn a_missing_file_is_waited_for_and_an_empty_one_is_fine() {
    let mut rig = Rig::new(&[]);
    rig.start();
    assert_eq!(rig.drain(), [""; 0]);
    assert_eq!(rig.warnings("is not there: waiting for it"), 1);
    rig.append("");
    assert_eq!(rig.drain(), [""; 0]);
    rig.append("x\n");
    assert_eq!(rig.drain(), ["x"]);
}

#[test]
fn idle_polls_return_soon_and_wait_little_at_first() {
    let mut rig = Rig::new(&[]);
    rig.append("x\n");
    rig.start();
    rig.poll();
    let before = rig.context.now_ms();
    assert_eq!(rig.poll(), [""; 0]);
    let waited = rig.context.now_ms() - before;
    assert!((200..=260).contains(&waited), "waited {waited} ms");
    rig.services.cancel();
    rig.append("y\n");
    assert_eq!(rig.poll(), [""; 0], "a cancelled task reads nothing more");
}

#[test]
fn lines_that_are_not_utf8_keep_their_bytes_and_places() {
    let mut rig = Rig::new(&[]);
    rig.append(b"good\n\xFF\xFE bad\r\nworse \xC3\nfine \xC3\xA9\n");
    rig.start();
    let batches = rig.batches().unwrap();
    let seen: Vec<_> =
        batches.iter().map(|batch| (batch.value.form(), batch.len(), batch.resume_point().unwrap())).collect();
    assert_eq!(
        seen,
        [
            (Form::Text, 1, r#"{"position":5}"#),
            (Form::Bytes, 2, r#"{"position":21}"#),
            (Form::Text, 1, r#"{"position":29}"#)
        ]
    );
    let bytes = batches[1].value.as_bytes().unwrap();
    assert_eq!((bytes.value(0), bytes.value(1)), (&b"\xFF\xFE bad"[..], &b"worse \xC3"[..]));
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_then_the_new_one() {
    let mut rig = Rig::new(&[]);
    rig.append("one\n");
    rig.start();
    assert_eq!(rig.drain(), ["one"]);
    rig.append("two\n");
    rig.rotate("in.txt.1");
    // Not created anew yet, and its writer has it open still.
    assert_eq!(rig.drain(), ["two"]);
    rig.append("four\n");
    assert_eq!(rig.poll(), [""; 0]);
    let mut old = OpenOptions::new().append(true).open(rig.directory.path().join("in.txt.1")).unwrap();
    old.write_all(b"three\nunfinished").unwrap();
    assert_eq!(rig.drain(), ["three", "unfinished", "four"]);
    assert_eq!(rig.warnings("was rotated"), 1);
    assert_eq!((rig.services.counter(ROTATIONS), rig.services.counter(TRUNCATIONS)), (1.0, 0.0));
    assert_eq!(rig.position(), 5);
}

#[test]
fn rotations_in_quick_succession_keep_their_order() {
    let mut rig = Rig::new(&[("batch.size", "1")]);
    rig.append("a1\na2\na3\n");
    rig.start();
    assert_eq!(rig.poll(), ["a1"]);
    rig.rotate("in.txt.1");
    rig.append("b1\n");
    assert_eq!(rig.poll(), ["a2"]);
    assert_eq!(rig.poll(), ["a3"]);
    assert_eq!(rig.poll(), [""; 0]);
    rig.rotate("in.txt.2");
    rig.append("c1\n");
    assert_eq!(rig.drain(), ["b1", "c1"]);
    assert_eq!(rig.services.counter(ROTATIONS), 2.0);
}

#[test]
fn a_truncated_file_is_read_from_its_start() {
    let mut rig = Rig::new(&[]);
    rig.append("one\ntwo\npart");
    rig.start();
    assert_eq!(rig.drain(), ["one", "two"]);
    fs::write(rig.path(), "new\n").unwrap();
    assert_eq!(rig.drain(), ["new"]);
    assert_eq!(rig.warnings("was truncated: it has 4 bytes, and 12 had been read, a last line of 4 bytes"), 1);
    assert_eq!((rig.services.counter(ROTATIONS), rig.services.counter(TRUNCATIONS)), (0.0, 1.0));
    assert_eq!(rig.position(), 4);

    // Also while the task is away.
    fs::write(rig.path(), "x\n").unwrap();
    rig.start();
    assert_eq!(rig.drain(), ["x"]);
    assert_eq!(rig.services.counter(TRUNCATIONS), 2.0);
}

#[test]
fn a_file_rotated_while_the_task_is_away_is_finished_first_if_offsets_name_it() {
    let mut rig = Rig::new(&[("offset.identity", "inode")]);
    rig.append("one\ntwo\n");
    rig.start();
    assert_eq!(rig.drain(), ["one", "two"]);
    rig.append("three\n");
    rig.rotate("in.txt.1");
    rig.append("a file that is longer than the position stored\nfour\n");
    rig.start();
    assert_eq!(rig.drain(), ["three", "a file that is longer than the position stored", "four"]);
    assert_eq!(rig.warnings("replaced while the task was away: the old file is read"), 1);

    rig.rotate("in.txt.2");
    fs::remove_file(rig.directory.path().join("in.txt.2")).unwrap();
    rig.append("another file, which is longer than the position stored\nfive\n");
    rig.start();
    assert_eq!(rig.drain(), ["another file, which is longer than the position stored", "five"]);
    assert_eq!(rig.warnings("is not in its directory any more"), 1);
}

#[test]
fn a_position_within_a_line_is_followed_and_reported() {
    let mut rig = Rig::new(&[]);
    rig.append("abcdef\nghi\n");
    rig.store(serde_json::json!({"position": 3}));
    rig.start();
    assert_eq!(rig.drain(), ["def", "ghi"]);
    assert_eq!(rig.warnings("is not the start of a line"), 1);
}

#[test]
fn lines_that_are_not_taken_are_given_again() {
    let mut rig = Rig::new(&[]);
    rig.append(b"one\n\xFF\ntwo\n");
    for taken in 0..3 {
        rig.start();
        let mut batches = Vec::new();
        let refused = rig.task.poll(&mut Output::new(&mut |batch| {
            if batches.len() == taken {
                return Err(Error::retriable("the queue is full"));
            }
            batches.push(batch);
            Ok(())
        }));
        assert!(refused.is_err());
        let mut emit = |batch| {
            batches.push(batch);
            Ok(())
        };
        rig.task.poll(&mut Output::new(&mut emit)).unwrap();
        assert_eq!(rows::values(&batches), ["one", "\u{FFFD}", "two"]);
    }
}

#[test]
fn long_lines_fail_or_are_skipped() {
    let long = "x".repeat(11);
    let mut rig = Rig::new(&[("max.line.bytes", "10")]);
    rig.append(format!("one\n{long}\ntwo\n"));
    rig.start();
    assert_eq!(rig.poll(), ["one"]);
    let error = rig.batches().unwrap_err();
    assert!(!error.is_retriable());
    assert!(error.to_string().starts_with("the line at position 4 of file /"), "{error}");
    assert!(error.to_string().contains("max.line.bytes=10"), "{error}");

    rig.config.push(("max.line.action".to_owned(), "skip".to_owned()));
    rig.start();
    assert_eq!(rig.drain(), ["two"]);
    assert_eq!(rig.services.counter(SKIPPED), 1.0);
    rig.append(&long);
    assert_eq!(rig.drain(), [""; 0]);
    rig.append(format!("{long}\nthree\n"));
    assert_eq!(rig.drain(), ["three"]);
}

#[test]
fn what_cannot_be_read_says_why() {
    let mut rig = Rig::new(&[]);
    fs::create_dir(rig.path()).unwrap();
    rig.start();
    let error = rig.batches().unwrap_err();
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("it is a directory; name a file"), "{error}");

    rig.config[0].1 = format!("{}/x", std::env::current_exe().unwrap().display());
    rig.start();
    let error = rig.batches().unwrap_err();
    assert!(error.to_string().contains("a part of the path is not a directory"), "{error}");
}

#[test]
fn trouble_with_the_new_file_waits_until_the_old_one_is_read() {
    let mut rig = Rig::new(&[("batch.size", "1")]);
    rig.append("one\n");
    rig.start();
    assert_eq!(rig.poll(), ["one"]);
    rig.append("two\nthree\n");
    rig.rotate("in.txt.1");
    fs::create_dir(rig.path()).unwrap();
    assert_eq!([rig.poll(), rig.poll()], [["two"], ["three"]]);
    assert!(rig.batches().unwrap_err().to_string().contains("it is a directory"));
    fs::remove_dir(rig.path()).unwrap();
    rig.append("four\n");
    assert_eq!(rig.drain(), ["four"]);
}

#[test]
fn a_named_pipe_is_read_as_a_stream() {
    let mut rig = Rig::new(&[]);
    let made = std::process::Command::new("mkfifo").arg(rig.path()).status().unwrap();
    assert!(made.success());
    rig.start();
    assert!(rig.batches().unwrap().is_empty());
    let mut pipe = OpenOptions::new().write(true).open(rig.path()).unwrap();
    pipe.write_all(b"one\ntwo\nlast").unwrap();
    let stream = |rig: &mut Rig| {
        let mut lines = Vec::new();
        rig.task
            .poll(&mut Output::new(&mut |batch: Batch| {
                assert!(batch.source_partition.is_none() && batch.resume_point().is_none());
                lines.extend(batch.value.as_text().unwrap().iter().flatten().map(str::to_owned));
                Ok(())
            }))
            .unwrap();
        lines
    };
    assert_eq!(stream(&mut rig), ["one", "two"]);
    assert_eq!(stream(&mut rig), [""; 0]);
    drop(pipe);
    assert_eq!(stream(&mut rig), ["last"], "the end of the writer is the end of its last line");
    let mut pipe = OpenOptions::new().write(true).open(rig.path()).unwrap();
    pipe.write_all(b"again\n").unwrap();
    assert_eq!(stream(&mut rig), ["again"]);
}

#[test]
fn the_connector_makes_one_task_and_knows_when_exactly_once_holds() {
    let services = TestServices::new();
    let context = services.context();
    let with_file = config(&[("file", "/tmp/x"), ("topic", "t")]);
    let mut connector = FileStreamSourceConnector::default();
    connector.start(&context, &with_file).unwrap();
    assert_eq!(connector.task_configs(8).unwrap(), std::slice::from_ref(&with_file));
    assert_eq!(services.logs()[0].level, Level::Info);
    assert_eq!(connector.exactly_once_support(&with_file), Some(ExactlyOnceSupport::Supported));
    for none in [config(&[("topic", "t")]), config(&[("topic", "t"), ("file", "")])] {
        assert_eq!(connector.exactly_once_support(&none), Some(ExactlyOnceSupport::Unsupported));
    }
    for wrong in [
        &[("file", "x")][..],
        &[("topic", "")],
        &[("topic", "t"), ("batch.size", "x")],
        &[("topic", "t"), ("max.line.action", "x")],
    ] {
        assert!(connector.start(&context, &config(wrong)).is_err(), "{wrong:?}");
    }
}
