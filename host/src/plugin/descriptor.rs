//! A plugin's descriptor, read with suspicion.
//!
//! Promises: what comes out has every function that the ABI requires. Fails with a reason when a size is too small, a
//! pointer null, a kind unknown or a config definition malformed.

use std::mem::{MaybeUninit, offset_of};

use tributary_abi as abi;
use tributary_sdk::ConfigDef;
use tributary_sdk::ffi::text;

use super::class::Kind;
use super::errors::PluginError;

/// What a plugin says about itself.
#[derive(Debug)]
pub struct Descriptor {
    pub name: String,
    pub version: String,
    pub classes: Vec<DescribedClass>,
}

/// A class of a descriptor.
#[derive(Debug, Clone)]
pub struct DescribedClass {
    pub kind: Kind,
    pub name: String,
    pub aliases: Vec<String>,
    pub documentation: String,
    pub config_def: ConfigDef,
    pub tables: Tables,
}

/// The function tables of a class.
#[derive(Clone, Copy)]
pub enum Tables {
    Source(&'static abi::ConnectorVtable, &'static abi::SourceTaskVtable),
    Sink(&'static abi::ConnectorVtable, &'static abi::SinkTaskVtable),
    Transform(&'static abi::TransformVtable),
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tables")
    }
}

impl Descriptor {
    /// Reads the descriptor of the plugin `called` (a name or path, for messages).
    ///
    /// # Safety
    /// `plugin` is null or what a plugin's entry symbol answered: static, with static contents, as the ABI describes.
    pub unsafe fn read(plugin: *const abi::Plugin, called: &str) -> Result<Self, PluginError> {
        let bad = |reason: String| PluginError::BadDescriptor { plugin: called.to_owned(), reason };
        if plugin.is_null() {
            return Err(bad(
                "its entry symbol answered null (it refuses this worker, or panicked: see standard error)".into(),
            ));
        }
        // SAFETY: not null; `size` and the versions have been at these places since the first version.
        let (size, major) = unsafe { ((*plugin).size, (*plugin).abi_major) };
        if major != abi::ABI_MAJOR {
            return Err(PluginError::OtherAbi { plugin: called.to_owned(), found: major.to_string() });
        }
        if size < size_of::<abi::Plugin>() {
            return Err(bad(format!(
                "its descriptor says it is {size} bytes large, {} are needed",
                size_of::<abi::Plugin>()
            )));
        }
        // SAFETY: the size covers every field, and the descriptor is static.
        let plugin = unsafe { &*plugin };
        if plugin.contains_panics != 1 {
            return Err(PluginError::PanicAbort { plugin: called.to_owned() });
        }
        // SAFETY: static strings, by the ABI.
        let (name, version) = unsafe { (text(plugin.name, "its name"), text(plugin.version, "its version")) };
        let (name, version) = (name.map_err(|e| bad(e.to_string()))?, version.map_err(|e| bad(e.to_string()))?);
        if name.is_empty() || version.is_empty() {
            return Err(bad("its name or version is empty".into()));
        }
        if plugin.class_count == 0 || plugin.classes.is_null() {
            return Err(bad("it has no classes".into()));
        }
        let mut classes = Vec::with_capacity(plugin.class_count);
        for at in 0..plugin.class_count {
            // SAFETY: `classes` has `class_count` static pointers.
            let class = unsafe { read_class(*plugin.classes.add(at)) };
            classes.push(class.map_err(|reason| bad(format!("class {at}: {reason}")))?);
        }
        Ok(Self { name: name.to_owned(), version: version.to_owned(), classes })
    }
}

unsafe fn read_class(class: *const abi::Class) -> Result<DescribedClass, String> {
    if class.is_null() {
        return Err("is null".into());
    }
    // SAFETY: not null, and `size` comes first.
    let size = unsafe { (*class).size };
    if size < size_of::<abi::Class>() {
        return Err(format!("says it is {size} bytes large, {} are needed", size_of::<abi::Class>()));
    }
    // SAFETY: the size covers every field; static by the ABI.
    let class = unsafe { &*class };
    let string = |str, what| {
        // SAFETY: static strings, by the ABI.
        unsafe { text(str, what) }.map(str::to_owned).map_err(|error| error.to_string())
    };
    let name = string(class.name, "its name")?;
    if name.is_empty() {
        return Err("has no name".into());
    }
    let config_def = string(class.config_def, "its config definition")?;
    let config_def = serde_json::from_str(&config_def)
        .map_err(|error| format!("{name} has a malformed config definition: {error}"))?;
    let aliases = match string(class.aliases, "its aliases")? {
        none if none.is_empty() => Vec::new(),
        json => serde_json::from_str(&json).map_err(|error| format!("{name} has malformed aliases: {error}"))?,
    };
    let documentation = string(class.documentation, "its documentation")?;
    // SAFETY: static tables of the kind's type, by the ABI.
    let (kind, tables) = unsafe {
        match class.kind {
            abi::KIND_SOURCE => {
                let connector = connector_table(class.vtable.cast())?;
                (Kind::Source, Tables::Source(connector, source_task_table(connector.task.cast())?))
            }
            abi::KIND_SINK => {
                let connector = connector_table(class.vtable.cast())?;
                (Kind::Sink, Tables::Sink(connector, sink_task_table(connector.task.cast())?))
            }
            abi::KIND_TRANSFORM => (Kind::Transform, Tables::Transform(transform_table(class.vtable.cast())?)),
            other => return Err(format!("{name} is of the unknown kind {other}")),
        }
    };
    Ok(DescribedClass { kind, name, aliases, documentation, config_def, tables })
}

