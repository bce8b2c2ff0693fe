//! Serialized JSON on its way in: checked, and taken out of its envelopes.
//!
//! Stricter than Kafka Connect in two things that lose data there: text behind the value (there ignored), and numbers with leading
//! zeros (there read, but not JSON). A byte order mark before the value is left out, as there.

use arrow_array::{Array, BinaryArray, StringArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer};
use arrow_schema::FieldRef;
use tributary_sdk::Column;

use super::config::Options;
use super::decode::decode;
use super::envelope::{self, Envelope, SchemaCache};
use super::syntax::{self, skip_space};
use crate::converter::conversion::{RowFailure, Run, ToConnect};
use crate::converter::utf8;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What users search for.
pub fn not_json(what: impl std::fmt::Display) -> String {
    format!("Converting byte[] to Kafka Connect data failed due to serialization error: {what}")
}

/// The rows as text, without byte order marks; `invalid` gets those that are not UTF-8.
fn texts(data: &BinaryArray, invalid: &mut Vec<usize>) -> StringArray {
    if data.iter().flatten().any(|value| value.starts_with(BYTE_ORDER_MARK)) {
        let plain = data.iter().map(|value| value.map(|value| value.strip_prefix(BYTE_ORDER_MARK).unwrap_or(value)));
        return utf8::decode_strict(&plain.collect(), invalid);
    }
    utf8::decode_strict(data, invalid)
}

/// Schemaless documents, passed on as they are. Empty text and the document `null` are null.
pub fn documents(data: &BinaryArray) -> ToConnect {
    let mut invalid = Vec::new();
    let texts = texts(data, &mut invalid);
    let mut invalid = invalid.into_iter().peekable();
    let mut failures = Vec::new();
    let mut valid: Option<BooleanBufferBuilder> = None;
    for row in 0..texts.len() {
        if texts.is_null(row) {
            continue;
        }
        let bytes = texts.value(row).as_bytes();
        let checked = match invalid.next_if_eq(&row) {
            Some(_) => Err("invalid UTF-8".to_owned()),
            None => syntax::check(bytes).map_err(|error| error.to_string()),
        };
        match checked {
            Ok(value) if bytes[value.start] != b'n' => continue,
            Err(what) if skip_space(bytes, 0) < bytes.len() => {
                failures.push(RowFailure { row, message: not_json(what) })
            }
            _ => {}
        }
        let valid = valid.get_or_insert_with(|| {
            let mut valid = BooleanBufferBuilder::new(texts.len());
            match texts.nulls() {
                Some(known) => valid.append_buffer(known.inner()),
                None => valid.append_n(texts.len(), true),
            }
            valid
        });
        valid.set_bit(row, false);
    }
    let texts = match valid {
        None => texts,
        Some(mut valid) => {
            let (offsets, values, _) = texts.into_parts();
            StringArray::new(offsets, values, Some(NullBuffer::new(valid.finish())))
        }
    };
    ToConnect::without(&Column::json(texts), failures)
}

/// Values by the schemas of their envelopes, or by `fixed`.
pub fn envelopes(
    data: &BinaryArray,
    options: &Options,
    cache: &mut SchemaCache,
    fixed: Option<&FieldRef>,
) -> ToConnect {
    let mut invalid = Vec::new();
    let texts = texts(data, &mut invalid);
    let mut invalid = invalid.into_iter().peekable();
    let mut answer = ToConnect { runs: Vec::new(), failures: Vec::new() };
    let mut run: Option<OpenRun<'_>> = None;
    let mut last: Option<Envelope<'_>> = None;
    for row in 0..texts.len() {
        if texts.is_null(row) {
            // A tombstone joins whatever run is open.
            run.get_or_insert_with(|| OpenRun::new(row)).payloads.push(None);
            continue;
        }
        let text = texts.value(row);
        let opened = match (invalid.next_if_eq(&row), fixed) {
            (Some(_), _) => Err(not_json("invalid UTF-8")),
            (None, Some(_)) => syntax::check(text.as_bytes()).map(|value| ("", &text[value])).map_err(not_json),
            (None, None) => match last.and_then(|last| last.payload_of(text)) {
                Some(payload) => Ok((last.map_or("", |last| last.schema), payload)),
                None => match syntax::check(text.as_bytes()) {
                    Err(error) => Err(not_json(error)),
                    Ok(value) => Envelope::open(text, value).map(|envelope| {
                        last = Some(envelope);
                        (envelope.schema, envelope.payload)
                    }),
                },
            },
        };
        let opened = opened.and_then(|(schema, payload)| match run.as_ref().filter(|run| run.schema == Some(schema)) {
            Some(run) => Ok((schema, run.field.clone(), payload)),
            None => {
                let field = fixed.map_or_else(|| cache.get(schema), |fixed| Ok(Some(fixed.clone())));
                field.map(|field| (schema, field, payload))
            }
        });
        match opened {
            Ok((schema, field, payload)) => {
                // A run of nothing but tombstones takes the type of what follows.
                if run.as_ref().is_some_and(|run| run.schema.is_some_and(|known| known != schema)) {
                    OpenRun::close(run.take(), options, &mut answer);
                }
                let run = run.get_or_insert_with(|| OpenRun::new(row));
                run.schema = Some(schema);
                run.field = field;
                run.payloads.push(Some(payload));
            }
            Err(message) => {
                OpenRun::close(run.take(), options, &mut answer);
                answer.failures.push(RowFailure { row, message });
            }
        }
    }
    OpenRun::close(run.take(), options, &mut answer);
    answer
}

/// Rows of one schema, being collected.
struct OpenRun<'t> {
    from: usize,
    /// The schema's text; `None` while there are tombstones only.
    schema: Option<&'t str>,
    field: Option<FieldRef>,
    payloads: Vec<Option<&'t str>>,
}

impl<'t> OpenRun<'t> {
    fn new(from: usize) -> Self {
        Self { from, schema: None, field: None, payloads: Vec::new() }
    }

    fn close(run: Option<Self>, options: &Options, answer: &mut ToConnect) {
        let Some(Self { from, field, payloads, .. }) = run else { return };
        let rows = from..from + payloads.len();
        let Some(field) = field else {
            let payloads = payloads.into_iter().map(|payload| payload.filter(|&payload| payload != "null"));
            answer.runs.push(Run { rows, column: Column::json(payloads.collect()) });
            return;
        };
        match decode(&field, &payloads, options) {
            Ok((array, failed)) => {
                let part = ToConnect::without(&Column::new(field, array), failed);
                let moved = |run: Run| Run { rows: run.rows.start + from..run.rows.end + from, ..run };
                answer.runs.extend(part.runs.into_iter().map(moved));
                answer.failures.extend(part.failures.into_iter().map(|f| RowFailure { row: f.row + from, ..f }));
            }
            Err(message) => {
                answer.failures.extend(rows.map(|row| RowFailure { row, message: envelope::unusable(&message) }));
            }
        }
    }
}
