//! Where the fields of records go: one writer a format.
//!
//! Promises that all formats say the same: a schema writes to this interface and knows no format.

mod digits;
mod json;
mod strings;
mod structured;
mod text;

pub(crate) use json::JsonWriter;
pub(crate) use strings::Strings;
pub(crate) use structured::StructuredWriter;
pub(crate) use text::TextWriter;

/// A field's name, plain and as JSON has it before a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub plain: &'static str,
    /// `,"name":`
    pub json: &'static str,
}

/// A [`Name`] from a literal.
macro_rules! name {
    ($name:literal) => {
        crate::writer::Name { plain: $name, json: concat!(",\"", $name, "\":") }
    };
}
pub(crate) use name;

/// A text with a number in it: a prefix and at least so many digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id {
    prefix: &'static str,
    number: u64,
    width: usize,
}

impl Id {
    pub fn new(prefix: &'static str, number: u64, width: usize) -> Self {
        Self { prefix, number, width }
    }

    /// Appends it as text.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        digits::padded(out, self.number, self.width);
    }
}

/// Takes the fields of one record after the other, always the same ones in the same order.
pub(crate) trait Writer {
    /// A whole number.
    fn integer(&mut self, name: Name, value: i64);
    /// An amount, in hundredths.
    fn cents(&mut self, name: Name, value: i64);
    /// A text that needs no escaping in any format.
    fn text(&mut self, name: Name, value: &'static str);
    /// A text with a number, that needs no escaping either.
    fn id(&mut self, name: Name, id: Id);
    /// Milliseconds since the epoch.
    fn time(&mut self, name: Name, ms: i64);
    /// True or false.
    fn flag(&mut self, name: Name, value: bool);
    /// The record is complete.
    fn end(&mut self);
}

/// Appends an amount with its two decimal places.
fn decimal(out: &mut Vec<u8>, cents: i64) {
    digits::signed(out, cents / 100);
    out.push(b'.');
    digits::padded(out, (cents % 100).unsigned_abs(), 2);
}
