//! What the server has answered, as records.

use hyper::header::CONTENT_TYPE;
use tributary_sdk::{Batch, Cell, Context, Offsets, Record, Records, Result};

use crate::client::{Answer, Outgoing, url};

/// The answers to a batch's requests, in the order in which they came.
pub(super) struct Responses {
    records: Records,
    error: Option<tributary_sdk::Error>,
}

impl Responses {
    /// For this topic.
    pub fn to(topic: &str) -> Self {
        Self { records: Records::to(topic), error: None }
    }

    /// An answer of 2xx to a request.
    pub fn add(&mut self, asked: &Asked<'_>, outgoing: &Outgoing, answer: &Answer) {
        let pushed = response(asked, outgoing, answer).and_then(|record| self.records.push(record));
        if let Err(error) = pushed {
            self.error.get_or_insert(error);
        }
    }

    /// Hands them over to the worker.
    pub fn produce(self, context: &Context) -> Result<()> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.records.finish()?.into_iter().try_for_each(|batch| context.produce(batch))
    }
}

/// The records of a request.
pub(super) struct Asked<'a> {
    pub batch: &'a Batch,
    /// Row and key of the first one.
    pub first: usize,
    pub key: Cell<'a>,
    /// How many they are.
    pub records: usize,
}

/// Key: the record's, as text or bytes; value: the body; headers: what was asked and what came back.
fn response(asked: &Asked<'_>, outgoing: &Outgoing, answer: &Answer) -> Result<Record> {
    let Asked { batch, first, key, records } = asked;
    let mut record = Record::bytes(answer.body.to_vec());
    record = match key {
        Cell::Null => record,
        Cell::Structured(..) => record.key_bytes(key.to_json()?.to_string()),
        key => record.key_bytes(key.as_bytes().unwrap_or_default().to_vec()),
    };
    record = record
        .header("http.status", answer.status.as_str())
        .header("http.method", outgoing.method.as_str())
        .header("http.url", url::shown(&outgoing.uri))
        .header("request.topic", &*batch.topic)
        .header("request.records", records.to_string());
    if let Some(partition) = batch.partition {
        record = record.header("request.partition", partition.to_string());
    }
    if let Offsets::Sink(offsets) = &batch.offsets {
        record = record.header("request.offset", offsets.value(*first).to_string());
    }
    if let Some(kind) = answer.headers.get(CONTENT_TYPE) {
        record = record.header_bytes("http.content-type", Some(kind.as_bytes().to_vec()));
    }
    if !answer.whole {
        let why = answer.broken.as_deref().unwrap_or("the body is longer than response.max.bytes");
        record = record.header("http.incomplete", why);
    }
    Ok(record)
}
