//! Batches over the C interface: round trips, ownership, and malformed ones refused.

mod cost;
mod malformed;
mod ownership;
mod round_trip;

use std::sync::Arc;

use tributary_sdk::arrow::array::builder::{BinaryBuilder, Int32Builder, ListBuilder, StringBuilder, StructBuilder};
use tributary_sdk::arrow::array::{ArrayRef, Int32Array, Int64Array, ListArray, StringArray, StructArray};
use tributary_sdk::arrow::schema::{DataType, Field};
use tributary_sdk::batch::HEADER_FIELDS;
use tributary_sdk::ffi::{Exported, Taken};
use tributary_sdk::{Batch, Column, Offsets, Result};

/// Through the C structs and back, as across the boundary.
fn cross(batch: Batch) -> Result<Batch> {
    let mut exported = Exported::new(batch)?;
    // SAFETY: just exported.
    unsafe { Taken::take(exported.as_mut_ptr())?.into_batch() }
}

fn headers() -> ListArray {
    let fields = HEADER_FIELDS.clone();
    let builders: Vec<Box<dyn tributary_sdk::arrow::array::builder::ArrayBuilder>> =
        vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())];
    let item = Field::new("item", DataType::Struct(fields.clone()), false);
    let mut list = ListBuilder::new(StructBuilder::new(fields, builders)).with_field(item);
    for count in [2usize, 0, 1] {
        for at in 0..count {
            let entry = list.values();
            entry.field_builder::<StringBuilder>(0).unwrap().append_value(format!("h{at}"));
            entry.field_builder::<StringBuilder>(1).unwrap().append_option((at == 0).then_some("string"));
            entry.field_builder::<BinaryBuilder>(2).unwrap().append_option((at == 0).then_some(b"v"));
            entry.append(true);
        }
        list.append(true);
    }
    list.finish()
}

/// A struct of an int and a list of ints.
fn structs() -> Column {
    let mut list = ListBuilder::new(Int32Builder::new());
    list.append_value([Some(1), None]);
    list.append_null();
    list.append_value([]);
    let list = list.finish();
    let fields = vec![Field::new("n", DataType::Int32, true), Field::new("list", list.data_type().clone(), true)];
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![Some(7), None, Some(9)])), Arc::new(list)];
    let array = StructArray::new(fields.into(), columns, Some(vec![true, false, true].into()));
    let field = Field::new("", array.data_type().clone(), true)
        .with_metadata([("connect.name".to_owned(), "com.example.Row".to_owned())]);
    Column::new(field, Arc::new(array))
}

use tributary_sdk::arrow::array::Array;

/// Three rows with every column.
fn full() -> Batch {
    let mut batch = Batch::new("topic", structs());
    batch.source_partition = Some("{\"file\":\"a\"}".into());
    batch.key = Some(Column::text(StringArray::from(vec![Some("k0"), None, Some("")])));
    batch.headers = Some(headers());
    batch.timestamps = Some(Int64Array::from(vec![Some(1), None, Some(3)]));
    batch.partitions = Some(Int32Array::from(vec![None, Some(1), None]));
    batch.offsets = Offsets::Source(StringArray::from(vec![None, None, Some("{\"at\":3}")]));
    batch
}
