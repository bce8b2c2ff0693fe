//! A table of counters that only count up, and what its topic has to look like.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tributary_harness::{Error, KafkaBroker, Postgres, Result, TributaryWorker, checker, postgres, wait};

/// How many counters there are.
pub const COUNTERS: u64 = 50;

/// The table on a server, with a name of its own for everything that others could share.
pub struct Counters {
    pub server: Arc<Postgres>,
    pub name: String,
}

impl Counters {
    /// All counters at 1.
    pub fn create(server: Arc<Postgres>) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cdc_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        server.create_database(&name)?;
        let this = Self { server, name };
        this.sql(&format!(
            "CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL, filler text); \
             INSERT INTO counters SELECT id, 1, repeat('x', 100) FROM generate_series(1, {COUNTERS}) id"
        ))?;
        Ok(this)
    }

    pub fn sql(&self, statements: &str) -> Result<String> {
        self.server.sql(&self.name, statements)
    }

    /// Counts up: transactions of different sizes, some of which are rolled back.
    pub fn count_up(&self, round: u64) -> Result<()> {
        let some = round % 7 + 2;
        self.sql(&format!(
            "UPDATE counters SET n = n + 1 WHERE id % {some} = 0; \
             BEGIN; UPDATE counters SET n = n + 1; ROLLBACK; \
             BEGIN; UPDATE counters SET n = n + 1; UPDATE counters SET n = n + 1 WHERE id % 3 = 1; COMMIT; \
             UPDATE counters SET n = n + 1 WHERE id = {}",
            round % COUNTERS + 1
        ))
        .map(drop)
    }

    pub fn topic(&self) -> String {
        format!("{}.public.counters", self.name)
    }

    /// The source's config.
    pub fn source(&self) -> Value {
        json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": "127.0.0.1",
            "database.port": self.server.port().to_string(),
            "database.user": postgres::USER,
            "database.password": postgres::PASSWORD,
            "database.dbname": self.name,
            "topic.prefix": self.name,
            "slot.name": self.name,
            "plugin.name": "pgoutput",
            "retriable.restart.connector.wait.ms": "1000",
            // Small, so that a crash falls inside of transactions.
            "max.batch.size": "37",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
        })
    }

    /// Waits until the topic has every counter's last state, and judges by what the database says: each counter counts up by one in the topic, as it did
    /// in the table. `repeats`: going back is allowed, and skipping is not. Answers how many records there are.
    pub fn check(&self, broker: &KafkaBroker, worker: &TributaryWorker, repeats: bool) -> Result<usize> {
        let table = self.sql("SELECT id, n FROM counters ORDER BY id")?;
        let last: BTreeMap<u64, u64> = table
            .lines()
            .filter_map(|line| line.split_once('|'))
            .filter_map(|(id, n)| Some((id.parse().ok()?, n.parse().ok()?)))
            .collect();
        let mut records = Vec::new();
        let complete = wait::until("every counter's last state in the topic", 2 * wait::PATIENCE, || {
            records = self.records(broker)?;
            let now: BTreeMap<u64, u64> = records.iter().copied().collect();
            let behind = last.iter().filter(|(id, n)| now.get(id) != Some(n)).count();
            if behind == 0 { Ok(Some(())) } else { Err(Error::new(format!("{behind} counters are behind"))) }
        });
        complete.map_err(|error| worker.with_log(error.to_string()))?;
        let mut states: BTreeMap<u64, u64> = BTreeMap::new();
        for (id, n) in &records {
            let before = states.entry(*id).or_insert(n - 1);
            let follows = *n == *before + 1 || (repeats && n <= before);
            if !follows {
                return Err(worker.with_log(format!("counter {id} goes from {before} to {n}")));
            }
            // What comes again is no step back for what follows: it has to count up from there.
            *before = *n;
        }
        if states != last {
            return Err(worker.with_log("the topic ends with other states than the table"));
        }
        Ok(records.len())
    }

    fn records(&self, broker: &KafkaBroker) -> Result<Vec<(u64, u64)>> {
        if broker.watermarks(&self.topic()).is_err() {
            return Ok(Vec::new());
        }
        let mut records = Vec::new();
        checker::read_topic(broker, &self.topic(), |_, value| {
            let event: Value = serde_json::from_slice(value.unwrap_or_default()).unwrap_or_default();
            let number = |name: &str| event["after"][name].as_u64().unwrap_or_default();
            records.push((number("id"), number("n")));
        })?;
        Ok(records)
    }
}
