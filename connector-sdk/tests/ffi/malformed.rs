//! Malformed structures are refused with the column's name, without being followed.

use std::ffi::{CString, c_char, c_void};

use tributary_abi as abi;

use super::*;

/// The columns of [`full`], by their place.
const KEY: usize = 0;
const VALUE: usize = 1;
const HEADERS: usize = 2;
const TIMESTAMP: usize = 3;

/// Spoils an exported batch and answers what the import says.
#[track_caller]
fn refusal(batch: Batch, spoil: impl FnOnce(&mut abi::Batch)) -> String {
    let mut exported = Exported::new(batch).unwrap();
    // SAFETY: valid until `exported` is dropped.
    spoil(unsafe { &mut *exported.as_mut_ptr() });
    // SAFETY: each test spoils only what can be checked.
    let result = unsafe { Taken::take(exported.as_mut_ptr()).and_then(|taken| taken.into_batch()) };
    match result {
        Err(error) => error.to_string(),
        Ok(batch) => panic!("taken for good: {batch:?}"),
    }
}

#[track_caller]
fn refused(spoil: impl FnOnce(&mut abi::Batch), expected: &str) {
    let error = refusal(full(), spoil);
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

fn child(array: &mut abi::ArrowArray, at: usize) -> &mut abi::ArrowArray {
    // SAFETY: exported by Arrow: `at` is below `n_children`.
    unsafe { &mut **array.children.add(at) }
}

fn child_schema(schema: &mut abi::ArrowSchema, at: usize) -> &mut abi::ArrowSchema {
    // SAFETY: as above.
    unsafe { &mut **schema.children.add(at) }
}

fn set_buffer(array: &mut abi::ArrowArray, at: usize, buffer: *const c_void) {
    // SAFETY: exported by Arrow: the list is writable and `at` below `n_buffers`.
    unsafe { *array.buffers.add(at) = buffer };
}

/// Replaces a buffer by one that lives for ever.
fn replace_buffer<T: 'static>(array: &mut abi::ArrowArray, at: usize, values: Vec<T>) {
    set_buffer(array, at, Vec::leak(values).as_ptr().cast());
}

/// Replaces a child by another pointer, in a list of its own: the old one belongs to the release.
fn replace_child<T>(children: &mut *mut *mut T, count: usize, at: usize, child: *mut T) {
    // SAFETY: exported by Arrow: `count` pointers.
    let mut list = unsafe { std::slice::from_raw_parts(*children, count) }.to_vec();
    list[at] = child;
    *children = Vec::leak(list).as_mut_ptr();
}

/// A schema that nobody releases.
fn bare_schema(format: *const c_char) -> abi::ArrowSchema {
    abi::ArrowSchema {
        format,
        name: c"key".as_ptr(),
        metadata: std::ptr::null(),
        flags: 0,
        n_children: 0,
        children: std::ptr::null_mut(),
        dictionary: std::ptr::null_mut(),
        release: None,
        private_data: std::ptr::null_mut(),
    }
}

/// A format that the schema's release may free; the old one is leaked.
fn set_format(schema: &mut abi::ArrowSchema, format: &[u8]) {
    schema.format = CString::new(format).unwrap().into_raw();
}

#[test]
fn strings() {
    static BAD: [u8; 2] = [0xC3, 0x28];
    refused(|batch| batch.topic = abi::Str::new(&BAD), "the topic of a batch is not UTF-8");
    refused(|batch| batch.source_partition = abi::Str::new(&BAD), "the source partition of a batch is not UTF-8");
    refused(|batch| batch.source_partition = abi::Str::new(b"[1]"), "its source partition must be a JSON object");
    refused(|batch| batch.source_partition = abi::Str::new(b"{"), "its source partition must be a JSON object");
}

#[test]
fn counts() {
    refused(|batch| batch.array.length = -1, "batch has a length of -1");
    refused(|batch| batch.array.length = 4, "column key has 3 rows, 4 are needed");
    refused(|batch| batch.array.offset = i64::MAX, "out of range");
    refused(|batch| batch.array.offset = 1, "column key has 3 rows, 4 are needed");
    refused(|batch| child(&mut batch.array, TIMESTAMP).length = 2, "column timestamp has 2 rows, 3 are needed");
    refused(
        |batch| child(&mut batch.array, TIMESTAMP).offset = -8,
        "column timestamp has a length of 3 and an offset of -8",
    );
    refused(|batch| child(&mut batch.array, VALUE).length = i64::from(i32::MAX), "has 3 rows, 2147483647 are needed");
    refused(|batch| batch.array.n_children = 2, "batch has 2 child arrays, its type has 6");
    refused(|batch| batch.array.n_children = -1, "batch has -1 child arrays");
    refused(|batch| batch.array.n_buffers = 0, "batch of type");
    refused(
        |batch| child(&mut batch.array, KEY).n_buffers = 2,
        "column key of type Utf8 has 2 buffers, it must have 3",
    );
    refused(|batch| child(&mut batch.array, KEY).n_buffers = i64::MAX, "it must have 3");
}

