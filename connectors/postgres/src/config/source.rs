//! The source's keys: Debezium's, with Debezium's defaults.

use std::time::Duration;

use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Error, Importance, Parsed, Result, Type};

use super::{choice, connection_settings, flag, text};
use crate::cdc::filters::Filters;
use crate::client::Settings;

/// What is read before streaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotMode {
    /// All tables at each start.
    Always,
    /// All tables when no offset is stored.
    Initial,
    /// The same, and then nothing more.
    InitialOnly,
    /// Nothing.
    NoData,
    /// All tables when no offset is stored, or when the log that it needs is gone.
    WhenNeeded,
}

/// How `numeric` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecimalMode {
    Precise,
    Double,
    Text,
}

/// How dates and times are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeMode {
    /// As precise as the column.
    Adaptive,
    /// The same, but times of the day always in microseconds.
    AdaptiveMicros,
    /// Connect's own types, milliseconds.
    Connect,
    /// Texts.
    Iso,
    Micros,
    Nanos,
}

/// How `interval` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntervalMode {
    Micros,
    Text,
}

/// How `bytea` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryMode {
    Bytes,
    Base64,
    Base64Url,
    Hex,
}

/// How `hstore` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HstoreMode {
    Json,
    Map,
}

/// How a publication comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Autocreate {
    AllTables,
    Disabled,
    Filtered,
    NoTables,
}

/// How values are given.
#[derive(Clone, Debug)]
pub(crate) struct ValueModes {
    pub decimal: DecimalMode,
    pub time: TimeMode,
    pub interval: IntervalMode,
    pub binary: BinaryMode,
    pub hstore: HstoreMode,
    /// Whether columns of types that are not known are given as bytes, instead of left out.
    pub unknown: bool,
    /// What stands for a value that the server did not send, since it has not changed.
    pub placeholder: String,
}

/// A task's config.
#[derive(Clone, Debug)]
pub(crate) struct SourceConfig {
    pub server: Settings,
    pub initial_statements: Vec<String>,
    pub prefix: String,
    pub delimiter: String,
    pub slot: String,
    pub drop_slot: bool,
    pub publication: String,
    pub autocreate: Autocreate,
    pub via_partition_root: bool,
    pub filters: Filters,
    pub snapshot: SnapshotMode,
    /// Connections that read tables beside each other.
    pub snapshot_threads: usize,
    /// Rows of a chunk of a table that is read while streaming.
    pub chunk: usize,
    /// The table of signals, as schema and name.
    pub signals: Option<(String, String)>,
    /// Where transactions are told, if they are.
    pub transaction_topic: Option<String>,
    pub modes: ValueModes,
    pub tombstones: bool,
    /// Operations that are left out, by their letters.
    pub skipped: Vec<char>,
    pub heartbeat: Option<Duration>,
    pub heartbeat_topic: String,
    pub heartbeat_query: Option<String>,
    pub batch: usize,
    pub queue_bytes: usize,
    pub status_interval: Duration,
    pub retry: Duration,
}

const NAME: &str = "topic.prefix";

