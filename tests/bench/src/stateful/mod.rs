//! Keyed state with exactly-once delivery, beside Kafka Streams and Flink on the same broker.
//!
//! ```text
//! cargo run --release -p tributary-bench -- stateful
//! ```
//!
//! Every job goes from one topic of one partition to another in transactions, by one task, and its results are compared with those of a
//! batch computation. A rate counts from the first commit on, until the input's last offset is committed. Where several do a job, they
//! do it one after the other, and all of them again for each run.

mod events;
mod own;
mod peers;
mod watched;

use std::fmt::Write as _;

use tributary_harness::{BrokerOptions, KafkaBroker, Lines, Result};

use self::events::Events;
use self::peers::Peer;
use self::watched::Run;
use crate::figures::{Target, targets};
use crate::measure::Spread;

/// Keys of the state that is restored.
const RESTORED: u64 = 1_111_111;
/// Memory for the state of jobs that others do, too: room for all of it, since what the others keep in memory has no bound.
const ROOM: u64 = 1 << 30;
/// Memory for the state in which one key of ten has room, in bytes for each key.
const TIGHT: f64 = 0.1;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// How many events there are, of 99 bytes.
    #[arg(long, default_value_t = 3_000_000)]
    pub events: u64,
    /// How often each does each job; the table shows the medians.
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
    /// Leaves Kafka Streams and Flink out.
    #[arg(long)]
    pub alone: bool,
    /// Only these parts: first, windows, source, restore, memory.
    #[arg(long, value_delimiter = ',')]
    pub parts: Vec<String>,
}

/// What is done with the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// The first of each id goes on.
    First,
    /// Count and sum by user, in windows of ten seconds.
    Windows,
}

impl Job {
    fn key(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Windows => "windows",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::First => "first of each id within an hour",
            Self::Windows => "count and sum by user in windows of 10 s",
        }
    }

    fn check(self, broker: &KafkaBroker, events: Events, output: &str) -> Result<()> {
        match self {
            Self::First => events.check_first(broker, output),
            Self::Windows => events.check_windows(broker, output),
        }
    }
}

/// One row: all runs of somebody at a job.
struct Row {
    job: Job,
    peer: Option<Peer>,
    rate: Spread,
    cpu: Spread,
    peak_rss: u64,
}

impl Row {
    fn take(&mut self, run: &Run) {
        self.rate.add(run.rate);
        self.cpu.add(run.cpu);
        self.peak_rss = self.peak_rss.max(run.peak_rss);
    }
}

/// Everything that was measured.
#[derive(Default)]
pub struct Stateful {
    rows: Vec<Row>,
    /// Other figures, by name.
    notes: Vec<(String, String)>,
    targets: Vec<Target>,
}

struct Bench<'a> {
    settings: &'a Settings,
    broker: KafkaBroker,
    topics: u32,
    found: Stateful,
}

/// Measures what the settings say.
pub fn run(settings: &Settings) -> Result<Stateful> {
    let broker = KafkaBroker::start_with(BrokerOptions::for_benchmark())?;
    let mut bench = Bench { settings, broker, topics: 0, found: Stateful::default() };
    let wants = |part: &str| settings.parts.is_empty() || settings.parts.iter().any(|wanted| wanted == part);
    let (jobs, memory) = (["first", "windows"].map(wants), wants("memory"));
    if jobs[0] || jobs[1] || memory {
        let events = Events(settings.events);
        events.produce(&bench.broker, "events")?;
        for (job, wanted) in [Job::First, Job::Windows].into_iter().zip(jobs) {
            if wanted {
                bench.job(job, events)?;
            }
        }
        if memory {
            bench.memory(events)?;
        }
    }
    if wants("source") {
        bench.source()?;
    }
    if wants("restore") {
        bench.restore()?;
    }
    Ok(bench.found)
}

