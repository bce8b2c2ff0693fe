//! A text column under construction: bytes one after the other, and where each value ends.

use tributary_sdk::Result;
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};

#[derive(Debug)]
pub(crate) struct Strings {
    pub bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Strings {
    /// With room for `rows` values of about `width` bytes.
    pub fn new(rows: usize, width: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(rows * width), ends }
    }

    /// Where the value being written begins.
    pub fn start(&self) -> usize {
        self.ends[self.ends.len() - 1] as usize
    }

    /// The value is complete.
    pub fn end_value(&mut self) {
        // A batch has at most 100,000 values of a few hundred bytes: far below 2 GiB.
        self.ends.push(self.bytes.len() as i32);
    }

    /// The column.
    pub fn finish(mut self) -> Result<StringArray> {
        self.bytes.shrink_to_fit();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        Ok(StringArray::try_new(offsets, Buffer::from_vec(self.bytes), None)?)
    }
}
