//! The source against a naive model: whatever a writer does to a file, and whenever the task is killed, every line comes,
//! in order, and after a kill exactly what was not delivered comes again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use tributary_connector_file::FileStreamSourceConnector;
use tributary_sdk::{Batch, Config};
use tributary_testkit::{SourceRun, TestServices, rows};

#[derive(Debug, Clone)]
enum Step {
    /// The writer adds some bytes, with or without line ends.
    Append(String),
    /// The task polls so often; what it gave is delivered or not.
    Poll { polls: usize, deliver: bool },
    /// The file is renamed and a new one made.
    Rotate,
    /// The file is emptied, once it has been read.
    Truncate,
    /// The task is killed, and another one started.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let piece = prop_oneof![
        4 => "[a-z]{0,6}",
        4 => Just("\n".to_owned()),
        2 => Just("\r\n".to_owned()),
        1 => Just("\r".to_owned()),
        1 => "[a-zé€\u{1F600}]{1,4}\n",
        1 => Just("0123456789".repeat(20_000)),
    ];
    prop_oneof![
        6 => prop::collection::vec(piece, 1..12).prop_map(|pieces| Step::Append(pieces.concat())),
        4 => (1..4usize, any::<bool>()).prop_map(|(polls, deliver)| Step::Poll { polls, deliver }),
        1 => Just(Step::Rotate),
        1 => Just(Step::Truncate),
        2 => Just(Step::Kill),
    ]
}

/// The lines of a text as Java's readers see them. A `\r` at the very end may be half a `\r\n`.
fn split(text: &str, finished: bool) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' if letters.peek().is_none() && !finished => break,
            '\r' | '\n' => {
                if letter == '\r' {
                    letters.next_if_eq(&'\n');
                }
                lines.push(String::new());
            }
            _ => lines.last_mut().unwrap().push(letter),
        }
    }
    let rest = lines.pop().unwrap();
    if finished && !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

struct World {
    directory: TempDir,
    services: Arc<TestServices>,
    config: Config,
    run: SourceRun<FileStreamSourceConnector>,
    /// What was given and not delivered.
    pending: Vec<Batch>,
    /// Lines of the files before this one.
    before: Vec<String>,
    /// This file's text.
    text: String,
    /// Number of the next line expected from the task.
    next: usize,
    /// Number of lines delivered.
    delivered: usize,
    rotations: usize,
    truncations: usize,
}

impl World {
    fn new(batch_size: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.log");
        File::create(&path).unwrap();
        let config = Config::from_iter([
            ("file", path.to_str().unwrap()),
            ("topic", "t"),
            ("batch.size", &batch_size.to_string()),
            ("offset.identity", "inode"),
            ("rotation.wait.ms", "100"),
        ]);
        let services = TestServices::new();
        let run = SourceRun::start_in(services.clone(), &config).unwrap();
        Self {
            directory,
            services,
            config,
            run,
            pending: Vec::new(),
            before: Vec::new(),
            text: String::new(),
            next: 0,
            delivered: 0,
            rotations: 0,
            truncations: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("app.log")
    }

    fn expected(&self) -> Vec<String> {
        let mut lines = self.before.clone();
        lines.extend(split(&self.text, false));
        lines
    }

    fn poll(&mut self) -> bool {
        let batches = self.run.poll().unwrap();
        let expected = self.expected();
        for line in rows::values(&batches) {
            assert_eq!(Some(&line), expected.get(self.next), "line {}", self.next);
            self.next += 1;
        }
        let any = !batches.is_empty();
        self.pending.extend(batches);
        any
    }

    fn drain(&mut self) {
        let mut idle = 0;
        // A file that was renamed is left after 100 ms without growth, half of what an idle poll takes.
        while idle < 2 {
            idle = if self.poll() { 0 } else { idle + 1 };
        }
        assert_eq!(self.next, self.expected().len(), "lines are missing at the end of what was written");
    }

    fn deliver(&mut self) {
        self.run.deliver(&std::mem::take(&mut self.pending)).unwrap();
        self.delivered = self.next;
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append(text) => {
                let mut file = OpenOptions::new().append(true).open(self.path()).unwrap();
                file.write_all(text.as_bytes()).unwrap();
                self.text.push_str(&text);
            }
            Step::Poll { polls, deliver } => {
                for _ in 0..polls {
                    self.poll();
                }
                if deliver {
                    self.deliver();
                }
            }
            Step::Rotate => {
                self.drain();
                let empty = self.delivered <= self.before.len();
                self.rotations += 1;
                fs::rename(self.path(), self.directory.path().join(format!("app.log.{}", self.rotations))).unwrap();
                File::create(self.path()).unwrap();
                self.before.extend(split(&self.text, true));
                self.text.clear();
                self.drain();
                // Offsets name the last file of which a line was delivered; of two rotations since, the file between them
                // cannot be found again.
                if empty {
                    self.deliver();
                }
            }
            Step::Truncate => {
                self.drain();
                self.deliver();
                let empty = self.text.is_empty();
                OpenOptions::new().write(true).open(self.path()).unwrap().set_len(0).unwrap();
                self.before.extend(split(&self.text, false));
                self.text.clear();
                self.drain();
                self.truncations += usize::from(!empty);
                let counted = self.services.counter("file-truncations") as usize;
                assert_eq!(counted, self.truncations, "truncations that were noticed");
                // Until a line of the new content is delivered, the stored offset is one in the old content, which nothing
                // tells from the new one if the task is killed now and the file has grown beyond it.
                self.take(Step::Append("after\n".to_owned()));
                self.drain();
                self.deliver();
            }
            Step::Kill => {
                self.pending.clear();
                self.next = self.delivered;
                self.run = SourceRun::start_in(self.services.clone(), &self.config).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_line_comes_in_order(steps in prop::collection::vec(step(), 1..40), batch_size in 1..6usize) {
        let mut world = World::new(batch_size);
        for step in steps {
            world.take(step);
        }
        world.drain();
    }
}
