//! Tolerated errors, retries and dead letters on both sides, while worker and broker are killed: each line ends where it must.
//!
//! A line goes into the source's letters (digit 5), the sink's letters (9 in a transform, 7 in put), or the output (all others; 3 at
//! the second attempt). At least once, and in no other place.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::json;
use tributary_harness::checker::Report;
use tributary_harness::{Checker, KafkaBroker, Lines, Result, Seed, WorkerOptions};
use tributary_tests::FileJob;

use crate::letters;

const ROUNDS: u64 = 8;
/// Lines that are added in each round.
const SHARE: u64 = 1_500;
/// Without anything new for so long nothing more will come.
const STUCK: Duration = Duration::from_secs(90);

#[test]
fn every_line_is_delivered_or_dead_lettered() -> Result<()> {
    let mut seed = Seed::announce("errors, kills and outages");
    let mut broker = KafkaBroker::start()?;
    let plugins = tempfile::tempdir()?;
    letters::install_picky(plugins.path())?;
    let options = WorkerOptions::default().set("plugin.path", &plugins.path().display().to_string());
    let mut job = FileJob::start_with(&broker.bootstrap(), options)?;
    let (of_source, of_sink) = (format!("{}-source", job.topic), format!("{}-sink", job.topic));
    let lines = Lines::new((ROUNDS + 1) * SHARE);
    lines.clone().with_numbers(0..SHARE).write(&job.input)?;
    let errors = |letters: &str, refuse: &str| {
        json!({
            "transforms": "picky",
            "transforms.picky.type": "com.example.Picky",
            "transforms.picky.refuse": refuse,
            "errors.tolerance": "all",
            "errors.retry.timeout": "-1",
            "errors.retry.delay.max.ms": "20",
            "errors.deadletterqueue.topic.name": letters,
            "errors.deadletterqueue.topic.replication.factor": "1",
            "errors.deadletterqueue.context.headers.enable": "true",
        })
    };
    job.create_source(errors(&of_source, "5"))?;
    let mut sink = errors(&of_sink, "9");
    sink["connector.class"] = json!("com.example.PickySink");
    job.create_sink(sink)?;

    for round in 1..=ROUNDS {
        thread::sleep(Duration::from_millis(seed.random_range(0..2500)));
        match seed.random_range(0..5) {
            0 | 1 => {
                job.worker.kill9()?;
                job.worker.spawn()?;
            }
            2 => {
                broker.kill()?;
                thread::sleep(Duration::from_millis(seed.random_range(0..2000)));
                broker.restart()?;
            }
            3 => {
                // Both at once: letters that were not acknowledged are gone with the worker.
                broker.kill()?;
                thread::sleep(Duration::from_millis(seed.random_range(0..500)));
                job.worker.kill9()?;
                job.worker.spawn()?;
                broker.restart()?;
            }
            _ => {
                broker.pause()?;
                thread::sleep(Duration::from_millis(seed.random_range(0..3000)));
                broker.resume()?;
            }
        }
        lines.clone().with_numbers(round * SHARE..(round + 1) * SHARE).append(&job.input)?;
    }

    let (mut known, mut moved) = (0, Instant::now());
    let report = loop {
        let report = account(&job, &broker, &of_source, &of_sink, &lines)?;
        if report.missing == 0 {
            break report;
        }
        if report.delivered != known {
            (known, moved) = (report.delivered, Instant::now());
        }
        if moved.elapsed() > STUCK {
            return Err(job.worker.with_log(format!("{report}; {}", job.statuses())));
        }
        thread::sleep(Duration::from_secs(1));
    };
    println!("{report}");
    assert_eq!((report.torn, report.foreign), (0, 0), "{report}");
    for name in [job.source(), job.sink()] {
        job.worker.wait_running(&name)?;
    }
    Ok(())
}

/// Feeds all three places to one checker, and fails at a line in the wrong place.
fn account(job: &FileJob, broker: &KafkaBroker, of_source: &str, of_sink: &str, lines: &Lines) -> Result<Report> {
    let mut checker = Checker::new([lines]);
    let mut wrong = BTreeMap::<String, u64>::new();
    let mut take = |place: i32, line: &[u8], expected: &dyn Fn(u8) -> bool, what: &str| {
        checker.line(place, line);
        let digit = line.strip_prefix(b"{\"seq\":").and_then(|rest| rest.split(|byte| *byte == b',').next()?.last());
        if let Some(digit) = digit.filter(|digit| !expected(**digit)) {
            *wrong.entry(format!("digit {} in {what}", *digit as char)).or_default() += 1;
        }
    };
    let output = fs::read(&job.output).unwrap_or_default();
    // A worker that was killed in a write has left a torn line only if the file does not end in a newline.
    for line in output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        take(0, line, &|digit| !b"579".contains(&digit), "the output");
    }
    for letter in letters::read(broker, of_source)? {
        let (value, stage) = (letter.value.unwrap_or_default(), letter.context["stage"].as_str());
        take(1, &value, &|digit| digit == b'5' && stage == "TRANSFORMATION", "the source's letters");
    }
    for letter in letters::read(broker, of_sink)? {
        let (value, stage) = (letter.value.unwrap_or_default(), letter.context["stage"].as_str());
        let expected = |digit| matches!((digit, stage), (b'9', "TRANSFORMATION") | (b'7', "TASK_PUT"));
        take(2, &value, &expected, "the sink's letters");
    }
    assert!(wrong.is_empty(), "lines in the wrong place: {wrong:?}");
    Ok(checker.finish())
}
