//! The HTTP source's config.

use std::sync::Arc;
use std::time::Duration;

use hyper::{HeaderMap, Uri};
use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Importance, Type};

use super::{Wrong, client, header_lines, header_value, keys, present};
use crate::client::{HttpClient, RetryPolicy, get, parse, url};

const URL: &str = "url";
const TOPIC: &str = "topic";
const RECORDS_POINTER: &str = "records.pointer";
const KEY_POINTER: &str = "key.pointer";
const PAGINATION: &str = "pagination";
const PAGE_PARAMETER: &str = "page.parameter";
const PAGE_START: &str = "page.start";
const OFFSET_PARAMETER: &str = "offset.parameter";
const CURSOR_PARAMETER: &str = "cursor.parameter";
const CURSOR_POINTER: &str = "cursor.pointer";
const NEXT_POINTER: &str = "next.pointer";
const PAGE_SIZE: &str = "page.size";
const SIZE_PARAMETER: &str = "page.size.parameter";
const TIMESTAMP_PARAMETER: &str = "timestamp.parameter";
const TIMESTAMP_POINTER: &str = "timestamp.pointer";
const TIMESTAMP_START: &str = "timestamp.start";
const INTERVAL: &str = "poll.interval.ms";
const RATE: &str = "rate.limit";
const CONDITIONAL: &str = "conditional.requests";
const MAX_RESPONSE: &str = "max.response.bytes";

/// How pages follow each other.
#[derive(Debug, Clone)]
pub(crate) enum Pagination {
    None,
    Page {
        parameter: String,
        start: u64,
    },
    Offset {
        parameter: String,
    },
    Cursor {
        parameter: String,
        pointer: String,
    },
    /// The header `Link`, or a URL in the answer.
    Link {
        pointer: Option<String>,
    },
}

/// The source's config, parsed.
pub(crate) struct SourceConfig {
    pub url: Uri,
    pub topic: Arc<str>,
    pub headers: HeaderMap,
    pub records_pointer: String,
    pub key_pointer: Option<String>,
    pub pagination: Pagination,
    pub page_size: u64,
    pub size_parameter: Option<String>,
    pub timestamp_parameter: Option<String>,
    pub timestamp_pointer: Option<String>,
    pub timestamp_start: Option<String>,
    pub interval: Duration,
    /// The least time between two requests.
    pub between: Duration,
    pub conditional: bool,
    pub max_response: usize,
    pub policy: RetryPolicy,
    pub client: HttpClient,
}

impl SourceConfig {
    pub fn definition() -> ConfigDef {
        use Importance::{High, Low, Medium};
        let text = |name, documentation| ConfigKey::nullable(name, Type::String, Medium, documentation);
        let named = |name, default, documentation| ConfigKey::optional(name, Type::String, default, Low, documentation);
        let number = |name, kind, default, documentation, least: f64, most: f64| {
            ConfigKey::optional(name, kind, default, Medium, documentation).validator(Validator::between(least, most))
        };
        ConfigDef::new()
            .define(
                ConfigKey::required(URL, Type::String, High, "What is asked with GET, http or https. It may have a query.")
                    .validator(Validator::NonEmpty),
            )
            .define(
                ConfigKey::required(TOPIC, Type::String, High, "The topic that the records go to.")
                    .validator(Validator::NonEmpty),
            )
            .define(named(
                RECORDS_POINTER,
                "",
                "JSON pointer to the records in the answer, such as /data/items: the items of an array there, or the value itself. Without it: the whole answer.",
            ))
            .define(text(KEY_POINTER, "JSON pointer into a record to what becomes its key, such as /id."))
            .define(
                ConfigKey::optional(
                    PAGINATION,
                    Type::String,
                    "none",
                    High,
                    "How pages follow each other: by number ('page'), by the number of records before them ('offset'), by a 'cursor' that the answer gives, by a 'link' (the header Link, or a URL in the answer at next.pointer), or not at all ('none').",
                )
                .validator(Validator::one_of(&["none", "page", "offset", "cursor", "link"]))
                .recommended(&["none", "page", "offset", "cursor", "link"]),
            )
            .define(named(PAGE_PARAMETER, "page", "Query parameter for the number of the page."))
            .define(number(PAGE_START, Type::Int, "1", "Number of the first page.", 0.0, 2_147_483_647.0))
            .define(named(OFFSET_PARAMETER, "offset", "Query parameter for the number of records to skip."))
            .define(named(CURSOR_PARAMETER, "cursor", "Query parameter for the cursor."))
            .define(named(CURSOR_POINTER, "/next_cursor", "JSON pointer to the cursor of the next page in the answer; null, false, empty or absent at the end."))
            .define(text(NEXT_POINTER, "JSON pointer to the URL of the next page in the answer, instead of the header Link."))
            .define(number(
                PAGE_SIZE,
                Type::Int,
                "100",
                "Records of a full page, with pagination page and offset: a page with fewer is the last one, and is asked for again.",
                1.0,
                100_000.0,
            ))
            .define(text(SIZE_PARAMETER, "Query parameter that asks for page.size, such as per_page or limit."))
            .define(text(
                TIMESTAMP_PARAMETER,
                "Query parameter that asks for records from a time on (inclusive), such as updated_since. At the end of the pages, they are read from the first one again with the greatest timestamp that has come.",
            ))
            .define(text(TIMESTAMP_POINTER, "JSON pointer into a record to its timestamp: a number, or text that sorts, such as ISO 8601."))
            .define(text(TIMESTAMP_START, "The timestamp to begin with. Without it, the first round asks without one."))
            .define(number(INTERVAL, Type::Long, "60000", "The pause after the last page.", 1.0, 86_400_000.0))
            .define(number(RATE, Type::Double, "0", "The most requests a second; 0: no limit.", 0.0, 1_000_000.0))
            .define(ConfigKey::optional(
                CONDITIONAL,
                Type::Boolean,
                "true",
                Low,
                "Whether the last page is asked for again with If-None-Match and If-Modified-Since, where the server gave an ETag or Last-Modified.",
            ))
            .define(number(MAX_RESPONSE, Type::Int, "16777216", "The largest answer.", 1.0, 1_073_741_824.0))
            .define(ConfigKey::nullable(
                keys::HEADERS,
                Type::String,
                Medium,
                "Further headers as 'Name: value', one a line or separated by |. Secrets belong into auth.*.",
            ))
            .extend(client::retries(
                "Statuses that may pass, after which the request is sent again: numbers, and classes such as 5xx.",
                "Statuses at which the task fails even if they are among those of retry.status. It also fails at any other but 2xx and 304.",
            ))
            .extend(client::definition())
    }

