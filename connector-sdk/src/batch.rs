//! The batch: the unit of polling, calling, acknowledging and measuring.
//!
//! A run of records that share topic, source partition (or topic-partition), key type and value type, as columns of Arrow
//! arrays of one length. A task that meets a change of any of them starts a new batch.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_array::{Array, ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, StringArray};
use arrow_schema::{DataType, Field, FieldRef, Fields};

use crate::sink::TopicPartition;

/// Field metadata key of Arrow's extension types.
pub const EXTENSION_NAME: &str = "ARROW:extension:name";
/// Extension name of schemaless JSON text.
pub const JSON_EXTENSION: &str = "arrow.json";
/// Field metadata: the Connect schema's name, such as `org.apache.kafka.connect.data.Timestamp`.
pub const SCHEMA_NAME: &str = "connect.name";
/// Field metadata: the Connect schema's version, a decimal integer.
pub const SCHEMA_VERSION: &str = "connect.version";
/// Field metadata: the Connect schema's default value as JSON.
pub const SCHEMA_DEFAULT: &str = "connect.default";
/// Field metadata: the Connect schema's documentation.
pub const SCHEMA_DOC: &str = "connect.doc";
/// Field metadata: the Connect schema's parameters, a JSON object of strings.
pub const SCHEMA_PARAMETERS: &str = "connect.parameters";
/// Field metadata on a whole key or value: `true` when its Connect schema is optional. (Fields inside structs use Arrow's
/// own nullability; a column of whole values is always nullable, since a tombstone may stand in it.)
pub const SCHEMA_OPTIONAL: &str = "connect.optional";

/// The four forms that keys and values take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `Binary`, passed through untouched.
    Bytes,
    /// `Utf8`, passed through untouched.
    Text,
    /// `Utf8` with the extension type `arrow.json`: schemaless JSON, parsed only when something asks for a field.
    Json,
    /// Any other Arrow type; Connect's schema details travel as field metadata.
    Structured,
}

/// Keys or values of a batch: an array and the field that says what it means. A null is a missing key or a tombstone.
#[derive(Debug, Clone)]
pub struct Column {
    field: FieldRef,
    array: ArrayRef,
}

impl Column {
    /// A structured column, or one of any form by its field's type and metadata.
    ///
    /// # Panics
    /// If the field's type is not the array's.
    pub fn new(field: impl Into<FieldRef>, array: ArrayRef) -> Self {
        let field = field.into();
        assert_eq!(field.data_type(), array.data_type(), "the field {:?} does not describe its array", field.name());
        Self { field, array }
    }

    /// A column of bytes.
    pub fn bytes(array: BinaryArray) -> Self {
        static FIELD: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("", DataType::Binary, true)));
        Self { field: FIELD.clone(), array: Arc::new(array) }
    }

    /// A column of text.
    pub fn text(array: StringArray) -> Self {
        static FIELD: LazyLock<FieldRef> = LazyLock::new(|| Arc::new(Field::new("", DataType::Utf8, true)));
        Self { field: FIELD.clone(), array: Arc::new(array) }
    }

    /// A column of schemaless JSON documents, one text each. They are trusted to be valid JSON.
    pub fn json(array: StringArray) -> Self {
        static FIELD: LazyLock<FieldRef> = LazyLock::new(|| {
            let metadata = HashMap::from([(EXTENSION_NAME.to_owned(), JSON_EXTENSION.to_owned())]);
            Arc::new(Field::new("", DataType::Utf8, true).with_metadata(metadata))
        });
        Self { field: FIELD.clone(), array: Arc::new(array) }
    }

    /// The form of the values.
    pub fn form(&self) -> Form {
        match self.field.data_type() {
            DataType::Utf8 if self.field.metadata().get(EXTENSION_NAME).is_some_and(|n| n == JSON_EXTENSION) => {
                Form::Json
            }
            // A name makes a schema of its own out of text or bytes (Decimal, an enum): it must not be passed through as plain ones.
            DataType::Utf8 if !self.field.metadata().contains_key(SCHEMA_NAME) => Form::Text,
            DataType::Binary if !self.field.metadata().contains_key(SCHEMA_NAME) => Form::Bytes,
            _ => Form::Structured,
        }
    }

    /// Type and metadata of the values.
    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    /// The values.
    pub fn array(&self) -> &ArrayRef {
        &self.array
    }

    /// The values as text; `None` unless the form is [`Form::Text`] or [`Form::Json`].
    pub fn as_text(&self) -> Option<&StringArray> {
        self.array.as_any().downcast_ref()
    }

    /// The values as bytes; `None` unless their type is `Binary`.
    pub fn as_bytes(&self) -> Option<&BinaryArray> {
        self.array.as_any().downcast_ref()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.array.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }

    /// Rows `from .. from + length`, without copying.
    pub fn slice(&self, from: usize, length: usize) -> Self {
        Self { field: self.field.clone(), array: self.array.slice(from, length) }
    }
}

/// Where the records stand in what they were read from.
#[derive(Debug, Clone)]
pub enum Offsets {
    /// Not known.
    None,
    /// Source rows: JSON objects; a non-null one marks a place where the source may resume after this row.
    Source(StringArray),
    /// Sink rows: Kafka offsets.
    Sink(Int64Array),
}

