//! How quick the log is: raw librdkafka, the Kafka log and the embedded log, with the same 99-byte records.
//!
//! `cargo run --release -p tributary --example log_bench [-- RECORDS [WHAT…]]`; WHAT is any of `raw`, `kafka`,
//! `stamped`, `keyed`, `embedded`, `idle` (a hundred waiting consumers). Starts its own broker where one is needed. Prints records a second, and CPU seconds of this
//! process a million records.

mod raw;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arrow_array::{BinaryArray, Int64Array};
use tributary::log::embedded::EmbeddedLog;
use tributary::log::kafka::KafkaLog;
use tributary::log::{ConsumerEvent, Log, LogRecords, NewTopic, Subscription};
use tributary_harness::KafkaBroker;

const BATCH: usize = 5_000;
/// Times that a topic is read, by raw and ours in turns.
const READS: usize = 3;
const WAIT: Duration = Duration::from_secs(60);

fn main() {
    let mut args = std::env::args().skip(1);
    let records: usize = args.next().map_or(3_000_000, |n| n.parse().expect("a number of records"));
    let what: Vec<String> = args.collect();
    let wanted = |name: &str| what.is_empty() || what.iter().any(|w| w == name);
    println!("{records} records of 99 bytes, batches of {BATCH}");
    let broker = ["raw", "kafka", "stamped", "keyed", "idle"]
        .iter()
        .any(|w| wanted(w))
        .then(|| KafkaBroker::start().expect("a broker"));
    if let Some(broker) = broker.as_ref().filter(|_| wanted("idle")) {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        idle("embedded log", &EmbeddedLog::open(&dir.path().join("log.db")).expect("an embedded log"));
        idle("kafka log", &KafkaLog::new(&broker.bootstrap(), &BTreeMap::new()));
    }
    for round in 0..3 {
        if let Some(broker) = &broker {
            let kafka = KafkaLog::new(&broker.bootstrap(), &BTreeMap::new());
            if wanted("raw") {
                let topic = create(&kafka, &format!("raw-{round}"));
                measure("raw librdkafka, produce", records, || {
                    raw::produce(&broker.bootstrap(), &topic, records, &line(0))
                });
                for _ in 0..READS {
                    measure("raw librdkafka, consume", records, || raw::consume(&broker.bootstrap(), &topic, records));
                    if wanted("kafka") {
                        consume("kafka log", &kafka, &topic, records);
                    }
                }
            }
            for (name, shape) in [("kafka", Shape::Plain), ("stamped", Shape::Stamped), ("keyed", Shape::Keyed)] {
                if wanted(name) {
                    let topic = create(&kafka, &format!("{name}-{round}"));
                    both(&format!("{name} log"), &kafka, &topic, records, shape);
                }
            }
        }
        if wanted("embedded") {
            let dir = tempfile::tempdir_in(".").expect("a directory");
            let embedded = EmbeddedLog::open(&dir.path().join("log.db")).expect("an embedded log");
            both("embedded log", &embedded, "t", records, Shape::Plain);
        }
    }
}

/// A hundred consumers with nothing to read, each on its thread as a task has it.
fn idle(name: &str, log: &dyn Log) {
    create(log, "idle");
    let seconds = 15;
    let (cpu, used) = std::thread::scope(|scope| {
        for i in 0..100 {
            let settings = BTreeMap::from([("group.id".to_string(), format!("idle-{i}"))]);
            let mut consumer = log.consumer(&settings, &Subscription::Topics(vec!["idle".into()])).expect("a consumer");
            scope.spawn(move || {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_secs(seconds + 10) {
                    for event in consumer.poll(100, 1 << 20, Duration::from_secs(1)).expect("no failure") {
                        if let ConsumerEvent::Assigned(partitions) = event {
                            consumer
                                .assign(&partitions.into_iter().map(|p| (p, None)).collect::<Vec<_>>())
                                .expect("assigned");
                        }
                    }
                }
                let _ = consumer.close(WAIT);
            });
        }
        std::thread::sleep(Duration::from_secs(8));
        let cpu = cpu_seconds();
        std::thread::sleep(Duration::from_secs(seconds));
        (cpu_seconds() - cpu, peak_mb())
    });
    println!("{name}, 100 idle consumers: {:.2} % of a core, {used} MB", 100.0 * cpu / seconds as f64);
}

