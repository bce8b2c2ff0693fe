//! Writes values to files of a folder, by transactions that are prepared and committed: each record is there exactly once.
//!
//! `folder` is the store. It may be shared by tasks, also of several processes. Records wait in memory until they are prepared. While there is a
//! file `away` in the folder, the store is away.

mod store;

use std::collections::BTreeMap;

use tributary_sdk::arrow::array::Array;
use tributary_sdk::prepared::{Claim, Claims, Prepared, PreparedToken};
use tributary_sdk::sink::Failures;
use tributary_sdk::*;

pub use store::Store;

/// The connector.
#[derive(Default)]
pub struct Vault(Config);

impl SinkConnector for Vault {
    type Task = VaultTask;

    fn config_def() -> ConfigDef {
        ConfigDef::new().define(ConfigKey::required("folder", Type::String, Importance::High, "The store."))
    }

    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.0 = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        Ok(vec![self.0.clone(); max_tasks])
    }

    fn exactly_once_support(&mut self, _: &Config) -> Option<ExactlyOnceSupport> {
        Some(ExactlyOnceSupport::Prepared)
    }
}

/// The task.
#[derive(Default)]
pub struct VaultTask(Option<Open>);

struct Open {
    store: Store,
    claims: Claims,
    /// What was put and is not prepared.
    lines: BTreeMap<TopicPartition, Vec<String>>,
}

impl VaultTask {
    fn started(&mut self) -> Result<&mut Open> {
        self.0.as_mut().ok_or_else(|| Error::failed("not started"))
    }
}

impl SinkTask for VaultTask {
    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        let (store, claims) = (Store::open(config.required("folder")?)?, Claims::new(config.required("name")?));
        self.0 = Some(Open { store, claims, lines: BTreeMap::new() });
        Ok(())
    }

    fn recover(&mut self, claims: &[Claim]) -> Result<()> {
        let Open { store, claims: held, .. } = self.started()?;
        for claim in claims {
            if let Some(token) = &claim.token {
                store.commit(token)?;
            }
            for orphan in store.prepared()?.iter().filter(|token| held.is_orphan(claim, token)) {
                store.abort(orphan)?;
            }
        }
        held.claim(claims);
        Ok(())
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        let Open { store, claims, lines } = self.started()?;
        store.reach()?;
        let Some((at, _)) = batch.place() else { return Err(Error::failed("records without offsets")) };
        claims.of(&at)?;
        let Some(texts) = batch.value.as_text() else {
            (0..batch.len()).for_each(|row| failures.fail(row, "the value is no text"));
            return Ok(());
        };
        let lines = lines.entry(at).or_default();
        lines.extend((0..batch.len()).filter(|row| texts.is_valid(*row)).map(|row| texts.value(row).to_owned()));
        Ok(())
    }

    fn prepare(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<Prepared>> {
        let Open { store, claims, lines } = self.started()?;
        store.reach()?;
        let mut prepared = Vec::new();
        for TopicPartitionOffset { topic, partition, offset } in offsets {
            let (at, Some(offset)) = (TopicPartition { topic: topic.clone(), partition: *partition }, *offset) else {
                continue;
            };
            let put = lines.get(&at).filter(|lines| !lines.is_empty());
            let token = put.map(|_| claims.next_token(&at)).transpose()?;
            if let (Some(token), Some(put)) = (&token, put) {
                store.prepare(token, put)?;
            }
            // Only now: what could not be prepared must not be taken for nothing.
            lines.remove(&at);
            prepared.push(Prepared { at, offset, token });
        }
        Ok(prepared)
    }

    fn commit_prepared(&mut self, tokens: &[PreparedToken]) -> Result<()> {
        let store = &self.started()?.store;
        tokens.iter().try_for_each(|token| store.commit(&token.token))
    }

    fn abort_prepared(&mut self, tokens: &[PreparedToken]) -> Result<()> {
        let store = &self.started()?.store;
        tokens.iter().try_for_each(|token| store.abort(&token.token))
    }

    fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let Open { claims, lines, .. } = self.started()?;
        claims.close(partitions);
        partitions.iter().for_each(|at| _ = lines.remove(at));
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.0 = None;
        Ok(())
    }
}

export_plugin!(Plugin::new("vault", "0.1.0").sink::<Vault>("com.example.VaultSink"));
