//! From a file through a log into a table, with worker and database killed on the way.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{Error, Postgres, Result, Seed, postgres, wait};
use tributary_tests::{FileJob, Log};

/// How often the worker is killed.
const KILLS: u64 = 8;
/// Lines that are added in each life of the worker.
const SHARE: u64 = 2_000;
/// One line in so many is refused by the table.
const BAD: u64 = 501;

/// A job that writes lines of JSON into the table `lines` of a database of its own.
struct Rows {
    job: FileJob,
    server: Arc<Postgres>,
}

impl Rows {
    fn start(log: &Log, table: &str, more: Value) -> Result<Self> {
        let rows = Self { job: FileJob::start(&log.bootstrap())?, server: Arc::new(Postgres::start()?) };
        rows.sql(table)?;
        rows.job.create_source(json!({}))?;
        let mut config = json!({
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "topics": rows.job.topic,
            "connection.url": format!("jdbc:postgresql://127.0.0.1:{}/postgres", rows.server.port()),
            "connection.username": postgres::USER,
            "connection.password": postgres::PASSWORD,
            "collection.name.format": "lines",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
            "errors.restart.backoff.initial.ms": "50",
            "consumer.override.max.poll.records": "300",
            // Which record a row was: nobody but Kafka tells.
            "transforms": "place",
            "transforms.place.type": "org.apache.kafka.connect.transforms.InsertField$Value",
            "transforms.place.offset.field": "at",
            "transforms.place.partition.field": "part",
            // A key of Debezium's that means nothing here.
            "connection.pool.min_size": "5",
        });
        config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        rows.job.worker.rest().put_connector(&rows.job.sink(), &config)?;
        rows.job.worker.wait_running(&rows.job.sink())?;
        Ok(rows)
    }

    fn sql(&self, statements: &str) -> Result<String> {
        self.server.sql("postgres", statements)
    }

    fn append(&self, from: u64, to: u64) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.job.input)?;
        let lines: String = (from..to).map(|id| format!("{{\"id\":{id},\"good\":{}}}\n", id % BAD != 7)).collect();
        Ok(file.write_all(lines.as_bytes())?)
    }

    fn count(&self) -> u64 {
        self.sql("SELECT count(*) FROM lines").ok().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Adds lines, kills the worker in the middle, and the database in some of its lives.
    fn kills(&mut self, seed: &mut Seed) -> Result<u64> {
        self.append(0, SHARE)?;
        for life in 1..=KILLS {
            let goal = self.count() + seed.random_range(0..SHARE);
            let limit = Instant::now() + Duration::from_secs(5);
            while self.count() < goal && Instant::now() < limit {
                thread::sleep(Duration::from_millis(2));
            }
            if life % 3 == 1 {
                self.server.kill9()?;
                thread::sleep(Duration::from_millis(seed.random_range(0..500)));
                self.server.restart()?;
            }
            self.job.worker.kill9()?;
            self.append(life * SHARE, (life + 1) * SHARE)?;
            self.job.worker.spawn()?;
        }
        Ok((KILLS + 1) * SHARE)
    }

    /// Waits until so many different lines are there.
    fn wait_for(&self, lines: u64) -> Result<()> {
        let complete = wait::until("all lines in the table", 2 * wait::PATIENCE, || {
            let found = self.sql("SELECT count(DISTINCT id) FROM lines")?;
            if found == lines.to_string() { Ok(Some(())) } else { Err(Error::new(format!("{found} of {lines} lines"))) }
        });
        complete.map_err(|error| self.job.worker.with_log(format!("{error}; {}", self.job.statuses())))
    }
}

#[test]
fn upserts_at_least_once_on_kafka() -> Result<()> {
    let more = json!({"insert.mode": "upsert", "primary.key.mode": "record_value", "primary.key.fields": "id"});
    let table = "CREATE TABLE lines (id int PRIMARY KEY, good bool, at bigint, part int)";
    let mut rows = Rows::start(&Log::kafka()?, table, more)?;
    let lines = rows.kills(&mut Seed::announce("upserts into PostgreSQL"))?;
    rows.wait_for(lines)?;
    assert_eq!(rows.count(), lines);
    rows.job.worker.stop()?;
    let log = rows.job.worker.log();
    assert!(!log.contains(postgres::PASSWORD), "the log shows the password");
    assert!(log.contains("connection.pool.min_size"), "a key without meaning is no warning");
    Ok(())
}

#[test]
fn inserts_exactly_once_on_kafka() -> Result<()> {
    exactly_once(&Log::kafka()?, "inserts into PostgreSQL, exactly once on Kafka")
}

#[test]
fn inserts_exactly_once_on_the_embedded_log() -> Result<()> {
    exactly_once(&Log::Embedded, "inserts into PostgreSQL, exactly once on the embedded log")
}

/// The table takes everything as often as it comes; each record of the topic must be there once, and the refused ones among the dead letters.
fn exactly_once(log: &Log, what: &str) -> Result<()> {
    let table = "CREATE TABLE lines (id int, good bool CHECK (good), at bigint, part int)";
    let letters = format!("refused-{}", std::process::id());
    let more = json!({
        "exactly.once.enabled": "true",
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": letters,
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
    });
    let mut rows = Rows::start(log, table, more)?;
    let lines = rows.kills(&mut Seed::announce(what))?;
    let bad = (0..lines).filter(|id| id % BAD == 7).count() as u64;
    rows.wait_for(lines - bad)?;
    assert_eq!(rows.sql("SELECT count(*) - count(DISTINCT (part, at)) FROM lines")?, "0", "records are there twice");
    // A line that the source has written twice is two records, and two rows.
    println!("{} rows of {lines} lines, {bad} of them refused", rows.count());
    rows.job.worker.stop()?;
    let output = std::process::Command::new(tributary_harness::tributary::binary()?)
        .args(["consume", &letters, "-e", "-f", "%v\\n"])
        .args(match log {
            Log::Embedded => ["-d".to_owned(), rows.job.worker.dir().join("data").display().to_string()],
            Log::Kafka(broker) => ["-b".to_owned(), broker.bootstrap()],
        })
        .output()?;
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut ids: Vec<u64> =
        found.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["id"].as_u64()).collect();
    ids.sort_unstable();
    ids.dedup();
    let expected: Vec<u64> = (0..lines).filter(|id| id % BAD == 7).collect();
    assert_eq!(ids, expected, "{found} {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
