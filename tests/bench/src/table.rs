//! The report, as Markdown.

use std::fmt::Write as _;

use tributary_harness::Lines;
use tributary_harness::lines::LENGTH;

use crate::answers::{Answers, CLIENTS};
use crate::boundary::Crossing;
use crate::contender::Contender;
use crate::figures::{Figures, Target, targets};
use crate::job::{Conversion, Direction, Job};
use crate::measure::{Outcome, Spread};
use crate::settings::{CONSUMER, PRODUCER, show};
use crate::start::Starts;

/// Everything that was measured.
pub struct Report<'a> {
    pub machine: &'a str,
    pub lines: &'a Lines,
    pub starts: &'a [Starts],
    pub outcomes: &'a [Outcome],
    pub answers: &'a [Answers],
    pub group: Option<&'a Figures>,
    pub crossing: Option<Crossing>,
}

impl Report<'_> {
    /// What the project has set itself, as far as it was measured.
    pub fn targets(&self) -> Vec<Target> {
        let mut all = Vec::new();
        for direction in [Direction::Source, Direction::Sink] {
            let job = Job { direction, conversion: Conversion::Transforms };
            let by =
                |contender| self.outcomes.iter().find(|outcome| outcome.job == job && outcome.contender == contender);
            let Some(own) = by(Contender::Tributary) else { continue };
            let ratio = |other: Option<&Outcome>, value: fn(&Outcome) -> &Spread| {
                Some(value(own).median()? / value(other?).median()?)
            };
            let (connect, plain) = (by(Contender::Connect), by(Contender::Plain));
            let title = job.title();
            all.extend(
                ratio(connect, |it| &it.rate).map(|it| Target::at_least(format!("{title}: rate, × Connect"), 3.0, it)),
            );
            all.extend(
                ratio(connect, |it| &it.cpu).map(|it| Target::at_most(format!("{title}: CPU, × Connect"), 0.35, it)),
            );
            all.extend(
                ratio(plain, |it| &it.rate)
                    .map(|it| Target::at_least(format!("{title}: rate, × plain loop"), 0.85, it)),
            );
        }
        let by = |contender| self.answers.iter().find(|answers| answers.contender == contender);
        if let (Some(own), Some(connect)) = (by(Contender::Tributary), by(Contender::Connect)) {
            let ratio = |value: fn(&Answers) -> &Spread| Some(value(own).median()? / value(connect).median()?);
            all.extend(ratio(|it| &it.rate).map(|it| Target::at_least("GET status: answers/s, × Connect", 5.0, it)));
            all.extend(
                ratio(|it| &it.slow).map(|it| Target::at_most("GET status: 99 of 100 within, × Connect", 1.0, it)),
            );
        }
        if let Some(crossing) = &self.crossing {
            all.push(Target::at_most(
                "a batch through the plugins' interface, % more than a direct call",
                3.0,
                crossing.percent(),
            ));
        }
        all.extend(self.group.iter().flat_map(|group| group.targets.iter().cloned()));
        all
    }
}

