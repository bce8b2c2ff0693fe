//! The loops that Tributary is measured against, each as plain as it can be and still be quick.
//!
//! They do what one task does, in one thread beside librdkafka's own: no connectors, no converters,
//! no offsets of the source. Each runs in a process of its own, so that its CPU time and memory are its own.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tributary_harness::{Context, Error, Result, Usage};

use crate::librdkafka::{Consumer, Producer};
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

/// Runs a loop to its end and prints what it took, as JSON.
pub fn run(kind: Kind, bootstrap: &str, topic: &str, file: &Path, count: u64) -> Result<()> {
    // What is prepared for the raw run is not part of its work.
    let memory = if kind == Kind::Produce { std::fs::read(file)? } else { Vec::new() };
    let (before, start) = (Usage::of(std::process::id())?, Instant::now());
    let done = match kind {
        Kind::Produce => produce(bootstrap, topic, &memory)?,
        Kind::CopyIn => copy_in(bootstrap, topic, file)?,
        Kind::Consume => consume(bootstrap, topic, count, |_| Ok(()), || Ok(()))?,
        Kind::CopyOut => copy_out(bootstrap, topic, file, count)?,
    };
    let (seconds, after) = (start.elapsed().as_secs_f64(), Usage::of(std::process::id())?);
    if done != count {
        return Err(Error::new(format!("{done} records instead of {count}")));
    }
    // The raw run holds its input in memory, which is not the client's.
    let peak = after.peak_rss.saturating_sub(memory.len() as u64);
    let cpu = (after.cpu - before.cpu).as_secs_f64();
    println!("{}", serde_json::json!({"seconds": seconds, "cpu": cpu, "peak_rss": peak}));
    // Closing the clients is no part of the work, and takes its time.
    std::process::exit(0)
}

fn produce(bootstrap: &str, topic: &str, lines: &[u8]) -> Result<u64> {
    let mut producer = Producer::new(bootstrap, topic, PRODUCER)?;
    let mut values = Vec::new();
    for chunk in lines.chunks(CHUNK / 100 * 100) {
        split(chunk, &mut values);
        producer.send(&values);
    }
    producer.finish()
}

fn copy_in(bootstrap: &str, topic: &str, file: &Path) -> Result<u64> {
    let mut producer = Producer::new(bootstrap, topic, PRODUCER)?;
    let mut file = File::open(file).context(format_args!("cannot open {}", file.display()))?;
    let mut buffer = vec![0; CHUNK];
    let mut filled = 0;
    loop {
        let n = file.read(&mut buffer[filled..])?;
        if n == 0 {
            return producer.finish();
        }
        filled += n;
        let mut values = Vec::with_capacity(filled / 64);
        let rest = split(&buffer[..filled], &mut values);
        producer.send(&values);
        drop(values);
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

fn consume(
    bootstrap: &str,
    topic: &str,
    count: u64,
    mut each: impl FnMut(&[u8]) -> Result<()>,
    mut flush: impl FnMut() -> Result<()>,
) -> Result<u64> {
    let group = format!("loop-{}", std::process::id());
    let mut consumer = Consumer::new(bootstrap, &group, topic, CONSUMER)?;
    let mut done = 0;
    let mut committed = Instant::now();
    while done < count {
        done += consumer.receive(&mut each)?;
        if done >= count || committed.elapsed() >= COMMIT_INTERVAL {
            flush()?;
            consumer.commit()?;
            committed = Instant::now();
        }
    }
    // A consumer that is dropped leaves its group, which is no part of the work.
    std::mem::forget(consumer);
    Ok(done)
}

fn copy_out(bootstrap: &str, topic: &str, file: &Path, count: u64) -> Result<u64> {
    let file = File::create(file).context(format_args!("cannot create {}", file.display()))?;
    let out = std::cell::RefCell::new(BufWriter::with_capacity(CHUNK, file));
    let write = |value: &[u8]| {
        let mut out = out.borrow_mut();
        out.write_all(value)?;
        Ok(out.write_all(b"\n")?)
    };
    consume(bootstrap, topic, count, write, || Ok(out.borrow_mut().flush()?))
}
