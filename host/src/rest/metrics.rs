//! `GET /metrics`: what this worker runs, in Prometheus' text format.
//!
//! Series are named after Kafka Connect's JMX attributes, `kafka_connect_<group>_<attribute>`, with the labels `connector` and
//! `task`. A task's counts begin anew when it is started again, as in Kafka Connect. Rates are over the last few seconds.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::api::Api;
use super::security::{Identity, Role};
use crate::herder::{ConnectorView, PluginKind, TaskView};
use crate::telemetry::exposition::{CONTENT_TYPE, Exposition, Kind};
use crate::worker::{Distribution, StandbyProgress, Starts, State as RunState, TaskId, TaskProgress};

use Kind::{Counter, Gauge};

pub(super) async fn metrics(State(api): State<Arc<Api>>, Extension(identity): Extension<Identity>) -> Response {
    let mut out = Exposition::default();
    let connectors = api.herder.view().connectors();
    worker(&mut out, &api, &connectors);
    process(&mut out);
    for connector in &connectors {
        if identity.may(Role::View, Some(&connector.name)) {
            of_connector(&mut out, &api, connector);
        }
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], out.finish()).into_response()
}

fn worker(out: &mut Exposition, api: &Api, connectors: &[Arc<ConnectorView>]) {
    let here =
        |connector: &&Arc<ConnectorView>| connector.instance.here && connector.instance.state != RunState::Stopped;
    let tasks = connectors.iter().flat_map(|connector| &connector.tasks).filter(|task| task.instance.here);
    let group = "kafka_connect_connect_worker_metrics";
    let mut gauge = |name: &str, help, value: f64| out.sample((&format!("{group}_{name}"), Gauge, help), &[], value);
    gauge("connector_count", "Connectors that run in this worker.", connectors.iter().filter(here).count() as f64);
    gauge("task_count", "Tasks that run in this worker.", tasks.count() as f64);
    let (of_connectors, of_tasks) = api.runner.starts();
    for (what, starts) in [("connector", of_connectors), ("task", of_tasks)] {
        let Starts { attempts, successes, failures } = starts;
        let mut count = |name: &str, help, value: u64| {
            out.sample((&format!("{group}_{what}_startup_{name}_total"), Counter, help), &[], value as f64);
        };
        count("attempts", "Starts that this worker has tried.", attempts);
        count("success", "Starts that worked.", successes);
        count("failure", "Starts that failed.", failures);
        let ended = (successes + failures).max(1) as f64;
        for (name, value) in [("success", successes), ("failure", failures)] {
            let name = format!("{group}_{what}_startup_{name}_percentage");
            out.sample((&name, Gauge, "Part of the starts, from 0 to 1."), &[], value as f64 / ended);
        }
    }
    for connector in connectors.iter().filter(here) {
        let states = [
            ("running", RunState::Running),
            ("paused", RunState::Paused),
            ("failed", RunState::Failed),
            ("unassigned", RunState::Unassigned),
            ("restarting", RunState::Restarting),
        ];
        let name = connector.name.as_str();
        for (word, state) in states {
            let tasks = connector.tasks.iter().filter(|task| task.instance.here && task.instance.state == state);
            let metric = format!("{group}_connector_{word}_task_count");
            out.sample(
                (&metric, Gauge, "Tasks of the connector in this state, in this worker."),
                &[("connector", name)],
                tasks.count() as f64,
            );
        }
    }
    let Some(cluster) = &api.cluster else { return };
    let state = (cluster.group)();
    let group = "kafka_connect_connect_worker_rebalance_metrics";
    let leader = state.leader_url.clone().unwrap_or_default();
    let mut gauge = |name: &str, help, labels: &[(&str, &str)], value: f64| {
        out.sample((&format!("{group}_{name}"), Gauge, help), labels, value);
    };
    gauge("epoch", "Generation of the group.", &[], f64::from(state.generation));
    gauge("rebalancing", "1 while a rebalance is under way.", &[], f64::from(u8::from(state.rebalancing)));
    gauge("leader_name", "1, with the leader's URL.", &[("leader_name", &leader)], 1.0);
    gauge("leader", "1 on the leader.", &[], f64::from(u8::from(state.leader)));
    gauge("connect_protocol", "1, with the protocol.", &[("connect_protocol", &state.protocol)], 1.0);
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let times = &state.rebalances;
    gauge("rebalance_avg_time_ms", "Mean time of this worker's rebalances.", &[], millis(times.average()));
    gauge("rebalance_max_time_ms", "Time of the longest one.", &[], millis(times.longest()));
    // As in Kafka Connect: infinitely long ago before the first.
    let since = times.since_last().map_or(f64::INFINITY, millis);
    gauge("time_since_last_rebalance_ms", "Time since the last one ended.", &[], since);
    let completed = format!("{group}_completed_rebalances_total");
    out.sample((&completed, Counter, "Rebalances that ended with an assignment."), &[], times.completed as f64);
}

