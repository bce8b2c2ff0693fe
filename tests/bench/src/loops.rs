//! The loops that Tributary is measured against, each as plain as it can be and still be quick.
//!
//! They do what one task does, in one thread beside librdkafka's own: no connectors, no offsets of the source; instead of
//! converters and transforms, the same [`Edit`] by hand. Each runs in a process of its own, so that its CPU time and memory are its own.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;
use tributary_harness::{Context, Error, Result, Usage};

use crate::edit::Edit;
use crate::librdkafka::{Consumer, Producer};
use crate::pace::Watch;
use crate::settings::{CONSUMER, PRODUCER};

const CHUNK: usize = 1 << 20;
/// As often as a worker commits by default.
const COMMIT_INTERVAL: Duration = Duration::from_secs(60);

/// Which loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Memory to Kafka: the limit of producing.
    Produce,
    /// File to Kafka.
    CopyIn,
    /// Kafka to nowhere: the limit of consuming.
    Consume,
    /// Kafka to file.
    CopyOut,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no loop is skipped").get_name().to_owned()
    }
}

/// What a loop is to do.
#[derive(Clone, Debug, Args)]
pub struct Work {
    /// Which loop.
    pub kind: Kind,
    /// The broker.
    pub bootstrap: String,
    /// The topic, with one partition.
    pub topic: String,
    /// What is read or written.
    pub file: PathBuf,
    /// How many lines there are.
    pub count: u64,
    /// What happens to each.
    #[arg(long, default_value = "copy")]
    pub edit: Edit,
}

/// Runs a loop to its end and prints what it took, as JSON.
#[expect(clippy::disallowed_methods, reason = "closing the clients is no part of the work, and takes its time")]
pub fn run(work: &Work) -> Result<()> {
    // What is prepared for the raw run is not part of its work.
    let memory = if work.kind == Kind::Produce { std::fs::read(&work.file)? } else { Vec::new() };
    let before = Usage::of(std::process::id())?;
    let mut watch = Watch::start();
    let mut see = |done: u64| watch.see(done, work.count);
    let done = match work.kind {
        Kind::Produce => produce(work, &memory, &mut see)?,
        Kind::CopyIn => copy_in(work, &mut see)?,
        Kind::Consume => consume(work, &mut std::io::sink(), &mut see)?,
        Kind::CopyOut => copy_out(work, &mut see)?,
    };
    let (pace, after) = (watch.stop(), Usage::of(std::process::id())?);
    if done != work.count {
        return Err(Error::new(format!("{done} records instead of {}", work.count)));
    }
    // The raw run holds its input in memory, which is not the client's.
    let peak = after.peak_rss.saturating_sub(memory.len() as u64);
    let cpu = (after.cpu - before.cpu).as_secs_f64();
    println!("{}", json!({"pace": pace.to_json(), "cpu": cpu, "peak_rss": peak}));
    std::process::exit(0)
}

fn produce(work: &Work, lines: &[u8], see: &mut dyn FnMut(u64)) -> Result<u64> {
    let mut producer = Producer::new(&work.bootstrap, &work.topic, PRODUCER)?;
    let mut values = Vec::new();
    for chunk in lines.chunks(CHUNK / 100 * 100) {
        split(chunk, &mut values);
        producer.send(&values);
        see(producer.delivered());
    }
    producer.finish()
}

fn copy_in(work: &Work, see: &mut dyn FnMut(u64)) -> Result<u64> {
    let mut producer = Producer::new(&work.bootstrap, &work.topic, PRODUCER)?;
    let mut file = File::open(&work.file).context(format_args!("cannot open {}", work.file.display()))?;
    let mut buffer = vec![0; CHUNK];
    let mut filled = 0;
    // The changed values of a chunk, and where each ends.
    let mut edited: (Vec<u8>, Vec<usize>) = Default::default();
    loop {
        let n = file.read(&mut buffer[filled..])?;
        if n == 0 {
            return producer.finish();
        }
        filled += n;
        let mut values = Vec::with_capacity(filled / 64);
        let rest = split(&buffer[..filled], &mut values);
        if work.edit == Edit::Copy {
            producer.send(&values);
        } else {
            edited.0.clear();
            edited.1.clear();
            for value in &values {
                work.edit.apply(value, &mut edited.0)?;
                edited.1.push(edited.0.len());
            }
            let starts = std::iter::once(0).chain(edited.1.iter().copied());
            let made: Vec<&[u8]> = starts.zip(&edited.1).map(|(from, &to)| &edited.0[from..to]).collect();
            producer.send(&made);
        }
        see(producer.delivered());
        buffer.copy_within(filled - rest..filled, 0);
        filled = rest;
    }
}

/// Fills `values` with the whole lines; the number of bytes behind the last of them.
fn split<'a>(bytes: &'a [u8], values: &mut Vec<&'a [u8]>) -> usize {
    values.clear();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        values.push(&bytes[start..end]);
        start = end + 1;
    }
    bytes.len() - start
}

/// Gives every value to `out`, as a line.
fn consume(work: &Work, out: &mut dyn Write, see: &mut dyn FnMut(u64)) -> Result<u64> {
    let group = format!("loop-{}", std::process::id());
    let mut consumer = Consumer::new(&work.bootstrap, &group, &work.topic, CONSUMER)?;
    let (mut done, mut edited) = (0, Vec::new());
    let mut committed = Instant::now();
    while done < work.count {
        done += consumer.receive(|value| {
            if work.edit == Edit::Copy {
                out.write_all(value)?;
            } else {
                edited.clear();
                work.edit.apply(value, &mut edited)?;
                out.write_all(&edited)?;
            }
            Ok(out.write_all(b"\n")?)
        })?;
        see(done);
        if done >= work.count || committed.elapsed() >= COMMIT_INTERVAL {
            out.flush()?;
            consumer.commit()?;
            committed = Instant::now();
        }
    }
    // A consumer that is dropped leaves its group, which is no part of the work.
    std::mem::forget(consumer);
    Ok(done)
}

fn copy_out(work: &Work, see: &mut dyn FnMut(u64)) -> Result<u64> {
    let file = File::create(&work.file).context(format_args!("cannot create {}", work.file.display()))?;
    consume(work, &mut BufWriter::with_capacity(CHUNK, file), see)
}
