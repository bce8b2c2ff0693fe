//! The sink's keys: Debezium's, and three of its own.

use std::time::Duration;

use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Error, Importance, Pattern, Result, Type};

use super::datum::Placeholder;
use super::names::Template;
use super::url::JdbcUrl;
use crate::client::{Settings, SslMode, Tls};
use crate::config::{choice, flag, text};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InsertMode {
    Insert,
    Upsert,
    Update,
}

/// Where the primary key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyMode {
    None,
    /// Topic, partition and offset.
    Kafka,
    Key,
    Value,
    Header,
}

/// A regular expression on topics and one on fields.
#[derive(Debug)]
struct FieldPattern(Option<Pattern>, Pattern);

/// A task's config.
#[derive(Debug)]
pub(super) struct SinkConfig {
    /// The connector's name, under which offsets are kept.
    pub name: String,
    /// One for each host.
    pub servers: Vec<Settings>,
    /// `currentSchema` of the URL.
    pub search_path: Option<String>,
    /// `socketTimeout` of the URL.
    pub socket_timeout: Option<Duration>,
    /// Parameters of the URL that mean nothing here.
    pub ignored: Vec<String>,
    pub insert_mode: InsertMode,
    pub key_mode: KeyMode,
    pub key_fields: Vec<String>,
    pub deletes: bool,
    pub truncates: bool,
    /// Whether tables and columns are made.
    pub evolves: bool,
    /// Whether names are taken as they are; otherwise one that does not exist as it is stands for the lower-case one.
    pub exact_names: bool,
    pub table: Template,
    include: Option<Vec<FieldPattern>>,
    exclude: Vec<FieldPattern>,
    /// The most records of one COPY.
    pub batch: usize,
    pub placeholder: Placeholder,
    /// The table with offsets, where each record is written exactly once.
    pub offsets: Option<String>,
    /// Whether the loss of a bad record is what the user wants.
    pub tolerant: bool,
}

const URL: &str = "connection.url";
const FORMAT: &str = "collection.name.format";
const OLD_FORMAT: &str = "table.name.format";
const STRATEGIES: [(&str, &[&str]); 3] = [
    (
        "collection.naming.strategy",
        &[
            "io.debezium.sink.naming.DefaultCollectionNamingStrategy",
            "io.debezium.connector.jdbc.naming.DefaultTableNamingStrategy",
            "io.debezium.connector.jdbc.naming.DefaultCollectionNamingStrategy",
        ],
    ),
    ("table.naming.strategy", &["io.debezium.connector.jdbc.naming.DefaultTableNamingStrategy"]),
    ("column.naming.strategy", &["io.debezium.connector.jdbc.naming.DefaultColumnNamingStrategy"]),
];
/// Names of the columns of `primary.key.mode=kafka`.
const KAFKA: [&str; 3] = ["__connect_topic", "__connect_partition", "__connect_offset"];
/// Parameters of the driver's that are looked at, or that need not be told about.
const PARAMETERS: [&str; 13] = [
    "user",
    "password",
    "ssl",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "currentSchema",
    "ApplicationName",
    "socketTimeout",
    "tcpKeepAlive",
    "stringtype",
    "reWriteBatchedInserts",
];

