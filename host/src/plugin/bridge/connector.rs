//! [`ConnectorHandle`] over a [`abi::ConnectorVtable`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tributary_abi as abi;
use tributary_sdk::ffi::str;
use tributary_sdk::sink::TopicPartitionOffset;
use tributary_sdk::source::{ExactlyOnceSupport, SourcePosition};
use tributary_sdk::{Config, Error, Result, Services};

use super::instance::Instance;
use crate::plugin::handle::{Canceller, ConnectorHandle};

/// A connector of a plugin.
pub struct Connector {
    class: String,
    table: &'static abi::ConnectorVtable,
    instance: Instance,
}

impl Connector {
    /// Makes an unstarted connector. The table is one that the loader checked.
    pub fn create(class: &str, table: &'static abi::ConnectorVtable, services: Arc<dyn Services>) -> Result<Self> {
        let instance = Instance::create(class.to_owned(), table.create, table.cancel, table.destroy, services)?;
        Ok(Self { class: class.to_owned(), table, instance })
    }

    /// A call with one JSON argument that may be missing from the table.
    fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &str,
        function: Option<abi::JsonFn>,
        argument: &str,
    ) -> Result<Option<T>> {
        let Some(function) = function else { return Ok(None) };
        // SAFETY: a function of this instance's table, called with the instance; the argument is borrowed for the call.
        match self.instance.json(name, |call, instance| unsafe { function(call, instance, str(argument)) }) {
            Err(Error::Unsupported(_)) => Ok(None),
            answer => answer,
        }
    }

    fn alter_offsets(&mut self, config: &Config, offsets: Value) -> Result<bool> {
        let request = json!({ "config": config.0, "offsets": offsets }).to_string();
        // A connector without the function does not care; one that says that it is not supported does.
        let Some(function) = self.table.alter_offsets else { return Ok(false) };
        // SAFETY: as in `ask`.
        let run = |call, instance| unsafe { function(call, instance, str(&request)) };
        Ok(self.instance.json("alter_offsets", run)?.unwrap_or(false))
    }
}

impl ConnectorHandle for Connector {
    fn validate(&mut self, config: &Config) -> Result<Vec<(String, String)>> {
        let problems: Option<BTreeMap<String, Vec<String>>> =
            self.ask("validate", Some(self.table.validate), &config.to_json())?;
        let pairs = |(key, messages): (String, Vec<String>)| messages.into_iter().map(move |m| (key.clone(), m));
        Ok(problems.unwrap_or_default().into_iter().flat_map(pairs).collect())
    }

    fn start(&mut self, config: &Config) -> Result<()> {
        let json = config.to_json();
        // SAFETY: as in `ask`.
        self.instance.plain("start", |call, instance| unsafe { (self.table.start)(call, instance, str(&json)) })
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        let max = u32::try_from(max_tasks).unwrap_or(u32::MAX);
        // SAFETY: as in `ask`.
        let run = |call, instance| unsafe { (self.table.task_configs)(call, instance, max) };
        let configs: Option<Vec<Value>> = self.instance.json("task_configs", run)?;
        let configs = configs.ok_or_else(|| Error::failed(format!("{} gave no task configs", self.class)))?;
        configs.iter().map(|config| Config::from_json(&config.to_string())).collect()
    }

    fn stop(&mut self) -> Result<()> {
        // SAFETY: as in `ask`.
        self.instance.plain("stop", |call, instance| unsafe { (self.table.stop)(call, instance) })
    }

    fn canceller(&self) -> Canceller {
        self.instance.canceller()
    }

    fn alter_source_offsets(&mut self, config: &Config, offsets: &[SourcePosition]) -> Result<bool> {
        self.alter_offsets(config, serde_json::to_value(offsets)?)
    }

    fn alter_sink_offsets(&mut self, config: &Config, offsets: &[TopicPartitionOffset]) -> Result<bool> {
        self.alter_offsets(config, serde_json::to_value(offsets)?)
    }

    fn exactly_once_support(&mut self, config: &Config) -> Result<Option<ExactlyOnceSupport>> {
        let answer: Option<Option<String>> =
            self.ask("exactly_once_support", self.table.exactly_once_support, &config.to_json())?;
        match answer.flatten().as_deref() {
            None => Ok(None),
            Some("supported") => Ok(Some(ExactlyOnceSupport::Supported)),
            Some("prepared") => Ok(Some(ExactlyOnceSupport::Prepared)),
            Some("unsupported") => Ok(Some(ExactlyOnceSupport::Unsupported)),
            Some(other) => Err(Error::failed(format!(
                "exactly_once_support of {} answered {other:?}, which is none of \"supported\", \"prepared\" and \"unsupported\"",
                self.class
            ))),
        }
    }

    fn can_define_transaction_boundaries(&mut self, config: &Config) -> Result<bool> {
        let answer = self.ask("transaction_boundaries", self.table.transaction_boundaries, &config.to_json())?;
        Ok(answer.unwrap_or(false))
    }
}
