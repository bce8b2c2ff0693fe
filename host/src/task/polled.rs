//! Records as a source gave them, for logs and dead letters of those that fail before they are produced.

use arrow_array::{Array, BinaryArray, StringArray};
use tributary_sdk::{Batch, Column, Config, Form, Offsets};

use super::error_policy::Origin;
use super::errors::TaskError;
use super::letter_headers::{AS_POLLED, Context, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_RECORD, TOPIC};
use super::rows;
use crate::converter::{self, Converter, JsonConverter};
use crate::log::LogRecords;

/// A polled batch, before transforms.
pub struct Polled(pub Batch);

impl Polled {
    /// Rows of it as records: text, bytes and JSON as they are, structured values as JSON, headers as text.
    pub fn records(&self, picked: &[usize]) -> Result<LogRecords, TaskError> {
        let refused = |reason: String| {
            TaskError::new(format!("a failed record of the source cannot be written as a dead letter: {reason}"))
        };
        let batch = rows::take(&self.0, picked).map_err(|error| refused(error.to_string()))?;
        let headers = batch.headers.as_ref().map(|headers| {
            let mut converter = converter::header_converter("SimpleHeaderConverter", &Config::default())
                .map_err(|error| refused(error.to_string()))?;
            Ok::<_, TaskError>(converter.from_connect(&batch.topic, headers).headers)
        });
        Ok(LogRecords {
            keys: batch.key.as_ref().map(|keys| readable(&batch.topic, keys)).transpose().map_err(refused)?,
            values: readable(&batch.topic, &batch.value).map_err(refused)?,
            headers: headers.transpose()?,
            timestamps: batch.timestamps,
            partitions: None,
        })
    }

    /// A row's context headers.
    pub fn context(&self, row: usize) -> Context {
        source_context(&self.0.topic, self.0.source_partition.as_deref(), source_offsets(&self.0), row, AS_POLLED)
    }
}

impl Origin for Polled {
    fn place(&self, row: usize) -> String {
        format!("row {row} of a batch of {}", self.0.source_partition.as_deref().unwrap_or("{}"))
    }

    fn details(&self, row: usize) -> String {
        let Batch { topic, source_partition, timestamps, .. } = &self.0;
        let partition = source_partition.as_deref().unwrap_or("{}");
        let offset = source_offsets(&self.0).and_then(|offsets| offset_after(offsets, row)).unwrap_or("null");
        let shown = |cell: Option<&BinaryArray>| match cell.filter(|cell| cell.is_valid(0)) {
            Some(cell) => String::from_utf8_lossy(cell.value(0)).into_owned(),
            None => "null".to_owned(),
        };
        let (key, value) = match self.records(&[row]) {
            Ok(records) => (shown(records.keys.as_ref()), shown(Some(&records.values))),
            Err(error) => ("?".to_owned(), error.message),
        };
        let timestamp = timestamps.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row));
        let timestamp = timestamp.map_or_else(|| "null".to_owned(), |time| time.to_string());
        format!(
            "source record is = SourceRecord{{sourcePartition={partition}, sourceOffset={offset}}} \
             ConnectRecord{{topic='{topic}', key={key}, value={value}, timestamp={timestamp}}}"
        )
    }
}

/// The context headers that say where a source's record comes from.
pub fn source_context(
    topic: &str,
    partition: Option<&str>,
    offsets: Option<&StringArray>,
    row: usize,
    form: &'static str,
) -> Context {
    let mut context = vec![(TOPIC, topic.to_owned())];
    context.extend(partition.map(|partition| (SOURCE_PARTITION, partition.to_owned())));
    let offset = offsets.and_then(|offsets| offset_after(offsets, row));
    context.extend(offset.map(|offset| (SOURCE_OFFSET, offset.to_owned())));
    context.push((SOURCE_RECORD, form.to_owned()));
    context
}

/// Source offsets of a batch.
pub fn source_offsets(batch: &Batch) -> Option<&StringArray> {
    if let Offsets::Source(offsets) = &batch.offsets { Some(offsets) } else { None }
}

/// The record's own offset, or that of the next record that has one: the first place from which it is not read again.
fn offset_after(offsets: &StringArray, row: usize) -> Option<&str> {
    (row..offsets.len()).find(|&row| offsets.is_valid(row)).map(|row| offsets.value(row))
}

fn readable(topic: &str, column: &Column) -> Result<BinaryArray, String> {
    match (column.form(), column.as_text(), column.as_bytes()) {
        (Form::Text | Form::Json, Some(texts), _) => Ok(BinaryArray::from(texts.clone())),
        (Form::Bytes, _, Some(bytes)) => Ok(bytes.clone()),
        _ => {
            let mut converter = JsonConverter::default();
            let config = [("schemas.enable", "false")].into_iter().collect::<Config>();
            converter.configure(&config, false).map_err(|error| error.to_string())?;
            let converted = converter.from_connect(topic, column);
            match converted.failures.into_iter().next() {
                Some(failure) => Err(failure.message),
                None => Ok(converted.data),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int64Array;
    use arrow_schema::{DataType, Field};
    use std::sync::Arc;

    #[test]
    fn a_record_is_kept_as_it_was_polled_with_the_offset_after_it() {
        let mut batch = Batch::new("t", Column::text(StringArray::from(vec!["a", "b", "c"])))
            .with_resume_point(r#"{"file":"f"}"#, r#"{"position":3}"#);
        let numbers = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        batch.key = Some(Column::new(Field::new("", DataType::Int64, true), numbers));
        let polled = Polled(batch);
        let records = polled.records(&[0, 1]).unwrap();
        assert_eq!(records.values, BinaryArray::from_vec(vec![b"a", b"b"]));
        assert_eq!(records.keys.unwrap(), BinaryArray::from(vec![Some(b"1".as_slice()), None]));
        let expected = [
            ("topic", "t"),
            ("source.partition", r#"{"file":"f"}"#),
            ("source.offset", r#"{"position":3}"#),
            ("source.record", "polled"),
        ];
        assert_eq!(polled.context(0), expected.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(
            polled.details(1),
            r#"source record is = SourceRecord{sourcePartition={"file":"f"}, sourceOffset={"position":3}} ConnectRecord{topic='t', key=null, value=b, timestamp=null}"#
        );
    }
}