/// What the records of a batch were read from, where that is not its topic and partition: an outbox in front of an exactly-once sink. It is
/// what `open`, `pre_commit` and `close` name, and what such a sink keeps offsets of.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The topic, as `open` named it.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset of each record there.
    pub offsets: Int64Array,
}

/// The fields of one header in [`Batch::headers`]: `key`, `schema` (a Connect type name such as `int32`, or null: not known)
/// and `value` (the header's serialized form: text, or raw bytes). Keys may repeat within a record; their order is kept.
///
/// A name means required values of that type. Where this does not say all (optional values, the types inside of an array, a map or a
/// struct), `schema` is a JSON object, the schema as `JsonConverter` writes it: `{"type":"string","optional":true}`.
pub static HEADER_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("schema", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
    ])
});

/// A run of records. See the module's documentation.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The topic of every record.
    pub topic: Arc<str>,
    /// In sources: the source partition, a JSON object.
    pub source_partition: Option<Arc<str>>,
    /// In sinks: the partition the records were read from.
    pub partition: Option<i32>,
    /// Keys; `None` when no record has one.
    pub key: Option<Column>,
    /// Values.
    pub value: Column,
    /// `List<Struct<`[`HEADER_FIELDS`]`>>`; `None` when no record has a header.
    pub headers: Option<ListArray>,
    /// Milliseconds since the epoch.
    pub timestamps: Option<Int64Array>,
    /// In sources: the partition to write to, where the connector decides; null: the partitioner.
    pub partitions: Option<Int32Array>,
    /// The offset of each record.
    pub offsets: Offsets,
    /// In exactly-once sinks behind transforms that keep state: what was read. Topic, partition and offsets are then the records' own.
    pub origin: Option<Origin>,
}

impl Batch {
    /// Records with values only.
    pub fn new(topic: impl Into<Arc<str>>, value: Column) -> Self {
        Self {
            topic: topic.into(),
            source_partition: None,
            partition: None,
            key: None,
            value,
            headers: None,
            timestamps: None,
            partitions: None,
            offsets: Offsets::None,
            origin: None,
        }
    }

    /// In sinks: the partition that the records were read from, as `open` named it, and their offsets there: the [`Origin`], if there is one.
    pub fn place(&self) -> Option<(TopicPartition, &Int64Array)> {
        match (&self.origin, self.partition, &self.offsets) {
            (Some(origin), ..) => {
                let partition = TopicPartition { topic: origin.topic.clone(), partition: origin.partition };
                Some((partition, &origin.offsets))
            }
            (None, Some(partition), Offsets::Sink(offsets)) => {
                Some((TopicPartition { topic: self.topic.clone(), partition }, offsets))
            }
            _ => None,
        }
    }

    /// Says where a source may resume once all rows are safely out: an offset on the last row.
    ///
    /// # Panics
    /// If the batch is empty.
    pub fn with_resume_point(mut self, source_partition: impl Into<Arc<str>>, offset: &str) -> Self {
        let rows = self.len();
        assert!(rows > 0, "a resume point needs a row to stand on");
        let offsets = std::iter::repeat_n(None, rows - 1).chain([Some(offset)]).collect::<StringArray>();
        self.source_partition = Some(source_partition.into());
        self.offsets = Offsets::Source(offsets);
        self
    }

    /// The last place in the batch where the source may resume, as JSON.
    pub fn resume_point(&self) -> Option<&str> {
        let Offsets::Source(offsets) = &self.offsets else { return None };
        (0..offsets.len()).rev().find(|&row| offsets.is_valid(row)).map(|row| offsets.value(row))
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Memory that the columns hold, in bytes: what queues are bounded by.
    pub fn bytes(&self) -> usize {
        self.value.array.get_array_memory_size()
            + self.key.as_ref().map_or(0, |key| key.array.get_array_memory_size())
            + self.headers.as_ref().map_or(0, |headers| headers.get_array_memory_size())
    }

    /// Rows `from .. from + length`, without copying.
    pub fn slice(&self, from: usize, length: usize) -> Self {
        Self {
            topic: self.topic.clone(),
            source_partition: self.source_partition.clone(),
            partition: self.partition,
            key: self.key.as_ref().map(|key| key.slice(from, length)),
            value: self.value.slice(from, length),
            headers: self.headers.as_ref().map(|headers| headers.slice(from, length)),
            timestamps: self.timestamps.as_ref().map(|timestamps| timestamps.slice(from, length)),
            partitions: self.partitions.as_ref().map(|partitions| partitions.slice(from, length)),
            offsets: match &self.offsets {
                Offsets::None => Offsets::None,
                Offsets::Source(offsets) => Offsets::Source(offsets.slice(from, length)),
                Offsets::Sink(offsets) => Offsets::Sink(offsets.slice(from, length)),
            },
            origin: self.origin.as_ref().map(|origin| Origin {
                topic: origin.topic.clone(),
                partition: origin.partition,
                offsets: origin.offsets.slice(from, length),
            }),
        }
    }

    /// The type of the headers column.
    pub fn headers_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Struct(HEADER_FIELDS.clone()), false)))
    }
}
