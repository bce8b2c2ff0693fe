//! The report, as Markdown.

use std::fmt::Write as _;

use tributary_harness::Lines;
use tributary_harness::lines::LENGTH;

use crate::contender::Contender;
use crate::job::{Conversion, Job};
use crate::measure::{Outcome, Spread};
use crate::settings::{CONSUMER, PRODUCER, show};
use crate::start::Starts;

/// The whole of docs/benchmarks.md.
pub fn render(machine: &str, lines: &Lines, starts: &[Starts], outcomes: &[Outcome]) -> String {
    let count = lines.count();
    let mut text = format!(
        "\
# Benchmarks

Made by `cargo run --release -p tributary-bench -- --write`: all contenders by turns on one Kafka 4.3.1 broker on the same
machine, {count} lines of {LENGTH} bytes, one partition, every result checked. A figure is the median of its runs, with the range
behind it. A rate counts from the first record on; how long that takes from the order is shown beside it. Compare within one
report only: the machine's other load differs between reports.

Machine: {machine}

"
    );
    if !starts.is_empty() {
        text += "| start | to the first REST answer | idle RSS | threads |\n|---|---|---|---|\n";
        for start in starts {
            let _ = writeln!(text, "{}", start_row(start));
        }
        text.push('\n');
    }
    if !outcomes.is_empty() {
        text += "| job | by | records/s | first record | CPU s per million | peak RSS | × raw | × plain loop | × Connect |\n";
        text += "|---|---|---|---|---|---|---|---|---|\n";
        for outcome in outcomes {
            let _ = writeln!(text, "{}", outcome_row(outcome, outcomes));
        }
        text.push('\n');
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