/// Names that Prometheus' own clients use.
fn process(out: &mut Exposition) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // Behind the name, which may hold anything, the fields are separated by blanks.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    let (ticks, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as f64);
    out.sample(("process_cpu_seconds_total", Counter, "CPU time of the worker."), &[], (field(14) + field(15)) / ticks);
    out.sample(("process_resident_memory_bytes", Gauge, "Memory of the worker."), &[], field(24) * page);
    out.sample(("process_threads", Gauge, "Threads of the worker."), &[], field(20));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    out.sample(("process_open_fds", Gauge, "Files and connections that are open."), &[], open as f64);
}

fn of_connector(out: &mut Exposition, api: &Api, connector: &ConnectorView) {
    let name = connector.name.as_str();
    let class = connector.config.get("connector.class").unwrap_or_default();
    let kind = match connector.kind {
        Some(PluginKind::Source) => "source",
        Some(PluginKind::Sink) => "sink",
        _ => "unknown",
    };
    if connector.instance.here {
        let labels = [
            ("connector", name),
            ("connector_class", class),
            ("connector_type", kind),
            ("connector_version", connector.version.as_deref().unwrap_or_default()),
            ("status", word(connector.instance.state)),
        ];
        out.sample(("kafka_connect_connector_metrics_status", Gauge, "1, with what the connector is."), &labels, 1.0);
    }
    if let Some(progress) = api.runner.standby(name) {
        standby(out, name, &progress);
    }
    for task in connector.tasks.iter().filter(|task| task.instance.here) {
        let id = TaskId { connector: connector.name.clone(), task: task.id };
        let number = task.id.to_string();
        let mut metrics = TaskMetrics { out, labels: [("connector", name), ("task", &number)] };
        metrics.state(task);
        for transform in connector.config.list("transforms") {
            let class = connector.config.get(&format!("transforms.{transform}.type")).unwrap_or_default();
            metrics.info(
                "connector_transform_metrics_transform_class",
                "1, with a transform of the chain.",
                &[("transform", transform), ("transform_class", class)],
            );
        }
        if let Some(progress) = api.runner.progress(&id) {
            metrics.common(&progress);
            match connector.kind {
                Some(PluginKind::Sink) => metrics.sink(task, &progress),
                _ => metrics.source(task, &progress),
            }
            metrics.errors(&progress);
        }
    }
}

/// What is followed of tasks that run on other workers.
fn standby(out: &mut Exposition, connector: &str, progress: &StandbyProgress) {
    let labels = [("connector", connector)];
    let retrying = u64::from(progress.retrying.is_some());
    for (name, kind, help, value) in [
        ("tasks", Gauge, "Tasks on other workers whose state this worker follows.", Some(progress.tasks)),
        ("shards", Gauge, "Shards of their state whose files are kept up to date.", Some(progress.shards)),
        ("lag_records", Gauge, "Records of the changelog that are left to read for them.", progress.to_read),
        ("records_read_total", Counter, "Records of the changelog read for them.", Some(progress.records_read)),
        ("retrying", Gauge, "1 while the worker tries to get past an error.", Some(retrying)),
    ] {
        let Some(value) = value else { continue };
        out.sample((&format!("tributary_standby_{name}"), kind, help), &labels, value as f64);
    }
}

/// Writes one task's.
struct TaskMetrics<'a> {
    out: &'a mut Exposition,
    labels: [(&'a str, &'a str); 2],
}

