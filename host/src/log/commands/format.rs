//! How a record is printed: a format string as kcat has it, or one JSON object a line.

use std::io::{self, Write};

use arrow_array::{Array, BinaryArray, ListArray, StringArray, StructArray};
use base64::Engine;
use serde_json::{Map, Value, json};

use super::super::{FetchedBatch, LogError};

/// How records are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Pieces of a format string.
    Text(Vec<Piece>),
    /// `{"topic","partition","offset","ts","headers","key","payload"}`; bytes that are no text as `key_base64` and
    /// `payload_base64`.
    Json,
}

/// A part of a format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Printed as it is.
    Literal(Vec<u8>),
    /// `%t`
    Topic,
    /// `%p`
    Partition,
    /// `%o`
    Offset,
    /// `%k`
    Key,
    /// `%K`: bytes, −1 for null
    KeyLength,
    /// `%v` or `%s`
    Value,
    /// `%V` or `%S`: bytes, −1 for null
    ValueLength,
    /// `%T`: milliseconds since the epoch, −1 when unknown
    Timestamp,
    /// `%h`: `key=value,key=value`
    Headers,
}

impl Default for Format {
    /// The value and a line end.
    fn default() -> Self {
        Self::Text(vec![Piece::Value, Piece::Literal(b"\n".to_vec())])
    }
}

impl Format {
    /// Reads a format string: `%t %p %o %k %K %v %V %T %h %%`, and `\n \r \t \\ \xHH`.
    pub fn parse(text: &str) -> Result<Self, LogError> {
        let refused = |what: String| {
            LogError::fatal(format!(
                "format {text:?}: {what}; known are %t %p %o %k %K %v %V %T %h %% and \\n \\r \\t \\\\ \\xHH"
            ))
        };
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => {
                    let piece = match chars.next() {
                        Some('%') => {
                            literal.push(b'%');
                            continue;
                        }
                        Some('t') => Piece::Topic,
                        Some('p') => Piece::Partition,
                        Some('o') => Piece::Offset,
                        Some('k') => Piece::Key,
                        Some('K') => Piece::KeyLength,
                        Some('v' | 's') => Piece::Value,
                        Some('V' | 'S') => Piece::ValueLength,
                        Some('T') => Piece::Timestamp,
                        Some('h') => Piece::Headers,
                        Some(other) => return Err(refused(format!("%{other} is unknown"))),
                        None => return Err(refused("it ends in %".into())),
                    };
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(piece);
                }
                '\\' => literal.push(match chars.next() {
                    Some('n') => b'\n',
                    Some('r') => b'\r',
                    Some('t') => b'\t',
                    Some('\\') => b'\\',
                    Some('x') => {
                        let digits: String = chars.by_ref().take(2).collect();
                        u8::from_str_radix(&digits, 16).map_err(|_| refused(format!("\\x{digits} is no byte")))?
                    }
                    Some(other) => return Err(refused(format!("\\{other} is unknown"))),
                    None => return Err(refused("it ends in \\".into())),
                }),
                c => literal.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self::Text(pieces))
    }

    /// Prints rows of a batch.
    pub(super) fn print(
        &self,
        batch: &FetchedBatch,
        rows: std::ops::Range<usize>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        for row in rows {
            match self {
                Self::Text(pieces) => pieces.iter().try_for_each(|piece| piece.print(batch, row, out))?,
                Self::Json => {
                    serde_json::to_writer(&mut *out, &json_of(batch, row))?;
                    out.write_all(b"\n")?;
                }
            }
        }
        Ok(())
    }
}

impl Piece {
    fn print(&self, batch: &FetchedBatch, row: usize, out: &mut dyn Write) -> io::Result<()> {
        let records = &batch.records;
        let key = || records.keys.as_ref().and_then(|keys| cell(keys, row));
        let value = || cell(&records.values, row);
        let length = |cell: Option<&[u8]>| cell.map_or(-1, |bytes| bytes.len() as i64);
        match self {
            Self::Literal(bytes) => out.write_all(bytes),
            Self::Topic => out.write_all(batch.topic_partition.topic.as_bytes()),
            Self::Partition => write!(out, "{}", batch.topic_partition.partition),
            Self::Offset => write!(out, "{}", batch.offsets.value(row)),
            Self::Key => out.write_all(key().unwrap_or_default()),
            Self::KeyLength => write!(out, "{}", length(key())),
            Self::Value => out.write_all(value().unwrap_or_default()),
            Self::ValueLength => write!(out, "{}", length(value())),
            Self::Timestamp => write!(out, "{}", timestamp(batch, row).unwrap_or(-1)),
            Self::Headers => {
                for (i, (key, value)) in headers(records.headers.as_ref(), row).into_iter().enumerate() {
                    write!(out, "{}{key}=", if i > 0 { "," } else { "" })?;
                    out.write_all(value.as_deref().unwrap_or(b"NULL"))?;
                }
                Ok(())
            }
        }
    }
}

