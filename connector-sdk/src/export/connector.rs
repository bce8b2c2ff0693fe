//! Function tables of source and sink connectors.

use std::ffi::c_void;

use serde::Deserialize;
use serde_json::Value;
use tributary_abi as abi;

use super::instance::{call, create, destroy};
use super::{sink_task, source_task};
use crate::config::Config;
use crate::context::Context;
use crate::errors::Result;
use crate::ffi::text;
use crate::sink::{SinkConnector, TopicPartitionOffset};
use crate::source::{ExactlyOnceSupport, SourceConnector, SourcePosition};

/// The table of a source connector.
pub(super) fn source<C: SourceConnector>() -> &'static abi::ConnectorVtable {
    &Source::<C>::TABLE
}

/// The table of a sink connector.
pub(super) fn sink<C: SinkConnector>() -> &'static abi::ConnectorVtable {
    &Sink::<C>::TABLE
}

struct Source<C>(std::marker::PhantomData<C>);
struct Sink<C>(std::marker::PhantomData<C>);

impl<C: SourceConnector> Source<C> {
    const TABLE: abi::ConnectorVtable = abi::ConnectorVtable {
        size: size_of::<abi::ConnectorVtable>(),
        create: create::<C>,
        validate: validate::<Self>,
        start: start::<Self>,
        task_configs: task_configs::<Self>,
        stop: stop::<Self>,
        cancel: None,
        destroy: destroy::<C>,
        alter_offsets: Some(alter_offsets::<Self>),
        exactly_once_support: Some(exactly_once_support::<Self>),
        transaction_boundaries: Some(transaction_boundaries::<C>),
        task: std::ptr::from_ref(source_task::Table::<C::Task>::REF).cast(),
    };
}

impl<C: SinkConnector> Sink<C> {
    const TABLE: abi::ConnectorVtable = abi::ConnectorVtable {
        size: size_of::<abi::ConnectorVtable>(),
        create: create::<C>,
        validate: validate::<Self>,
        start: start::<Self>,
        task_configs: task_configs::<Self>,
        stop: stop::<Self>,
        cancel: None,
        destroy: destroy::<C>,
        alter_offsets: Some(alter_offsets::<Self>),
        exactly_once_support: Some(exactly_once_support::<Self>),
        transaction_boundaries: None,
        task: std::ptr::from_ref(sink_task::Table::<C::Task>::REF).cast(),
    };
}

/// What source and sink connectors share, so that each shim is written once.
trait Connector {
    type Inner: 'static;
    fn validate(inner: &mut Self::Inner, config: &Config) -> Vec<(String, String)>;
    fn start(inner: &mut Self::Inner, context: &Context, config: &Config) -> Result<()>;
    fn task_configs(inner: &mut Self::Inner, max_tasks: usize) -> Result<Vec<Config>>;
    fn stop(inner: &mut Self::Inner) -> Result<()>;
    fn alter_offsets(inner: &mut Self::Inner, config: &Config, offsets: Value) -> Result<bool>;
    fn exactly_once_support(inner: &mut Self::Inner, config: &Config) -> Option<ExactlyOnceSupport>;
}

impl<C: SourceConnector> Connector for Source<C> {
    type Inner = C;

    fn validate(inner: &mut C, config: &Config) -> Vec<(String, String)> {
        inner.validate(config)
    }

    fn start(inner: &mut C, context: &Context, config: &Config) -> Result<()> {
        inner.start(context, config)
    }

    fn task_configs(inner: &mut C, max_tasks: usize) -> Result<Vec<Config>> {
        inner.task_configs(max_tasks)
    }

    fn stop(inner: &mut C) -> Result<()> {
        inner.stop()
    }

    fn alter_offsets(inner: &mut C, config: &Config, offsets: Value) -> Result<bool> {
        inner.alter_offsets(config, &serde_json::from_value::<Vec<SourcePosition>>(offsets)?)
    }

    fn exactly_once_support(inner: &mut C, config: &Config) -> Option<ExactlyOnceSupport> {
        inner.exactly_once_support(config)
    }
}