/// A table of type `T` whose pointers at `required` are not null. A null function pointer must not even be read as a
/// `fn`, so that they are looked at as plain addresses first.
unsafe fn table<T>(table: *const T, what: &str, required: &[(usize, &str)]) -> Result<&'static T, String> {
    // SAFETY: the caller's promise; the size covers every field, and none is invalid as a null.
    unsafe {
        check(table, what, size_of::<T>(), required)?;
        Ok(&*table)
    }
}

/// Whether a table has so many bytes at least, and what is required.
unsafe fn check<T>(table: *const T, what: &str, least: usize, required: &[(usize, &str)]) -> Result<(), String> {
    if table.is_null() {
        return Err(format!("has no {what} table (null pointer)"));
    }
    // SAFETY: not null, and every table begins with its size.
    let size = unsafe { *table.cast::<usize>() };
    if size < least {
        return Err(format!("has a {what} table that says it is {size} bytes large, {least} are needed"));
    }
    for &(offset, name) in required {
        // SAFETY: within the size; an address is a plain number.
        if unsafe { *table.byte_add(offset).cast::<usize>() } == 0 {
            return Err(format!("has a {what} table without {name}"));
        }
    }
    Ok(())
}

macro_rules! required {
    ($ty:ty: $($field:ident),+) => { &[$((offset_of!($ty, $field), stringify!($field))),+] };
}

unsafe fn connector_table(at: *const abi::ConnectorVtable) -> Result<&'static abi::ConnectorVtable, String> {
    let required = required!(abi::ConnectorVtable: create, validate, start, task_configs, stop, destroy, task);
    // SAFETY: the caller's promise.
    unsafe { table(at, "connector", required) }
}

unsafe fn source_task_table(at: *const abi::SourceTaskVtable) -> Result<&'static abi::SourceTaskVtable, String> {
    let required = required!(abi::SourceTaskVtable: create, start, poll, stop, destroy);
    // SAFETY: the caller's promise; `size` comes first and is read only where there is a table.
    unsafe {
        if at.is_null() || abi::covers!(at, abi::SourceTaskVtable, acknowledged) {
            return table(at, "source task", required);
        }
        // Of minor version 0.
        earlier(at, "source task", offset_of!(abi::SourceTaskVtable, acknowledged), required)
    }
}

/// A table of an earlier minor version, which has so many bytes at least. It is given what it lacks, as null: `T` has function pointers
/// there that may be null.
unsafe fn earlier<T>(at: *const T, what: &str, least: usize, required: &[(usize, &str)]) -> Result<&'static T, String> {
    // SAFETY: the caller's promise; so many bytes are there, and zeros are valid for the rest.
    unsafe {
        check(at, what, least, required)?;
        let mut whole = MaybeUninit::<T>::zeroed();
        std::ptr::copy_nonoverlapping(at.cast::<u8>(), whole.as_mut_ptr().cast(), least);
        // Libraries are never closed: as static as the table itself.
        Ok(Box::leak(Box::new(whole.assume_init())))
    }
}

unsafe fn sink_task_table(at: *const abi::SinkTaskVtable) -> Result<&'static abi::SinkTaskVtable, String> {
    let required = required!(abi::SinkTaskVtable: create, start, open, put, flush, close, stop, destroy);
    // SAFETY: the caller's promise; `size` comes first and is read only where there is a table.
    unsafe {
        if at.is_null() || abi::covers!(at, abi::SinkTaskVtable, abort_prepared) {
            return table(at, "sink task", required);
        }
        // Of minor version 0 or 1.
        earlier(at, "sink task", offset_of!(abi::SinkTaskVtable, recover), required)
    }
}

unsafe fn transform_table(at: *const abi::TransformVtable) -> Result<&'static abi::TransformVtable, String> {
    // SAFETY: the caller's promise.
    unsafe { table(at, "transform", required!(abi::TransformVtable: create, configure, apply, destroy)) }
}
