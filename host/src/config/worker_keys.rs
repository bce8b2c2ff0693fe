//! The worker's config definition: names and defaults are Kafka Connect's, except where the text says so.

use super::connect_worker_keys;
use tributary_sdk::config_def::{ConfigDef, ConfigKey, Importance, Type, Validator};

/// Prefixes whose keys belong to something else (a client, a converter, a provider) and are not checked here.
const OPEN_PREFIXES: &[&str] = &[
    "producer.",
    "consumer.",
    "admin.",
    "key.converter.",
    "value.converter.",
    "header.converter.",
    "config.providers.",
    "connector.client.config.override.",
    "listeners.https.",
    // Distributed mode's, so that one file serves both.
    "config.storage.",
    "offset.storage.",
    "status.storage.",
    "worker.labels",
    "worker.restart.max.delay.ms",
];

/// Settings that the worker passes on to every Kafka client.
const CLIENT_PREFIXES: &[&str] = &[
    "sasl.",
    "ssl.",
    "security.",
    "client.",
    "reconnect.backoff.",
    "retry.backoff.",
    "socket.",
    "metadata.",
    "connections.",
];

const CLIENT_KEYS: &[&str] = &[
    "bootstrap.servers",
    "request.timeout.ms",
    "send.buffer.bytes",
    "receive.buffer.bytes",
    "default.api.timeout.ms",
    "retries",
];

