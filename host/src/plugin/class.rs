//! A class of a plugin: what is known about it, and how instances are made.

use std::path::PathBuf;
use std::sync::Arc;

use tributary_abi as abi;
use tributary_sdk::{ConfigDef, Result, Services};

use super::bridge;
use super::descriptor::Tables;
use super::errors::PluginError;
use super::handle::{ConnectorHandle, SinkTaskHandle, SourceTaskHandle, TransformHandle};
use super::loader::Library;

/// What a class is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A source connector.
    Source,
    /// A sink connector.
    Sink,
    /// A transform.
    Transform,
}

impl Kind {
    /// As REST shows it: `source`, `sink`, `transformation`.
    pub fn as_connect(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
            Self::Transform => "transformation",
        }
    }

    /// Whether it is named in `connector.class`.
    pub fn is_connector(self) -> bool {
        self != Self::Transform
    }
}

/// Where a class comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Linked into the worker.
    BuiltIn,
    /// The library with this path.
    Library(PathBuf),
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::Library(path) => path.display().fmt(f),
        }
    }
}

/// What is known about a class without executing anything.
#[derive(Debug, Clone)]
pub struct ClassInfo {
    /// Its name, as written in `connector.class` in full.
    pub class: String,
    /// What it is.
    pub kind: Kind,
    /// Other full names for it.
    pub aliases: Vec<String>,
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// What it is for; may be empty.
    pub documentation: String,
    /// The config keys of its own.
    pub config_def: ConfigDef,
    /// Where it comes from.
    pub location: Location,
}

/// A class that can be instantiated. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PluginClass(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub info: ClassInfo,
    pub code: Code,
}

#[derive(Debug)]
pub(super) enum Code {
    Linked(Tables),
    Library(Arc<Library>),
}

impl PluginClass {
    /// What is known about it.
    pub fn info(&self) -> &ClassInfo {
        &self.0.info
    }

    /// Opens the library, if that is not done yet: to find out early whether it can be. Not on an async thread.
    pub fn load(&self) -> Result<(), PluginError> {
        self.tables().map(drop)
    }

    fn tables(&self) -> Result<Tables, PluginError> {
        match &self.0.code {
            Code::Linked(tables) => Ok(*tables),
            Code::Library(library) => library.tables(&self.0.info.class),
        }
    }

    fn wrong_kind<T>(&self, wanted: &str) -> Result<T> {
        let ClassInfo { class, kind, .. } = self.info();
        Err(tributary_sdk::Error::failed(format!("{class} is a {}, not a {wanted}", kind.as_connect())))
    }

    /// Makes an unstarted connector. Opens the library on first use: not on an async thread.
    pub fn connector(&self, services: Arc<dyn Services>) -> Result<Box<dyn ConnectorHandle>> {
        match self.tables()? {
            Tables::Source(table, _) | Tables::Sink(table, _) => {
                Ok(Box::new(bridge::Connector::create(&self.info().class, table, services)?))
            }
            Tables::Transform(_) => self.wrong_kind("connector"),
        }
    }

    /// Makes an unstarted source task; as [`Self::connector`].
    pub fn source_task(&self, services: Arc<dyn Services>) -> Result<Box<dyn SourceTaskHandle>> {
        match self.tables()? {
            Tables::Source(_, table) => Ok(Box::new(bridge::SourceTask::create(&self.info().class, table, services)?)),
            _ => self.wrong_kind("source connector"),
        }
    }

    /// Makes an unstarted sink task; as [`Self::connector`].
    pub fn sink_task(&self, services: Arc<dyn Services>) -> Result<Box<dyn SinkTaskHandle>> {
        match self.tables()? {
            Tables::Sink(_, table) => Ok(Box::new(bridge::SinkTask::create(&self.info().class, table, services)?)),
            _ => self.wrong_kind("sink connector"),
        }
    }

    /// Whether its tasks may prepare transactions: those of plugins for earlier minor versions of the interface cannot. As [`Self::connector`].
    pub fn may_prepare(&self) -> Result<bool> {
        match self.tables()? {
            Tables::Sink(_, table) => Ok(table.size > std::mem::offset_of!(abi::SinkTaskVtable, prepare)),
            _ => Ok(false),
        }
    }

    /// Makes an unconfigured transform; as [`Self::connector`].
    pub fn transform(&self, services: Arc<dyn Services>) -> Result<Box<dyn TransformHandle>> {
        match self.tables()? {
            Tables::Transform(table) => Ok(Box::new(bridge::Transform::create(&self.info().class, table, services)?)),
            _ => self.wrong_kind("transform"),
        }
    }
}
