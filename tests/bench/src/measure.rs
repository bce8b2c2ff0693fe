//! Runs the contenders by turns and takes down what each run took.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use tributary_harness::{Context, Error, KafkaBroker, Lines, Result, Usage, wait, watchdog};

use crate::contender::Contender;
use crate::edit::Edit;
use crate::job::{self, Direction, Job};
use crate::loops::Kind;
use crate::pace::{Pace, Watch};
use crate::plan::Plan;
use crate::workers::Worker;

/// How often the progress of a worker is looked at: half a percent of a run of two seconds.
const LOOK: Duration = Duration::from_millis(10);
/// A worker that moves nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(60);
/// A loop that takes longer waits for something that does not come.
const LONGEST_LOOP: Duration = Duration::from_secs(300);
/// The topic that sinks read.
const FILLED: &str = "filled";

/// Values of one kind from several runs.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<f64>);

impl Spread {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// Not there before the first value.
    pub fn median(&self) -> Option<f64> {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => None,
            n if n % 2 == 1 => Some(self.0[middle]),
            _ => Some(self.0[middle - 1].midpoint(self.0[middle])),
        }
    }

    pub fn range(&self) -> Option<(f64, f64)> {
        Some((*self.0.first()?, *self.0.last()?))
    }
}

/// One row: all runs of a contender at a job.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub job: Job,
    pub contender: Contender,
    /// Records a second, from the first record on.
    pub rate: Spread,
    /// Seconds until the first record had moved.
    pub first: Spread,
    /// CPU seconds per million records.
    pub cpu: Spread,
    /// The most bytes resident in any run.
    pub peak_rss: u64,
    pub failure: Option<String>,
}

/// What one run took.
struct Sample {
    pace: Pace,
    cpu: f64,
    peak_rss: u64,
}

/// All that a run needs to know.
struct Bench<'a> {
    broker: &'a KafkaBroker,
    lines: &'a Lines,
    input: &'a Path,
    output: PathBuf,
    watcher: BaseConsumer,
    connect: Option<Worker>,
    tributary: Option<Worker>,
    /// How many were made so far.
    connectors: u32,
}

/// Runs the plan.
pub fn run(broker: &KafkaBroker, plan: &Plan, lines: &Lines, input: &Path, runs: usize) -> Result<Vec<Outcome>> {
    let rows = plan.rows();
    let mut outcomes: Vec<Outcome> = rows.iter().map(|(job, contender)| Outcome::new(*job, *contender)).collect();
    let mut bench = Bench {
        broker,
        lines,
        input,
        output: input.with_file_name("output"),
        watcher: broker.client().create()?,
        connect: None,
        tributary: None,
        connectors: 0,
    };
    if rows.iter().any(|(job, _)| job.direction == Direction::Sink) {
        broker.create_topic(FILLED, 1, &[])?;
        bench.run_loop(Kind::Produce, FILLED, Edit::Copy)?;
    }
    // Run 0 warms up the workers and is not counted.
    for run in 0..=runs {
        for outcome in &mut outcomes {
            let loops = matches!(outcome.contender, Contender::Raw | Contender::Plain);
            if outcome.failure.is_some() || (run == 0 && loops) {
                continue;
            }
            let row = format!("{}/{}", outcome.job.key(), outcome.contender.key());
            match bench.sample(outcome.job, outcome.contender) {
                Ok(sample) => {
                    let rate = sample.pace.rate(lines.count());
                    eprintln!("run {run} {row}: {rate:.0} records/s, {:.2} CPU s", sample.cpu);
                    if run > 0 {
                        outcome.take(&sample, lines.count());
                    }
                }
                Err(error) => {
                    eprintln!("run {run} {row}: {error}");
                    outcome.failure = Some(error.to_string());
                }
            }
        }
    }
    Ok(outcomes)
}

impl Outcome {
    fn new(job: Job, contender: Contender) -> Self {
        let (rate, first, cpu) = Default::default();
        Self { job, contender, rate, first, cpu, peak_rss: 0, failure: None }
    }

    fn take(&mut self, sample: &Sample, records: u64) {
        self.rate.add(sample.pace.rate(records));
        self.first.add(sample.pace.first);
        self.cpu.add(sample.cpu * 1e6 / records as f64);
        self.peak_rss = self.peak_rss.max(sample.peak_rss);
    }
}

