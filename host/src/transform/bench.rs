//! Figures of the converters and the chain. Run with
//! `cargo test -p tributary --lib --release -- --ignored --nocapture transform::bench`.

use std::hint::black_box;
use std::time::Instant;

use arrow_array::{BinaryArray, Int64Array};
use tributary_sdk::{Batch, Column, Config, Offsets};

use super::tests::chain;
use crate::converter::{Converter, converter};

const ROWS: usize = 4096;
const ROUNDS: usize = 400;

fn lines() -> BinaryArray {
    let line = |i: usize| {
        let text = format!(
            r#"{{"seq":{},"src":0,"user":"u{:04}","amount":{:.2},"ok":{},"pad":"xxxxxxxx","crc":"{:08x}"}}"#,
            100_000 + i,
            i * 7919 % 10_000,
            1000.0 + i as f64 * 0.37 % 9000.0,
            i.is_multiple_of(3),
            i * 2_654_435_761 % 0xffff_ffff,
        );
        assert!(text.len() >= 95, "{text}");
        text.into_bytes()
    };
    (0..ROWS).map(|i| Some(line(i))).collect()
}

/// Nanoseconds that this thread has run, where Linux tells; the machine is shared.
fn cpu_time() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

/// Prints the nanoseconds of CPU time a record: the best of several runs.
fn measure(what: &str, mut round: impl FnMut()) {
    if std::env::var("BENCH_ONLY").is_ok_and(|only| !what.contains(&only)) {
        return;
    }
    let mut best = f64::MAX;
    for _ in 0..4 {
        let (start, cpu) = (Instant::now(), cpu_time());
        (0..ROUNDS).for_each(|_| round());
        let spent = match (cpu, cpu_time()) {
            (Some(before), Some(after)) => after - before,
            _ => start.elapsed().as_nanos() as u64,
        };
        best = best.min(spent as f64 / (ROUNDS * ROWS) as f64);
    }
    println!("{what:<60} {best:>7.1} ns/record {:>6.2} M/s", 1000.0 / best);
}

fn json(schemas: bool) -> Box<dyn Converter> {
    let enable = if schemas { "true" } else { "false" };
    converter("JsonConverter", &Config::from_iter([("schemas.enable", enable)]), false).unwrap()
}

#[test]
#[ignore = "figures, not checks"]
fn figures() {
    let data = lines();
    let mut string = converter("StringConverter", &Config::default(), false).unwrap();
    let mut plain = json(false);
    let mut enveloped = json(true);
    measure("StringConverter in", || drop(black_box(string.to_connect("t", &data))));
    measure("JsonConverter in, schemaless", || drop(black_box(plain.to_connect("t", &data))));
    let column = plain.to_connect("t", &data).runs.remove(0).column;
    measure("JsonConverter out, schemaless", || drop(black_box(plain.from_connect("t", &column))));
    let text = string.to_connect("t", &data).runs.remove(0).column;
    measure("JsonConverter out, text as JSON string", || drop(black_box(plain.from_connect("t", &text))));
    let schema = r#"{"type":"struct","fields":[{"type":"int64","field":"seq"},{"type":"int32","field":"src"},{"type":"string","field":"user"},{"type":"double","field":"amount"},{"type":"boolean","field":"ok"},{"type":"string","field":"pad"},{"type":"string","field":"crc"}]}"#;
    let envelopes: BinaryArray = data
        .iter()
        .map(|line| Some([b"{\"schema\":", schema.as_bytes(), b",\"payload\":", line.unwrap(), b"}"].concat()))
        .collect();
    measure("JsonConverter in, envelope (467 bytes) to columns", || {
        drop(black_box(enveloped.to_connect("t", &envelopes)))
    });
    let structs = enveloped.to_connect("t", &envelopes).runs.remove(0).column;
    measure("JsonConverter out, columns to envelope", || drop(black_box(enveloped.from_connect("t", &structs))));
    measure("JsonConverter out, columns to JSON", || drop(black_box(plain.from_connect("t", &structs))));

    let batch = |column: &Column| {
        let mut batch = Batch::new("topic", column.clone());
        batch.offsets = Offsets::Sink(Int64Array::from_iter_values(0..column.len() as i64));
        batch.partition = Some(0);
        batch.timestamps =
            Some(Int64Array::from_iter_values((0..column.len() as i64).map(|ms| 1_700_000_000_000 + ms)));
        batch
    };
    let sink = [
        ("transforms", "insert,drop,mask"),
        ("transforms.insert.type", "InsertField$Value"),
        ("transforms.insert.static.field", "origin"),
        ("transforms.insert.static.value", "bench"),
        ("transforms.drop.type", "ReplaceField$Value"),
        ("transforms.drop.exclude", "pad"),
        ("transforms.mask.type", "MaskField$Value"),
        ("transforms.mask.fields", "user"),
    ];
    let mut three = chain(&sink);
    measure("chain of 3 on JSON: insert, drop, mask", || {
        drop(black_box(three.apply(batch(&column)).unwrap()));
    });
    measure("the same with JSON in and out", || {
        let column = plain.to_connect("t", &data).runs.remove(0).column;
        let applied = three.apply(batch(&column)).unwrap();
        drop(black_box(plain.from_connect("t", &applied.batches[0].value)));
    });
    measure("chain of 3 on columns: insert, drop, mask", || {
        drop(black_box(three.apply(batch(&structs)).unwrap()));
    });
    let mut source = chain(&[
        ("transforms", "hoist,insert,rename"),
        ("transforms.hoist.type", "HoistField$Value"),
        ("transforms.hoist.field", "line"),
        ("transforms.insert.type", "InsertField$Value"),
        ("transforms.insert.static.field", "origin"),
        ("transforms.insert.static.value", "bench"),
        ("transforms.rename.type", "ReplaceField$Value"),
        ("transforms.rename.renames", "line:text"),
    ]);
    measure("chain of 3 on text: hoist, insert, rename, and JSON out", || {
        let applied = source.apply(batch(&text)).unwrap();
        drop(black_box(plain.from_connect("t", &applied.batches[0].value)));
    });
    let mut route = chain(&[
        ("transforms", "insert,mask,route"),
        ("transforms.insert.type", "InsertField$Value"),
        ("transforms.insert.timestamp.field", "ts"),
        ("transforms.insert.topic.field", "topic"),
        ("transforms.mask.type", "MaskField$Value"),
        ("transforms.mask.fields", "user"),
        ("transforms.route.type", "TimestampRouter"),
    ]);
    measure("JSON in, insert topic and time, mask, TimestampRouter, out", || {
        let column = plain.to_connect("t", &data).runs.remove(0).column;
        let applied = route.apply(batch(&column)).unwrap();
        drop(black_box(plain.from_connect("t", &applied.batches[0].value)));
    });
}
