//! `TimestampRouter`: a topic made of the record's topic and timestamp. A record without timestamp is refused.

use std::sync::Arc;

use arrow_array::BooleanArray;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use super::SingleMessage;
use crate::transform::config::{Settings, invalid};
use crate::transform::date_format::DateFormat;
use crate::transform::part::{Outcome, Part, Target};

/// See the module's documentation.
pub struct TimestampRouter {
    topic_format: String,
    timestamp_format: DateFormat,
}

impl TimestampRouter {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let topic = "The new topic; ${topic} stands for the old one, ${timestamp} for the formatted timestamp.";
        let timestamp = "The timestamp's format, in the letters of Java's SimpleDateFormat; the time zone is UTC.";
        ConfigDef::new()
            .define(ConfigKey::optional("topic.format", Type::String, "${topic}-${timestamp}", Importance::High, topic))
            .define(ConfigKey::optional("timestamp.format", Type::String, "yyyyMMdd", Importance::High, timestamp))
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let pattern = settings.text("timestamp.format");
        let timestamp_format = DateFormat::new(pattern).map_err(|what| invalid("timestamp.format", pattern, what))?;
        Ok(Box::new(Self { topic_format: settings.text("topic.format").to_owned(), timestamp_format }))
    }

    fn topic(&self, topic: &str, ms: i64) -> Arc<str> {
        let named = self.topic_format.replace("${topic}", topic);
        named.replace("${timestamp}", &self.timestamp_format.format(ms)).into()
    }
}

impl SingleMessage for TimestampRouter {
    fn apply<'a>(&'a self, part: Part<'a>, outcome: &mut Outcome<'a>) {
        let origin = part.origin();
        let missing = part.places().filter(|&place| origin.timestamp(place).is_none());
        let refused: Vec<_> =
            missing.map(|place| (place.at, format!("Timestamp missing on record: topic {}", part.topic))).collect();
        let part = part.refuse(refused, outcome);
        let origin = part.origin();
        // Rows by the span of time that shares a text; mostly there is one.
        let span = self.timestamp_format.granularity_ms();
        let spans: Vec<i64> =
            part.places().map(|place| origin.timestamp(place).unwrap_or_default().div_euclid(span)).collect();
        let mut distinct = spans.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let mut rest = Some((part, spans));
        for wanted in distinct {
            let Some((part, spans)) = rest.take() else { return };
            let mask: BooleanArray = spans.iter().map(|&span| Some(span == wanted)).collect();
            let (mine, others) = part.divide(&mask);
            if let Some(mut mine) = mine {
                mine.topic = self.topic(&mine.topic, wanted * span);
                outcome.push(mine);
            }
            rest = others.map(|part| (part, spans.into_iter().filter(|&span| span != wanted).collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/timestamp_router.json"));
    }
}
