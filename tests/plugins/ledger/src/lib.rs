//! Appends values to a table of a SQLite database, with the offsets in the same transactions: each record is there exactly once.
//!
//! `file` is the database. It may be shared by tasks, also of several processes. With `hold` (of one task), the offset passes rows that are refused in
//! a transaction that waits for the next `flush` or `put`: as long as the worker has their dead letters not yet in a safe place.

mod store;

use tributary_sdk::own_offsets::{OffsetTable, OwnOffsets};
use tributary_sdk::sink::Failures;
use tributary_sdk::*;

pub use store::Store;

/// The connector.
#[derive(Default)]
pub struct Ledger(Config);

impl SinkConnector for Ledger {
    type Task = LedgerTask;

    fn config_def() -> ConfigDef {
        ConfigDef::new().define(ConfigKey::required("file", Type::String, Importance::High, "The database.")).define(
            ConfigKey::optional(
                "hold",
                Type::Boolean,
                "false",
                Importance::Low,
                "Whether refused rows hold a transaction open.",
            ),
        )
    }

    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.0 = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        Ok(vec![self.0.clone(); max_tasks])
    }

    fn alter_offsets(&mut self, config: &Config, offsets: &[TopicPartitionOffset]) -> Result<bool> {
        Store::open(config.required("file")?)?.alter(config.required("name")?, offsets)?;
        Ok(true)
    }

    fn exactly_once_support(&mut self, _: &Config) -> Option<ExactlyOnceSupport> {
        Some(ExactlyOnceSupport::Supported)
    }
}

/// The task.
#[derive(Default)]
pub struct LedgerTask(Option<(Store, OwnOffsets)>, bool);

impl LedgerTask {
    fn started(&mut self) -> Result<&mut (Store, OwnOffsets)> {
        self.0.as_mut().ok_or_else(|| Error::failed("not started"))
    }
}

impl SinkTask for LedgerTask {
    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.1 = config.parsed("hold", false)?;
        self.0 = Some((Store::open(config.required("file")?)?, OwnOffsets::new(config.required("name")?)));
        Ok(())
    }

    fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        let (store, offsets) = self.started()?;
        offsets.open(store, partitions)
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        let hold = self.1;
        let (store, offsets) = self.started()?;
        store.release()?;
        let Some((batch, entry)) = offsets.begin(store, &batch)? else { return Ok(()) };
        let mut written = store.write(&batch, &entry, failures);
        if !failures.is_empty() {
            if !hold {
                // Nothing of it is there, and the offset stands where it stood.
                return Ok(());
            }
            written = store.hold(&entry).map(|()| true);
        }
        offsets.end(entry, written)
    }

    fn flush(&mut self, _: &[TopicPartitionOffset]) -> Result<()> {
        self.started()?.0.release()
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let (store, offsets) = self.started()?;
        offsets.close(partitions);
        store.abandon()
    }

    fn stop(&mut self) -> Result<()> {
        self.0 = None;
        Ok(())
    }
}

export_plugin!(Plugin::new("ledger", "0.1.0").sink::<Ledger>("com.example.LedgerSink"));