impl Bench<'_> {
    fn topic(&mut self, what: &str) -> Result<String> {
        self.topics += 1;
        let name = format!("{what}-{}", self.topics);
        self.broker.create_topic(&name, 1, &[])?;
        Ok(name)
    }

    fn note(&mut self, what: impl Into<String>, value: String) {
        let what = what.into();
        eprintln!("{what}: {value}");
        self.found.notes.push((what, value));
    }

    fn job(&mut self, job: Job, events: Events) -> Result<()> {
        let peers: &[Peer] = match (self.settings.alone, job) {
            (true, _) => &[],
            (false, Job::First) => &[Peer::Streams],
            (false, Job::Windows) => &[Peer::Streams, Peer::Flink],
        };
        let by = peers.iter().copied().map(Some).chain([None]);
        let mut rows = by
            .map(|peer| Row { job, peer, rate: Spread::default(), cpu: Spread::default(), peak_rss: 0 })
            .collect::<Vec<_>>();
        for _ in 0..self.settings.runs {
            for row in &mut rows {
                let output = self.topic(job.key())?;
                let run = match row.peer {
                    Some(peer) => peer.run(&self.broker, job, "events", &output, events.records())?,
                    None => own::run(&self.broker, job, "events", &output, events.records(), Some(ROOM))?.run,
                };
                job.check(&self.broker, events, &output)?;
                let by = row.peer.map_or("Tributary", Peer::title);
                let megabytes = run.peak_rss as f64 / 1e6;
                eprintln!(
                    "{}, {by}: {:.0} records/s, {:.2} CPU s a million, {megabytes:.0} MB",
                    job.key(),
                    run.rate,
                    run.cpu
                );
                row.take(&run);
                self.broker.delete_topic(&output)?;
            }
        }
        let of = |peer: Option<Peer>| rows.iter().find(|row| row.peer == peer);
        let own = of(None).and_then(|row| Some((row.rate.median()?, row.peak_rss)));
        if let Some((rate, rss)) = own {
            let title = job.title();
            let mut against =
                |peer: Peer, wanted: f64| {
                    let other = of(Some(peer)).and_then(|row| row.rate.median());
                    self.found.targets.extend(other.map(|other| {
                        Target::at_least(format!("{title}: rate, × {}", peer.title()), wanted, rate / other)
                    }));
                };
            match job {
                Job::First => against(Peer::Streams, 5.0),
                Job::Windows => against(Peer::Flink, 3.0),
            }
            if let Some(flink) = of(Some(Peer::Flink)) {
                let ratio = rss as f64 / flink.peak_rss as f64;
                self.found.targets.push(Target::at_most(
                    format!("{title}: memory, × {}", Peer::Flink.title()),
                    0.2,
                    ratio,
                ));
            }
        }
        self.found.rows.extend(rows);
        Ok(())
    }

    /// Ten times more keys than fit into memory, beside all of them in memory.
    fn memory(&mut self, events: Events) -> Result<()> {
        let (mut all, mut tight) = (Spread::default(), Spread::default());
        let roomy = self.topic("roomy")?;
        let outcome = own::run(&self.broker, Job::First, "events", &roomy, events.records(), Some(4 << 30))?;
        events.check_first(&self.broker, &roomy)?;
        all.add(outcome.run.rate);
        let needed = outcome.state;
        drop(outcome);
        let bound = (needed as f64 * TIGHT) as u64;
        let name = self.topic("tight")?;
        let outcome = own::run(&self.broker, Job::First, "events", &name, events.records(), Some(bound))?;
        events.check_first(&self.broker, &name)?;
        tight.add(outcome.run.rate);
        let (Some(all), Some(tight)) = (all.median(), tight.median()) else { return Ok(()) };
        let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        let rss = megabytes(outcome.run.peak_rss);
        self.note(format!("{} keys in memory", events.distinct()), format!("{} for {}", rate(all), megabytes(needed)));
        self.note(
            format!("the same in a tenth of that memory ({})", megabytes(bound)),
            format!("{}, at most {} at a time; the worker {rss}", rate(tight), megabytes(outcome.state)),
        );
        self.found.targets.extend([
            Target::at_most(
                "memory of the state, × state.max.bytes, with ten times more keys",
                1.0,
                outcome.state as f64 / bound as f64,
            ),
            Target::at_least("rate with ten times more keys than fit, × all in memory", 0.25, tight / all),
        ]);
        Ok(())
    }

    /// A file source exactly once, beside at least once.
    fn source(&mut self) -> Result<()> {
        let lines = Lines::new(self.settings.events * 2);
        let (mut once, mut least) = (Spread::default(), Spread::default());
        for number in 0..self.settings.runs {
            least.add(own::source(&self.broker, false, &lines, &format!("at-least-once-{number}"))?);
            once.add(own::source(&self.broker, true, &lines, &format!("exactly-once-{number}"))?);
        }
        if let (Some(once), Some(least)) = (once.median(), least.median()) {
            self.note("file → Kafka, at least once", rate(least));
            self.note("file → Kafka, exactly once, transaction.boundary=interval, 1 s", rate(once));
            self.found.targets.push(Target::at_least(
                "file → Kafka, exactly once: rate, × at least once",
                0.8,
                once / least,
            ));
        }
        Ok(())
    }

    /// A million keys, from the file and from the changelog.
    fn restore(&mut self) -> Result<()> {
        let events = Events(RESTORED);
        events.produce(&self.broker, "to-restore")?;
        let name = self.topic("restored")?;
        let mut outcome = own::run(&self.broker, Job::First, "to-restore", &name, events.records(), None)?;
        let (file, changelog) = own::restore(&mut outcome.worker, &name)?;
        let keys = events.distinct();
        self.note(format!("state of {keys} keys, from the worker's own file"), format!("{file:.3} s"));
        self.note(format!("state of {keys} keys, from the changelog"), format!("{changelog:.3} s"));
        self.found.targets.extend([
            Target::below("restoring a million keys from the worker's own file", 0.2, file, "s"),
            Target::below("restoring a million keys from the changelog", 1.5, changelog, "s"),
        ]);
        Ok(())
    }
}