fn json_of(batch: &FetchedBatch, row: usize) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), json!(&*batch.topic_partition.topic));
    object.insert("partition".into(), json!(batch.topic_partition.partition));
    object.insert("offset".into(), json!(batch.offsets.value(row)));
    object.insert("ts".into(), json!(timestamp(batch, row)));
    let headers = headers(batch.records.headers.as_ref(), row);
    if !headers.is_empty() {
        // In turns, since a key may come twice.
        let flat = headers
            .into_iter()
            .flat_map(|(key, value)| [json!(key), json!(value.map(|v| String::from_utf8_lossy(&v).into_owned()))]);
        object.insert("headers".into(), flat.collect());
    }
    bytes(&mut object, "key", batch.records.keys.as_ref().and_then(|keys| cell(keys, row)));
    bytes(&mut object, "payload", cell(&batch.records.values, row));
    Value::Object(object)
}

fn bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => object.insert(name.into(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.into(), json!(text)),
        Some((b, Err(_))) => {
            object.insert(format!("{name}_base64"), json!(base64::engine::general_purpose::STANDARD.encode(b)))
        }
    };
}

fn timestamp(batch: &FetchedBatch, row: usize) -> Option<i64> {
    batch.records.timestamps.as_ref().filter(|t| t.is_valid(row)).map(|t| t.value(row))
}

fn cell(column: &BinaryArray, row: usize) -> Option<&[u8]> {
    column.is_valid(row).then(|| column.value(row))
}

fn headers(list: Option<&ListArray>, row: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let Some(entries) = list.map(|list| list.value(row)) else { return Vec::new() };
    let Some(entries) = entries.as_any().downcast_ref::<StructArray>() else { return Vec::new() };
    let columns = entries
        .column(0)
        .as_any()
        .downcast_ref::<StringArray>()
        .zip(entries.column(1).as_any().downcast_ref::<BinaryArray>());
    let Some((keys, values)) = columns else { return Vec::new() };
    (0..keys.len()).map(|i| (keys.value(i).to_owned(), cell(values, i).map(<[u8]>::to_vec))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::TopicPartition;
    use super::super::super::run_builder::RunBuilder;
    use super::*;

    fn batch() -> FetchedBatch {
        let mut run = RunBuilder::new(TopicPartition { topic: "t".into(), partition: 3 }, 0, 0);
        run.push(7, Some(1_000), Some(b"k"), Some(b"v"));
        run.header("h", Some(b"1"));
        run.header("h", None);
        run.push(8, None, None, None);
        run.push(9, Some(2), Some(b""), Some(&[0xff]));
        run.finish()
    }

    fn printed(format: &Format) -> String {
        let mut out = Vec::new();
        format.print(&batch(), 0..3, &mut out).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_format_string() {
        let format = Format::parse(r"%t-%p@%o %T %k(%K)=%v(%V) [%h] 100%%\x21\t\n").unwrap();
        assert_eq!(
            printed(&format),
            "t-3@7 1000 k(1)=v(1) [h=1,h=NULL] 100%!\t\nt-3@8 -1 (-1)=(-1) [] 100%!\t\nt-3@9 2 (0)=\u{fffd}(1) [] 100%!\t\n"
        );
        assert_eq!(printed(&Format::default()), "v\n\n\u{fffd}\n");
        for wrong in ["%q", "%", "\\", "\\x1g"] {
            assert!(Format::parse(wrong).unwrap_err().message.contains("known are"), "{wrong}");
        }
    }

    #[test]
    fn json_a_line() {
        let text = printed(&Format::Json);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"topic":"t","partition":3,"offset":7,"ts":1000,"headers":["h","1","h",null],"key":"k","payload":"v"}"#,
                r#"{"topic":"t","partition":3,"offset":8,"ts":null,"key":null,"payload":null}"#,
                r#"{"topic":"t","partition":3,"offset":9,"ts":2,"key":"","payload_base64":"/w=="}"#,
            ]
        );
    }
}
