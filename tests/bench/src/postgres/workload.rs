//! What is captured, and how it is judged.

use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_harness::{Context, Error, KafkaBroker, Postgres, Result, checker};

/// The database.
pub const DATABASE: &str = "bench";
/// How long a slot may be in use after its reader is gone.
pub const SLOT_WAIT: Duration = Duration::from_secs(90);

/// A workload.
#[derive(Clone, Copy, Debug)]
pub enum Workload {
    Snapshot { rows: u64 },
    Streaming { changes: u64 },
    Latency,
}

impl Workload {
    pub fn title(&self) -> String {
        match self {
            Self::Snapshot { rows } => format!("Snapshot of {rows} rows"),
            Self::Streaming { changes } => {
                format!("{changes} changes from the log (a third each: insertions, updates, deletions)")
            }
            Self::Latency => "Latency".into(),
        }
    }

    pub fn raw_title(&self) -> &'static str {
        match self {
            Self::Snapshot { .. } => "COPY out alone",
            _ => "pg_recvlogical alone",
        }
    }

    pub fn table(&self) -> &'static str {
        match self {
            Self::Snapshot { .. } => "rows",
            Self::Streaming { .. } => "changes",
            Self::Latency => "commits",
        }
    }

    pub fn publication(&self) -> String {
        format!("of_{}", self.table())
    }

    pub fn snapshot_mode(&self) -> &'static str {
        if matches!(self, Self::Snapshot { .. }) { "initial" } else { "no_data" }
    }

    pub fn records(&self) -> u64 {
        match self {
            Self::Snapshot { rows } => *rows,
            Self::Streaming { changes } => changes / 3 * 3,
            Self::Latency => 0,
        }
    }

    /// Makes the tables, once.
    pub fn prepare(&self, server: &Postgres) -> Result<()> {
        let table = self.table();
        let columns = "id bigint PRIMARY KEY, customer int NOT NULL, amount numeric(12,2) NOT NULL, made timestamptz NOT NULL, note text";
        let mut sql = format!("CREATE TABLE IF NOT EXISTS {table} ({columns});");
        if let Self::Snapshot { rows } = self {
            sql += &format!("INSERT INTO {table} {};", values("1", &rows.to_string()));
        }
        sql += &format!(
            "DO $$ BEGIN CREATE PUBLICATION {} FOR TABLE {table}; EXCEPTION WHEN duplicate_object THEN NULL; END $$; VACUUM ANALYZE {table}",
            self.publication()
        );
        server.sql(DATABASE, &sql).map(drop)
    }

    /// What comes before each run: with the slot, so that all that happens behind it is in the log.
    pub fn before(&self, server: &Postgres, slot: &str) -> Result<()> {
        if matches!(self, Self::Snapshot { .. }) {
            return Ok(());
        }
        server.sql(DATABASE, &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"))?;
        if let Self::Streaming { changes } = self {
            let (table, each) = (self.table(), changes / 3);
            // Transactions of a hundred rows.
            let body = |statement: &str| format!("FOR i IN 0..{each} / 100 - 1 LOOP {statement}; COMMIT; END LOOP;");
            let range = "id BETWEEN i * 100 + 1 AND i * 100 + 100";
            server.sql(
                DATABASE,
                &format!(
                    "TRUNCATE {table}; DO $$ BEGIN {} {} {} END $$",
                    body(&format!("INSERT INTO {table} {}", values("i * 100 + 1", "i * 100 + 100"))),
                    body(&format!("UPDATE {table} SET amount = amount + 1 WHERE {range}")),
                    body(&format!("DELETE FROM {table} WHERE {range}")),
                ),
            )?;
        }
        Ok(())
    }

    /// What the server alone gives, a second.
    pub fn raw(&self, server: &Postgres) -> Result<f64> {
        let start;
        match self {
            Self::Snapshot { .. } => {
                let mut psql = server.tool("psql", DATABASE);
                psql.args(["-X", "-q", "-c", &format!("COPY {} TO STDOUT", self.table())]);
                psql.stdout(std::process::Stdio::null());
                start = Instant::now();
                run(psql)?;
            }
            _ => {
                self.before(server, "raw")?;
                let end = server.sql(DATABASE, "SELECT pg_current_wal_insert_lsn()")?;
                // Something behind it, so that its end is seen.
                server.sql(
                    DATABASE,
                    &format!("INSERT INTO {} {}; TRUNCATE {}", self.table(), values("0", "0"), self.table()),
                )?;
                let mut tool = server.tool("pg_recvlogical", DATABASE);
                tool.args([
                    "-d",
                    DATABASE,
                    "--slot",
                    "raw",
                    "--start",
                    "--no-loop",
                    "-f",
                    "/dev/null",
                    "--endpos",
                    end.trim(),
                ]);
                tool.args(["-o", "proto_version=1", "-o", &format!("publication_names={}", self.publication())]);
                start = Instant::now();
                run(tool)?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        server.sql(
            DATABASE,
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'raw'",
        )?;
        Ok(self.records() as f64 / seconds)
    }

    /// Whether the topic has what it has to have.
    pub fn check(&self, broker: &KafkaBroker, topic: &str) -> Result<()> {
        let wanted: &[(&str, u64)] = match self {
            Self::Snapshot { rows } => &[("r", *rows)],
            Self::Streaming { changes } => &[("c", changes / 3), ("u", changes / 3), ("d", changes / 3)],
            Self::Latency => &[],
        };
        let mut seen: Vec<(Vec<bool>, u64)> =
            wanted.iter().map(|(_, count)| (vec![false; *count as usize + 1], 0)).collect();
        let mut wrong = None;
        checker::read_topic(broker, topic, |_, value| {
            let event: Value = serde_json::from_slice(value.unwrap_or_default()).unwrap_or_default();
            let side = if event["op"] == "d" { &event["before"] } else { &event["after"] };
            let place = wanted.iter().position(|(op, _)| event["op"] == *op).zip(side["id"].as_u64());
            match place.and_then(|(at, id)| seen[at].0.get_mut(id as usize).map(|seen| (at, seen))) {
                Some((_, it)) if !*it => *it = true,
                _ => wrong = Some(event.to_string()),
            }
        })?;
        if let Some(event) = wrong {
            return Err(Error::new(format!("{topic} has a record that is wrong or comes twice: {event}")));
        }
        for ((op, count), (seen, _)) in wanted.iter().zip(&seen) {
            let found = seen.iter().filter(|seen| **seen).count() as u64;
            if found != *count {
                return Err(Error::new(format!("{topic} has {found} of {count} records {op}")));
            }
        }
        Ok(())
    }
}

/// Rows of about a hundred bytes, with these ids.
fn values(from: &str, to: &str) -> String {
    format!(
        "SELECT g, g % 1000, (g % 100000) / 100.0, timestamptz '2026-11-30 00:00+00' + g * interval '1 ms', 'order ' || g || repeat('-', 40) \
         FROM generate_series({from}, {to}) g"
    )
}

fn run(mut command: std::process::Command) -> Result<()> {
    let output = command.output().context("cannot run a tool of PostgreSQL")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(String::from_utf8_lossy(&output.stderr)))
}
