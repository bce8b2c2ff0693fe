//! How fast one core reads and writes lines: `cargo test --release -p tributary-connector-file throughput -- --ignored --nocapture`.

use std::fs;
use std::io::Write;

use tributary_sdk::{Batch, Config, Failures, Output, SinkTask, SourceTask};

use tributary_testkit::TestServices;

use crate::{FileStreamSinkTask, FileStreamSourceTask};

/// What this thread has used of a processor: on a busy machine, time tells nothing.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

const LINES: usize = 3_000_000;

/// Lines of 99 bytes; with `accents`, some of their letters take two.
fn input(path: &std::path::Path, accents: bool) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for line in 0..LINES {
        let letter = if accents { "é" } else { "xy" };
        writeln!(file, "{{\"id\":{line:08},\"text\":\"{}\"}}", letter.repeat((99 - 27) / 2)).unwrap();
    }
}

fn read(path: &str, batch_size: &str) -> (Vec<Batch>, f64) {
    let context = TestServices::new().context();
    let mut task = FileStreamSourceTask::default();
    task.start(&context, &Config::from_iter([("file", path), ("topic", "t"), ("batch.size", batch_size)])).unwrap();
    let (mut kept, mut rows) = (Vec::new(), 0);
    let begin = cpu_seconds();
    while rows < LINES {
        task.poll(&mut Output::new(&mut |batch: Batch| {
            rows += batch.len();
            if kept.len() < 8 {
                kept.push(batch);
            }
            Ok(())
        }))
        .unwrap();
    }
    (kept, cpu_seconds() - begin)
}

#[test]
#[ignore = "measures"]
fn source() {
    let directory = tempfile::tempdir().unwrap();
    for accents in [false, true] {
        let path = directory.path().join("in.txt");
        input(&path, accents);
        for batch_size in ["500", "1000", "2000", "5000", "10000"] {
            let (_, seconds) = read(path.to_str().unwrap(), batch_size);
            println!(
                "accents {accents}, batch.size {batch_size}: {:.1} M lines a CPU second",
                LINES as f64 / seconds / 1e6
            );
        }
    }
}

#[test]
#[ignore = "measures"]
fn sink() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in.txt");
    input(&path, false);
    for batch_size in ["500", "2000", "5000"] {
        let (batches, _) = read(path.to_str().unwrap(), batch_size);
        let context = TestServices::new().context();
        let output = directory.path().join("out.txt");
        let mut task = FileStreamSinkTask::default();
        task.start(&context, &Config::from_iter([("file", output.to_str().unwrap())])).unwrap();
        let (begin, mut rows) = (cpu_seconds(), 0);
        while rows < LINES {
            for batch in &batches {
                task.put(batch.clone(), &mut Failures::default()).unwrap();
                rows += batch.len();
            }
        }
        task.flush(&[]).unwrap();
        let seconds = cpu_seconds() - begin;
        println!("batches of {batch_size}: {:.1} M lines a CPU second", rows as f64 / seconds / 1e6);
        fs::remove_file(output).unwrap();
    }
}