/// The whole of docs/benchmarks.md.
pub fn render(report: &Report<'_>) -> String {
    let Report { machine, lines, starts, outcomes, answers, group, crossing } = report;
    let count = lines.count();
    let mut text = format!(
        "\
# Benchmarks

Kafka Connect 4.3.1 and Tributary side by side, and what a loop written by hand does with the same work. Repeat it with
`cargo run --release -p tributary-bench -- --write` (about 20 minutes; it fetches Kafka's jars and needs a JVM; `--only rest,sink-json`
measures a part, `-- group --alone` groups of Tributary's workers only). The workers run by turns on one Kafka 4.3.1 broker on the same
machine, everything is as it is by default, and every result is checked before it counts. A figure is the median of its
runs, with the range behind it. Ratios within one report are what to look at: absolute figures depend on the machine and on
what else it does.

Machine: {machine}

"
    );
    let reached = report.targets();
    if !reached.is_empty() {
        text += "## What is aimed at\n\n";
        text += &targets(&reached);
        text.push('\n');
    }
    if !starts.is_empty() {
        text += "## Starting\n\nOne worker alone, without a connector: from the start of its process to the first answer of its REST API.\n\n";
        text += "| start | to the first REST answer | idle RSS | threads |\n|---|---|---|---|\n";
        for start in *starts {
            let _ = writeln!(text, "{}", start_row(start));
        }
        text.push('\n');
    }
    if !answers.is_empty() {
        let _ = writeln!(
            text,
            "## Answering\n\nGET `/connectors/{{name}}/status`, asked by {CLIENTS} clients that keep their connections; they run on the \
             same cores, which limits the quicker worker more.\n"
        );
        text += "| GET status | answers/s | half within | 99 of 100 within | CPU µs an answer | × Connect |\n|---|---|---|---|---|---|\n";
        for answer in *answers {
            let _ = writeln!(text, "{}", answer_row(answer, answers));
        }
        text.push('\n');
    }
    if let Some(group) = group {
        text += "## Groups of workers\n\nSink connectors with one task each on a topic in which nothing happens. Kafka Connect runs with \
                 `scheduled.rebalance.max.delay.ms=0`: by default it waits five minutes more for a worker that has gone.\n\n";
        text += &group.table();
        text.push('\n');
    }
    if !outcomes.is_empty() {
        let _ = writeln!(
            text,
            "## Moving records\n\n{count} lines of {LENGTH} bytes between a file and a topic of one partition, by one task. A rate counts \
             from the first record on; how long that takes from the order is shown beside it.\n"
        );
        text += "| job | by | records/s | first record | CPU s per million | peak RSS | × raw | × plain loop | × Connect |\n";
        text += "|---|---|---|---|---|---|---|---|---|\n";
        for outcome in *outcomes {
            let _ = writeln!(text, "{}", outcome_row(outcome, outcomes));
        }
        text.push('\n');
    }
    if let Some(crossing) = crossing {
        let _ = writeln!(
            text,
            "## The plugins' interface\n\nA source task that makes a batch of 1,000 lines: {:.1} µs called directly, {:.1} µs through the \
             function tables of the C interface ({:+.1} %).\n",
            crossing.direct.as_secs_f64() * 1e6,
            crossing.across.as_secs_f64() * 1e6,
            crossing.percent()
        );
    }
    let _ = writeln!(text, "Producer of the raw run and the plain loop, as Tributary's: {}\n", show(PRODUCER));
    let _ = writeln!(text, "Consumer of the raw run and the plain loop, as Tributary's: {}", show(CONSUMER));
    text
}

fn start_row(start: &Starts) -> String {
    let by = start.contender.title().trim_end_matches(", warm");
    if let Some(failure) = &start.failure {
        return format!("| {by} | failed: {} | | |", first_line(failure));
    }
    let seconds = spread(&start.seconds, |seconds| format!("{seconds:.3} s"));
    format!("| {by} | {seconds} | {} | {} |", megabytes(start.idle_rss), start.threads)
}

fn answer_row(answers: &Answers, all: &[Answers]) -> String {
    let by = answers.contender.title().trim_end_matches(", warm");
    if let Some(failure) = &answers.failure {
        return format!("| {by} | failed: {} | | | | |", first_line(failure));
    }
    let millis = |spread: &Spread| self::spread(spread, |ms| format!("{ms:.2} ms"));
    let connect =
        all.iter().find(|other| other.contender == Contender::Connect && answers.contender != Contender::Connect);
    let ratio = connect.and_then(|other| Some(answers.rate.median()? / other.rate.median()?));
    format!(
        "| {by} | {} | {} | {} | {} | {} |",
        spread(&answers.rate, thousands),
        millis(&answers.middle),
        millis(&answers.slow),
        spread(&answers.cpu, |cpu| format!("{cpu:.0}")),
        ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
    )
}

fn outcome_row(outcome: &Outcome, all: &[Outcome]) -> String {
    let (job, by) = (outcome.job.title(), outcome.contender.title());
    if let Some(failure) = &outcome.failure {
        return format!("| {job} | {by} | failed: {} | | | | | | |", first_line(failure));
    }
    let rate = spread(&outcome.rate, thousands);
    let first = outcome.first.median().map(|first| format!("{first:.2} s")).unwrap_or_default();
    let cpu = outcome.cpu.median().map(|cpu| format!("{cpu:.2}")).unwrap_or_default();
    let to = |contender: Contender, job: Job| {
        let other = all.iter().find(|other| other.job == job && other.contender == contender);
        let ratio = other.and_then(|other| Some(outcome.rate.median()? / other.rate.median()?));
        match ratio {
            Some(ratio) if contender != outcome.contender => format!("{ratio:.2}"),
            _ => String::new(),
        }
    };
    // The raw run carries strings only, and is the measure for all conversions; the plain loop does the job's own.
    let strings = Job { conversion: Conversion::Strings, ..outcome.job };
    format!(
        "| {job} | {by} | {rate} | {first} | {cpu} | {} | {} | {} | {} |",
        megabytes(outcome.peak_rss),
        to(Contender::Raw, strings),
        to(Contender::Plain, outcome.job),
        to(Contender::Connect, outcome.job)
    )
}

fn spread(spread: &Spread, show: impl Fn(f64) -> String) -> String {
    match (spread.median(), spread.range()) {
        (Some(median), Some((low, high))) if low < high => {
            format!("{} ({}–{})", show(median), show(low), show(high))
        }
        (Some(median), _) => show(median),
        _ => "—".into(),
    }
}

fn thousands(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.2} M", rate / 1e6) } else { format!("{:.0} k", rate / 1e3) }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
