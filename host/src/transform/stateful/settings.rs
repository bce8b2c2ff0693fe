//! What stateful transforms have in common: key, event time, late records, memory.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::event_time::EventTimeSettings;
use super::pick::Pick;
use crate::expression::{Answer, Record};
use crate::transform::config::{Settings, invalid};

/// Memory of a stateful transform, unless its config says otherwise.
const MAX_BYTES: &str = "268435456";

/// What happens to late records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LateAction {
    /// They are counted and dropped.
    Drop,
    /// They go to this topic.
    Route(std::sync::Arc<str>),
    /// They are refused: what then happens to them is for `errors.tolerance` and dead letters.
    Fail,
}

/// The settings.
pub struct Shared {
    /// What records belong together by.
    pub key: Pick,
    /// A record's time; `None`: its timestamp.
    pub time: Option<Pick>,
    /// Watermarks.
    pub event_time: EventTimeSettings,
    /// Late records.
    pub late: LateAction,
    /// Memory.
    pub max_bytes: usize,
}

/// Adds the keys.
pub fn define(def: ConfigDef) -> ConfigDef {
    let text = |name, importance, documentation| ConfigKey::nullable(name, Type::String, importance, documentation);
    def.define(ConfigKey::optional(
        "key",
        Type::String,
        "key",
        Importance::High,
        "A CEL expression: what records belong together by, such as v.user or [v.country, v.city]. Records that have to meet must be in one partition of the input, unless repartition=auto brings them together.",
    ))
    .define(text("eventtime.expr", Importance::Medium, "A CEL expression: the record's time, a timestamp or milliseconds since the epoch. Without it, the record's timestamp."))
    .define(
        ConfigKey::optional(
            "eventtime.max.out.of.orderness.ms",
            Type::Long,
            "5000",
            Importance::Medium,
            "How much later than records with a greater time a record may come: the watermark is the greatest time less this.",
        )
        .validator(Validator::at_least(0)),
    )
    .define(
        ConfigKey::optional(
            "eventtime.idle.timeout.ms",
            Type::Long,
            "60000",
            Importance::Low,
            "Of several topics that are read together, one without records for so long does not hold the others' time back. 0: never.",
        )
        .validator(Validator::at_least(0)),
    )
    .define(ConfigKey::optional(
        "eventtime.idle.advance",
        Type::Boolean,
        "false",
        Importance::Low,
        "Whether event time goes on with the clock while nothing comes for eventtime.idle.timeout.ms, so that the last windows close. Records that come later may then be late.",
    ))
    .define(
        ConfigKey::optional(
            "late.action",
            Type::String,
            "drop",
            Importance::Medium,
            "What happens to records that come too late to count: drop, route (to late.topic) or fail (they are refused, as errors.tolerance says).",
        )
        .validator(Validator::one_of(&["drop", "route", "fail"])),
    )
    .define(text("late.topic", Importance::Medium, "The topic for late records, with late.action=route."))
    .define(
        ConfigKey::optional(
            "repartition",
            Type::String,
            "none",
            Importance::Medium,
            "Whether records are brought together by the key first: none (those of one key are in one partition of the input already) or auto (they are written to a repartition topic by the key, and the transform reads that).",
        )
        .validator(Validator::one_of(&["none", "auto"])),
    )
    .define(ConfigKey::nullable(
        "repartition.partitions",
        Type::Int,
        Importance::Low,
        "Partitions of the repartition topic when it is made. Without it, as many as the input topic with the most has.",
    ))
    .define(
        ConfigKey::optional(
            "state.max.bytes",
            Type::Long,
            MAX_BYTES,
            Importance::Medium,
            "Memory for entries of the state in each task; the others are on disk.",
        )
        .validator(Validator::at_least(1 << 20)),
    )
}

/// Bytes of memory that the stateful transforms of a config may have in a task.
pub fn state_bytes(config: &Config, alias: &str) -> usize {
    let key = format!("transforms.{alias}.state.max.bytes");
    config.get(&key).unwrap_or(MAX_BYTES).trim().parse().unwrap_or(256 << 20)
}

impl Shared {
    /// Takes the keys.
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let key = pick(settings, "key")?.ok_or_else(|| invalid("key", "", "it must not be empty"))?;
        let idle = number(settings, "eventtime.idle.timeout.ms", 0)?;
        let late_topic = settings.string("late.topic").filter(|topic| !topic.is_empty());
        let late = match (settings.text("late.action"), late_topic) {
            ("route", Some(topic)) => LateAction::Route(topic.into()),
            ("route", None) => return Err(Error::failed("late.action=route needs late.topic")),
            (_, Some(topic)) => {
                return Err(invalid(
                    "late.topic",
                    topic,
                    "it is used with late.action=route only; set that or leave it out",
                ));
            }
            ("fail", None) => LateAction::Fail,
            _ => LateAction::Drop,
        };
        if let Some(partitions) = settings.string("repartition.partitions") {
            number(settings, "repartition.partitions", 1)?;
            if settings.text("repartition") != "auto" {
                let what = "it is used with repartition=auto only; set that or leave it out";
                return Err(invalid("repartition.partitions", partitions, what));
            }
        }
        Ok(Self {
            key,
            time: pick(settings, "eventtime.expr")?,
            event_time: EventTimeSettings {
                max_out_of_orderness: number(settings, "eventtime.max.out.of.orderness.ms", 0)?,
                idle_timeout: (idle > 0).then_some(idle),
                idle_advance: settings.boolean("eventtime.idle.advance")?,
            },
            late,
            max_bytes: number(settings, "state.max.bytes", 1 << 20)? as usize,
        })
    }

    /// A record's time in milliseconds.
    pub fn time_of(&self, record: &dyn Record) -> std::result::Result<i64, String> {
        let time = match &self.time {
            None => record.timestamp().ok_or("the record has no timestamp; set eventtime.expr to where its time is")?,
            Some(pick) => match pick.value(record)? {
                Answer::Timestamp(ms) | Answer::Integer(ms) => ms,
                other => {
                    return Err(format!(
                        "the expression '{}' gave {} where a timestamp or milliseconds are wanted",
                        pick.expression().text(),
                        other.type_name()
                    ));
                }
            },
        };
        // So that windows can be computed without overflow. It is 200 million years.
        if time.unsigned_abs() > 1 << 62 {
            return Err(format!("the time {time} ms is out of range"));
        }
        Ok(time)
    }

    /// The bytes of a record's key.
    pub fn key_of(&self, record: &dyn Record, out: &mut Vec<u8>) -> std::result::Result<(), String> {
        let answer = self.key.value(record)?;
        if matches!(answer, Answer::Null | Answer::Missing) {
            return Err(format!(
                "the key '{}' is null, and there is no state without a key",
                self.key.expression().text()
            ));
        }
        out.clear();
        super::stored::write(&answer, out);
        Ok(())
    }
}

/// An expression of a key, if there is one.
pub fn pick(settings: &Settings<'_>, key: &str) -> Result<Option<Pick>> {
    let Some(text) = settings.string(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    Pick::compile(text).map(Some).map_err(|what| invalid(key, text, what))
}

/// A whole number that is at least `min`.
pub fn number(settings: &Settings<'_>, key: &str, min: i64) -> Result<i64> {
    let text = settings.text(key);
    let number: i64 = text.parse().map_err(|_| invalid(key, text, "Not a number of type LONG"))?;
    if number < min {
        return Err(invalid(key, text, format!("Value must be at least {min}")));
    }
    // As with times: sums of these stay in range.
    if number > 1 << 60 {
        return Err(invalid(key, text, "Value is too large"));
    }
    Ok(number)
}
