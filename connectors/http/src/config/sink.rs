//! The sink's config.

use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderName;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Importance, Type};

use super::{Wrong, client, header_lines, keys, present};
use crate::client::{HttpClient, RetryPolicy, get, parse, url};
use crate::template::{Place, Template};

pub(crate) const URL: &str = "url";
pub(crate) const METHOD: &str = "method";
const TOMBSTONE: &str = "tombstone.method";
const BODY: &str = "body";
const CONTENT_TYPE: &str = "content.type";
const BATCH_RECORDS: &str = "batch.max.records";
const BATCH_BYTES: &str = "batch.max.bytes";
const BATCH_FORMAT: &str = "batch.format";
const CONCURRENCY: &str = "concurrency";
const IDEMPOTENCY_HEADER: &str = "idempotency.header";
const IDEMPOTENCY_KEY: &str = "idempotency.key";
const MAX_RETRIES: &str = "max.retries";
const RETRY_TIMEOUT: &str = "retry.timeout.ms";
pub(crate) const RESPONSE_TOPIC: &str = "response.topic";
const RESPONSE_BYTES: &str = "response.max.bytes";

/// What is read of an answer, where nothing more is asked for.
const ANSWER_BYTES: usize = 64 << 10;

/// What becomes of records without a value.
#[derive(Debug, Clone)]
pub(crate) enum Tombstones {
    Fail,
    Skip,
    Send(Method),
}

/// How records share a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchFormat {
    JsonArray,
    NdJson,
    Lines,
}

/// The sink's config, parsed.
pub(crate) struct SinkConfig {
    pub url: Template,
    pub method: Template,
    pub tombstones: Tombstones,
    pub headers: Vec<(HeaderName, Template)>,
    pub body: Template,
    /// Whether the body's template is JSON.
    pub content_type: Option<String>,
    pub batch_records: usize,
    pub batch_bytes: usize,
    pub batch_format: BatchFormat,
    pub concurrency: usize,
    pub idempotency: Option<(HeaderName, Template)>,
    pub max_retries: u32,
    /// `None`: without end.
    pub retry_timeout: Option<Duration>,
    /// Topic of the answers.
    pub response_topic: Option<String>,
    /// What is read of an answer.
    pub answer_bytes: usize,
    pub policy: RetryPolicy,
    pub client: HttpClient,
    /// Credentials would go without TLS.
    pub shows_credentials: bool,
}

