//! What a crossing costs: `cargo test --release -p tributary-sdk --test ffi -- --ignored --nocapture`

use std::time::Instant;

use tributary_sdk::arrow::array::BinaryArray;

use super::*;

#[test]
#[ignore = "a measurement, to be run on an optimised build"]
fn of_a_thousand_records() {
    let line = "some words that make up a line of an ordinary length, which is about a hundred bytes with its end..";
    let offset = || {
        let last = std::iter::repeat_n(None, 999).chain([Some("{\"position\":99000}")]);
        Offsets::Source(last.collect())
    };
    let mut plain = Batch::new("t", Column::text(StringArray::from(vec![line; 1000])));
    plain.source_partition = Some("{\"filename\":\"f\"}".into());
    plain.offsets = offset();
    let mut bytes = plain.clone();
    bytes.value = Column::bytes(BinaryArray::from_vec(vec![line.as_bytes(); 1000]));
    let mut keyed = plain.clone();
    keyed.key = Some(Column::text(StringArray::from(vec!["a key"; 1000])));
    keyed.timestamps = Some(Int64Array::from(vec![5; 1000]));
    for (what, batch) in [("text", plain), ("bytes", bytes), ("text with keys and timestamps", keyed)] {
        let (mut out, mut both) = (u128::MAX, u128::MAX);
        for _ in 0..50 {
            let began = Instant::now();
            for _ in 0..100 {
                std::hint::black_box(Exported::new(batch.clone()).unwrap());
            }
            out = out.min(began.elapsed().as_nanos() / 100);
            let began = Instant::now();
            for _ in 0..100 {
                std::hint::black_box(cross(batch.clone()).unwrap());
            }
            both = both.min(began.elapsed().as_nanos() / 100);
        }
        println!("{what}: out {out} ns, out and in {both} ns a batch of 1,000 records of 99 bytes");
    }
}