fn create(log: &dyn Log, name: &str) -> String {
    let topic = NewTopic { name: name.into(), partitions: Some(1), ..NewTopic::default() };
    log.admin().create_topic(&topic, WAIT).expect("a topic");
    name.into()
}

fn line(i: usize) -> String {
    format!(
        "{{\"id\":{i:012},\"user\":\"user-{:08}\",\"amount\":{:08},\"note\":\"{}\"}}",
        i % 9_973,
        i % 100_000,
        "x".repeat(24)
    )
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Plain,
    Stamped,
    Keyed,
}

fn batch(shape: Shape) -> LogRecords {
    let mut records = LogRecords::from_values(BinaryArray::from_iter_values((0..BATCH).map(line)));
    if shape == Shape::Stamped {
        records.timestamps = Some(Int64Array::from(vec![1_700_000_000_000; BATCH]));
    }
    if shape == Shape::Keyed {
        records.keys = Some(BinaryArray::from_iter_values((0..BATCH).map(|i| format!("user-{i}"))));
    }
    records
}

fn both(name: &str, log: &dyn Log, topic: &str, records: usize, shape: Shape) {
    measure(&format!("{name}, produce"), records, || {
        let batch = batch(shape);
        let mut producer = log.producer(&BTreeMap::new()).expect("a producer");
        let (mut completed, mut peak) = (0, 0);
        for token in 0..(records / BATCH) as u64 {
            let mut row = 0;
            while row < BATCH {
                row += producer.send(topic, &batch, row, token, WAIT).expect("rows are taken");
            }
            producer.finish(token);
            completed += producer.poll(Duration::ZERO).expect("no failure").len();
            peak = peak.max(producer.in_flight());
        }
        producer.flush(WAIT).expect("all is acknowledged");
        completed += producer.poll(Duration::ZERO).expect("no failure").len();
        assert_eq!(completed, records / BATCH);
        producer.close(WAIT).expect("closed");
        format!("{peak} rows in flight at most")
    });
    consume(name, log, topic, records);
}

fn consume(name: &str, log: &dyn Log, topic: &str, records: usize) {
    static GROUP: AtomicU32 = AtomicU32::new(0);
    measure(&format!("{name}, consume"), records, || {
        let group = format!("bench-{}", GROUP.fetch_add(1, Ordering::Relaxed));
        let settings = BTreeMap::from([("group.id".to_string(), group)]);
        let mut consumer = log.consumer(&settings, &Subscription::Topics(vec![topic.into()])).expect("a consumer");
        let (mut count, mut batches, mut bytes) = (0, 0, 0);
        let mut first = None;
        let begin = Instant::now();
        while count < records {
            for event in consumer.poll(10_000, 4 << 20, Duration::from_secs(1)).expect("no failure") {
                match event {
                    ConsumerEvent::Batch(batch) => {
                        first.get_or_insert_with(|| begin.elapsed());
                        count += batch.records.len();
                        bytes += batch.records.bytes();
                        batches += 1;
                    }
                    ConsumerEvent::Assigned(partitions) => {
                        consumer
                            .assign(&partitions.into_iter().map(|p| (p, None)).collect::<Vec<_>>())
                            .expect("assigned");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let rate = count as f64 / (begin.elapsed() - first.unwrap_or_default()).as_secs_f64();
        std::thread::spawn(move || consumer.close(WAIT));
        format!(
            "{} records a batch, {:.0} MB, first after {:?}, then {:.2} M/s",
            count / batches,
            bytes as f64 / 1e6,
            first.unwrap_or_default(),
            rate / 1e6
        )
    });
}

fn measure(name: &str, records: usize, run: impl FnOnce() -> String) {
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let note = run();
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let million = records as f64 / 1e6;
    println!("{name:28} {:5.2} M/s  {:5.2} CPU s/M  peak {:3} MB  {note}", million / elapsed, cpu / million, peak_mb());
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    (fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")) / 100.0
}

/// Peak memory since the last call.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|l| l.starts_with("VmHWM")).expect("VmHWM");
    let kb: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kb / 1024
}