impl SinkConfig {
    pub fn definition() -> ConfigDef {
        use Importance::{High, Low, Medium};
        let int = |name, default, importance, documentation, most: f64| {
            ConfigKey::optional(name, Type::Int, default, importance, documentation)
                .validator(Validator::between(1.0, most))
        };
        ConfigDef::new()
            .define(
                ConfigKey::required(
                    URL,
                    Type::String,
                    High,
                    "Where records are sent, http or https. The path and the query may hold parts of the record: ${topic}, ${partition}, ${offset}, ${timestamp}, ${key}, ${key.FIELD}, ${value}, ${value.FIELD}, ${header.NAME}, each percent-encoded.",
                )
                .validator(Validator::NonEmpty),
            )
            .define(ConfigKey::optional(
                METHOD,
                Type::String,
                "POST",
                Medium,
                "The method, such as PUT, or a template that gives one for each record: ${header.method}.",
            ))
            .define(ConfigKey::optional(
                TOMBSTONE,
                Type::String,
                "fail",
                Medium,
                "What is done with records without a value: 'fail' refuses them, 'skip' leaves them out, anything else is the method that they are sent with, without a body: DELETE.",
            ))
            .define(ConfigKey::nullable(
                keys::HEADERS,
                Type::String,
                Medium,
                "Further headers as 'Name: value', one a line or separated by |. The values may hold parts of the record as the URL does. Secrets belong into auth.*.",
            ))
            .define(ConfigKey::optional(
                BODY,
                Type::String,
                "${value}",
                Medium,
                "The body. By default the value as it is: text, bytes, or JSON. Anything else is a template with parts of the record in it; in a JSON body they are JSON values, and text within quotes.",
            ))
            .define(ConfigKey::nullable(
                CONTENT_TYPE,
                Type::String,
                Medium,
                "The Content-Type. Without it: application/json for JSON and structured values, application/x-ndjson for such batches, text/plain for text, application/octet-stream for bytes.",
            ))
            .define(int(
                BATCH_RECORDS,
                "1",
                Medium,
                "The most records in one request; more than 1 puts records with the same URL, method and headers that follow each other into one body.",
                100_000.0,
            ))
            .define(int(
                BATCH_BYTES,
                "1048576",
                Low,
                "The most bytes of such a body. A single record may be larger.",
                1_073_741_824.0,
            ))
            .define(
                ConfigKey::optional(
                    BATCH_FORMAT,
                    Type::String,
                    "json-array",
                    Low,
                    "How the records of a batch stand in its body, where batch.max.records is more than 1: as a 'json-array', as 'ndjson' (a JSON value a line), or as 'lines' (bodies as they are, each ended by a line feed).",
                )
                .validator(Validator::one_of(&["json-array", "ndjson", "lines"]))
                .recommended(&["json-array", "ndjson", "lines"]),
            )
            .define(int(
                CONCURRENCY,
                "1",
                Medium,
                "Requests at a time. With 1, the order of a partition is kept; with more, that of the records with the same key, and records without a key have none.",
                256.0,
            ))
            .define(ConfigKey::nullable(
                IDEMPOTENCY_HEADER,
                Type::String,
                Medium,
                "Name of a header, such as Idempotency-Key, by which the server tells a repeated request from a new one. It is the same however often a record is sent.",
            ))
            .define(ConfigKey::optional(
                IDEMPOTENCY_KEY,
                Type::String,
                "${topic}-${partition}-${offset}",
                Low,
                "The value of that header. For a batch it is that of its first record, with the number of records behind it.",
            ))
            .define(
                ConfigKey::optional(
                    MAX_RETRIES,
                    Type::Int,
                    "5",
                    Medium,
                    "How often a request is sent again before the task reports that it is waiting, and the worker's own pauses begin. It goes on after that, see retry.timeout.ms.",
                )
                .validator(Validator::between(0.0, 1000.0)),
            )
            .define(
                ConfigKey::optional(
                    RETRY_TIMEOUT,
                    Type::Long,
                    "-1",
                    Medium,
                    "For how many milliseconds a record is sent again that meets an error which may pass. After that it is a failed record (errors.tolerance, dead letters). -1: without end, so that no outage costs a record.",
                )
                .validator(Validator::at_least(-1.0)),
            )
            .define(ConfigKey::nullable(
                RESPONSE_TOPIC,
                Type::String,
                Low,
                "Topic that the answers to accepted requests are written to, with the key of the request's first record. It is made if it is missing.",
            ))
            .define(int(
                RESPONSE_BYTES,
                "65536",
                Low,
                "The most bytes of an answer's body that are written there; of a longer one the beginning is, and the header http.incomplete says so.",
                900_000.0,
            ))
            .extend(client::retries(
                "Statuses that may pass, after which a request is sent again: numbers, and classes such as 5xx.",
                "Statuses that no record is to blame for, and that end only when somebody does something: the task fails. All others but 2xx are a failure of their record.",
            ))
            .extend(client::definition())
    }

