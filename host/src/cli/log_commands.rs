//! `tributary topics`, `produce` and `consume`: a look into either log, also while a worker runs on it.

use std::io::{BufWriter, Read, Write};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use super::arguments::{Cluster, Command};
use crate::log::commands::{ConsumeOptions, Format, ProduceOptions, Start, TopicsOptions, consume, produce, topics};
use crate::log::{ClientSettings, LogError, attach_log};

/// Runs one of the three.
pub fn run(command: Command) -> Result<ExitCode, String> {
    // Ctrl-C ends the process as it does elsewhere: nothing here has to be undone.
    let stop = AtomicBool::new(false);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let done = match command {
        Command::Topics { cluster, topic, json } => {
            let (log, _) = open(&cluster)?;
            topics(&*log, &TopicsOptions { topic, json }, &mut out)
        }
        Command::Produce { cluster, topic, file, key_separator, headers, partition, empty_is_null } => {
            let (log, settings) = open(&cluster)?;
            let headers = headers.iter().map(|text| pair(text)).collect::<Result<_, _>>()?;
            let options = ProduceOptions { topic, partition, key_separator, headers, empty_is_null, settings };
            let mut input: Box<dyn Read> = match &file {
                None => Box::new(std::io::stdin().lock()),
                Some(path) => Box::new(
                    std::fs::File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?,
                ),
            };
            let produced = produce(&*log, &options, &mut *input, &stop).map_err(|error| error.to_string())?;
            eprintln!("{} records written", produced.records);
            if let Some(refusal) = produced.first_refusal {
                return Err(format!("{} records were refused; the first: {refusal}", produced.refused));
            }
            Ok(())
        }
        Command::Consume { cluster, topic, partition, offset, since, count, exit_at_end, format, json } => {
            let (log, settings) = open(&cluster)?;
            let start = match (offset, since) {
                (Some(offset), _) if offset < 0 => Start::Last(-offset),
                (Some(offset), _) => Start::Offset(offset),
                (None, Some(ms)) => Start::Timestamp(ms),
                (None, None) => Start::Beginning,
            };
            let format = match format {
                Some(text) => Format::parse(&text).map_err(|error| error.to_string())?,
                None if json => Format::Json,
                None => Format::default(),
            };
            let options = ConsumeOptions { topic, partition, start, count, exit_at_end, format, settings };
            consume(&*log, &options, &mut out, &stop).map(|_| ())
        }
        _ => unreachable!("dispatched by the caller"),
    };
    let flushed = out.flush().or_else(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(LogError::fatal(format!("writing the output: {error}"))),
    });
    done.and(flushed).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn open(cluster: &Cluster) -> Result<(std::sync::Arc<dyn crate::log::Log>, ClientSettings), String> {
    let settings = cluster.settings.iter().map(|text| pair(text)).collect::<Result<ClientSettings, _>>()?;
    let log = attach_log(&cluster.bootstrap_server, &settings, &cluster.data_dir).map_err(|error| error.to_string())?;
    Ok((log, settings))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text} is not of the form name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}
