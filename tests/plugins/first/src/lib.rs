//! Emits a tick a second as JSON, and goes on counting where it stopped.
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tributary_sdk::*;

#[derive(Default, Serialize, Deserialize)]
struct Position {
    next: u64,
}

/// The connector.
#[derive(Default)]
pub struct Ticks(Config);

impl SourceConnector for Ticks {
    type Task = TicksTask;

    fn config_def() -> ConfigDef {
        ConfigDef::new().define(ConfigKey::required("topic", Type::String, Importance::High, "Topic to write to."))
    }

    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.0 = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
        Ok(vec![self.0.clone()])
    }
}

/// Its task.
#[derive(Default)]
pub struct TicksTask(Option<(Context, String)>, Position);

impl SourceTask for TicksTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        self.1 = context.offset_as(&json!({"clock": 1}))?.unwrap_or_default();
        self.0 = Some((context.clone(), config.required("topic")?.to_owned()));
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let Some((context, topic)) = &self.0 else { return Ok(()) };
        context.wait(Duration::from_secs(1));
        let tick = json!({"number": self.1.next, "at_ms": context.now_ms()});
        self.1.next += 1;
        let mut records = Records::to(topic.as_str()).from(&json!({"clock": 1}));
        records.push(Record::json(&tick)?.key("tick").offset(&json!(self.1)))?;
        records.emit(output)
    }
}

export_plugin!(Plugin::new("first", "1.0.0").source::<Ticks>("com.example.TicksSourceConnector"));
