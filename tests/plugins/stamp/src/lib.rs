//! Says which version of it runs: the source emits the version once, the transform writes it behind each text.
//!
//! The tests make other versions of the library by writing another number of the same length over [`VERSION`] in the file.
//! The source's `hang.in.alter.offsets` keeps `alter_offsets` from ever answering.

use std::time::Duration;

use arrow_array::StringArray;
use serde_json::json;
use tributary_sdk::sink::Failures;
use tributary_sdk::source::SourcePosition;
use tributary_sdk::*;

/// What the library is built as.
pub const VERSION: &str = "7001.0.0";

/// The connector.
#[derive(Default)]
pub struct Stamps(Config);

impl SourceConnector for Stamps {
    type Task = StampsTask;

    fn config_def() -> ConfigDef {
        ConfigDef::new()
            .define(ConfigKey::required("topic", Type::String, Importance::High, VERSION))
            .define(ConfigKey::optional("hang.in.alter.offsets", Type::Boolean, "false", Importance::Low, VERSION))
    }

    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.0 = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
        Ok(vec![self.0.clone()])
    }

    fn alter_offsets(&mut self, config: &Config, _: &[SourcePosition]) -> Result<bool> {
        while config.parsed("hang.in.alter.offsets", false)? {
            std::thread::sleep(Duration::from_secs(3600));
        }
        Ok(true)
    }
}

/// Its task.
#[derive(Default)]
pub struct StampsTask(Option<(Context, String)>, bool);

impl SourceTask for StampsTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        self.0 = Some((context.clone(), config.required("topic")?.to_owned()));
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let Some((context, topic)) = &self.0 else { return Ok(()) };
        if std::mem::replace(&mut self.1, true) {
            context.wait(Duration::from_millis(100));
            return Ok(());
        }
        let mut records = Records::to(topic.as_str()).from(&json!({"stamp": 1}));
        records.push(Record::text(VERSION).offset(&json!({"emitted": VERSION})))?;
        records.emit(output)
    }
}

/// The transform.
#[derive(Default)]
pub struct Stamp;

impl Transform for Stamp {
    fn config_def() -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&mut self, _: &Context, _: &Config) -> Result<()> {
        Ok(())
    }

    fn apply(&mut self, mut batch: Batch, output: &mut Output<'_>, _: &mut Failures) -> Result<()> {
        let texts = batch.value.as_text().ok_or_else(|| Error::failed("the values are no text"))?;
        let stamped: StringArray = texts.iter().map(|text| text.map(|text| format!("{text} {VERSION}"))).collect();
        batch.value = Column::text(stamped);
        output.emit(batch)
    }
}

export_plugin!(
    Plugin::new("stamp", VERSION)
        .source::<Stamps>("com.example.StampsSourceConnector")
        .transform::<Stamp>("com.example.Stamp")
);