    /// Reads a config; the error names the key to blame. Nothing is connected to.
    pub fn parse(config: &Config) -> Result<Self, Wrong> {
        let values = parse(&Self::definition(), config)?;
        let text = |key: &str| get::<String>(&values, key);
        let template = |key: &str, place| Template::parse(&text(key)?, place).map_err(|why| (key.to_owned(), why));
        let number = |key: &str| get::<usize>(&values, key);
        let (url, https) = url_template(&text(URL)?).map_err(|why| (URL.to_owned(), why))?;
        let content_type = present(config, CONTENT_TYPE).map(str::to_owned);
        if let Some(content_type) = &content_type {
            super::header_value(content_type).map_err(|why| (CONTENT_TYPE.to_owned(), why))?;
        }
        let body = text(BODY)?;
        let json = match &content_type {
            Some(content_type) => content_type.to_ascii_lowercase().contains("json"),
            None => body.starts_with(['{', '[']),
        };
        let headers = header_lines(keys::HEADERS, config.get(keys::HEADERS).unwrap_or_default())?;
        let headers = headers.into_iter().map(|(name, value)| {
            let template = Template::parse(value, Place::Plain).map_err(|why| (keys::HEADERS.to_owned(), why))?;
            super::header_value(&template.filled_with("x")).map_err(|why| (keys::HEADERS.to_owned(), why))?;
            Ok((name, template))
        });
        let idempotency = match present(config, IDEMPOTENCY_HEADER) {
            None => None,
            Some(name) => {
                let wrong = |_| (IDEMPOTENCY_HEADER.to_owned(), format!("{name:?} is no name of a header"));
                Some((name.parse::<HeaderName>().map_err(wrong)?, template(IDEMPOTENCY_KEY, Place::Plain)?))
            }
        };
        let method = template(METHOD, Place::Plain)?;
        if let (fixed, false) = method.beginning() {
            self::method(fixed).map_err(|why| (METHOD.to_owned(), why))?;
        }
        let client = HttpClient::from_config(config, 5, true)?;
        Ok(Self {
            url,
            method,
            tombstones: match text(TOMBSTONE)?.as_str() {
                "fail" => Tombstones::Fail,
                "skip" => Tombstones::Skip,
                name => Tombstones::Send(self::method(name).map_err(|why| (TOMBSTONE.to_owned(), why))?),
            },
            headers: headers.collect::<Result<_, Wrong>>()?,
            body: Template::parse(&body, if json { Place::JsonBody } else { Place::Body })
                .map_err(|why| (BODY.to_owned(), why))?,
            content_type,
            batch_records: number(BATCH_RECORDS)?,
            batch_bytes: number(BATCH_BYTES)?,
            batch_format: match text(BATCH_FORMAT)?.as_str() {
                "ndjson" => BatchFormat::NdJson,
                "lines" => BatchFormat::Lines,
                _ => BatchFormat::JsonArray,
            },
            concurrency: number(CONCURRENCY)?,
            idempotency,
            max_retries: get(&values, MAX_RETRIES)?,
            retry_timeout: u64::try_from(get::<i64>(&values, RETRY_TIMEOUT)?).ok().map(Duration::from_millis),
            answer_bytes: match present(config, RESPONSE_TOPIC) {
                Some(_) => number(RESPONSE_BYTES)?,
                None => ANSWER_BYTES,
            },
            response_topic: present(config, RESPONSE_TOPIC).map(str::to_owned),
            policy: RetryPolicy::from_values(&values)?,
            shows_credentials: client.shows_credentials(https),
            client,
        })
    }
}

/// A method that a record may be sent with.
pub(crate) fn method(name: &str) -> Result<Method, String> {
    let known = Method::from_bytes(name.trim().to_ascii_uppercase().as_bytes());
    match known {
        Ok(method) if method != Method::CONNECT && method != Method::TRACE && !name.trim().is_empty() => Ok(method),
        _ => Err(format!("{name:?} is no method that records can be sent with")),
    }
}

/// Records choose path and query, never the host that they go to.
fn url_template(text: &str) -> Result<(Template, bool), String> {
    let template = Template::parse(text, Place::Url)?;
    let (beginning, more) = template.beginning();
    let host = beginning.split_once("://").map(|(_, rest)| rest);
    if more && !host.is_some_and(|rest| rest.contains(['/', '?'])) {
        return Err(
            "scheme, host and port have to stand in it as they are; only path and query take placeholders".to_owned()
        );
    }
    let uri = url::parse(&template.filled_with("x"))?;
    Ok((template, uri.scheme_str() == Some("https")))
}
