//! Classes that configs name: found by any of their names, of the kind and version that are asked for, or why not.

use crate::herder::{PluginCatalog, PluginClass, PluginKind, newest_class as newest};
use crate::plugin::{VersionRange, compare_versions};

/// Why a class cannot be used, in Connect's words.
#[derive(Debug)]
pub(super) enum Unusable {
    /// There is no such class: the value counts as null.
    Unknown(String),
    /// It is another kind of class, or not one that can be made.
    Unfit(String),
}

/// What a kind is called: Connect's interfaces.
pub(super) fn interface(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Sink | PluginKind::Source => "Connector",
        PluginKind::Transformation => "Transformation",
        PluginKind::Predicate => "Predicate",
        PluginKind::Converter => "Converter",
        PluginKind::HeaderConverter => "HeaderConverter",
    }
}

/// The newest class of a kind that `name`, the value of `key`, means.
pub(super) fn find<'a>(
    plugins: &'a dyn PluginCatalog,
    kind: PluginKind,
    key: &str,
    name: &str,
) -> Result<&'a PluginClass, Unusable> {
    let class = name.trim();
    if let Some(found) = newest(versions(plugins, kind, class).into_iter()) {
        return Ok(found);
    }
    if let Some(other) = plugins.classes().iter().find(|plugin| plugin.answers_to(class)) {
        let (class, interface) = (&other.class, interface(kind));
        return Err(Unusable::Unfit(format!("Class class {class} does not implement the {interface} interface")));
    }
    let nested = ["$Key", "$Value"].map(|nested| format!("{class}{nested}"));
    if nested.iter().all(|nested| plugins.classes().iter().any(|plugin| plugin.class == *nested)) {
        let nested = nested.join(", ");
        return Err(Unusable::Unfit(format!("This class is abstract and cannot be created. Did you mean {nested}?")));
    }
    Err(Unusable::Unknown(format!("Invalid value {name} for configuration {key}: Class {name} could not be found.")))
}

/// The same of the versions in a range.
pub(super) fn find_version<'a>(
    plugins: &'a dyn PluginCatalog,
    kind: PluginKind,
    class: &str,
    version: Option<&str>,
) -> Result<Option<&'a PluginClass>, String> {
    let range = VersionRange::parse(version)?;
    let all = versions(plugins, kind, class);
    let fits = |plugin: &&PluginClass| range.as_ref().is_none_or(|range| range.contains(&plugin.version));
    match (newest(all.iter().copied().filter(fits)), range) {
        (None, Some(range)) if !all.is_empty() => Err(no_version(&all, &range)),
        (found, _) => Ok(found),
    }
}

/// Connect's message about a version that is not there.
pub(super) fn no_version(all: &[&PluginClass], range: &VersionRange) -> String {
    let class = all.first().map_or("", |plugin| plugin.class.as_str());
    let known: Vec<&str> = all.iter().map(|plugin| plugin.version.as_str()).collect();
    range.no_version(class, &known)
}

/// Every version of a class.
pub(super) fn versions<'a>(plugins: &'a dyn PluginCatalog, kind: PluginKind, class: &str) -> Vec<&'a PluginClass> {
    let of_kind = |plugin: &&PluginClass| match kind {
        PluginKind::Sink | PluginKind::Source => plugin.is_connector(),
        kind => plugin.kind == kind,
    };
    plugins.classes().iter().filter(|plugin| of_kind(plugin) && plugin.answers_to(class.trim())).collect()
}

/// The version texts of a class, each once.
pub(super) fn version_names(plugins: &dyn PluginCatalog, kind: PluginKind, class: &str) -> Vec<String> {
    let mut names: Vec<String> = versions(plugins, kind, class).iter().map(|plugin| plugin.version.clone()).collect();
    names.sort_by(|a, b| compare_versions(a, b));
    names.dedup();
    names
}

/// All classes of a kind, by name.
pub(super) fn class_names(plugins: &dyn PluginCatalog, kind: PluginKind) -> Vec<String> {
    let of_kind = plugins.classes().iter().filter(|plugin| plugin.kind == kind);
    let mut names: Vec<String> = of_kind.map(|plugin| plugin.class.clone()).collect();
    names.sort();
    names.dedup();
    names
}
