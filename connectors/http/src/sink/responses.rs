//! What the server has answered, as records.

use hyper::header::CONTENT_TYPE;
use tributary_sdk::{Batch, Cell, Context, Offsets, Record, Records, Result};

use crate::client::{Answer, Outgoing};

/// Bytes of key and body of one record.
pub(crate) const LARGEST: usize = 900_000;
/// Bytes of answers that are gathered before they are handed over.
const GATHERED: usize = 1 << 20;

/// The answers to a batch's requests, in the order in which they came.
pub(super) struct Responses<'a> {
    context: &'a Context,
    topic: &'a str,
    records: Records,
}

impl<'a> Responses<'a> {
    /// For this topic.
    pub fn to(context: &'a Context, topic: &'a str) -> Self {
        Self { context, topic, records: Records::to(topic) }
    }

    /// An answer of 2xx to a request. Waits where many have come and the log takes no more.
    pub fn add(&mut self, asked: &Asked<'_>, outgoing: &Outgoing, answer: &Answer) -> Result<()> {
        self.records.push(response(asked, outgoing, answer)?)?;
        if self.records.bytes() < GATHERED { Ok(()) } else { self.produce() }
    }

    /// Hands them over to the worker.
    pub fn produce(&mut self) -> Result<()> {
        let records = std::mem::replace(&mut self.records, Records::to(self.topic));
        records.finish()?.into_iter().try_for_each(|batch| self.context.produce(batch))
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
    let key = match key {
        Cell::Null => None,
        Cell::Structured(..) => Some(key.to_json()?.to_string().into_bytes()),
        key => key.as_bytes().map(<[u8]>::to_vec),
    };
    // Kafka refuses records of more than a mebibyte by default, and an accepted request must not be sent again for that.
    let room = LARGEST.saturating_sub(key.as_ref().map_or(0, Vec::len));
    let body = &answer.body[..answer.body.len().min(room)];
    let mut record = Record::bytes(body.to_vec());
    if let Some(key) = key {
        record = record.key_bytes(key);
    }
    record = record
        .header("http.status", answer.status.as_str())
        .header("http.method", outgoing.method.as_str())
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
    if !answer.whole || body.len() < answer.body.len() {
        let why =
            answer.broken.as_deref().unwrap_or("the body is longer than response.max.bytes, or than a record may be");
        record = record.header("http.incomplete", why);
    }
    Ok(record)
}
