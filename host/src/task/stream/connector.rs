//! `KafkaSink`: the connector of stream tasks.

use tributary_sdk::config_def::Validator;
use tributary_sdk::export::Plugin;
use tributary_sdk::sink::TopicPartitionOffset;
use tributary_sdk::{
    Batch, Config, ConfigDef, ConfigKey, Context, Error, Failures, Importance, Result, SinkConnector, SinkTask, Type,
};

/// Its class.
pub const CLASS: &str = "tributary.connectors.KafkaSink";

/// As it is linked into the worker.
pub fn plugin() -> Plugin {
    Plugin::new("kafka", env!("CARGO_PKG_VERSION"))
        .sink::<KafkaSinkConnector>(CLASS)
        .documentation("Writes transformed records to topics of the same cluster, or of another one, with offsets, outputs and the state of transforms in one transaction.")
}

/// Makes as many tasks as it may.
#[derive(Debug, Default)]
pub struct KafkaSinkConnector {
    config: Config,
}

impl SinkConnector for KafkaSinkConnector {
    type Task = NeverCalled;

    fn config_def() -> ConfigDef {
        ConfigDef::new()
            .define(ConfigKey::nullable(
                "topic",
                Type::String,
                Importance::High,
                "Where records go that no transform has given another topic. Without it, every record needs one from a transform: none is written to the topic that it comes from.",
            ))
            .define(
                ConfigKey::optional(
                    "transaction.interval.ms",
                    Type::Long,
                    "500",
                    Importance::Medium,
                    "How long a transaction is open before it is committed. Until then nobody who reads read_committed sees its records.",
                )
                .validator(Validator::between(1, 60_000)),
            )
    }

    fn start(&mut self, _context: &Context, config: &Config) -> Result<()> {
        self.config = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        Ok(vec![self.config.clone(); max_tasks])
    }

    fn alter_offsets(&mut self, _config: &Config, _offsets: &[TopicPartitionOffset]) -> Result<bool> {
        // The group's offsets are the only ones there are.
        Ok(true)
    }
}

/// The worker runs stream tasks itself, with its own loop.
#[derive(Debug, Default)]
pub struct NeverCalled;

impl SinkTask for NeverCalled {
    fn start(&mut self, _context: &Context, _config: &Config) -> Result<()> {
        Err(Error::Unsupported(
            "this task is run by the worker's own loop; that it was called is a bug of the worker".into(),
        ))
    }

    fn put(&mut self, _batch: Batch, _failures: &mut Failures) -> Result<()> {
        Err(Error::Unsupported("this task is run by the worker's own loop".into()))
    }
}