impl Bench<'_> {
    /// One run, checked.
    fn sample(&mut self, job: Job, contender: Contender) -> Result<Sample> {
        let topic = match job.direction {
            Direction::Source => format!("{}-{}", job.key(), contender.key()),
            Direction::Sink => FILLED.to_owned(),
        };
        let _ = fs::remove_file(&self.output);
        if job.direction == Direction::Source {
            self.broker.create_topic(&topic, 1, &[])?;
        }
        let edit = Edit::of(job.direction, job.conversion);
        let sample = match (contender, job.direction) {
            (Contender::Raw, Direction::Source) => self.run_loop(Kind::Produce, &topic, Edit::Copy),
            (Contender::Raw, Direction::Sink) => self.run_loop(Kind::Consume, &topic, Edit::Copy),
            (Contender::Plain, Direction::Source) => self.run_loop(Kind::CopyIn, &topic, edit),
            (Contender::Plain, Direction::Sink) => self.run_loop(Kind::CopyOut, &topic, edit),
            (Contender::Connect | Contender::Tributary, _) => self.run_worker(job, contender, &topic),
        }?;
        match (job.direction, contender) {
            (Direction::Source, _) => {
                job.check_topic(self.broker, &topic, self.lines)?;
                // The next run starts from nothing, and the disk does not fill.
                self.broker.delete_topic(&topic)?;
            }
            (Direction::Sink, Contender::Raw) => {}
            (Direction::Sink, _) => job.check_file(self.input, &self.output, self.lines)?,
        }
        Ok(sample)
    }

    fn run_loop(&self, kind: Kind, topic: &str, edit: Edit) -> Result<Sample> {
        let file = if matches!(kind, Kind::Produce | Kind::CopyIn) { self.input } else { &self.output };
        let child = Command::new(std::env::current_exe()?)
            .args(["loop", &kind.name(), &self.broker.bootstrap(), topic])
            .arg(file)
            .arg(self.lines.count().to_string())
            .args(["--edit", &edit.name()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()?;
        let output = end_of(child, LONGEST_LOOP)?;
        let json: Value = serde_json::from_slice(&output.stdout)?;
        let number = |key: &str| json[key].as_f64().context(format_args!("the loop does not tell its {key}"));
        let pace = Pace::from_json(&json["pace"])?;
        Ok(Sample { pace, cpu: number("cpu")?, peak_rss: number("peak_rss")? as u64 })
    }

    /// From the request that makes the connector to the last record in the topic, or line in the file.
    fn run_worker(&mut self, job: Job, contender: Contender, topic: &str) -> Result<Sample> {
        let (broker, lines, output) = (self.broker, self.lines, &self.output);
        let slot = if contender == Contender::Connect { &mut self.connect } else { &mut self.tributary };
        let worker = match slot.take() {
            Some(worker) => slot.insert(worker),
            None => slot.insert(Worker::start(contender, broker)?),
        };
        let (rest, pid) = (worker.rest(), worker.pid()?);
        let file = if job.direction == Direction::Source { self.input } else { output };
        // A name of its own each time: under another, the worker would go on where the last run ended.
        self.connectors += 1;
        let name = format!("{}-{}", job.key(), self.connectors);

        Usage::reset_peak(pid)?;
        let before = Usage::of(pid)?;
        let mut watch = Watch::start();
        rest.put_connector(&name, &job.connector(topic, file))?;
        let done = match job.direction {
            Direction::Source => follow(&mut watch, lines.count(), || {
                let (_, next) = self.watcher.fetch_watermarks(topic, 0, Duration::from_secs(10))?;
                Ok(next.unsigned_abs())
            }),
            Direction::Sink => follow(&mut watch, lines.count(), || {
                Ok(if output.exists() { job::last_number(output)?.map_or(0, |last| last + 1) } else { 0 })
            }),
        };
        let (pace, after) = (watch.stop(), Usage::of(pid)?);
        let status = rest.status(&name);
        rest.delete_connector(&name)?;
        done.map_err(|error| Error::new(format!("{error}; its status: {status:?}")))?;
        let cpu = (after.cpu - before.cpu).as_secs_f64();
        Ok(Sample { pace, cpu, peak_rss: after.peak_rss })
    }
}

/// What the child printed, once it has ended well. One that does not end is killed.
fn end_of(mut child: Child, limit: Duration) -> Result<Output> {
    watchdog::watch(child.id());
    let ended = wait::until("the loop to end", limit, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
    }
    watchdog::unwatch(child.id());
    let output = child.wait_with_output()?;
    let status = ended?;
    if status.success() { Ok(output) } else { Err(Error::new(format!("the loop ended with {status}"))) }
}

/// Looks until the work is done; gives up when nothing has moved for [`STUCK`]. `look` tells how many
/// records are through. A look that fails is taken for one too early: the broker may be busy.
fn follow(watch: &mut Watch, all: u64, mut look: impl FnMut() -> Result<u64>) -> Result<()> {
    let (mut progress, mut moved) = (0, Instant::now());
    loop {
        let now = look();
        let done = *now.as_ref().unwrap_or(&progress);
        watch.see(done, all);
        if done >= all {
            return Ok(());
        }
        if done != progress {
            (progress, moved) = (done, Instant::now());
        } else if moved.elapsed() > STUCK {
            let last = now.err().map(|error| format!("; last: {error}")).unwrap_or_default();
            return Err(Error::new(format!("{done} of {all} records, then nothing for {} s{last}", STUCK.as_secs())));
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let mut spread = Spread::default();
        assert_eq!((spread.median(), spread.range()), (None, None));
        for value in [3.0, 1.0, 2.0] {
            spread.add(value);
        }
        assert_eq!((spread.median(), spread.range()), (Some(2.0), Some((1.0, 3.0))));
        spread.add(4.0);
        assert_eq!(spread.median(), Some(2.5));
    }
}