#[test]
fn null_pointers() {
    refused(|batch| batch.array.children = std::ptr::null_mut(), "batch has a null list of child arrays");
    let no_child = |batch: &mut abi::Batch| replace_child(&mut batch.array.children, 6, KEY, std::ptr::null_mut());
    refused(no_child, "column key has no array");
    refused(
        |batch| child(&mut batch.array, KEY).buffers = std::ptr::null_mut(),
        "column key has a null list of buffers",
    );
    refused(
        |batch| set_buffer(child(&mut batch.array, KEY), 1, std::ptr::null()),
        "column key of type Utf8 has no offsets",
    );
    refused(
        |batch| set_buffer(child(&mut batch.array, KEY), 2, std::ptr::null()),
        "column key of type Utf8 has no bytes",
    );
    refused(|batch| set_buffer(child(&mut batch.array, TIMESTAMP), 1, std::ptr::null()), "has no values (null buffer)");
    refused(|batch| batch.schema.children = std::ptr::null_mut(), "its list of children is null");
    let no_child = |batch: &mut abi::Batch| replace_child(&mut batch.schema.children, 6, KEY, std::ptr::null_mut());
    refused(no_child, "batch.0 has no schema");
    refused(
        |batch| {
            // One of our own: the release of Arrow's frees the format.
            let schema = bare_schema(std::ptr::null());
            replace_child(&mut batch.schema.children, 6, KEY, Box::leak(Box::new(schema)));
        },
        "column key has no type",
    );
    refused(|batch| batch.array.release = None, "already released or was moved elsewhere");
    refused(|batch| batch.schema.release = None, "already released or was moved elsewhere");
    refused(|batch| child(&mut batch.array, VALUE).release = None, "the array of column value is already released");
}

#[test]
fn nulls() {
    refused(|batch| child(&mut batch.array, KEY).null_count = 2, "says 2 rows are null, its bitmap says 1");
    refused(|batch| child(&mut batch.array, KEY).null_count = 0, "says 0 rows are null, its bitmap says 1");
    refused(|batch| child(&mut batch.array, KEY).null_count = 4, "has 3 rows and says 4 of them are null");
    refused(|batch| child(&mut batch.array, KEY).null_count = -2, "says -2 of them are null");
    refused(|batch| set_buffer(child(&mut batch.array, KEY), 0, std::ptr::null()), "has no validity bitmap");
    refused(
        |batch| {
            replace_buffer(&mut batch.array, 0, vec![0b101u8]);
            batch.array.null_count = 1;
        },
        "whole rows are null",
    );
    // A null among the fields of headers that must not be.
    refused(
        |batch| {
            let keys = child(child(child(&mut batch.array, HEADERS), 0), 0);
            replace_buffer(keys, 0, vec![0b110u8]);
            keys.null_count = 1;
        },
        "non-nullable",
    );
}

#[test]
fn offsets() {
    let keys = |offsets: [i32; 4]| {
        move |batch: &mut abi::Batch| {
            let key = child(&mut batch.array, KEY);
            replace_buffer(key, 1, offsets.to_vec());
        }
    };
    refused(keys([-1, 2, 2, 2]), "the offsets of column key go from -1 to 2");
    refused(keys([0, 2, 2, -5]), "the offsets of column key go from 0 to -5");
    refused(keys([2, 2, 2, 1]), "the offsets of column key go from 2 to 1");
    refused(keys([0, 9, 2, 2]), "malformed batch for topic topic");
    refused(keys([0, 2, 1, 2]), "malformed batch for topic topic");
    let list = |offsets: [i32; 4]| {
        move |batch: &mut abi::Batch| {
            let list = child(child(&mut batch.array, VALUE), 1);
            replace_buffer(list, 1, offsets.to_vec());
        }
    };
    refused(list([0, 2, 2, 9]), "malformed batch for topic topic");
    refused(list([0, 2, 1, 2]), "malformed batch for topic topic");
    refused(list([-1, 2, 2, 2]), "the offsets of column value.list go from -1 to 2");
    // Offsets that cut a character in two.
    let text = Batch::new("t", Column::text(StringArray::from(vec!["ä", "b"])));
    let error = refusal(text, |batch| replace_buffer(child(&mut batch.array, 0), 1, vec![0i32, 1, 3]));
    assert!(error.contains("malformed batch"), "{error}");
    let text = Batch::new("t", Column::text(StringArray::from(vec!["ab"])));
    let error = refusal(text, |batch| replace_buffer(child(&mut batch.array, 0), 2, vec![0xC3u8, 0x28]));
    assert!(error.contains("malformed batch"), "{error}");
}