impl TaskMetrics<'_> {
    fn put(&mut self, name: &str, kind: Kind, help: &'static str, value: f64) {
        self.out.sample((&format!("kafka_connect_{name}"), kind, help), &self.labels, value);
    }

    fn count(&mut self, name: &str, help: &'static str, value: u64) {
        self.put(name, Counter, help, value as f64);
    }

    fn info(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)]) {
        let labels = [&self.labels[..], labels].concat();
        self.out.sample((&format!("kafka_connect_{name}"), Gauge, help), &labels, 1.0);
    }

    fn state(&mut self, task: &TaskView) {
        self.info(
            "connector_task_metrics_status",
            "1, with the task's state.",
            &[("status", word(task.instance.state))],
        );
    }

    /// Mean and largest, ms.
    fn times(&mut self, prefix: &str, help: &'static str, times: &Distribution) {
        self.put(&format!("{prefix}_avg_time_ms"), Gauge, help, times.mean() / 1000.0);
        self.put(&format!("{prefix}_max_time_ms"), Gauge, help, times.max as f64 / 1000.0);
    }

    fn common(&mut self, progress: &TaskProgress) {
        let readings = &progress.readings;
        self.put(
            "connector_task_metrics_running_ratio",
            Gauge,
            "Part of its time that the task was running.",
            readings.running_ratio,
        );
        self.put(
            "connector_task_metrics_pause_ratio",
            Gauge,
            "Part of its time that the task was paused.",
            readings.pause_ratio,
        );
        self.times("connector_task_metrics_offset_commit", "Time of a commit of offsets, ms.", &readings.commit_micros);
        let commits = readings.commit_micros.count;
        let failed = readings.commit_failures as f64 / commits.max(1) as f64;
        let worked = if commits == 0 { 0.0 } else { 1.0 - failed };
        self.put(
            "connector_task_metrics_offset_commit_failure_percentage",
            Gauge,
            "Part of the commits that failed, from 0 to 1.",
            failed,
        );
        self.put(
            "connector_task_metrics_offset_commit_success_percentage",
            Gauge,
            "Part of the commits that worked, from 0 to 1.",
            worked,
        );
        self.put("connector_task_metrics_batch_size_avg", Gauge, "Records of a batch.", readings.batch_size.mean());
        self.put(
            "connector_task_metrics_batch_size_max",
            Gauge,
            "Records of the largest batch.",
            readings.batch_size.max as f64,
        );
        let own = |name: &'static str| format!("tributary_task_{name}");
        if let Some(at) = progress.last_record_ms {
            let metric = own("last_record_timestamp_seconds");
            self.out.sample((&metric, Gauge, "When the last record passed."), &self.labels, at as f64 / 1000.0);
        }
        if let Some(at) = progress.last_commit_ms {
            let metric = own("last_commit_timestamp_seconds");
            self.out.sample((&metric, Gauge, "When offsets were last committed."), &self.labels, at as f64 / 1000.0);
        }
        if let Some(lag) = progress.lag {
            self.out.sample(
                (&own("lag_records"), Gauge, "Records behind the end of the task's partitions."),
                &self.labels,
                lag as f64,
            );
        }
        self.out.sample(
            (&own("bytes_in_total"), Counter, "Bytes that came in."),
            &self.labels,
            progress.bytes_in as f64,
        );
        self.out.sample(
            (&own("records_filtered_total"), Counter, "Records that transforms dropped."),
            &self.labels,
            progress.records_filtered as f64,
        );
        if let Some(state) = &progress.state {
            for (name, help, value) in [
                ("state_shards", "Shards whose state is open.", state.shards),
                ("state_entries_in_memory", "Entries of the transforms' state in memory.", state.entries),
                ("state_bytes_in_memory", "Memory that they take.", state.bytes),
                ("state_restoring_shards", "Shards whose state is being restored.", state.restoring),
                (
                    "state_records_to_restore",
                    "Records of the changelog that are left to read for them.",
                    state.to_restore,
                ),
            ] {
                self.out.sample((&own(name), Gauge, help), &self.labels, value as f64);
            }
            self.out.sample(
                (&own("records_late_total"), Counter, "Records that came too late for transforms that keep state."),
                &self.labels,
                progress.records_late as f64,
            );
        }
        let retrying = f64::from(u8::from(progress.retrying.is_some()));
        self.out.sample(
            (&own("retrying"), Gauge, "1 while the task tries to get past an error."),
            &self.labels,
            retrying,
        );
    }

    fn source(&mut self, task: &TaskView, progress: &TaskProgress) {
        let rate = task.records_per_second.unwrap_or_default();
        self.count(
            "source_task_metrics_source_record_poll_total",
            "Records polled, before transforms.",
            progress.records_in,
        );
        self.put("source_task_metrics_source_record_poll_rate", Gauge, "Records polled in a second.", rate);
        self.count(
            "source_task_metrics_source_record_write_total",
            "Records written to Kafka, after transforms.",
            progress.records_out,
        );
        let written = progress.records_out as f64 / progress.records_in.max(1) as f64;
        self.put(
            "source_task_metrics_source_record_write_rate",
            Gauge,
            "Records written to Kafka in a second.",
            rate * written,
        );
        self.put(
            "source_task_metrics_source_record_active_count",
            Gauge,
            "Records polled and not yet acknowledged by Kafka.",
            active(progress),
        );
        let sizes = &progress.readings.transaction_size;
        if sizes.count > 0 {
            let name = "source_task_metrics_transaction_size";
            self.put(&format!("{name}_avg"), Gauge, "Records of a transaction.", sizes.mean());
            self.put(&format!("{name}_max"), Gauge, "Records of the largest transaction.", sizes.max as f64);
            let least = progress.readings.transaction_least as f64;
            self.put(&format!("{name}_min"), Gauge, "Records of the smallest transaction.", least);
        }
        self.times("source_task_metrics_poll_batch", "Time of a poll, ms.", &progress.readings.call_micros);
    }

    fn sink(&mut self, task: &TaskView, progress: &TaskProgress) {
        let readings = &progress.readings;
        let rate = task.records_per_second.unwrap_or_default();
        self.count(
            "sink_task_metrics_sink_record_read_total",
            "Records read from Kafka, before transforms.",
            progress.records_in,
        );
        self.put("sink_task_metrics_sink_record_read_rate", Gauge, "Records read from Kafka in a second.", rate);
        self.count(
            "sink_task_metrics_sink_record_send_total",
            "Records that the connector accepted, after transforms.",
            progress.records_out,
        );
        let sent = progress.records_out as f64 / progress.records_in.max(1) as f64;
        self.put(
            "sink_task_metrics_sink_record_send_rate",
            Gauge,
            "Records that the connector accepted in a second.",
            rate * sent,
        );
        self.put(
            "sink_task_metrics_sink_record_active_count",
            Gauge,
            "Records read and not yet accepted by the connector.",
            active(progress),
        );
        self.put("sink_task_metrics_partition_count", Gauge, "Partitions of the task.", readings.partitions as f64);
        if let Some(lag) = readings.max_lag {
            self.put(
                "sink_task_metrics_sink_record_lag_max",
                Gauge,
                "Records behind the end of the partition that is farthest behind.",
                lag as f64,
            );
        }
        self.out.sample(
            (
                "tributary_task_parked",
                Gauge,
                "1 while the task has nothing to read and no Kafka client of its own (sink.parking.delay.ms).",
            ),
            &self.labels,
            f64::from(u8::from(progress.parked)),
        );
        let commits = readings.commit_micros.count;
        self.put(
            "sink_task_metrics_offset_commit_seq_no",
            Gauge,
            "Number of the last commit of offsets.",
            commits as f64,
        );
        self.count(
            "sink_task_metrics_offset_commit_completion_total",
            "Commits of offsets that worked.",
            commits - readings.commit_failures.min(commits),
        );
        self.times("sink_task_metrics_put_batch", "Time of a put, ms.", &readings.call_micros);
    }

    fn errors(&mut self, progress: &TaskProgress) {
        let errors = &progress.errors;
        self.count("task_error_metrics_total_record_failures", "Tries that failed.", errors.record_failures);
        self.count("task_error_metrics_total_record_errors", "Records that failed for good.", errors.record_errors);
        self.count(
            "task_error_metrics_total_records_skipped",
            "Failed records that were tolerated.",
            errors.records_skipped,
        );
        self.count("task_error_metrics_total_retries", "Tries after the first.", errors.retries);
        self.count("task_error_metrics_total_errors_logged", "Errors that were logged.", errors.errors_logged);
        self.count(
            "task_error_metrics_deadletterqueue_produce_requests",
            "Records for the dead-letter topic.",
            errors.dead_letter_requests,
        );
        self.count(
            "task_error_metrics_deadletterqueue_produce_failures",
            "Records that the dead-letter topic refused.",
            errors.dead_letter_failures,
        );
        self.put(
            "task_error_metrics_last_error_timestamp",
            Gauge,
            "When the last error was, ms since the epoch; 0: never.",
            errors.last_error_ms.unwrap_or_default() as f64,
        );
    }
}

/// Records that came in and are neither out nor gone. A transform that makes several records of one hides some.
fn active(progress: &TaskProgress) -> f64 {
    let gone = progress.records_out + progress.records_filtered + progress.records_failed;
    progress.records_in.saturating_sub(gone) as f64
}

fn word(state: RunState) -> &'static str {
    match state {
        RunState::Unassigned => "unassigned",
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Stopped => "stopped",
        RunState::Failed => "failed",
        RunState::Restarting => "restarting",
    }
}
