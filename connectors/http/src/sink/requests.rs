//! Records into requests.

use std::hash::{DefaultHasher, Hash, Hasher};

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Uri};
use tributary_sdk::{Batch, Cell, Form, Row};

use super::ready::Ready;
use crate::client::{Outgoing, url};
use crate::config::header_value;
use crate::config::sink::{BatchFormat, SinkConfig, Tombstones, method};
use crate::template::RecordView;

/// A record as it will be sent: where to, and its part of the body.
pub(super) struct Prepared {
    pub row: usize,
    target: Target,
    item: Vec<u8>,
}

impl Prepared {
    /// Its part of a body, with what stands between two.
    pub fn bytes(&self) -> usize {
        self.item.len() + 1
    }
}

/// What records of one request have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// A tombstone has no body and shares a request with nothing.
    has_body: bool,
}

/// Headers that are added to those of the config: type, idempotency key, and what the client knows.
const ADDED: usize = 6;

/// Makes requests of a batch's rows.
pub(super) struct Requests<'a> {
    config: &'a SinkConfig,
    batch: &'a Batch,
    rows: Vec<Row<'a>>,
    /// What no record changes is made once.
    method: Option<Result<Method, String>>,
    uri: Option<Result<Uri, String>>,
}

impl<'a> Requests<'a> {
    pub fn new(config: &'a SinkConfig, batch: &'a Batch) -> Self {
        let method = config.method.constant().map(method);
        let uri = config.url.constant().map(uri);
        Self { config, batch, rows: batch.rows().collect(), method, uri }
    }

    /// The rows that are open, for so many lanes. Rows with the same key are in one group, in their order; where requests have
    /// several records, there are no more groups than lanes, so that records come together.
    pub fn ready(&self, lanes: usize, is_open: impl Fn(usize) -> bool) -> Ready {
        let mark = |row: usize| match lanes {
            1 => 0,
            _ if self.batched() => mark_of(self.rows[row].key(), row) % lanes as u64,
            _ => mark_of(self.rows[row].key(), row),
        };
        Ready::of((0..self.rows.len()).filter(|row| is_open(*row)).map(|row| (row, mark(row))))
    }

