//! The job's database, worker and receiver of alerts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use rand::Rng;
use serde_json::Value;
use tributary_harness::postgres::{PASSWORD, USER};
use tributary_harness::{Context, Error, Postgres, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_tests::Log;

use crate::alerts::Alerts;

/// The connectors' files, in the order of the data.
const CONNECTORS: [&str; 4] = ["1-orders.json", "2-totals.json", "3-dashboard.json", "4-alerts.json"];
const DATABASE: &str = "shop";
/// Where the examples look for the password.
const PASSWORD_FILE: &str = "/etc/tributary/shop.properties";
/// Orders over so many cents are alerts.
const LARGE: u64 = 1_000_000;

pub struct Job {
    pub database: Postgres,
    pub worker: TributaryWorker,
    alerts: Alerts,
    orders: u64,
}

fn example(file: &str) -> Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/examples/orders").join(file);
    fs::read_to_string(&path).context(format_args!("cannot read {}", path.display()))
}

impl Job {
    /// A database with the example's tables and a worker with its properties.
    pub fn start(log: &Log) -> Result<Self> {
        let database = Postgres::start()?;
        database.create_database(DATABASE)?;
        database.sql(DATABASE, &example("schema.sql")?)?;
        let lines = example("worker.properties")?;
        let settings = lines.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| !key.starts_with('#'));
        // Where it listens, what it keeps and which log it has, the harness says.
        let own = ["bootstrap.servers", "data.dir", "listeners"];
        let options = settings
            .filter(|(key, _)| !own.contains(key))
            .fold(WorkerOptions::default(), |options, (key, value)| options.set(key, value))
            .set("offset.flush.interval.ms", "100");
        let worker = TributaryWorker::start_with(&log.bootstrap(), options)?;
        Ok(Self { database, worker, alerts: Alerts::start()?, orders: 0 })
    }

    /// The example's connectors, with this machine's addresses.
    pub fn create_connectors(&self) -> Result<()> {
        let password = self.worker.dir().join("shop.properties");
        // As properties files have it.
        fs::write(&password, format!("password={}\n", PASSWORD.replace('\\', "\\\\")))?;
        for file in CONNECTORS {
            let text = example(file)?
                .replace(PASSWORD_FILE, &password.display().to_string())
                .replace("localhost:8000", &format!("127.0.0.1:{}", self.alerts.port()))
                .replace("localhost:5432", &format!("127.0.0.1:{}", self.database.port()));
            let mut example: Value = serde_json::from_str(&text)?;
            let name = example["name"].as_str().unwrap_or_default().to_owned();
            let config = &mut example["config"];
            if config.get("database.port").is_some() {
                config["database.port"] = self.database.port().to_string().into();
                config["database.user"] = USER.into();
            }
            if config.get("connection.username").is_some() {
                config["connection.username"] = USER.into();
            }
            self.worker.rest().put_connector(&name, config)?;
        }
        Ok(())
    }

    /// So many further orders, one transaction.
    pub fn order(&mut self, count: u64, seed: &mut Seed) -> Result<()> {
        let mut statement = String::from("INSERT INTO orders VALUES ");
        for number in 0..count {
            self.orders += 1;
            let separator = if number > 0 { ", " } else { "" };
            let (id, customer) = (self.orders, seed.random_range(0..20));
            let amount =
                if seed.random_ratio(1, 10) { LARGE + seed.random_range(0..2) } else { seed.random_range(1..LARGE) };
            // A minute after the other.
            let _ = write!(
                statement,
                "{separator}({id}, 'c-{customer}', {amount}, timestamp '2026-01-01' + interval '1 minute' * {id})"
            );
        }
        self.database.sql(DATABASE, &statement).map(drop)
    }

    /// Waits until the table is what a query over the orders says.
    pub fn check_totals(&self) -> Result<()> {
        let query = |sql: &str| self.database.sql(DATABASE, sql);
        let wanted = query(
            "SELECT customer, date_trunc('hour', placed_at), count(*), sum(amount_cents) FROM orders GROUP BY 1, 2 ORDER BY 1, 2",
        )?;
        let table = || query("SELECT customer, window_start, orders, total_cents FROM order_totals ORDER BY 1, 2");
        let reached = wait::until("the totals", wait::PATIENCE, || Ok((table()? == wanted).then_some(())));
        reached.map_err(|error| match table() {
            Ok(found) => self.worker.with_log(format!("{error}: {}", first_difference(&wanted, &found))),
            Err(why) => why,
        })
    }

    /// Waits until each large order was told of, and nothing else ever was.
    pub fn check_alerts(&self) -> Result<()> {
        let ids = self.database.sql(DATABASE, &format!("SELECT id FROM orders WHERE amount_cents > {LARGE}"))?;
        let wanted: BTreeSet<String> = ids.lines().map(|id| format!("order-{id}")).collect();
        let taken = || self.alerts.taken();
        let reached = wait::until("the alerts", wait::PATIENCE, || {
            Ok((taken()?.keys().cloned().collect::<BTreeSet<_>>() == wanted).then_some(()))
        });
        if let Err(error) = reached {
            let found: BTreeSet<String> = taken()?.keys().cloned().collect();
            let (missing, more) = (wanted.difference(&found), found.difference(&wanted));
            let difference =
                format!("{error}: missing {:?}, too many {:?}", missing.collect::<Vec<_>>(), more.collect::<Vec<_>>());
            return Err(self.worker.with_log(difference));
        }
        let sent: usize = taken()?.values().sum();
        println!("{} orders, {} alerts, sent {sent} times", self.orders, wanted.len());
        if wanted.is_empty() { Err(Error::new("there was no large order")) } else { Ok(()) }
    }
}

fn first_difference(wanted: &str, found: &str) -> String {
    let lines = wanted.lines().zip(found.lines().chain(std::iter::repeat("nothing")));
    let different =
        lines.filter(|(wanted, found)| wanted != found).map(|(wanted, found)| format!("{found} instead of {wanted}"));
    let counts = format!("{} rows instead of {}", found.lines().count(), wanted.lines().count());
    different.chain([counts]).next().unwrap_or_default()
}
