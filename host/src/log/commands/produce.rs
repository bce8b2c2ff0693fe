//! Writes lines as records.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{BinaryArray, Int32Array, ListArray};
use arrow_schema::Field;

use super::super::{ClientSettings, Completion, HEADER_FIELDS, Log, LogError, LogProducer, LogRecords};

/// Bytes read at a time; what is there is sent without waiting for more.
const READ_BYTES: usize = 256 << 10;
/// How long the last records may take.
const FLUSH: Duration = Duration::from_secs(300);

/// What to write, and how lines become records.
#[derive(Debug, Clone, Default)]
pub struct ProduceOptions {
    /// Topic to write to.
    pub topic: String,
    /// Partition to write to; `None`: by the key.
    pub partition: Option<i32>,
    /// What stands between key and value in a line; a line without it has no key.
    pub key_separator: Option<String>,
    /// Headers of every record.
    pub headers: Vec<(String, String)>,
    /// An empty value is a tombstone.
    pub empty_is_null: bool,
    /// Producer settings.
    pub settings: ClientSettings,
}

/// What became of the lines.
#[derive(Debug, Clone, Default)]
pub struct Produced {
    /// Acknowledged records.
    pub records: u64,
    /// Records refused for good.
    pub refused: u64,
    /// The first refusal, with its line.
    pub first_refusal: Option<String>,
}

/// Writes every line of `input` as a record, and waits until all are acknowledged. Refused records are counted, and
/// the others written all the same. `stop` ends the reading; what was read is still written.
pub fn produce(
    log: &dyn Log,
    options: &ProduceOptions,
    input: &mut dyn Read,
    stop: &AtomicBool,
) -> Result<Produced, LogError> {
    let mut producer = log.producer(&options.settings)?;
    let mut lines = Lines { options, producer: &mut *producer, produced: Produced::default(), sent: 0 };
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    while !stop.load(Ordering::Relaxed) {
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
        let read = input
            .read(&mut buffer[filled..])
            .map_err(|error| LogError::fatal(format!("reading the input: {error}")))?;
        filled += read;
        let end =
            if read == 0 { filled } else { buffer[..filled].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1) };
        lines.send(&buffer[..end])?;
        buffer.copy_within(end..filled, 0);
        filled -= end;
        if read == 0 {
            break;
        }
    }
    let mut produced = lines.finish()?;
    producer.close(Duration::from_secs(10))?;
    produced.records -= produced.refused;
    Ok(produced)
}

struct Lines<'a> {
    options: &'a ProduceOptions,
    producer: &'a mut dyn LogProducer,
    produced: Produced,
    /// Lines so far, which the tokens count: a token is the number of its first line.
    sent: u64,
}

impl Lines<'_> {
    fn send(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let Some(text) = bytes.strip_suffix(b"\n").or((!bytes.is_empty()).then_some(bytes)) else { return Ok(()) };
        let records = self.records(text);
        let token = self.sent;
        let mut row = 0;
        while row < records.len() {
            row += self.producer.send(&self.options.topic, &records, row, token, Duration::from_secs(1))?;
            let completions = self.producer.poll(Duration::ZERO)?;
            self.count(completions);
        }
        self.producer.finish(token);
        self.sent += records.len() as u64;
        self.produced.records = self.sent;
        Ok(())
    }

    fn records(&self, text: &[u8]) -> LogRecords {
        let options = self.options;
        let lines = || text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let split = |line| split_key(line, options.key_separator.as_deref());
        let value = |line| Some(split(line).1).filter(|value| !(options.empty_is_null && value.is_empty()));
        let values: BinaryArray = lines().map(value).collect();
        let count = arrow_array::Array::len(&values);
        LogRecords {
            keys: options.key_separator.as_ref().map(|_| lines().map(|line| split(line).0).collect()),
            headers: (!options.headers.is_empty()).then(|| headers(&options.headers, count)),
            timestamps: None,
            partitions: options.partition.map(|partition| Int32Array::from(vec![partition; count])),
            values,
        }
    }

    fn count(&mut self, completions: Vec<Completion>) {
        for completion in completions {
            self.produced.refused += completion.failed.len() as u64;
            if let Some((row, error)) = completion.failed.first() {
                let line = completion.token + *row as u64 + 1;
                self.produced.first_refusal.get_or_insert_with(|| format!("line {line}: {error}"));
            }
        }
    }

    fn finish(mut self) -> Result<Produced, LogError> {
        self.producer.flush(FLUSH)?;
        let completions = self.producer.poll(Duration::ZERO)?;
        self.count(completions);
        Ok(self.produced)
    }
}

fn split_key<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes).filter(|s| !s.is_empty()) else { return (None, line) };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

fn headers(headers: &[(String, String)], rows: usize) -> ListArray {
    let entry =
        StructBuilder::new(HEADER_FIELDS.clone(), vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
    let item = Field::new("item", arrow_schema::DataType::Struct(HEADER_FIELDS.clone()), false);
    let mut list = ListBuilder::new(entry).with_field(Arc::new(item));
    for _ in 0..rows {
        let entries = list.values();
        for (key, value) in headers {
            if let Some(keys) = entries.field_builder::<StringBuilder>(0) {
                keys.append_value(key);
            }
            if let Some(values) = entries.field_builder::<BinaryBuilder>(1) {
                values.append_value(value);
            }
            entries.append(true);
        }
        list.append(true);
    }
    list.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_ends_the_key() {
        assert_eq!(split_key(b"k:v:w", Some(":")), (Some(b"k".as_slice()), b"v:w".as_slice()));
        assert_eq!(split_key(b"=> v", Some("=>")), (Some(b"".as_slice()), b" v".as_slice()));
        assert_eq!(split_key(b"no key", Some(":")), (None, b"no key".as_slice()));
        assert_eq!(split_key(b"a:b", None), (None, b"a:b".as_slice()));
    }
}
