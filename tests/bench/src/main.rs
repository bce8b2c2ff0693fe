//! Measures Tributary beside Kafka Connect: one command, one report, everything in one run.
//!
//! ```text
//! cargo run --release -p tributary-bench
//! ```
//!
//! Four contenders do the same work: raw librdkafka (only Kafka, no file), a plain one-task loop, a
//! warm Kafka Connect and Tributary. Their runs alternate, since the machine's other load comes and
//! goes, and each result is checked before it counts. A contender that fails shows so in its row; the
//! others go on, and the exit code is 1.

mod answers;
mod boundary;
mod clients;
mod contender;
mod edit;
mod figures;
mod group;
mod http;
mod job;
mod librdkafka;
mod loops;
mod machine;
mod measure;
mod pace;
mod plan;
mod postgres;
mod produced;
mod settings;
mod start;
mod stateful;
mod table;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tributary_harness::process::ScratchDir;
use tributary_harness::{BrokerOptions, KafkaBroker, Lines, Result};

/// Measures Tributary beside raw librdkafka, a plain loop and Kafka Connect.
#[derive(Debug, Parser)]
struct Args {
    /// How many lines of 99 bytes a run moves.
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
    /// How often each contender does each job; the table shows the median.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only rows whose "job/contender" contains one of these: source, sink, json, raw, plain, connect, tributary, start, rest, group, boundary …
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Also writes the table to docs/benchmarks.md.
    #[arg(long)]
    write: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one loop in this process, so that its costs are its own; the benchmark calls itself with this.
    #[command(hide = true)]
    Loop(loops::Work),
    /// Measures groups of workers only: creating, idling, joining, leaving, dying.
    Group(group::Settings),
    /// Measures keyed state only, beside Kafka Streams and Flink.
    Stateful(stateful::Settings),
    /// Measures the connectors for HTTP only: the webhook source, and the sink beside a plain loop.
    Http(http::Settings),
    /// A plain loop of HTTP requests, in this process.
    #[command(hide = true)]
    Post(http::Post),
    /// Measures change data capture from PostgreSQL only, beside Debezium.
    Postgres(postgres::Settings),
    /// Measures the PostgreSQL sink only, beside Debezium's JDBC sink and beside COPY and merge by hand.
    PostgresSink(postgres::sink::Settings),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.command {
        Some(Command::Loop(work)) => loops::run(work).map(|()| true),
        Some(Command::Group(settings)) => group::run(settings).map(|figures| {
            println!("{}\n{}", figures.table(), figures::targets(&figures.targets));
            true
        }),
        Some(Command::Stateful(settings)) => stateful::run(settings).map(|found| {
            println!("{}\nload {}", found.report(), machine::load());
            true
        }),
        Some(Command::Http(settings)) => http::run(settings).map(|found| {
            println!(
                "{}\n{}\n{}, load {}",
                found.table,
                figures::targets(&found.targets),
                machine::describe(),
                machine::load()
            );
            true
        }),
        Some(Command::Post(work)) => http::post(work).map(|()| true),
        Some(Command::Postgres(settings)) => postgres::run(settings).map(|found| {
            println!("{}\nload {}", found.report(), machine::load());
            true
        }),
        Some(Command::PostgresSink(settings)) => postgres::sink::run(settings).map(|found| {
            println!("{}\nload {}", found.report(), machine::load());
            true
        }),
        None => benchmark(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every contender did its work.
fn benchmark(args: &Args) -> Result<bool> {
    let plan = plan::Plan::new(&args.only);
    let before = machine::load();
    let lines = Lines::new(args.lines);
    // Before anything else has filled the broker; it has one of its own.
    let group = plan.group().then(|| group::run(&group::Settings::default())).transpose()?;
    let broker = KafkaBroker::start_with(BrokerOptions::for_benchmark())?;
    let scratch = ScratchDir::new("bench")?;
    let input = scratch.path().join("input");
    lines.write(&input)?;

    let crossing = plan.boundary().then(boundary::measure).transpose()?;
    let starts = start::measure(&broker, &plan, args.runs)?;
    let answers = answers::measure(&broker, &plan, args.runs)?;
    let results = measure::run(&broker, &plan, &lines, &input, args.runs)?;
    let machine = format!("{}, load {before} before and {} after", machine::describe(), machine::load());
    let report = table::Report {
        machine: &machine,
        lines: &lines,
        starts: &starts,
        outcomes: &results,
        answers: &answers,
        group: group.as_ref(),
        crossing,
    };
    let report = table::render(&report);
    println!("{report}");
    if args.write {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks.md");
        std::fs::create_dir_all(file.parent().expect("docs has a parent"))?;
        std::fs::write(&file, report)?;
        eprintln!("written to {}", file.display());
    }
    let failures = results.iter().map(|result| &result.failure).chain(starts.iter().map(|start| &start.failure));
    Ok(failures.chain(answers.iter().map(|answers| &answers.failure)).all(Option::is_none))
}
