//! What the worker tells about itself: log lines, whose levels can be changed while it runs. Metrics stand beside them.

pub mod exposition;
mod format;
mod log_levels;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

pub use log_levels::{LoggerLevel, Loggers};

static LOGGERS: OnceLock<Loggers> = OnceLock::new();

/// The loggers of this process; changing them has no effect before [`start_logging`].
pub fn loggers() -> Loggers {
    LOGGERS.get().cloned().unwrap_or_else(|| Loggers::new("info", |_| {}))
}

/// Starts logging to standard error. `directives` are levels by module, as `info` or `info,tributary::rest=debug`; the
/// environment's `RUST_LOG` takes precedence. Fails when levels cannot be read, and when something logs already.
pub fn start_logging(directives: &str, json: bool) -> Result<(), String> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let (source, text) = match &from_environment {
        Some(text) => ("RUST_LOG", text.as_str()),
        None => ("log.level", directives),
    };
    let targets: Targets = text.parse().map_err(|error| format!("invalid value {text} for {source}: {error}"))?;
    let (filter, handle) = reload::Layer::new(targets);
    let format =
        if json { format::Format::Json } else { format::Format::Text { colours: std::io::stderr().is_terminal() } };
    let lines = fmt::layer().event_format(format).fmt_fields(format::PlainFields).with_writer(std::io::stderr);
    let subscriber = Registry::default().with(tracing_subscriber::Layer::with_filter(lines, filter));
    subscriber.try_init().map_err(|error| format!("cannot start logging: {error}"))?;
    let loggers = Loggers::new(text, move |targets| {
        if let Err(error) = handle.reload(targets) {
            tracing::warn!("cannot change log levels: {error}");
        }
    });
    LOGGERS.set(loggers).map_err(|_| "cannot start logging twice".to_owned())
}