/// The keys.
pub(crate) fn definition() -> ConfigDef {
    let (high, medium, low) = (Importance::High, Importance::Medium, Importance::Low);
    let required =
        |name: &str, what: &str| ConfigKey::required(name, Type::String, high, what).validator(Validator::NonEmpty);
    let file = |name: &str, what: &str| ConfigKey::nullable(name, Type::String, medium, what);
    let list = |name: &str, what: &str| ConfigKey::nullable(name, Type::List, medium, what);
    let number = |name: &str, default: &str, least: f64, what: &str| {
        ConfigKey::optional(name, Type::Long, default, low, what).validator(Validator::at_least(least))
    };
    let patterns = "comma-separated regular expressions that match whole names";
    ConfigDef::new()
        .define(required("database.hostname", "The server's host name or address."))
        .define(
            ConfigKey::optional("database.port", Type::Int, "5432", high, "The server's port.")
                .validator(Validator::between(0, 65_535)),
        )
        .define(required("database.user", "The role to log in as. It needs REPLICATION, and SELECT on the tables of the snapshot."))
        .define(ConfigKey::nullable("database.password", Type::Password, high, "The role's password."))
        .define(required("database.dbname", "The database whose changes are captured."))
        .define(choice(
            "database.sslmode",
            &["prefer", "disable", "allow", "require", "verify-ca", "verify-full"],
            "Whether TLS is used, as in libpq: 'prefer' if the server has it, 'require' always, 'verify-ca' with a certificate that is trusted, 'verify-full' with one that names the host.",
        ))
        .define(file("database.sslrootcert", "PEM file with the certificates that are trusted. Without it, those of the system."))
        .define(file("database.sslcert", "PEM file with the client's certificate."))
        .define(file("database.sslkey", "PEM file with the client's private key, not encrypted."))
        .define(file("database.initial.statements", "SQL statements, separated by semicolons, that each connection that reads tables begins with. A doubled semicolon stands for one."))
        .define(required(NAME, "The name of the server in topics, schemas and source partitions. A table's topic is <prefix>.<schema>.<table>."))
        .define(text("topic.delimiter", ".", medium, "What stands between the parts of topic names."))
        .define(choice("plugin.name", &["pgoutput"], "The server's output plugin: pgoutput, which every server has."))
        .define(text("slot.name", "debezium", medium, "The replication slot. It is made if it does not exist, and belongs to this connector alone."))
        .define(flag("slot.drop.on.stop", false, "Whether the slot is dropped when the task stops in order. What changes until the next start is lost then."))
        .define(text("publication.name", "dbz_publication", medium, "The publication that says which tables are replicated."))
        .define(choice(
            "publication.autocreate.mode",
            &["all_tables", "disabled", "filtered", "no_tables"],
            "What becomes of a publication that does not exist: it is made for 'all_tables' (which takes a superuser), for those that the filters let pass ('filtered', also kept up to date), without tables ('no_tables'), or the task fails ('disabled').",
        ))
        .define(flag("publish.via.partition.root", false, "Whether changes of partitions are changes of the partitioned table. It counts when the publication is made."))
        .define(list("schema.include.list", &format!("Schemas to capture: {patterns}.")))
        .define(list("schema.exclude.list", &format!("Schemas not to capture: {patterns}.")))
        .define(list("table.include.list", &format!("Tables to capture, as schema.table: {patterns}.")))
        .define(list("table.exclude.list", &format!("Tables not to capture, as schema.table: {patterns}.")))
        .define(list("column.include.list", &format!("Columns that values have, as schema.table.column: {patterns}. Key columns are always in keys.")))
        .define(list("column.exclude.list", &format!("Columns that values do not have, as schema.table.column: {patterns}.")))
        .define(ConfigKey::nullable("message.key.columns", Type::String, medium, "Key columns of tables where they are not the primary key: schema.table:column,column, separated by semicolons; the table is a regular expression."))
        .define(choice(
            "snapshot.mode",
            &["initial", "always", "initial_only", "no_data", "never", "when_needed"],
            "What is read before streaming: 'initial' all tables when no offset is stored, 'initial_only' and then nothing more, 'always' at each start, 'no_data' (or 'never') nothing, 'when_needed' also when the server no longer has the log that is needed.",
        ))
        .define(list("snapshot.include.collection.list", &format!("Of the captured tables, those that snapshots read, as schema.table: {patterns}.")))
        .define(number("snapshot.max.threads", "1", 1.0, "How many connections read tables beside each other in snapshots; large tables are read in parts."))
        .define(ConfigKey::nullable("signal.data.collection", Type::String, medium, "The table whose new rows are signals, as schema.table: columns id, type and data. They ask for snapshots of tables while streaming."))
        .define(number("incremental.snapshot.chunk.size", "1024", 1.0, "How many rows are read at a time of a table that is read while streaming goes on."))
        .define(flag("provide.transaction.metadata", false, "Whether records tell where transactions begin and end, and each change its place in its transaction."))
        .define(text("topic.transaction", "transaction", low, "The topic of the records of transactions is <topic.prefix>.<this>."))
        .define(choice("decimal.handling.mode", &["precise", "double", "string"], "How numeric is given: as Connect's Decimal, which loses nothing, as a double, or as text."))
        .define(choice(
            "time.precision.mode",
            &["adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"],
            "How dates and times are given: 'adaptive' as precise as the column, 'adaptive_time_microseconds' the same with times of the day always in microseconds, 'connect' by Connect's own types with milliseconds, 'isostring' as texts, or all in microseconds or nanoseconds.",
        ))
        .define(choice("interval.handling.mode", &["numeric", "string"], "How interval is given: in microseconds, with months of 30.4375 days, or as an ISO 8601 text, exactly."))
        .define(choice("binary.handling.mode", &["bytes", "base64", "base64-url-safe", "hex"], "How bytea is given: as bytes or as text."))
        .define(choice("hstore.handling.mode", &["json", "map"], "How hstore is given: as a JSON text or as a map."))
        .define(flag("include.unknown.datatypes", false, "Whether columns of types that are not known are given as bytes of their text, instead of left out."))
        .define(text("unavailable.value.placeholder", "__debezium_unavailable_value", medium, "What stands for a large value that has not changed, which the server therefore does not send."))
        .define(flag("tombstones.on.delete", true, "Whether a tombstone follows each deletion, so that compaction removes the key."))
        .define(ConfigKey::optional("skipped.operations", Type::List, "t", medium, "Operations that are left out: c (create), u (update), d (delete), t (truncate), or none."))
        .define(number("heartbeat.interval.ms", "0", 0.0, "How often a heartbeat record is written, in milliseconds, so that stored offsets move while the tables are idle. 0: never."))
        .define(text("topic.heartbeat.prefix", "__debezium-heartbeat", low, "The heartbeats' topic is <this>.<topic.prefix>."))
        .define(file("heartbeat.action.query", "An SQL statement that each heartbeat runs in the database."))
        .define(number("max.batch.size", "2048", 1.0, "The most change events that one poll hands over."))
        .define(number("max.queue.size.in.bytes", "4194304", 65_536.0, "How much of the log is read ahead, in bytes."))
        .define(number("status.update.interval.ms", "1000", 1.0, "How often the server is told what is safe, in milliseconds."))
        .define(number("retriable.restart.connector.wait.ms", "10000", 1.0, "The longest pause between two attempts to reach the server, in milliseconds; the first is a hundredth of it."))
}