    /// Reads a config; the error names the key to blame. Nothing is connected to.
    pub fn parse(config: &Config) -> Result<Self, Wrong> {
        let values = parse(&Self::definition(), config)?;
        let text = |key: &str| get::<String>(&values, key);
        let optional = |key: &str| present(config, key).map(str::to_owned);
        let uri = url::parse(&text(URL)?).map_err(|why| (URL.to_owned(), why))?;
        let pointer = |key: &str, pointer: String| match pointer.is_empty() || pointer.starts_with('/') {
            true => Ok(pointer),
            false => Err((key.to_owned(), "a JSON pointer begins with /".to_owned())),
        };
        let pointer_of = |key: &str| optional(key).map(|found| pointer(key, found)).transpose();
        let mut headers = HeaderMap::new();
        for (name, value) in header_lines(keys::HEADERS, config.get(keys::HEADERS).unwrap_or_default())? {
            headers.append(name, header_value(value).map_err(|why| (keys::HEADERS.to_owned(), why))?);
        }
        let (timestamp_parameter, timestamp_pointer) = (optional(TIMESTAMP_PARAMETER), pointer_of(TIMESTAMP_POINTER)?);
        if timestamp_parameter.is_some() != timestamp_pointer.is_some() {
            let key = if timestamp_parameter.is_none() { TIMESTAMP_PARAMETER } else { TIMESTAMP_POINTER };
            return Err((key.to_owned(), "timestamp.parameter and timestamp.pointer need each other".to_owned()));
        }
        let pagination = match text(PAGINATION)?.as_str() {
            "page" => Pagination::Page { parameter: text(PAGE_PARAMETER)?, start: get(&values, PAGE_START)? },
            "offset" => Pagination::Offset { parameter: text(OFFSET_PARAMETER)? },
            "cursor" => Pagination::Cursor {
                parameter: text(CURSOR_PARAMETER)?,
                pointer: pointer(CURSOR_POINTER, text(CURSOR_POINTER)?)?,
            },
            "link" => Pagination::Link { pointer: pointer_of(NEXT_POINTER)? },
            _ => Pagination::None,
        };
        let rate: f64 = get(&values, RATE)?;
        let confidential = !headers.is_empty();
        Ok(Self {
            url: uri,
            topic: text(TOPIC)?.into(),
            headers,
            records_pointer: pointer(RECORDS_POINTER, text(RECORDS_POINTER)?)?,
            key_pointer: pointer_of(KEY_POINTER)?,
            pagination,
            page_size: get(&values, PAGE_SIZE)?,
            size_parameter: optional(SIZE_PARAMETER),
            timestamp_parameter,
            timestamp_pointer,
            timestamp_start: optional(TIMESTAMP_START),
            interval: get(&values, INTERVAL)?,
            between: if rate > 0.0 { Duration::from_secs_f64((1.0 / rate).min(86_400.0)) } else { Duration::ZERO },
            conditional: get(&values, CONDITIONAL)?,
            max_response: get(&values, MAX_RESPONSE)?,
            policy: RetryPolicy::from_values(&values)?,
            client: HttpClient::from_config(config, 5, confidential)?,
        })
    }
}