#[test]
fn types() {
    let retyped = |column: usize, format: &'static [u8]| {
        move |batch: &mut abi::Batch| set_format(child_schema(&mut batch.schema, column), format)
    };
    refused(retyped(TIMESTAMP, b"L"), "column timestamp has the type UInt64, it must be int64");
    refused(retyped(TIMESTAMP, b"g"), "column timestamp has the type Float64");
    refused(retyped(TIMESTAMP, b"u"), "column timestamp of type Utf8 has 2 buffers, it must have 3");
    refused(retyped(TIMESTAMP, b"no such"), "does not cross the plugin boundary");
    refused(retyped(TIMESTAMP, b""), "does not cross the plugin boundary");
    refused(retyped(TIMESTAMP, b"vu"), "does not cross the plugin boundary");
    refused(retyped(TIMESTAMP, b"+us:1"), "does not cross the plugin boundary");
    refused(retyped(TIMESTAMP, b"w:-4"), "does not cross the plugin boundary");
    refused(retyped(TIMESTAMP, b"tzz"), "malformed batch");
    refused(retyped(TIMESTAMP, b"d:x"), "malformed batch");
    refused(retyped(TIMESTAMP, b"+l"), "cannot have 0 children");
    refused(retyped(TIMESTAMP, b"\xff"), "the type of column timestamp is null or not UTF-8");
    refused(retyped(VALUE, b"l"), "of type \"l\" cannot have 2 children");
    refused(retyped(HEADERS, b"+m"), "the entries of map column headers must be a struct of key and value");
    refused(|batch| set_format(&mut batch.schema, b"+l"), "of type \"+l\" cannot have 6 children");
    refused(|batch| batch.schema.n_children = i64::MAX, "cannot have");
    refused(|batch| batch.schema.n_children = -1, "cannot have -1 children");
    refused(|batch| batch.schema.n_children = 5, "its type has 5");
    // An integer without a dictionary, and a struct with one.
    refused(
        |batch| {
            let schema = &raw mut batch.schema;
            // SAFETY: a pointer to a schema that lives as long, put where none was; release does not look there.
            unsafe { child_schema(&mut *schema, VALUE).dictionary = child_schema(&mut *schema, KEY) };
        },
        "is a dictionary with keys of type \"+s\"",
    );
    refused(
        |batch| {
            let schema = &raw mut batch.schema;
            // SAFETY: as above.
            unsafe { child_schema(&mut *schema, TIMESTAMP).dictionary = child_schema(&mut *schema, KEY) };
        },
        "column timestamp has no dictionary",
    );
    // A schema that contains itself ends, too.
    refused(
        |batch| {
            let schema: *mut abi::ArrowSchema = Box::leak(Box::new(bare_schema(c"+l".as_ptr())));
            let children: &'static mut [*mut abi::ArrowSchema] = Vec::leak(vec![schema]);
            // SAFETY: just leaked.
            unsafe {
                (*schema).n_children = 1;
                (*schema).children = children.as_mut_ptr();
            }
            replace_child(&mut batch.schema.children, 6, VALUE, schema);
        },
        "nested more than 64 deep",
    );
}

#[test]
fn names_and_metadata() {
    let renamed = |column: usize, name: &'static str| {
        move |batch: &mut abi::Batch| {
            child_schema(&mut batch.schema, column).name = CString::new(name).unwrap().into_raw()
        }
    };
    refused(renamed(KEY, "value"), "there are two columns value");
    refused(renamed(VALUE, "values"), "unknown column values: columns are key, value, headers");
    refused(renamed(VALUE, "timestamp"), "timestamp");
    let no_value = |batch: &mut abi::Batch| {
        child_schema(&mut batch.schema, 0).name = CString::new("key").unwrap().into_raw();
    };
    let error = refusal(Batch::new("t", Column::text(StringArray::from(vec!["a"]))), no_value);
    assert!(error.contains("there is no column value"), "{error}");
    let metadata = |numbers: Vec<i32>| {
        move |batch: &mut abi::Batch| {
            child_schema(&mut batch.schema, VALUE).metadata = Vec::leak(numbers).as_ptr().cast::<c_char>();
        }
    };
    refused(metadata(vec![-1]), "the metadata of column value says it has -1 entries");
    refused(metadata(vec![i32::MAX]), "the metadata of column value says");
    refused(metadata(vec![1, -7]), "has an entry of -7 bytes");
    refused(metadata(vec![1, i32::MAX]), "has an entry of");
    refused(metadata(vec![1, 4, -1, 0]), "malformed batch");
}

#[test]
fn dictionary_keys() {
    let dictionary = tributary_sdk::arrow::array::DictionaryArray::new(
        Int32Array::from(vec![0, 1]),
        Arc::new(StringArray::from(vec!["x", "y"])),
    );
    let batch = || {
        let field = Field::new("", dictionary.data_type().clone(), true);
        Batch::new("t", Column::new(field, Arc::new(dictionary.clone())))
    };
    let error = refusal(batch(), |batch| replace_buffer(child(&mut batch.array, 0), 1, vec![0i32, 2]));
    assert!(error.contains("malformed batch"), "{error}");
    let error = refusal(batch(), |batch| child(&mut batch.array, 0).dictionary = std::ptr::null_mut());
    assert!(error.contains("has no dictionary"), "{error}");
}
