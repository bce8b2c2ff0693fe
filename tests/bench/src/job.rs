//! What is to be done: a direction and a conversion, the connector config for it, and how to tell that it was done.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::{Map, Value, json};
use tributary_harness::checker::{read_topic, same_bytes};
use tributary_harness::{Checker, Context, Error, KafkaBroker, Lines, Result};

use crate::contender::Contender;

const STRING: &str = "org.apache.kafka.connect.storage.StringConverter";
const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
const TRANSFORMS: &str = "org.apache.kafka.connect.transforms";

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// File to Kafka.
    Source,
    /// Kafka to file.
    Sink,
}

/// What happens to them on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Nothing.
    Strings,
    /// They become JSON, or are read as such.
    Json,
    /// The same, with three transforms.
    Transforms,
}

/// A group of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub direction: Direction,
    pub conversion: Conversion,
}

impl Job {
    /// All, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        [Direction::Source, Direction::Sink].into_iter().flat_map(|direction| {
            [Conversion::Strings, Conversion::Json, Conversion::Transforms]
                .map(|conversion| Self { direction, conversion })
        })
    }

    /// For the command line.
    pub fn key(self) -> String {
        format!("{:?}-{:?}", self.direction, self.conversion).to_lowercase()
    }

    /// For the table.
    pub fn title(self) -> String {
        let direction = match self.direction {
            Direction::Source => "file → Kafka",
            Direction::Sink => "Kafka → file",
        };
        let conversion = match self.conversion {
            Conversion::Strings => "strings",
            Conversion::Json => "JSON",
            Conversion::Transforms => "JSON + 3 transforms",
        };
        format!("{direction}, {conversion}")
    }

    /// The raw run carries bytes only.
    pub fn suits(self, contender: Contender) -> bool {
        self.conversion == Conversion::Strings || contender != Contender::Raw
    }

    /// The connector that does it; the same text for Kafka Connect and for Tributary.
    pub fn connector(self, topic: &str, file: &Path) -> Value {
        let mut config = Map::new();
        let mut set = |key: &str, value: &str| config.insert(key.into(), value.into());
        set("tasks.max", "1");
        set("file", &file.to_string_lossy());
        match self.direction {
            Direction::Source => {
                set("connector.class", "org.apache.kafka.connect.file.FileStreamSourceConnector");
                set("topic", topic);
            }
            Direction::Sink => {
                set("connector.class", "org.apache.kafka.connect.file.FileStreamSinkConnector");
                set("topics", topic);
            }
        }
        set("key.converter", STRING);
        if self.conversion == Conversion::Strings {
            set("value.converter", STRING);
        } else {
            set("value.converter", JSON);
            set("value.converter.schemas.enable", "false");
        }
        if self.conversion == Conversion::Transforms {
            let transforms = match self.direction {
                Direction::Source => json!({
                    "hoist": {"type": "HoistField", "field": "line"},
                    "insert": {"type": "InsertField", "static.field": "origin", "static.value": "bench"},
                    "rename": {"type": "ReplaceField", "renames": "line:text"},
                }),
                Direction::Sink => json!({
                    "insert": {"type": "InsertField", "static.field": "origin", "static.value": "bench"},
                    "drop": {"type": "ReplaceField", "exclude": "pad"},
                    "mask": {"type": "MaskField", "fields": "user"},
                }),
            };
            let transforms = transforms.as_object().expect("an object");
            set("transforms", &transforms.keys().map(String::as_str).collect::<Vec<_>>().join(","));
            for (name, keys) in transforms {
                for (key, value) in keys.as_object().expect("an object") {
                    let value = value.as_str().expect("a string");
                    let value = if key == "type" { format!("{TRANSFORMS}.{value}$Value") } else { value.to_owned() };
                    set(&format!("transforms.{name}.{key}"), &value);
                }
            }
        }
        Value::Object(config)
    }

    /// Fails unless the topic holds all lines, each once, in order and as the job is to make them.
    pub fn check_topic(self, broker: &KafkaBroker, topic: &str, lines: &Lines) -> Result<()> {
        let mut checker = Checker::new([lines]);
        read_topic(broker, topic, |partition, value| {
            let line = value.and_then(|value| self.original(value)).unwrap_or_default();
            checker.line(partition, &line);
        })?;
        checker.finish().exactly_once()
    }

    /// The line that a record was made of.
    fn original(self, value: &[u8]) -> Option<Vec<u8>> {
        match self.conversion {
            Conversion::Strings => Some(value.to_vec()),
            Conversion::Json => serde_json::from_slice::<String>(value).ok().map(String::into_bytes),
            Conversion::Transforms => {
                let value: Value = serde_json::from_slice(value).ok()?;
                (value["origin"] == "bench").then(|| value["text"].as_str().map(|text| text.as_bytes().to_vec()))?
            }
        }
    }

    /// Fails unless the file holds all lines, each once, in order and as the job is to make them.
    pub fn check_file(self, input: &Path, output: &Path, lines: &Lines) -> Result<()> {
        if self.conversion == Conversion::Strings {
            return same_bytes(input, output);
        }
        // Connect prints a map as Java does, so only what both ways of printing share is looked at.
        let mut file = BufReader::with_capacity(1 << 20, File::open(output)?);
        let (mut line, mut count) = (String::new(), 0);
        while file.read_line(&mut line)? > 0 {
            let transformed = line.contains("bench") && !line.contains("xxx") && !line.contains("\"u0");
            if number(&line) != Some(count) || (self.conversion == Conversion::Transforms) != transformed {
                return Err(Error::new(format!("line {count} of the output is {line}")));
            }
            line.clear();
            count += 1;
        }
        if count == lines.count() { Ok(()) } else { Err(Error::new(format!("{count} lines came out"))) }
    }
}

/// The number of the last whole line of a file.
pub fn last_number(file: &Path) -> Result<Option<u64>> {
    // Longer than two lines, so that there is a whole one before one that is being written.
    const TAIL: u64 = 512;
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = String::new();
    // More may be written meanwhile.
    file.take(TAIL).read_to_string(&mut tail)?;
    let whole = tail.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(number(whole.rsplit('\n').next().unwrap_or_default()))
}

/// The number behind `seq`.
fn number(line: &str) -> Option<u64> {
    let rest = line.split_once("seq")?.1.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().context("not a number").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_number_in_both_spellings() {
        assert_eq!(number("{\"seq\":12,\"src\":0}"), Some(12));
        assert_eq!(number("{src=0, seq=12, ok=true}"), Some(12));
        assert_eq!(number("{}"), None);
    }

    #[test]
    fn the_last_line_counts_only_when_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let last = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            last_number(file.path()).unwrap()
        };
        assert_eq!(last("{seq=1}\n{seq=2}\n"), Some(2));
        assert_eq!(last("{seq=1}\n{seq=2"), Some(1));
        assert_eq!(last("{seq=1"), None);
        assert_eq!(last(""), None);
    }

    #[test]
    fn transforms_are_written_out() {
        let job = Job { direction: Direction::Sink, conversion: Conversion::Transforms };
        let config = job.connector("t", Path::new("/f"));
        assert_eq!(config["transforms"], "insert,drop,mask");
        assert_eq!(config["transforms.mask.type"], "org.apache.kafka.connect.transforms.MaskField$Value");
    }
}