impl<C: SinkConnector> Connector for Sink<C> {
    type Inner = C;

    fn validate(inner: &mut C, config: &Config) -> Vec<(String, String)> {
        inner.validate(config)
    }

    fn start(inner: &mut C, context: &Context, config: &Config) -> Result<()> {
        inner.start(context, config)
    }

    fn task_configs(inner: &mut C, max_tasks: usize) -> Result<Vec<Config>> {
        inner.task_configs(max_tasks)
    }

    fn stop(inner: &mut C) -> Result<()> {
        inner.stop()
    }

    fn alter_offsets(inner: &mut C, config: &Config, offsets: Value) -> Result<bool> {
        inner.alter_offsets(config, &serde_json::from_value::<Vec<TopicPartitionOffset>>(offsets)?)
    }

    fn exactly_once_support(inner: &mut C, config: &Config) -> Option<ExactlyOnceSupport> {
        inner.exactly_once_support(config)
    }
}

#[derive(Deserialize)]
struct AlterOffsets {
    config: Value,
    offsets: Value,
}

// SAFETY of every block below: the worker's promises for the call under way, passed on: `call` and `instance` are valid,
// the instance was made by this table's `create`, no other call runs on it, and strings are readable until the return.

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn validate<C: Connector>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<C::Inner>(c, instance, |frame| {
            let config = Config::from_json(text(json, "a config")?)?;
            let mut problems = serde_json::Map::new();
            for (key, message) in C::validate(frame.inner, &config) {
                let messages = problems.entry(key).or_insert_with(|| Value::Array(Vec::new()));
                messages.as_array_mut().expect("only arrays are put in").push(Value::String(message));
            }
            frame.reporter.text(&Value::Object(problems).to_string());
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn start<C: Connector>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<C::Inner>(c, instance, |frame| {
            let config = Config::from_json(text(json, "a config")?)?;
            C::start(frame.inner, frame.context, &config)
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn task_configs<C: Connector>(c: *const abi::Call, instance: *mut c_void, max_tasks: u32) -> i32 {
    unsafe {
        call::<C::Inner>(c, instance, |frame| {
            let configs = C::task_configs(frame.inner, max_tasks as usize)?;
            let maps: Vec<_> = configs.iter().map(|config| &config.0).collect();
            frame.reporter.text(&serde_json::to_string(&maps)?);
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn stop<C: Connector>(c: *const abi::Call, instance: *mut c_void) -> i32 {
    unsafe { call::<C::Inner>(c, instance, |frame| C::stop(frame.inner)) }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn alter_offsets<C: Connector>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<C::Inner>(c, instance, |frame| {
            let request: AlterOffsets = serde_json::from_str(text(json, "an offset change")?)?;
            let config = Config::from_json(&request.config.to_string())?;
            let done = C::alter_offsets(frame.inner, &config, request.offsets)?;
            frame.reporter.text(if done { "true" } else { "false" });
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn exactly_once_support<C: Connector>(
    c: *const abi::Call,
    instance: *mut c_void,
    json: abi::Str,
) -> i32 {
    unsafe {
        call::<C::Inner>(c, instance, |frame| {
            let config = Config::from_json(text(json, "a config")?)?;
            match C::exactly_once_support(frame.inner, &config) {
                Some(ExactlyOnceSupport::Supported) => frame.reporter.text("\"supported\""),
                Some(ExactlyOnceSupport::Prepared) => frame.reporter.text("\"prepared\""),
                Some(ExactlyOnceSupport::Unsupported) => frame.reporter.text("\"unsupported\""),
                None => frame.reporter.text("null"),
            }
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn transaction_boundaries<C: SourceConnector>(
    c: *const abi::Call,
    instance: *mut c_void,
    json: abi::Str,
) -> i32 {
    unsafe {
        call::<C>(c, instance, |frame| {
            let config = Config::from_json(text(json, "a config")?)?;
            let can = frame.inner.can_define_transaction_boundaries(&config);
            frame.reporter.text(if can { "true" } else { "false" });
            Ok(())
        })
    }
}
