//! What a plugin is, as its author declares it, and the descriptor made from that.

use std::ffi::c_void;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use tributary_abi as abi;

use super::{connector, panics, transform};
use crate::config_def::ConfigDef;
use crate::ffi::str;
use crate::sink::SinkConnector;
use crate::source::SourceConnector;
use crate::transform::Transform;

/// A plugin: a name, a version and the classes in it.
pub struct Plugin {
    name: String,
    version: String,
    classes: Vec<Class>,
}

struct Class {
    kind: u32,
    name: String,
    aliases: Vec<String>,
    documentation: String,
    config_def: fn() -> ConfigDef,
    vtable: *const c_void,
}

impl Plugin {
    /// A plugin without classes yet. The version is the plugin's own, by convention `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into(), classes: Vec::new() }
    }

    /// Adds a source connector under the name that users write in `connector.class`. Its last part alone, also without
    /// `Connector`, will do for them: `com.example.TicksSourceConnector`, `TicksSourceConnector`, `TicksSource`.
    pub fn source<C: SourceConnector>(self, class: impl Into<String>) -> Self {
        self.add(abi::KIND_SOURCE, class.into(), C::config_def, (&raw const *connector::source::<C>()).cast())
    }

    /// Adds a sink connector; names as for [`Self::source`].
    pub fn sink<C: SinkConnector>(self, class: impl Into<String>) -> Self {
        self.add(abi::KIND_SINK, class.into(), C::config_def, (&raw const *connector::sink::<C>()).cast())
    }

    /// Adds a transform under the name that users write in `transforms.<alias>.type`.
    pub fn transform<T: Transform>(self, class: impl Into<String>) -> Self {
        self.add(abi::KIND_TRANSFORM, class.into(), T::config_def, (&raw const *transform::table::<T>()).cast())
    }

    /// Another name for the class added last.
    ///
    /// # Panics
    /// If there is no class yet.
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.classes.last_mut().expect("an alias belongs to the class before it").aliases.push(name.into());
        self
    }

    /// What the class added last is for, in a sentence or two.
    ///
    /// # Panics
    /// If there is no class yet.
    pub fn documentation(mut self, text: impl Into<String>) -> Self {
        self.classes.last_mut().expect("documentation belongs to the class before it").documentation = text.into();
        self
    }

    fn add(mut self, kind: u32, name: String, config_def: fn() -> ConfigDef, vtable: *const c_void) -> Self {
        self.classes.push(Class { kind, name, aliases: Vec::new(), documentation: String::new(), config_def, vtable });
        self
    }

    /// The descriptor: what a library's entry symbol answers, and what the worker registers for a plugin linked into it.
    /// It lives as long as the process.
    pub fn into_descriptor(self) -> &'static abi::Plugin {
        let text = |text: String| str(String::leak(text));
        let json = |value: &dyn erased::ToJson| text(value.to_json());
        let classes: Vec<*const abi::Class> = self
            .classes
            .into_iter()
            .map(|class| {
                let class = abi::Class {
                    size: size_of::<abi::Class>(),
                    kind: class.kind,
                    reserved: 0,
                    name: text(class.name),
                    config_def: json(&(class.config_def)()),
                    vtable: class.vtable,
                    aliases: if class.aliases.is_empty() { abi::Str::EMPTY } else { json(&class.aliases) },
                    documentation: text(class.documentation),
                };
                &raw const *Box::leak(Box::new(class))
            })
            .collect();
        let classes = Vec::leak(classes);
        Box::leak(Box::new(abi::Plugin {
            size: size_of::<abi::Plugin>(),
            abi_major: abi::ABI_MAJOR,
            abi_minor: abi::ABI_MINOR,
            contains_panics: u32::from(cfg!(panic = "unwind")),
            reserved: 0,
            name: text(self.name),
            version: text(self.version),
            classes: classes.as_ptr(),
            class_count: classes.len(),
        }))
    }
}

mod erased {
    /// What the descriptor carries as JSON.
    pub trait ToJson {
        fn to_json(&self) -> String;
    }

    impl<T: serde::Serialize> ToJson for T {
        fn to_json(&self) -> String {
            serde_json::to_string(self).expect("config definitions and lists of names are valid JSON")
        }
    }
}

/// The body of the entry symbol; see [`export_plugin!`](crate::export_plugin). Null when the definition panicked.
#[doc(hidden)]
pub fn entry(
    _host: *const abi::Host,
    descriptor: &OnceLock<&'static abi::Plugin>,
    plugin: fn() -> Plugin,
) -> *const abi::Plugin {
    panics::install_hook();
    // A panic here has no call to report through: it is printed by the standard hook, and the worker refuses the library.
    match catch_unwind(|| *descriptor.get_or_init(|| plugin().into_descriptor())) {
        Ok(descriptor) => descriptor,
        Err(_) => std::ptr::null(),
    }
}
