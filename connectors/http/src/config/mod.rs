//! The config keys, and their values parsed.

pub(crate) mod client;
pub(crate) mod keys;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod webhook;

use hyper::header::{HeaderName, HeaderValue};
use tributary_sdk::{Config, Error};

/// A key, and what is wrong with its value.
pub(crate) type Wrong = (String, String);

/// As a connector's error.
pub(crate) fn failed((key, why): Wrong) -> Error {
    // Kafka's own messages name the key.
    Error::failed(if why.contains(&key) { why } else { format!("configuration {key}: {why}") })
}

/// A text that is set and not blank.
pub(crate) fn present<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    config.get(key).map(str::trim).filter(|text| !text.is_empty())
}

/// The same where something else makes it necessary.
pub(crate) fn needed<'a>(config: &'a Config, key: &str, because: &str) -> std::result::Result<&'a str, Wrong> {
    present(config, key).ok_or_else(|| (key.to_owned(), format!("it is needed with {because}")))
}

/// `Name: value` lines, also separated by `|`, in their order.
pub(crate) fn header_lines<'a>(key: &str, text: &'a str) -> std::result::Result<Vec<(HeaderName, &'a str)>, Wrong> {
    let line = |line: &'a str| {
        let wrong = |why: &str| (key.to_owned(), format!("{line:?}: {why}"));
        let (name, value) =
            line.split_once(':').ok_or_else(|| wrong("write Name: value, one a line or separated by |"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong("the name is no header's"))?;
        if matches!(name.as_str(), "host" | "content-length" | "transfer-encoding" | "connection" | "upgrade" | "te") {
            return Err(wrong("this header is the client's own"));
        }
        Ok((name, value.trim()))
    };
    text.split(['\n', '|']).map(str::trim).filter(|line| !line.is_empty()).map(line).collect()
}

/// A header's value.
pub(crate) fn header_value(text: &str) -> std::result::Result<HeaderValue, String> {
    // Visible characters and those beyond ASCII; never the end of a line.
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| "it holds characters that headers cannot have".to_owned())
}