/// The keys.
pub(super) fn definition() -> ConfigDef {
    let (high, medium, low) = (Importance::High, Importance::Medium, Importance::Low);
    let list = |name: &str, what: &str| ConfigKey::nullable(name, Type::List, medium, what);
    ConfigDef::new()
        .define(
            ConfigKey::required(URL, Type::String, high, "The database, as jdbc:postgresql://host:port/database?parameter=value. Several hosts, separated by commas, are tried in turn, and one that may be written to is taken. Parameters: sslmode (prefer, disable, allow, require, verify-ca, verify-full), ssl, sslrootcert, sslcert, sslkey (PEM files), currentSchema, ApplicationName, socketTimeout, user, password; others are ignored with a warning.")
                .validator(Validator::NonEmpty),
        )
        .define(ConfigKey::nullable("connection.username", Type::String, high, "The role to log in as. It needs TEMPORARY on the database, SELECT, INSERT, UPDATE and DELETE on the tables, and with schema.evolution=basic the right to make them."))
        .define(ConfigKey::nullable("connection.password", Type::Password, high, "The role's password."))
        .define(choice("insert.mode", &["insert", "upsert", "update"], "How records become rows: 'insert' adds them, 'upsert' adds them or replaces the fields of the row with the same key, 'update' only changes rows that are there."))
        .define(choice("primary.key.mode", &["none", "kafka", "record_key", "record_value", "record_header"], "Where the primary key comes from: nowhere, topic with partition and offset, the record's key, fields of its value, or headers."))
        .define(list("primary.key.fields", "The fields of the primary key. By default all fields of key, value or headers; needed where the record's key is a single value, whose column it names. With 'kafka', three names for the columns __connect_topic, __connect_partition and __connect_offset."))
        .define(flag("delete.enabled", false, "Whether tombstones and delete events delete the row of their key. Needs primary.key.mode=record_key. Without it they are left out."))
        .define(flag("truncate.enabled", false, "Whether truncate events empty the table. Without it they are left out."))
        .define(choice("schema.evolution", &["none", "basic"], "Whether tables that do not exist are made, and columns that do not exist added. Columns are never dropped or changed."))
        .define(text(FORMAT, "${topic}", medium, "The table: a name, or schema.name. ${topic} is the record's topic, with _ for its dots; ${source.FIELD} a field of a change event's source; ${value.FIELD}, ${key.FIELD} and ${header.NAME} parts of the record, so that the records of one topic go to several tables."))
        .define(ConfigKey::nullable(OLD_FORMAT, Type::String, low, "The older name of collection.name.format, which counts if both are set."))
        .define(flag("quote.identifiers", false, "Whether names are taken exactly as they are. Otherwise a name that the database does not have as it is stands for the same in lower case, which is also how it is made. Reserved words are no trouble either way."))
        .define(list("field.include.list", "Fields to write: comma-separated regular expressions that match a whole name, or topic:name. Key fields are always written."))
        .define(list("field.exclude.list", "Fields not to write, as in field.include.list. Only one of the two may be set."))
        .define(ConfigKey::optional("batch.size", Type::Int, "10000", medium, "The most records that go to the database in one COPY. What the worker hands over at once (consumer.override.max.poll.records) is one transaction.").validator(Validator::at_least(1)))
        .define(text("unavailable.value.placeholder", "__debezium_unavailable_value", low, "What a source writes for a large value that has not changed: such a column keeps what it has. Lists and maps of nothing else, and the base64 and hexadecimal forms, count as well. Empty: there is no such text."))
        .define(flag("exactly.once.enabled", false, "Whether each record is written exactly once: the offsets are then kept in the database, and written in the transactions that write the rows. Otherwise at least once, which is the same with upserts, updates and deletes."))
        .define(text("exactly.once.offsets.table", "tributary_offsets", low, "The table with these offsets, with or without schema. It is made if it does not exist."))
        .define(strategy(STRATEGIES[0].0)).define(strategy(STRATEGIES[1].0)).define(strategy(STRATEGIES[2].0))
}

fn strategy(name: &str) -> ConfigKey {
    let what = "A Java class that makes names. Only Debezium's default one is understood, which changes nothing.";
    ConfigKey::nullable(name, Type::String, Importance::Low, what)
}

impl SinkConfig {
    pub fn parse(config: &Config) -> Result<Self> {
        let values = definition().parse(config)?;
        let word = |key: &str| Ok::<_, Error>(values.get::<String>(key)?.to_ascii_lowercase());
        let given =
            |key: &str| Ok::<_, Error>(values.get::<Option<String>>(key)?.filter(|text| !text.trim().is_empty()));
        for (key, known) in STRATEGIES {
            if let Some(class) = given(key)?
                && !known.contains(&&*class)
            {
                return Err(Error::failed(format!(
                    "{key}: {class} is a Java class, which cannot be run here: use collection.name.format, or a transform that renames"
                )));
            }
        }
        let insert_mode = match &*word("insert.mode")? {
            "upsert" => InsertMode::Upsert,
            "update" => InsertMode::Update,
            _ => InsertMode::Insert,
        };
        let key_mode = match &*word("primary.key.mode")? {
            "kafka" => KeyMode::Kafka,
            "record_key" => KeyMode::Key,
            "record_value" => KeyMode::Value,
            "record_header" => KeyMode::Header,
            _ => KeyMode::None,
        };
        if key_mode == KeyMode::None && insert_mode != InsertMode::Insert {
            return Err(Error::failed(
                "primary.key.mode: insert.mode=upsert and update need a key: set record_key, record_value, record_header or kafka",
            ));
        }
        let deletes = values.get("delete.enabled")?;
        if deletes && key_mode != KeyMode::Key {
            return Err(Error::failed(
                "delete.enabled: deletes are told by the record's key: set primary.key.mode=record_key",
            ));
        }
        let list = |key: &str| {
            Ok::<_, Error>(
                values
                    .get::<Option<Vec<String>>>(key)?
                    .unwrap_or_default()
                    .into_iter()
                    .map(|item| item.trim().to_owned())
                    .filter(|item| !item.is_empty())
                    .collect::<Vec<_>>(),
            )
        };
        let mut key_fields = list("primary.key.fields")?;
        if key_mode == KeyMode::Kafka {
            if key_fields.is_empty() {
                key_fields = KAFKA.map(str::to_owned).to_vec();
            }
            if key_fields.len() != 3 {
                return Err(Error::failed(
                    "primary.key.fields: with primary.key.mode=kafka there are three: for topic, partition and offset",
                ));
            }
        }
        let patterns = |key: &str| list(key)?.iter().map(|item| field_pattern(key, item)).collect::<Result<Vec<_>>>();
        let (include, exclude) = (patterns("field.include.list")?, patterns("field.exclude.list")?);
        if !include.is_empty() && !exclude.is_empty() {
            return Err(Error::failed(
                "field.exclude.list: only one of field.include.list and field.exclude.list may be set",
            ));
        }
        let (key, format) = match given(OLD_FORMAT)? {
            Some(format) => (OLD_FORMAT, format),
            None => (FORMAT, values.get(FORMAT)?),
        };
        let name = config.get("name").unwrap_or_default().to_owned();
        let url = JdbcUrl::parse(&values.get::<String>(URL)?)?;
        let exactly_once: bool = values.get("exactly.once.enabled")?;
        let offsets: String = values.get("exactly.once.offsets.table")?;
        if exactly_once && offsets.trim().is_empty() {
            return Err(Error::failed("exactly.once.offsets.table: a name is needed"));
        }
        let timeout = url.parameters.get("socketTimeout").map(|text| {
            text.parse::<u64>().map_err(|_| Error::failed("connection.url: socketTimeout is a number of seconds"))
        });
        Ok(Self {
            servers: servers(
                &url,
                given("connection.username")?,
                values.get::<Option<String>>("connection.password")?,
                &name,
            )?,
            search_path: url.parameters.get("currentSchema").cloned().filter(|path| !path.is_empty()),
            socket_timeout: timeout.transpose()?.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            ignored: url.parameters.keys().filter(|name| !PARAMETERS.contains(&&***name)).cloned().collect(),
            insert_mode,
            key_mode,
            key_fields,
            deletes,
            truncates: values.get("truncate.enabled")?,
            evolves: word("schema.evolution")? == "basic",
            exact_names: values.get("quote.identifiers")?,
            table: Template::parse(&format).map_err(|why| Error::failed(format!("{key}: {why}")))?,
            include: Some(include).filter(|list| !list.is_empty()),
            exclude,
            batch: values.get("batch.size")?,
            placeholder: Placeholder::new(&values.get::<String>("unavailable.value.placeholder")?),
            offsets: exactly_once.then_some(offsets),
            tolerant: config.get("errors.tolerance").is_some_and(|value| value.trim().eq_ignore_ascii_case("all")),
            name,
        })
    }

