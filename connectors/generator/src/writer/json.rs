//! Records as JSON documents without spaces.

use tributary_sdk::{Column, Result};

use super::{Id, Name, Strings, Writer, decimal, digits};

#[derive(Debug)]
pub(crate) struct JsonWriter(Strings);

impl JsonWriter {
    pub fn new(rows: usize) -> Self {
        Self(Strings::new(rows, 256))
    }

    pub fn finish(self) -> Result<Column> {
        Ok(Column::json(self.0.finish()?))
    }

    fn value(&mut self, name: Name) -> &mut Vec<u8> {
        self.0.bytes.extend_from_slice(name.json.as_bytes());
        &mut self.0.bytes
    }
}

impl Writer for JsonWriter {
    fn integer(&mut self, name: Name, value: i64) {
        digits::signed(self.value(name), value);
    }

    fn cents(&mut self, name: Name, value: i64) {
        decimal(self.value(name), value);
    }

    fn text(&mut self, name: Name, value: &'static str) {
        let out = self.value(name);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }

    fn id(&mut self, name: Name, id: Id) {
        let out = self.value(name);
        out.push(b'"');
        id.write(out);
        out.push(b'"');
    }

    fn time(&mut self, name: Name, ms: i64) {
        self.integer(name, ms);
    }

    fn flag(&mut self, name: Name, value: bool) {
        self.value(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn end(&mut self) {
        // Each field begins with a comma; the first one opens the object.
        let start = self.0.start();
        self.0.bytes[start] = b'{';
        self.0.bytes.push(b'}');
        self.0.end_value();
    }
}