/// Whether the worker passes the property on to every Kafka client.
pub(crate) fn is_client_setting(name: &str) -> bool {
    CLIENT_KEYS.contains(&name) || CLIENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the property is nobody's, as far as can be told.
pub(super) fn is_unknown(def: &ConfigDef, name: &str) -> bool {
    def.get(name).is_none()
        && !ACCEPTED.contains(&name)
        && !connect_worker_keys::names().any(|known| known == name)
        && !is_client_setting(name)
        && !OPEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Keys that earlier versions of Kafka Connect had; accepted without a warning.
pub(super) const ACCEPTED: &[&str] =
    &["enable.metrics.push", "auto.include.jmx.reporter", "internal.key.converter", "internal.value.converter"];

/// The worker's keys.
pub fn worker_config_def() -> ConfigDef {
    use Importance::{High, Low, Medium};
    let key = |name, kind, default: Option<&str>, importance, documentation| match default {
        Some(default) => ConfigKey::optional(name, kind, default, importance, documentation),
        None => ConfigKey::nullable(name, kind, importance, documentation),
    };
    let at_least = |min: i64| Validator::Range { min: Some(min as f64), max: None };
    ConfigDef::new()
        .define(ConfigKey::required(
            "bootstrap.servers",
            Type::List,
            High,
            "Kafka brokers as host:port,… for the first connection; or embedded: topics are kept in the data directory and no Kafka is needed.",
        ))
        .define(ConfigKey::required("key.converter", Type::Class, High, "Converter class for record keys, between the bytes in Kafka and the values of connectors. A connector may set its own."))
        .define(ConfigKey::required("value.converter", Type::Class, High, "Converter class for record values."))
        .define(key("header.converter", Type::Class, Some("org.apache.kafka.connect.storage.SimpleHeaderConverter"), Low, "Converter class for header values."))
        .define(key("group.id", Type::String, None, High, "Names the worker's group: consumer groups of metrics and transactional ids derive from it. Standalone workers need none."))
        .define(key("plugin.path", Type::List, None, Low, "Directories with plugins: each plugin is a directory with a plugin.toml beside its library. Connectors that are built in need no path."))
        .define(key("data.dir", Type::String, None, Medium, "Directory of the worker's database: connectors, source offsets, states and the embedded log. Not a key of Kafka Connect. If it is not set: offset.storage.file.filename with .d added, or ./data without that either."))
        .define(key("offset.storage.file.filename", Type::String, None, Low, "Kafka Connect's offsets file in standalone mode. Offsets are kept in the data directory here, and the key only names that: see data.dir."))
        .define(key("offset.flush.interval.ms", Type::Long, Some("60000"), Low, "How often the offsets of tasks are committed.").validator(at_least(1)))
        .define(key("offset.flush.timeout.ms", Type::Long, Some("5000"), Low, "How long a commit waits for records in flight before it is left to the next one.").validator(at_least(1)))
        .define(key("task.shutdown.graceful.timeout.ms", Type::Long, Some("5000"), Low, "How long all tasks together may take to stop before they are fenced off and left behind.").validator(at_least(0)))
        .define(key("listeners", Type::List, None, Low, "Where the REST API listens, protocol://host:port,…. If it is not set: http://127.0.0.1:8083, which only programs on this machine reach (Kafka Connect listens on every interface)."))
        .define(key("rest.allow.unauthenticated", Type::Boolean, Some("false"), Low, "Allows listeners that other machines can reach without authentication. Not a key of Kafka Connect."))
        .define(key("rest.authentication.methods", Type::List, Some(""), Medium, "How users of the REST API prove who they are: basic, bearer, mtls, or several of these. Empty: everybody who reaches a listener may do everything. Not a key of Kafka Connect."))
        .define(key("rest.basic.users.file", Type::String, None, Medium, "For basic: users with bcrypt hashes, a line each, as htpasswd -B writes. Changes count within a second. Not a key of Kafka Connect."))
        .define(key("rest.bearer.jwks", Type::String, None, Medium, "For bearer: file or https URL with the public keys (JSON Web Key Set) that sign tokens. Not a key of Kafka Connect."))
        .define(key("rest.bearer.issuer", Type::String, None, Medium, "For bearer: who has to have issued a token (claim iss). Not a key of Kafka Connect."))
        .define(key("rest.bearer.audience", Type::String, None, Medium, "For bearer: whom a token has to be meant for (claim aud). Not a key of Kafka Connect."))
        .define(key("rest.bearer.subject.claim", Type::String, Some("sub"), Low, "For bearer: the claim with the user's name. Not a key of Kafka Connect."))
        .define(key("rest.bearer.roles.claim", Type::String, None, Low, "For bearer: the claim with roles such as edit or edit:orders-*, a list or words. Not a key of Kafka Connect."))
        .define(key("rest.access.file", Type::String, None, Medium, "Which roles users have: lines such as alice = view, edit:orders-*, with view, operate, edit and admin. If it is not set, every known user may do everything. Changes count within a second. Not a key of Kafka Connect."))
        .define(key("rest.max.body.bytes", Type::Int, Some("1048576"), Low, "Larger request bodies are refused with 413. Not a key of Kafka Connect.").validator(at_least(1)))
        .define(key("rest.request.timeout.ms", Type::Long, Some("90000"), Low, "After this time a request is answered with 500 and the operation that it waits for; Kafka Connect has 90 s built in.").validator(at_least(1)))
        .define(key("rest.advertised.host.name", Type::String, None, Low, "Host name by which other workers reach this one, and the first part of worker_id."))
        .define(key("rest.advertised.port", Type::Int, None, Low, "Port by which other workers reach this one, and the second part of worker_id."))
        .define(key("rest.advertised.listener", Type::String, None, Low, "Protocol by which other workers reach this one, http or https."))
        .define(key("admin.listeners", Type::List, None, Low, "Where /admin/loggers is, apart from the rest of the API: protocol://host:port,…. If it is not set: on listeners; if it is empty: nowhere."))
        .define(key("rest.extension.classes", Type::List, Some(""), Low, "Java classes that extend Kafka Connect's API; this worker does not start with any."))
        .define(key("response.http.headers.config", Type::String, Some(""), Low, "Headers of every answer: set|add|setDate|addDate name: value, separated by commas, in double quotes where there are commas in them."))
        .define(key("access.control.allow.origin", Type::String, Some(""), Low, "Value of Access-Control-Allow-Origin for requests from scripts of other web sites; empty: none are allowed."))
        .define(key("access.control.allow.methods", Type::String, Some(""), Low, "Methods that such scripts may use; empty: GET, POST and HEAD."))
        .define(key("config.providers", Type::List, Some(""), Low, "Names of config providers for ${name:path:key} in configs; each has config.providers.<name>.class and .param.*."))
        .define(key("connector.client.config.override.policy", Type::String, Some("All"), Medium, "Which Kafka client settings connectors may override: All, None, Principal or Allowlist, or the Java class of one of these."))
        .define(key("topic.creation.enable", Type::Boolean, Some("true"), Low, "Whether topics of source connectors are created by topic.creation.* of their configs."))
        .define(key("topic.tracking.enable", Type::Boolean, Some("true"), Low, "Whether the topics that connectors use are recorded."))
        .define(key("topic.tracking.allow.reset", Type::Boolean, Some("true"), Low, "Whether that record may be reset over REST."))
        .define(key("plugin.call.timeout.ms", Type::Long, Some("10000"), Low, "How long validation waits for a connector's own checks. Not a key of Kafka Connect.").validator(at_least(1)))
        .define(key("sink.parking.delay.ms", Type::Long, Some("10000"), Low, "A sink task that has had no records for so long gives up its Kafka client until there are some; the worker keeps its place in the group and watches its partitions with one client for all. 0: never. Not a key of Kafka Connect.").validator(at_least(0)))
        .define(key("log.level", Type::String, Some("info"), Low, "Level of the worker's log lines: error, warn, info, debug, trace; or filters by module as in RUST_LOG, which takes precedence. Not a key of Kafka Connect."))
        .define(key("log.format", Type::String, Some("text"), Low, "text, or json: one object a line. Not a key of Kafka Connect.").validator(Validator::OneOf(vec!["text".to_owned(), "json".to_owned()])))
}