impl SourceConfig {
    pub fn parse(config: &Config) -> Result<Self> {
        let values = definition().parse(config)?;
        let word = |key: &str| Ok::<_, Error>(values.get::<String>(key)?.to_ascii_lowercase());
        let given =
            |key: &str| Ok::<_, Error>(values.get::<Option<String>>(key)?.filter(|text| !text.trim().is_empty()));
        let (prefix, delimiter): (String, String) = (values.get(NAME)?, values.get("topic.delimiter")?);
        let slot: String = values.get("slot.name")?;
        check_slot(&slot)?;
        let heartbeat: Duration = values.get("heartbeat.interval.ms")?;
        let heartbeat_topic = format!("{}{delimiter}{prefix}", values.get::<String>("topic.heartbeat.prefix")?);
        Ok(Self {
            server: connection_settings(&values, format!("tributary {prefix}"))?,
            initial_statements: statements(given("database.initial.statements")?.as_deref().unwrap_or_default()),
            slot,
            drop_slot: values.get("slot.drop.on.stop")?,
            publication: values.get("publication.name")?,
            autocreate: match &*word("publication.autocreate.mode")? {
                "disabled" => Autocreate::Disabled,
                "filtered" => Autocreate::Filtered,
                "no_tables" => Autocreate::NoTables,
                _ => Autocreate::AllTables,
            },
            via_partition_root: values.get("publish.via.partition.root")?,
            filters: Filters::parse(&values)?,
            snapshot: match &*word("snapshot.mode")? {
                "always" => SnapshotMode::Always,
                "initial_only" => SnapshotMode::InitialOnly,
                "no_data" | "never" => SnapshotMode::NoData,
                "when_needed" => SnapshotMode::WhenNeeded,
                _ => SnapshotMode::Initial,
            },
            snapshot_threads: values.get("snapshot.max.threads")?,
            chunk: values.get("incremental.snapshot.chunk.size")?,
            signals: given("signal.data.collection")?.map(|name| signals(&name)).transpose()?,
            transaction_topic: values
                .get::<bool>("provide.transaction.metadata")?
                .then(|| Ok::<_, Error>(format!("{prefix}{delimiter}{}", values.get::<String>("topic.transaction")?)))
                .transpose()?,
            modes: modes(&values)?,
            tombstones: values.get("tombstones.on.delete")?,
            skipped: skipped(&values.get::<Vec<String>>("skipped.operations")?)?,
            heartbeat: (!heartbeat.is_zero()).then_some(heartbeat),
            heartbeat_topic,
            heartbeat_query: given("heartbeat.action.query")?,
            batch: values.get("max.batch.size")?,
            queue_bytes: values.get("max.queue.size.in.bytes")?,
            status_interval: values.get("status.update.interval.ms")?,
            retry: values.get("retriable.restart.connector.wait.ms")?,
            prefix,
            delimiter,
        })
    }