impl Stateful {
    /// As Markdown.
    pub fn report(&self) -> String {
        let mut text = String::new();
        if !self.rows.is_empty() {
            text += "| job | by | records/s | CPU s per million | peak RSS | × Streams | × Flink |\n|---|---|---|---|---|---|---|\n";
        }
        for row in &self.rows {
            let to = |peer: Peer| {
                let other = self.rows.iter().find(|other| other.job == row.job && other.peer == Some(peer));
                let ratio = other
                    .filter(|_| row.peer != Some(peer))
                    .and_then(|other| Some(row.rate.median()? / other.rate.median()?));
                ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {:.0} MB | {} | {} |",
                row.job.title(),
                row.peer.map_or("Tributary", Peer::title),
                spread(&row.rate, |rate| format!("{:.0} k", rate / 1e3)),
                spread(&row.cpu, |cpu| format!("{cpu:.2}")),
                row.peak_rss as f64 / 1e6,
                to(Peer::Streams),
                to(Peer::Flink),
            );
        }
        if !self.notes.is_empty() {
            text += "\n| | Tributary |\n|---|---|\n";
        }
        for (what, value) in &self.notes {
            let _ = writeln!(text, "| {what} | {value} |");
        }
        let _ = write!(text, "\n{}", targets(&self.targets));
        text
    }
}

fn rate(rate: f64) -> String {
    format!("{:.0} k records/s", rate / 1e3)
}

fn spread(spread: &Spread, show: impl Fn(f64) -> String) -> String {
    match (spread.median(), spread.range()) {
        (Some(median), Some((low, high))) if low < high => format!("{} ({}–{})", show(median), show(low), show(high)),
        (Some(median), _) => show(median),
        _ => "—".into(),
    }
}
