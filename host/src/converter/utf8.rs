//! Between bytes and text columns, without copying where the bytes are text already.

use arrow_array::{Array, BinaryArray, StringArray};
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};

/// The rows as text, sharing the buffers if all are valid UTF-8; invalid sequences are replaced by U+FFFD, as Java does.
pub fn decode_lossy(data: &BinaryArray) -> StringArray {
    decode_strict(data, &mut Vec::new())
}

/// As [`decode_lossy`], naming the rows in which something was replaced.
pub fn decode_strict(data: &BinaryArray, invalid: &mut Vec<usize>) -> StringArray {
    if let Ok(texts) = StringArray::try_new(data.offsets().clone(), data.values().clone(), data.nulls().cloned()) {
        return texts;
    }
    let decoded = |(row, value): (usize, Option<&[u8]>)| {
        let text = String::from_utf8_lossy(value?);
        if matches!(text, std::borrow::Cow::Owned(_)) {
            invalid.push(row);
        }
        Some(text.into_owned())
    };
    data.iter().enumerate().map(decoded).collect()
}

/// Collects rows of text in one buffer.
#[derive(Debug, Default)]
pub struct TextBuilder {
    text: String,
    ends: Vec<i32>,
    nulls: Option<NullBufferBuilder>,
}

impl TextBuilder {
    /// For about so many rows and bytes.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { text: String::with_capacity(bytes), ends, nulls: None }
    }

    /// Where the row's text is appended, before [`Self::end_row`].
    pub fn buffer(&mut self) -> &mut String {
        &mut self.text
    }

    /// The row is complete.
    pub fn end_row(&mut self) {
        self.push_end(true);
    }

    /// A null row.
    pub fn push_null(&mut self) {
        self.push_end(false);
    }

    fn push_end(&mut self, valid: bool) {
        let rows = self.ends.len() - 1;
        if !valid || self.nulls.is_some() {
            let nulls = self.nulls.get_or_insert_with(|| {
                let mut nulls = NullBufferBuilder::new(rows + 1);
                nulls.append_n_non_nulls(rows);
                nulls
            });
            nulls.append(valid);
        }
        // A batch is bounded to far less than 2 GiB by the queues.
        self.ends.push(i32::try_from(self.text.len()).expect("a batch under 2 GiB"));
    }

    fn parts(self) -> (OffsetBuffer<i32>, Buffer, Option<arrow_buffer::NullBuffer>) {
        let nulls = self.nulls.and_then(|mut nulls| nulls.finish());
        (OffsetBuffer::new(ScalarBuffer::from(self.ends)), Buffer::from_vec(self.text.into_bytes()), nulls)
    }

    /// The rows as bytes.
    pub fn finish_binary(self) -> BinaryArray {
        let (offsets, values, nulls) = self.parts();
        BinaryArray::new(offsets, values, nulls)
    }

    /// The rows as text.
    pub fn finish(self) -> StringArray {
        let (offsets, values, nulls) = self.parts();
        StringArray::new(offsets, values, nulls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right-hand sides are what Java 17's StringDeserializer makes, but for encoded surrogates (`ed a0 80`): there one U+FFFD.
    #[test]
    fn invalid_bytes_are_replaced_as_in_java() {
        let cases: [(&[u8], &str); 10] = [
            (b"a\xffb", "a\u{fffd}b"),
            (b"\xc3", "\u{fffd}"),
            (b"\xc3(", "\u{fffd}("),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xe2\x82a", "\u{fffd}a"),
            (b"\xf0\x90\x8da", "\u{fffd}a"),
            (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
            (b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            ("\u{20ac}".as_bytes(), "\u{20ac}"),
        ];
        let data = BinaryArray::from_iter(cases.iter().map(|(bytes, _)| Some(bytes)).chain([None]));
        let mut invalid = Vec::new();
        let texts = decode_strict(&data, &mut invalid);
        assert_eq!(texts.iter().flatten().collect::<Vec<_>>(), cases.map(|(_, text)| text));
        assert_eq!(invalid, (0..9).collect::<Vec<_>>());
        assert!(texts.is_null(10));
        // A character that is divided between two rows is no text in either.
        let divided = BinaryArray::from_iter_values([&b"\xe2\x82"[..], b"\xac"]);
        assert_eq!(decode_lossy(&divided).iter().flatten().collect::<Vec<_>>(), ["\u{fffd}", "\u{fffd}"]);
    }

    #[test]
    fn text_shares_its_buffer() {
        let data = BinaryArray::from_iter_values(["x", "é"]);
        assert_eq!(decode_lossy(&data).values().as_ptr(), data.values().as_ptr());
    }
}
