//! Records as lines.
//!
//! Promises one line a record, ended by `\n`: text as it is, bytes as they are, JSON and structured values as JSON text,
//! `null` for a missing value. (Kafka Connect prints what Java's `toString` makes of maps, structs and byte arrays, which
//! nothing can read back.) Text and bytes that contain line ends themselves come out as several lines, as in Connect.

use tributary_sdk::arrow::array::{Array, BinaryArray, StringArray};
use tributary_sdk::{Column, Form, Result};

use crate::json;

/// Appends the lines of `values` to `out`.
pub(crate) fn lines(values: &Column, out: &mut Vec<u8>) -> Result<()> {
    match values.form() {
        Form::Text => text(values.as_text(), out),
        Form::Json => {
            let from = out.len();
            text(values.as_text(), out);
            one_line_each(values, from, out);
        }
        Form::Bytes => bytes(values.as_bytes(), out),
        Form::Structured => return json::lines(values, out),
    }
    Ok(())
}

fn text(array: Option<&StringArray>, out: &mut Vec<u8>) {
    let Some(array) = array else { return };
    join(array.value_offsets(), array.value_data(), |row| array.is_null(row), array.null_count(), out);
}

fn bytes(array: Option<&BinaryArray>, out: &mut Vec<u8>) {
    let Some(array) = array else { return };
    join(array.value_offsets(), array.value_data(), |row| array.is_null(row), array.null_count(), out);
}

fn join(offsets: &[i32], data: &[u8], is_null: impl Fn(usize) -> bool, nulls: usize, out: &mut Vec<u8>) {
    let rows = offsets.len() - 1;
    out.reserve((offsets[rows] - offsets[0]) as usize + rows + 4 * nulls);
    let mut from = offsets[0] as usize;
    for (row, &to) in offsets[1..].iter().enumerate() {
        let to = to as usize;
        match nulls > 0 && is_null(row) {
            true => out.extend_from_slice(b"null"),
            false => out.extend_from_slice(&data[from..to]),
        }
        out.push(b'\n');
        from = to;
    }
}

/// Pretty-printed JSON has line ends between its tokens (within strings they are escaped): there, spaces do as well.
fn one_line_each(values: &Column, from: usize, out: &mut [u8]) {
    let Some(array) = values.as_text() else { return };
    let offsets = array.value_offsets();
    let data = &array.value_data()[offsets[0] as usize..offsets[array.len()] as usize];
    if memchr::memchr2(b'\n', b'\r', data).is_none() {
        return;
    }
    let mut start = from;
    for row in 0..array.len() {
        let length = if array.is_null(row) { 4 } else { array.value(row).len() };
        for byte in &mut out[start..start + length] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        start += length + 1;
    }
}
