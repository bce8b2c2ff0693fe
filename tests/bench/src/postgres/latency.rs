//! How long a change takes from its commit to a reader of the topic.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tributary_harness::process::ScratchDir;
use tributary_harness::{Context, Error, KafkaBroker, Postgres, Result};

use super::workload::DATABASE;

/// Transactions a second.
const RATE: u64 = 2000;
/// Seconds before those that count.
const WARM_UP: u64 = 10;
const SILENCE: Duration = Duration::from_secs(30);

/// What was measured.
#[derive(Debug)]
pub struct Latency {
    title: &'static str,
    pub median_ms: f64,
    pub p99_ms: f64,
    most_ms: f64,
    pub peak_rss: u64,
}

impl Latency {
    pub fn row(&self) -> String {
        let memory = self.peak_rss as f64 / 1e6;
        format!(
            "| {} | {:.1} ms | {:.1} ms | {:.0} ms | {memory:.0} MB |",
            self.title, self.median_ms, self.p99_ms, self.most_ms
        )
    }

    pub fn line(&self) -> String {
        format!(
            "latency, {}: median {:.1} ms, 99 of 100 {:.1} ms, {:.0} MB",
            self.title,
            self.median_ms,
            self.p99_ms,
            self.peak_rss as f64 / 1e6
        )
    }
}

/// Single-row transactions at a steady rate, while a consumer reads the topic. The server's commit time is compared with the clock here: it is the same one.
pub fn measure(
    broker: &KafkaBroker,
    server: &Postgres,
    topic: &str,
    title: &'static str,
    seconds: u64,
) -> Result<Latency> {
    let dir = ScratchDir::new("latency")?;
    let script = dir.path().join("commit.sql");
    std::fs::write(
        &script,
        "\\set c random(1, 1000)\nINSERT INTO commits SELECT nextval('commit_ids'), :c, 1.5, now(), 'order ' || repeat('-', 40);\n",
    )?;
    server.sql(DATABASE, "TRUNCATE commits; DROP SEQUENCE IF EXISTS commit_ids; CREATE SEQUENCE commit_ids")?;
    let consumer: BaseConsumer = broker.client().set("group.id", "latency").set("fetch.wait.max.ms", "500").create()?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let mut pgbench = server.tool("pgbench", DATABASE);
    let rate = RATE.to_string();
    let mut writer = pgbench
        .args(["-n", "-c", "4", "-j", "1", "-M", "prepared", "-R", &rate, "-T", &(WARM_UP + seconds).to_string()])
        .arg("-f")
        .arg(&script)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run pgbench")?;
    let (begun, mut heard, mut times, mut count) = (Instant::now(), Instant::now(), Vec::new(), 0u64);
    let mut wanted = None;
    while wanted.is_none_or(|wanted| count < wanted) {
        if wanted.is_none() && writer.try_wait()?.is_some() {
            let rows = server.sql(DATABASE, "SELECT count(*) FROM commits")?;
            wanted = Some(rows.trim().parse().context("no count")?);
        }
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(record)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
                let event: Value = serde_json::from_slice(record.payload().unwrap_or_default()).unwrap_or_default();
                let commit = event["source"]["ts_us"].as_i64().context("a record without the time of its commit")?;
                if begun.elapsed() > Duration::from_secs(WARM_UP) {
                    times.push((now - commit) as f64 / 1e3);
                }
                count += 1;
                heard = Instant::now();
            }
            Some(Err(error)) => return Err(error.into()),
            None if heard.elapsed() > SILENCE => return Err(Error::new(format!("{count} records came, then none"))),
            None => {}
        }
    }
    let output = writer.wait_with_output()?;
    if !output.status.success() {
        return Err(Error::new(String::from_utf8_lossy(&output.stderr)));
    }
    if (times.len() as u64) < RATE * seconds / 2 {
        return Err(Error::new(format!("only {} transactions in {seconds} s", times.len())));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Latency { title, median_ms: at(0.5), p99_ms: at(0.99), most_ms: at(1.0), peak_rss: 0 })
}