    /// Whether a field of a topic's values is written.
    pub fn takes(&self, topic: &str, field: &str) -> Result<bool> {
        let any = |list: &[FieldPattern]| {
            for FieldPattern(topics, fields) in list {
                let matches = |pattern: &Pattern, text| pattern.is_match(text).map_err(Error::failed);
                if topics.as_ref().map_or(Ok(true), |pattern| matches(pattern, topic))? && matches(fields, field)? {
                    return Ok::<_, Error>(true);
                }
            }
            Ok(false)
        };
        match &self.include {
            Some(list) => any(list),
            None => any(&self.exclude).map(|excluded| !excluded),
        }
    }
}

fn field_pattern(key: &str, item: &str) -> Result<FieldPattern> {
    let pattern = |text: &str| {
        Pattern::whole(text).map_err(|why| Error::failed(format!("{key}: {item:?} is no regular expression: {why}")))
    };
    match item.rsplit_once(':') {
        Some((topic, field)) => Ok(FieldPattern(Some(pattern(topic)?), pattern(field)?)),
        None => Ok(FieldPattern(None, pattern(item)?)),
    }
}

fn servers(url: &JdbcUrl, user: Option<String>, password: Option<String>, name: &str) -> Result<Vec<Settings>> {
    let parameter = |name: &str| url.parameters.get(name).cloned().filter(|text| !text.is_empty());
    let user = user.or_else(|| parameter("user")).ok_or_else(|| {
        Error::failed(
            "connection.username: missing required configuration \"connection.username\" which has no default value",
        )
    })?;
    let ssl = url.parameters.get("ssl").is_some_and(|value| !value.eq_ignore_ascii_case("false"));
    // As the driver: ssl without a mode checks everything.
    let mode = parameter("sslmode").unwrap_or_else(|| if ssl { "verify-full" } else { "prefer" }.to_owned());
    let mode = SslMode::parse(&mode.to_ascii_lowercase()).ok_or_else(|| {
        Error::failed("connection.url: sslmode is one of disable, allow, prefer, require, verify-ca and verify-full")
    })?;
    let tls = Tls { mode, root_cert: parameter("sslrootcert"), cert: parameter("sslcert"), key: parameter("sslkey") };
    let password = password.filter(|text| !text.is_empty()).or_else(|| parameter("password")).unwrap_or_default();
    let server = |(host, port): &(String, u16)| Settings {
        host: host.clone(),
        port: *port,
        user: user.clone(),
        password: password.clone(),
        database: url.database.clone().unwrap_or_else(|| user.clone()),
        tls: tls.clone(),
        application_name: parameter("ApplicationName").unwrap_or_else(|| format!("tributary {name}")),
    };
    Ok(url.hosts.iter().map(server).collect())
}
