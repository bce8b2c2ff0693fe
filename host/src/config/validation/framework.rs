//! The keys that every connector has, whatever its class: names, types, defaults and headings are Kafka Connect's.

use tributary_sdk::config_def::{ConfigDef, ConfigKey, Importance, Type, Validator, Width};

use super::converters;
use crate::herder::{PluginKind, restart_config_def};

/// The worker's defaults that show in a connector's keys.
#[derive(Debug, Clone, Default)]
pub struct WorkerDefaults {
    /// `key.converter`.
    pub key_converter: Option<String>,
    /// `value.converter`.
    pub value_converter: Option<String>,
    /// `header.converter`.
    pub header_converter: Option<String>,
}

/// Of connectors whose transforms keep state.
pub(super) const STANDBY_REPLICAS: &str = "state.standby.replicas";
pub(super) const COMMON: &str = "Common";
const ERRORS: &str = "Error Handling";

/// The keys of a source or a sink beside its own.
pub fn framework_def(kind: PluginKind) -> ConfigDef {
    let def = base_def();
    if kind == PluginKind::Sink { def.extend(sink()) } else { def.extend(source()) }
}

/// The keys that sources and sinks share.
pub(super) fn base_def() -> ConfigDef {
    common().extend(errors())
}

/// Keys that Kafka Connect does not have; they stand after all of its.
pub fn added_def() -> ConfigDef {
    restart_config_def()
}

/// What sources whose transforms keep state have besides.
pub fn state_scope() -> ConfigKey {
    let choices = ["connector", "partition"].map(str::to_owned).to_vec();
    ConfigKey::optional(
        "state.scope",
        Type::String,
        "connector",
        Importance::Medium,
        "What records meet in whose keys are equal: all of the connector, which then has one task and one source partition, or each source partition for itself.",
    )
    .validator(Validator::OneOf(choices))
}

/// What connectors whose transforms keep state have besides.
pub fn standby_replicas() -> ConfigKey {
    ConfigKey::optional(
        STANDBY_REPLICAS,
        Type::Int,
        "0",
        Importance::Medium,
        "On how many other workers the state of each task is followed, so that a task that loses its worker has little to restore; fewer where the group has fewer workers. No effect in standalone mode.",
    )
    .validator(Validator::at_least(0))
}

fn common() -> ConfigDef {
    let choices = |values: &[&str]| Validator::OneOf(values.iter().map(|&value| value.to_owned()).collect());
    let keys = ConfigDef::new()
        .define(
            ConfigKey::required(
                "name",
                Type::String,
                Importance::High,
                "The connector's name, the only one of the kind in the worker or cluster.",
            )
            .validator(Validator::Name)
            .ui(COMMON, 1, Width::Medium, "Connector name"),
        )
        .define(
            ConfigKey::required(
                "connector.class",
                Type::String,
                Importance::High,
                "The connector's class: its full name, or a short one such as FileStreamSink.",
            )
            .ui(COMMON, 2, Width::Long, "Connector class"),
        )
        .define(
            ConfigKey::nullable(
                "connector.plugin.version",
                Type::String,
                Importance::Medium,
                "Version of the connector; the newest if it is not set.",
            )
            .ui(COMMON, 3, Width::Medium, "Connector version"),
        )
        .define(
            ConfigKey::optional(
                "tasks.max",
                Type::Int,
                "1",
                Importance::High,
                "How many tasks the connector may have.",
            )
            .validator(Validator::at_least(1))
            .ui(COMMON, 4, Width::Short, "Tasks max"),
        )
        .define(
            ConfigKey::optional(
                "tasks.max.enforce",
                Type::Boolean,
                "true",
                Importance::Low,
                "Whether a connector that asks for more tasks than tasks.max fails.",
            )
            .ui(COMMON, 5, Width::Short, "Enforce tasks max"),
        );
    converters::definitions()
        .fold(keys, ConfigDef::define)
        .define(
            ConfigKey::optional("transforms", Type::List, "", Importance::Low, "Aliases of the transforms that records pass, in this order.")
                .validator(Validator::Aliases)
                .ui("Transforms", 12, Width::Long, "Transforms"),
        )
        .define(
            ConfigKey::optional("predicates", Type::List, "", Importance::Low, "Aliases of the predicates that transforms refer to.")
                .validator(Validator::Aliases)
                .ui("Predicates", 13, Width::Long, "Predicates"),
        )
        .define(
            ConfigKey::optional("config.action.reload", Type::String, "restart", Importance::Low, "What to do when a config provider says that a value has changed: none or restart. The providers of this worker do not say so.")
                .validator(choices(&["none", "restart"]))
                .ui(COMMON, 14, Width::Medium, "Reload Action"),
        )
}

