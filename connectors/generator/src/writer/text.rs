//! Records as lines of values with commas between them, in the order of the fields.

use tributary_sdk::{Column, Result};

use super::{Id, Name, Strings, Writer, decimal, digits};

#[derive(Debug)]
pub(crate) struct TextWriter(Strings);

impl TextWriter {
    pub fn new(rows: usize) -> Self {
        Self(Strings::new(rows, 128))
    }

    pub fn finish(self) -> Result<Column> {
        Ok(Column::text(self.0.finish()?))
    }

    fn value(&mut self) -> &mut Vec<u8> {
        if self.0.bytes.len() > self.0.start() {
            self.0.bytes.push(b',');
        }
        &mut self.0.bytes
    }
}

impl Writer for TextWriter {
    fn integer(&mut self, _name: Name, value: i64) {
        digits::signed(self.value(), value);
    }

    fn cents(&mut self, _name: Name, value: i64) {
        decimal(self.value(), value);
    }

    fn text(&mut self, _name: Name, value: &'static str) {
        self.value().extend_from_slice(value.as_bytes());
    }

    fn id(&mut self, _name: Name, id: Id) {
        id.write(self.value());
    }

    fn time(&mut self, _name: Name, ms: i64) {
        digits::signed(self.value(), ms);
    }

    fn flag(&mut self, _name: Name, value: bool) {
        self.value().extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn end(&mut self) {
        self.0.end_value();
    }
}