    /// The topic of a table.
    pub fn topic(&self, schema: &str, table: &str) -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name = format!("{}{d}{schema}{d}{table}", self.prefix, d = self.delimiter);
        name.chars().map(legal).collect()
    }
}

fn modes(values: &Parsed) -> Result<ValueModes> {
    let word = |key: &str| Ok::<_, Error>(values.get::<String>(key)?.to_ascii_lowercase());
    Ok(ValueModes {
        decimal: match &*word("decimal.handling.mode")? {
            "double" => DecimalMode::Double,
            "string" => DecimalMode::Text,
            _ => DecimalMode::Precise,
        },
        time: match &*word("time.precision.mode")? {
            "adaptive_time_microseconds" => TimeMode::AdaptiveMicros,
            "connect" => TimeMode::Connect,
            "isostring" => TimeMode::Iso,
            "microseconds" => TimeMode::Micros,
            "nanoseconds" => TimeMode::Nanos,
            _ => TimeMode::Adaptive,
        },
        interval: if word("interval.handling.mode")? == "string" { IntervalMode::Text } else { IntervalMode::Micros },
        binary: match &*word("binary.handling.mode")? {
            "base64" => BinaryMode::Base64,
            "base64-url-safe" => BinaryMode::Base64Url,
            "hex" => BinaryMode::Hex,
            _ => BinaryMode::Bytes,
        },
        hstore: if word("hstore.handling.mode")? == "map" { HstoreMode::Map } else { HstoreMode::Json },
        unknown: values.get("include.unknown.datatypes")?,
        placeholder: values.get("unavailable.value.placeholder")?,
    })
}

/// The server's own rule for names of slots.
fn check_slot(slot: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if slot.is_empty() || slot.len() > 63 || !slot.chars().all(legal) {
        return Err(Error::failed(format!(
            "slot.name={slot} is no name of a replication slot: use lower-case letters, digits and underscores, 63 at most"
        )));
    }
    Ok(())
}

fn skipped(operations: &[String]) -> Result<Vec<char>> {
    let letter = |text: &String| match text.trim() {
        "none" | "" => Ok(None),
        "c" | "u" | "d" | "t" => Ok(text.trim().chars().next()),
        other => Err(Error::failed(format!("skipped.operations: {other} is none of c, u, d, t and none"))),
    };
    operations.iter().filter_map(|text| letter(text).transpose()).collect()
}

fn signals(name: &str) -> Result<(String, String)> {
    match name.trim().split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok((schema.to_owned(), table.to_owned())),
        _ => Err(Error::failed(format!("signal.data.collection={name} is not given as schema.table"))),
    }
}

/// Statements between semicolons; two semicolons are one inside of a statement.
fn statements(text: &str) -> Vec<String> {
    let joined = text.replace(";;", "\u{0}");
    let each = joined.split(';').map(|statement| statement.replace('\u{0}', ";").trim().to_owned());
    each.filter(|statement| !statement.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_divided() {
        assert_eq!(statements("SET a=1; SELECT ';;' ;"), ["SET a=1", "SELECT ';'"]);
        assert!(statements("").is_empty());
    }
}