fn errors() -> ConfigDef {
    let key = |name, kind, default, documentation, order, width, label| {
        ConfigKey::optional(name, kind, default, Importance::Medium, documentation).ui(ERRORS, order, width, label)
    };
    ConfigDef::new()
        .define(key("errors.retry.timeout", Type::Long, "0", "How many milliseconds a failed operation is tried again; 0: not at all, -1: without end.", 1, Width::Medium, "Retry Timeout for Errors"))
        .define(key("errors.retry.delay.max.ms", Type::Long, "60000", "The longest pause between two attempts, in milliseconds.", 2, Width::Medium, "Maximum Delay Between Retries for Errors"))
        .define(
            key("errors.tolerance", Type::String, "none", "none: a record that cannot be processed fails the task. all: it is skipped, and dead-lettered if that is set up.", 3, Width::Short, "Error Tolerance")
                .validator(Validator::OneOf(vec!["none".to_owned(), "all".to_owned()])),
        )
        .define(key("errors.log.enable", Type::Boolean, "false", "Whether tolerated errors are logged.", 4, Width::Short, "Log Errors"))
        .define(key("errors.log.include.messages", Type::Boolean, "false", "Whether such log lines show the record.", 5, Width::Short, "Log Error Details"))
}

fn sink() -> ConfigDef {
    let dead_letters = |name, kind, default, documentation, order, label| {
        ConfigKey::optional(name, kind, default, Importance::Medium, documentation).ui(
            ERRORS,
            order,
            Width::Medium,
            label,
        )
    };
    ConfigDef::new()
        .define(
            ConfigKey::optional("topics", Type::List, "", Importance::High, "Topics to read, separated by commas.")
                .validator(Validator::Distinct)
                .ui(COMMON, 4, Width::Long, "Topics"),
        )
        .define(
            ConfigKey::optional(
                "topics.regex",
                Type::String,
                "",
                Importance::High,
                "Instead of topics: a regular expression that whole topic names have to match, now or later.",
            )
            .validator(Validator::Regex)
            .ui(COMMON, 4, Width::Long, "Topics regex"),
        )
        .define(dead_letters(
            "errors.deadletterqueue.topic.name",
            Type::String,
            "",
            "Topic for records that could not be processed; empty: none.",
            6,
            "Dead Letter Queue Topic Name",
        ))
        .define(dead_letters(
            "errors.deadletterqueue.topic.replication.factor",
            Type::Short,
            "3",
            "Replication factor of that topic if it has to be created.",
            7,
            "Dead Letter Queue Topic Replication Factor",
        ))
        .define(dead_letters(
            "errors.deadletterqueue.context.headers.enable",
            Type::Boolean,
            "false",
            "Whether dead letters carry headers, __connect.errors.*, that say what went wrong and where.",
            8,
            "Enable Error Context Headers",
        ))
}

fn source() -> ConfigDef {
    let exactly_once = "Exactly Once Support";
    let ignoring_case =
        |values: &[&str]| Validator::OneOfIgnoreCase(values.iter().map(|&value| value.to_owned()).collect());
    ConfigDef::new()
        .define(
            ConfigKey::optional("topic.creation.groups", Type::List, "", Importance::Low, "Groups of settings for topics that the connector creates.")
                .validator(Validator::Aliases)
                .ui("Topic Creation", 1, Width::Long, "Topic Creation Groups"),
        )
        .define(
            ConfigKey::optional("exactly.once.support", Type::String, "requested", Importance::Medium, "required: refuse the config unless records are delivered exactly once with it.")
                .validator(ignoring_case(&["requested", "required"]))
                .ui(exactly_once, 2, Width::Short, "Exactly once support"),
        )
        .define(
            ConfigKey::optional("transaction.boundary", Type::String, "poll", Importance::Medium, "Where transactions end: after each poll, after an interval, or where the connector says.")
                .validator(ignoring_case(&["interval", "poll", "connector"]))
                .ui(exactly_once, 3, Width::Short, "Transaction Boundary"),
        )
        .define(
            ConfigKey::nullable("transaction.boundary.interval.ms", Type::Long, Importance::Low, "The interval of transaction.boundary=interval, in milliseconds; the worker's offset.flush.interval.ms if it is not set.")
                .ui(exactly_once, 4, Width::Short, "Transaction boundary interval"),
        )
        .define(
            ConfigKey::nullable("offsets.storage.topic", Type::String, Importance::Low, "Topic for the connector's offsets instead of the worker's. No effect in standalone mode.")
                .validator(Validator::NonEmpty)
                .ui("offsets.topic", 1, Width::Long, "Offsets topic"),
        )
}
