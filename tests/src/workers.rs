//! Workers of one group on one broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tributary_harness::{Error, Rest, Result, TributaryWorker, WorkerOptions, wait};

/// Some workers of a group. Each has a port and a data directory of its own, which it keeps over restarts.
#[derive(Debug)]
pub struct Workers {
    /// `group.id`; the topics are named after it.
    pub group: String,
    bootstrap: String,
    options: WorkerOptions,
    workers: Vec<TributaryWorker>,
}

impl Workers {
    /// Starts so many workers.
    pub fn start(bootstrap: &str, count: usize) -> Result<Self> {
        Self::start_with(bootstrap, count, WorkerOptions::default())
    }

    /// Starts so many workers with these options, and waits until all of them are in the group.
    pub fn start_with(bootstrap: &str, count: usize, options: WorkerOptions) -> Result<Self> {
        static GROUPS: AtomicU32 = AtomicU32::new(0);
        let group = format!("group-{}-{}", std::process::id(), GROUPS.fetch_add(1, Ordering::Relaxed));
        Self::in_group(&group, bootstrap, count, options)
    }

    /// The same in a group that has a name, and perhaps topics.
    pub fn in_group(group: &str, bootstrap: &str, count: usize, options: WorkerOptions) -> Result<Self> {
        // Offsets are committed often, so that a crash in a short test finds some.
        let options = options.group(group).set("offset.flush.interval.ms", "200");
        let (group, bootstrap) = (group.to_owned(), bootstrap.to_owned());
        let mut workers = Self { group, bootstrap, options, workers: Vec::new() };
        for _ in 0..count {
            workers.add()?;
        }
        Ok(workers)
    }

    /// Starts one more and waits until it is in the group.
    pub fn add(&mut self) -> Result<&TributaryWorker> {
        let worker = TributaryWorker::start_with(&self.bootstrap, self.options.clone())?;
        self.workers.push(worker);
        Ok(&self.workers[self.workers.len() - 1])
    }

    /// The worker of this number.
    pub fn get(&self, number: usize) -> &TributaryWorker {
        &self.workers[number]
    }

    /// The worker of this number, to kill or stop it.
    pub fn get_mut(&mut self, number: usize) -> &mut TributaryWorker {
        &mut self.workers[number]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &TributaryWorker> {
        self.workers.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// The REST API of a worker.
    pub fn rest(&self, number: usize) -> &Rest {
        self.workers[number].rest()
    }

    /// `host:port` of a worker, as statuses have it.
    pub fn id(&self, number: usize) -> &str {
        self.rest(number).base().trim_start_matches("http://")
    }

    /// The number of the worker that leads, by the newest assignment in the logs.
    pub fn leader(&self) -> Result<usize> {
        let newest = |worker: &TributaryWorker| {
            let log = worker.log();
            // Tasks that are assigned partitions say something alike.
            let assigned = |line: &&str| line.contains(": assigned ") && line.contains(" generation=");
            let line = log.lines().rev().find(assigned)?;
            let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
            Some((field("generation=")?.parse::<i64>().ok()?, field("leader=")?.trim_end_matches('/').to_owned()))
        };
        wait::until("a leader", wait::PATIENCE, || {
            let newest = self.workers.iter().filter_map(newest).max();
            let leads = |url: &String| self.workers.iter().position(|worker| worker.rest().base() == url.as_str());
            Ok(newest.and_then(|(_, url)| leads(&url)))
        })
        .map_err(|error| self.with_logs(error.to_string()))
    }

    /// Waits until the connectors, and all their tasks, are RUNNING as this worker sees it.
    pub fn wait_running(&self, seen_by: usize, connectors: &[String]) -> Result<()> {
        for connector in connectors {
            self.workers[seen_by].wait_running(connector)?;
        }
        Ok(())
    }

    /// Who runs what, as a worker sees it: connectors (`name`) and tasks (`name-0`) by worker.
    pub fn owners(&self, seen_by: usize) -> Result<BTreeMap<String, String>> {
        let all = self.rest(seen_by).get("/connectors?expand=status")?.ok()?;
        let mut owners = BTreeMap::new();
        for (name, parts) in all.as_object().into_iter().flatten() {
            let status = &parts["status"];
            let worker = |part: &Value| part["worker_id"].as_str().unwrap_or_default().to_owned();
            owners.insert(name.clone(), worker(&status["connector"]));
            for task in status["tasks"].as_array().into_iter().flatten() {
                owners.insert(format!("{name}-{}", task["id"]), worker(task));
            }
        }
        Ok(owners)
    }

    /// How many tasks each of these workers runs, as a worker sees it.
    pub fn tasks_by_worker(&self, seen_by: usize) -> Result<BTreeMap<String, usize>> {
        let all = self.rest(seen_by).get("/connectors?expand=status")?.ok()?;
        let mut counts = BTreeMap::new();
        for parts in all.as_object().into_iter().flat_map(|all| all.values()) {
            for task in parts["status"]["tasks"].as_array().into_iter().flatten() {
                if task["state"] == "RUNNING" {
                    *counts.entry(task["worker_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
                }
            }
        }
        Ok(counts)
    }

    /// Waits until so many tasks run, spread over these workers with a difference of at most one.
    pub fn wait_balanced(&self, seen_by: usize, tasks: usize, workers: &[usize]) -> Result<()> {
        wait::until(&format!("{tasks} tasks spread over {} workers", workers.len()), wait::PATIENCE, || {
            let counts = self.tasks_by_worker(seen_by)?;
            let of = |number: &usize| counts.get(self.id(*number)).copied().unwrap_or_default();
            let (least, most) = (workers.iter().map(of).min(), workers.iter().map(of).max());
            let sum: usize = workers.iter().map(of).sum();
            let total: usize = counts.values().sum();
            let even = most.unwrap_or_default() - least.unwrap_or_default() <= 1;
            if sum == tasks && total == tasks && even {
                return Ok(Some(()));
            }
            Err(Error::new(format!("{counts:?}")))
        })
        .map_err(|error| self.with_logs(error.to_string()))
    }

    /// An error that ends with the tails of all logs.
    pub fn with_logs(&self, message: impl Into<String>) -> Error {
        self.workers.iter().fold(Error::new(message.into()), |error, worker| worker.with_log(error.to_string()))
    }

    /// Stops all workers in order, one after the other.
    pub fn stop(&mut self) -> Result<()> {
        self.workers.iter_mut().try_for_each(TributaryWorker::stop)
    }
}

/// How long a worker may be silent before the group gives its work to others, in tests.
pub const SESSION: Duration = Duration::from_secs(4);