    /// A record's key.
    pub fn key(&self, row: usize) -> Cell<'a> {
        self.rows[row].key()
    }

    /// A record ready to be sent; `None`: it is left out. The error says what is wrong with the record.
    pub fn prepare(&self, row: usize) -> Result<Option<Prepared>, String> {
        let record = RecordView::new(self.rows[row], self.batch.partition);
        let tombstone = record.row.value().is_null();
        let own_method = match (&self.config.tombstones, tombstone) {
            (Tombstones::Skip, true) => return Ok(None),
            (Tombstones::Fail, true) => {
                let advice = "set tombstone.method=skip, or a method such as DELETE";
                return Err(format!("the record has no value and cannot be sent: {advice}"));
            }
            (Tombstones::Send(method), true) => Some(method.clone()),
            (_, false) => None,
        };
        let method = match own_method {
            Some(method) => method,
            None => match &self.method {
                Some(constant) => constant.clone()?,
                None => method(&self.config.method.fill_text(&record)?)?,
            },
        };
        let uri = match &self.uri {
            Some(constant) => constant.clone()?,
            None => uri(&self.config.url.fill_text(&record)?)?,
        };
        let mut headers = HeaderMap::with_capacity(self.config.headers.len() + ADDED);
        for (name, template) in &self.config.headers {
            let value = template.fill_text(&record).map_err(|why| format!("header {name}: {why}"))?;
            headers.append(name, header_value(&value).map_err(|why| format!("header {name}: {why}"))?);
        }
        let item = if tombstone { Vec::new() } else { self.item(&record)? };
        if !tombstone && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, self.content_type()?);
        }
        Ok(Some(Prepared { row, target: Target { method, uri, headers, has_body: !tombstone }, item }))
    }

    /// Whether a record fits into a request that has these already, of so many bytes together.
    pub fn fits(&self, request: &[Prepared], bytes: usize, next: &Prepared) -> bool {
        let Some(first) = request.first() else { return true };
        request.len() < self.config.batch_records
            && next.target.has_body
            && first.target == next.target
            // With the brackets of an array.
            && bytes + next.bytes() + 1 <= self.config.batch_bytes
    }

    /// One request of records that fit together. A single one gives its part of the body away.
    pub fn request(&self, records: &mut [Prepared]) -> Result<Outgoing, String> {
        let count = records.len();
        let alone = count == 1 && !self.batched();
        let first = records.first_mut().ok_or("a request needs a record")?;
        let mut headers = if alone { std::mem::take(&mut first.target.headers) } else { first.target.headers.clone() };
        if let Some((name, template)) = &self.config.idempotency {
            let record = RecordView::new(self.rows[first.row], self.batch.partition);
            let mut key = template.fill_text(&record).map_err(|why| format!("header {name}: {why}"))?;
            if self.batched() {
                key = format!("{key}+{count}");
            }
            headers.insert(name, header_value(&key).map_err(|why| format!("header {name}: {why}"))?);
        }
        let (method, uri) = (first.target.method.clone(), first.target.uri.clone());
        let body = match records {
            records if !records[0].target.has_body => Vec::new(),
            [one] if alone => std::mem::take(&mut one.item),
            records => self.body(records),
        };
        Ok(Outgoing { method, uri, headers, body: body.into() })
    }

    fn batched(&self) -> bool {
        self.config.batch_records > 1
    }

    fn body(&self, records: &[Prepared]) -> Vec<u8> {
        let (open, between, close): (&[u8], &[u8], &[u8]) = match self.config.batch_format {
            _ if !self.batched() => (b"", b"", b""),
            BatchFormat::JsonArray => (b"[", b",", b"]"),
            BatchFormat::NdJson | BatchFormat::Lines => (b"", b"\n", b"\n"),
        };
        let bytes: usize = records.iter().map(Prepared::bytes).sum();
        let mut body = Vec::with_capacity(bytes + 2);
        body.extend_from_slice(open);
        for (number, record) in records.iter().enumerate() {
            if number > 0 {
                body.extend_from_slice(between);
            }
            body.extend_from_slice(&record.item);
        }
        body.extend_from_slice(close);
        body
    }

    /// A record's part of a body.
    fn item(&self, record: &RecordView<'_>) -> Result<Vec<u8>, String> {
        if !self.config.body.is_value() {
            return self.config.body.fill(record);
        }
        let value = record.row.value();
        let json = || value.to_json().map(|json| json.to_string().into_bytes()).map_err(|error| error.to_string());
        match (value, self.config.batch_format) {
            (Cell::Structured(..), _) => json(),
            (Cell::Text(_) | Cell::Bytes(_), BatchFormat::JsonArray | BatchFormat::NdJson) if self.batched() => json(),
            // Line ends stand between the parts of a document only; within strings they are escaped.
            (Cell::Json(text), BatchFormat::NdJson) if self.batched() => {
                Ok(text.replace(['\n', '\r'], " ").into_bytes())
            }
            _ => Ok(value.as_bytes().unwrap_or_default().to_vec()),
        }
    }

    fn content_type(&self) -> Result<HeaderValue, String> {
        if let Some(configured) = &self.config.content_type {
            return header_value(configured);
        }
        let (json, form) = (!self.config.body.is_value(), self.batch.value.form());
        Ok(HeaderValue::from_static(match self.config.batch_format {
            BatchFormat::JsonArray if self.batched() => "application/json",
            BatchFormat::NdJson if self.batched() => "application/x-ndjson",
            _ if json && self.config.body.is_json() => "application/json",
            _ if json => "text/plain; charset=utf-8",
            _ => match form {
                Form::Json | Form::Structured => "application/json",
                Form::Text => "text/plain; charset=utf-8",
                Form::Bytes => "application/octet-stream",
            },
        }))
    }
}

fn uri(text: &str) -> Result<Uri, String> {
    let uri = url::parse(text).map_err(|why| format!("the record makes a URL that is none: {why}"))?;
    if uri.path().split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("the record makes a URL that leads out of its path: a part of it is only dots".to_owned());
    }
    Ok(uri)
}

/// What records of a key have in common; those without one have nothing.
fn mark_of(key: Cell<'_>, row: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    match key {
        Cell::Null => return row as u64,
        Cell::Structured(..) => key.to_json().map(|key| key.to_string()).unwrap_or_default().hash(&mut hasher),
        _ => key.as_bytes().hash(&mut hasher),
    }
    hasher.finish()
}
