//! JSON as Kafka Connect's internal converter writes it (schemaless, compact), to the byte where bytes matter: an offset's
//! key decides its partition, and compaction compares keys by their bytes.
//!
//! A `java.util.HashMap` lists its keys in an order that follows from their hashes. Source connectors keep their partitions
//! in such maps, so a key that is written for the first time lists them like that; one that the topic has already is
//! written as it is there (`offset_records`).

use serde_json::{Map, Value};

/// A string in quotes, escaped as Jackson does.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04X}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A value; objects list their keys as they are.
pub(super) fn push_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => push_string(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_value(out, item);
            }
            out.push(b']');
        }
        Value::Object(map) => push_object(out, map.iter()),
        other => out.extend_from_slice(other.to_string().as_bytes()),
    }
}

fn push_object<'a>(out: &mut Vec<u8>, entries: impl Iterator<Item = (&'a String, &'a Value)>) {
    out.push(b'{');
    for (index, (key, value)) in entries.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, key);
        out.push(b':');
        push_value(out, value);
    }
    out.push(b'}');
}

/// The same with the keys of the outermost object in a `HashMap`'s order.
pub(super) fn push_hash_map(out: &mut Vec<u8>, map: &Map<String, Value>) {
    let mut capacity = 16_usize;
    while map.len() * 4 > capacity * 3 {
        capacity *= 2;
    }
    let mut entries: Vec<_> = map.iter().collect();
    // Keys of one bucket stay in the order in which they were put in.
    entries.sort_by_key(|(key, _)| bucket(key, capacity));
    push_object(out, entries.into_iter());
}

/// `HashMap`'s bucket of a key: `String.hashCode`, spread.
fn bucket(key: &str, capacity: usize) -> usize {
    let hash = key.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
    (hash ^ (hash >> 16)) as usize & (capacity - 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_are_jacksons() {
        assert_eq!(
            text(|out| push_string(out, "a\"\\/\n\u{1}\u{1f}\u{7f}ü€😀")),
            "\"a\\\"\\\\/\\n\\u0001\\u001F\u{7f}ü€😀\""
        );
        assert_eq!(
            text(|out| push_value(out, &json!({"b": [1, null, true, 1.5], "a": {}}))),
            r#"{"b":[1,null,true,1.5],"a":{}}"#
        );
    }

    #[test]
    fn keys_are_in_a_hash_maps_order() {
        // As `new HashMap` of Java prints them.
        let map = json!({"server": 1, "database": 2, "schema": 3, "table": 4, "filename": 5, "position": 6});
        let text = text(|out| push_hash_map(out, map.as_object().unwrap()));
        assert_eq!(text, r#"{"schema":3,"server":1,"database":2,"filename":5,"position":6,"table":4}"#);
    }
}
