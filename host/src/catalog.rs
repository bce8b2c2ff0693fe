//! Every class that a worker offers: connectors and transforms of plugins, and the built-in converters, transforms and predicates.

use crate::converter::{self, ClassInfo, ClassKind};
use crate::herder::{PluginClass, PluginKind};
use crate::plugin::{BUILT_IN_VERSION, Kind, Registry};
use crate::transform;

/// The registry with the plugins that are linked into the worker.
pub fn builtin_registry() -> Registry {
    Registry::new()
        .with_builtin(tributary_connector_file::plugin())
        .with_builtin(tributary_connector_generator::plugin())
        .with_builtin(tributary_connector_postgres::plugin())
        .with_builtin(tributary_connector_http::plugin())
        .with_builtin(crate::task::stream::plugin())
}

/// What the REST API lists and validates. Nothing is executed for it.
pub fn classes(registry: &Registry) -> Vec<PluginClass> {
    let plugins = registry.classes().iter().map(|class| {
        let info = class.info();
        PluginClass {
            class: info.class.clone(),
            aliases: short_names(info),
            kind: match info.kind {
                Kind::Source => PluginKind::Source,
                Kind::Sink => PluginKind::Sink,
                Kind::Transform => PluginKind::Transformation,
            },
            version: info.version.clone(),
            config_def: info.config_def.clone(),
        }
    });
    let builtin = converter::registry::class_infos().iter().cloned().chain(transform::class_infos()).map(of_builtin);
    plugins.chain(builtin).collect()
}

/// Every other name of a class: full aliases, and the last part of each, with and without `Connector`.
fn short_names(info: &crate::plugin::ClassInfo) -> Vec<String> {
    let mut names = info.aliases.clone();
    for full in std::iter::once(&info.class).chain(&info.aliases) {
        let simple = full.rsplit('.').next().unwrap_or(full);
        names.push(simple.to_owned());
        names.extend(simple.strip_suffix("Connector").map(str::to_owned));
    }
    names.sort();
    names.dedup();
    names
}

fn of_builtin(info: ClassInfo) -> PluginClass {
    PluginClass {
        class: info.class.to_owned(),
        aliases: info.aliases.iter().map(|&alias| alias.to_owned()).collect(),
        kind: match info.kind {
            ClassKind::Converter => PluginKind::Converter,
            ClassKind::HeaderConverter => PluginKind::HeaderConverter,
            ClassKind::Transformation => PluginKind::Transformation,
            ClassKind::Predicate => PluginKind::Predicate,
        },
        version: BUILT_IN_VERSION.to_owned(),
        config_def: (info.config_def)(),
    }
}
