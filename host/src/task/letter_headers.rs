//! The headers of dead letters: the record's own, then why it failed and where it comes from (`__connect.errors.*`).
//!
//! The names and forms are Kafka Connect's: text throughout, numbers in decimal. Dead letters of sources, which Connect does
//! not have, name the source partition and offset as JSON in place of Kafka's.

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ListArray};

use super::errors::FailedRecord;
use crate::log::HEADER_FIELDS;

/// What all of them begin with.
pub const PREFIX: &str = "__connect.errors.";
/// The topic that the record was read from, or was to go to.
pub const TOPIC: &str = "topic";
/// Sinks: the partition that it was read from.
pub const PARTITION: &str = "partition";
/// Sinks: its offset.
pub const OFFSET: &str = "offset";
/// Sources: the source partition, JSON.
pub const SOURCE_PARTITION: &str = "source.partition";
/// Sources: the place where the source resumes after the record, JSON.
pub const SOURCE_OFFSET: &str = "source.offset";
/// Sources: in which form the record is kept, [`AS_POLLED`] or [`AS_PRODUCED`].
pub const SOURCE_RECORD: &str = "source.record";
/// As the connector gave it, before transforms: text, bytes and JSON as they are, structured values as JSON.
pub const AS_POLLED: &str = "polled";
/// As it was sent to its topic.
pub const AS_PRODUCED: &str = "produced";
/// The connector's name.
pub const CONNECTOR: &str = "connector.name";
/// The task's number.
pub const TASK: &str = "task.id";
/// The stage, by Connect's names.
pub const STAGE: &str = "stage";
/// The class that refused it.
pub const CLASS: &str = "class.name";
/// The exception's class.
pub const EXCEPTION: &str = "exception.class.name";
/// The exception's message.
pub const MESSAGE: &str = "exception.message";
/// The exception as Java prints it.
pub const STACK_TRACE: &str = "exception.stacktrace";

/// Names (without [`PREFIX`]) and values.
pub type Context = Vec<(&'static str, String)>;

/// What is said of a failed record besides its origin.
pub fn reason(connector: &str, task: u32, failed: &FailedRecord) -> Context {
    vec![
        (CONNECTOR, connector.to_owned()),
        (TASK, task.to_string()),
        (STAGE, failed.stage.name().to_owned()),
        (CLASS, failed.class.clone()),
        (EXCEPTION, failed.exception.to_owned()),
        (MESSAGE, failed.message.clone()),
        (STACK_TRACE, failed.stack_trace()),
    ]
}

/// Each record's own headers, followed by its context.
pub fn with_context(own: Option<&ListArray>, contexts: &[Context]) -> ListArray {
    let mut lists = HeaderLists::default();
    for (row, context) in contexts.iter().enumerate() {
        lists.copy(own, row, |_| true);
        for (name, value) in context {
            lists.add(&format!("{PREFIX}{name}"), Some(value.as_bytes()));
        }
        lists.end_record();
    }
    lists.finish()
}

/// Builds a column of headers.
pub struct HeaderLists(ListBuilder<StructBuilder>);

impl Default for HeaderLists {
    fn default() -> Self {
        let columns: Vec<Box<dyn arrow_array::builder::ArrayBuilder>> =
            vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())];
        let item = StructBuilder::new(HEADER_FIELDS.clone(), columns);
        let data_type = arrow_schema::DataType::Struct(HEADER_FIELDS.clone());
        Self(ListBuilder::new(item).with_field(arrow_schema::Field::new("item", data_type, false)))
    }
}

impl HeaderLists {
    /// A header of the current record.
    pub fn add(&mut self, key: &str, value: Option<&[u8]>) {
        let item = self.0.values();
        item.field_builder::<StringBuilder>(0).expect("the key").append_value(key);
        item.field_builder::<BinaryBuilder>(1).expect("the value").append_option(value);
        item.append(true);
    }

    /// Those headers of another column's row whose key is wanted.
    pub fn copy(&mut self, headers: Option<&ListArray>, row: usize, wanted: impl Fn(&str) -> bool) {
        let Some(headers) = headers.filter(|headers| headers.is_valid(row)) else { return };
        let entries = headers.value(row);
        let (keys, values) = (entries.as_struct().column(0).as_string::<i32>(), entries.as_struct().column(1));
        let values = values.as_binary::<i32>();
        for entry in (0..keys.len()).filter(|&entry| wanted(keys.value(entry))) {
            self.add(keys.value(entry), values.is_valid(entry).then(|| values.value(entry)));
        }
    }

    /// The next headers belong to the next record.
    pub fn end_record(&mut self) {
        self.0.append(true);
    }

    /// The column.
    pub fn finish(mut self) -> ListArray {
        self.0.finish()
    }
}
