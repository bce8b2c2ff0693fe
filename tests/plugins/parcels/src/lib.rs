//! A source whose transactions are parcels of numbers: it ends each one where the parcel ends, and drops some of them.
//!
//! Everything follows from `seed`, so that whoever has read the parcels knows what must be there.

mod parcel;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tributary_sdk::*;

use crate::parcel::{Parcel, mix};

/// The connector.
#[derive(Default)]
pub struct Parcels(Config);

impl SourceConnector for Parcels {
    type Task = ParcelsTask;

    fn config_def() -> ConfigDef {
        let number = |name: &str, doc: &str| ConfigKey::required(name, Type::Long, Importance::High, doc);
        ConfigDef::new()
            .define(ConfigKey::required("topic", Type::String, Importance::High, "Topic to write to."))
            .define(number("seed", "What the parcels are made from."))
            .define(number("parcels", "How many there are."))
            .define(number("bound", "All numbers are below."))
            .define(ConfigKey::optional(
                "torn.at",
                Type::Long,
                "-1",
                Importance::Low,
                "The parcel whose last record has no offset, which the worker has to refuse.",
            ))
    }

    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.0 = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
        Ok(vec![self.0.clone()])
    }

    fn exactly_once_support(&mut self, _: &Config) -> Option<ExactlyOnceSupport> {
        Some(ExactlyOnceSupport::Supported)
    }

    fn can_define_transaction_boundaries(&mut self, _: &Config) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Position {
    parcel: u64,
    record: usize,
}

#[derive(Default)]
struct Job {
    topic: String,
    seed: u64,
    parcels: u64,
    bound: u64,
    torn_at: i64,
}

/// Its task.
#[derive(Default)]
pub struct ParcelsTask {
    context: Option<Context>,
    job: Job,
    next: Position,
    polls: u64,
}

impl SourceTask for ParcelsTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let number = |name: &str| config.parsed(name, 0u64);
        self.job = Job {
            topic: config.required("topic")?.to_owned(),
            seed: number("seed")?,
            parcels: number("parcels")?,
            bound: number("bound")?,
            torn_at: config.parsed("torn.at", -1)?,
        };
        self.next = context.offset_as(&json!({"depot": 1}))?.unwrap_or_default();
        self.context = Some(context.clone());
        Ok(())
    }

    /// A poll ends anywhere: within a parcel, at its end, or some parcels later.
    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let Some(context) = &self.context else { return Ok(()) };
        if self.next.parcel >= self.job.parcels {
            context.wait(Duration::from_millis(200));
            return Ok(());
        }
        self.polls += 1;
        let mut left = (mix(self.job.seed ^ self.polls) % 500) as usize;
        while left > 0 && self.next.parcel < self.job.parcels {
            let parcel = Parcel::new(self.job.seed, self.next.parcel, self.job.bound);
            let rest = &parcel.numbers[self.next.record..];
            let taken = rest.len().min(left);
            let ends = taken == rest.len();
            let mut records = Records::to(self.job.topic.as_str()).from(&json!({"depot": 1}));
            for (place, number) in rest[..taken].iter().enumerate() {
                let after = match ends && place + 1 == taken {
                    true => Position { parcel: self.next.parcel + 1, record: 0 },
                    false => Position { record: self.next.record + place + 1, ..self.next },
                };
                let value = json!({"parcel": self.next.parcel, "number": number});
                let record = Record::json(&value)?;
                let torn = self.job.torn_at == self.next.parcel as i64 && after.record == 0;
                records.push(if torn { record } else { record.offset(&json!(after)) })?;
            }
            records.emit(output)?;
            left -= taken;
            if ends {
                context.end_transaction(!parcel.dropped)?;
                self.next = Position { parcel: self.next.parcel + 1, record: 0 };
            } else {
                self.next.record += taken;
            }
        }
        Ok(())
    }
}

export_plugin!(Plugin::new("parcels", "1.0.0").source::<Parcels>("com.example.ParcelsSource"));
