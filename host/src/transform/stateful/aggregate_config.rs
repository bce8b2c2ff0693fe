//! The config of `Aggregate`.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::accumulator::{Aggregation, parse};
use super::pick::Pick;
use super::settings::{Shared, define, number, pick};
use super::windows::Windows;
use crate::transform::config::{Settings, invalid};

/// When results are emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Once for each window, when it can change no more.
    Close,
    /// With each commit, those that have changed.
    Change,
    /// At times that are multiples of so many milliseconds of event time, those that have changed.
    Interval(i64),
}

/// The settings.
pub struct AggregateConfig {
    pub shared: Shared,
    pub windows: Windows,
    pub aggregations: Vec<Aggregation>,
    pub emit: Emit,
    pub lateness: i64,
    /// Of entries without window.
    pub ttl: Option<i64>,
    pub filter: Option<Pick>,
    pub topic: Option<std::sync::Arc<str>>,
}

/// The config definition.
pub fn config_def() -> ConfigDef {
    let text = |name, importance, documentation| ConfigKey::nullable(name, Type::String, importance, documentation);
    let ms = |name, importance, documentation| ConfigKey::nullable(name, Type::Long, importance, documentation);
    let def = ConfigDef::new()
        .define(
            ConfigKey::required("window", Type::String, Importance::High, "Which records are taken together: tumbling (windows of size.ms, one after the other), hopping (windows of size.ms, one every advance.ms), sliding (windows of size.ms that end with a record or begin behind one), session (records with pauses of less than gap.ms between them) or none (all of a key).")
                .validator(Validator::one_of(&["tumbling", "hopping", "sliding", "session", "none"])),
        )
        .define(ms("size.ms", Importance::High, "How long a window is: tumbling, hopping, sliding."))
        .define(ms("advance.ms", Importance::High, "From the start of a window to that of the next: hopping."))
        .define(ms("gap.ms", Importance::High, "A pause of so long ends a session."))
        .define(ConfigKey::required("aggs", Type::String, Importance::High, "What is computed: name:function(expression), separated by commas, such as n:count(),total:sum(v.amount),p95:quantile(v.ms,0.95). Functions: count, sum, min, max, avg, first and last (by time), collect (a list; a second argument limits it, 1000 by default), distinct (how many different ones: exact up to 1024, then within about 2 %), quantile (within 1 %). Nulls are ignored."))
        .define(text("filter", Importance::Medium, "A CEL expression: records that it is false for are not counted."))
        .define(
            ConfigKey::optional("emit", Type::String, "close", Importance::High, "When results are emitted: close (once, when the window can change no more), change (with each commit, the windows that have changed) or interval (every emit.interval.ms of event time, the windows that have changed).")
                .validator(Validator::one_of(&["close", "change", "interval"])),
        )
        .define(ms("emit.interval.ms", Importance::Medium, "Event time between results, with emit=interval."))
        .define(
            ConfigKey::optional("lateness.ms", Type::Long, "0", Importance::Medium, "How long after its end (in event time) a window still takes records. With emit=close, its result waits for that.")
                .validator(Validator::at_least(0)),
        )
        .define(ms("state.ttl.ms", Importance::Medium, "With window=none, which needs it: a key without records for so long (in event time) is forgotten. -1: never, so that the state grows with the number of keys."))
        .define(text("topic", Importance::Low, "The topic of the results. By default the input's; of several topics, the last that had a record."));
    define(def)
}

impl AggregateConfig {
    /// Takes its config.
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let shared = Shared::new(settings)?;
        let kind = settings.text("window");
        let takes = |key: &str, kinds: &[&str]| -> Result<Option<i64>> {
            match (settings.string(key), kinds.contains(&kind)) {
                (Some(_), true) => number(settings, key, 1).map(Some),
                (None, true) => Err(Error::failed(format!("window={kind} needs {key}"))),
                (Some(value), false) => {
                    Err(invalid(key, value, format!("window={kind} does not take it; leave it out")))
                }
                (None, false) => Ok(None),
            }
        };
        let size = takes("size.ms", &["tumbling", "hopping", "sliding"])?;
        let advance = takes("advance.ms", &["hopping"])?;
        let gap = takes("gap.ms", &["session"])?;
        let windows = match (kind, size, advance, gap) {
            ("tumbling", Some(size), ..) => Windows::Tumbling { size },
            ("hopping", Some(size), Some(advance), _) => {
                if advance > size {
                    let what =
                        format!("Value must be at most size.ms ({size}), or records between windows would be lost");
                    return Err(invalid("advance.ms", &advance.to_string(), what));
                }
                if size / advance > 10_000 {
                    let what = format!("a record would be in {} windows; at most 10000 are allowed", size / advance);
                    return Err(invalid("advance.ms", &advance.to_string(), what));
                }
                Windows::Hopping { size, advance }
            }
            ("sliding", Some(size), ..) => Windows::Sliding { size },
            ("session", .., Some(gap)) => Windows::Session { gap },
            _ => Windows::None,
        };
        let interval = settings.string("emit.interval.ms");
        let emit = match (settings.text("emit"), interval) {
            ("interval", Some(_)) => Emit::Interval(number(settings, "emit.interval.ms", 1)?),
            ("interval", None) => return Err(Error::failed("emit=interval needs emit.interval.ms")),
            (_, Some(value)) => {
                return Err(invalid(
                    "emit.interval.ms",
                    value,
                    "it is used with emit=interval only; set that or leave it out",
                ));
            }
            ("change", None) => Emit::Change,
            _ => Emit::Close,
        };
        if windows == Windows::None && emit == Emit::Close {
            return Err(Error::failed(
                "window=none never closes, so emit=close would emit nothing: set emit=change or emit=interval",
            ));
        }
        if matches!(windows, Windows::Sliding { .. }) && emit != Emit::Close {
            return Err(Error::failed("window=sliding emits results on close only: set emit=close, or window=hopping"));
        }
        let lateness = number(settings, "lateness.ms", 0)?;
        if windows == Windows::None && lateness > 0 {
            return Err(Error::failed("window=none never closes and takes records of any time: leave lateness.ms out"));
        }
        let ttl = match (settings.string("state.ttl.ms"), windows) {
            (None, Windows::None) => {
                return Err(Error::failed(
                    "window=none keeps every key: set state.ttl.ms to how long a key without records is kept, or to -1 for ever",
                ));
            }
            (Some("-1"), Windows::None) | (None, _) => None,
            (Some(_), Windows::None) => Some(number(settings, "state.ttl.ms", 1)?),
            (Some(value), _) => {
                return Err(invalid(
                    "state.ttl.ms",
                    value,
                    format!("window={kind} forgets its windows when they close; leave it out"),
                ));
            }
        };
        let text = settings.text("aggs");
        let aggregations = parse(text).map_err(|what| invalid("aggs", text, what))?;
        let topic = settings.string("topic").filter(|topic| !topic.is_empty()).map(Into::into);
        Ok(Self { shared, windows, aggregations, emit, lateness, ttl, filter: pick(settings, "filter")?, topic })
    }
}
