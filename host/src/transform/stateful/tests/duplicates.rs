//! `Deduplicate` against models that look at one record after the other.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rig::{Input, Output, Rig, records, watermarks};

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("STATEFUL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    0..count
}

fn output(input: &Input) -> Output {
    let x = input.x.map_or("null".to_owned(), |x| x.to_string());
    let value = Some(format!(r#"{{"k":{},"x":{x},"t":{}}}"#, input.key, input.time));
    Output { key: String::new(), value, timestamp: input.time, topic: "input".to_owned() }
}

#[test]
fn the_first_goes_on() {
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let (bound, ttl, refresh) = (random.random_range(0..20), random.random_range(1..80), random.random_bool(0.5));
        let inputs = records(&mut random, bound);
        let (before, _) = watermarks(&inputs, bound);
        let (mut known, mut expected, mut late) = (BTreeMap::<i64, i64>::new(), Vec::new(), 0);
        for (input, before) in inputs.iter().zip(before) {
            known.retain(|_, time| *time + ttl > before);
            if input.time + ttl <= before {
                late += 1;
                continue;
            }
            let seen = known.get(&input.key).copied();
            let duplicate = seen.is_some_and(|seen| (seen - input.time).abs() < ttl);
            if !duplicate {
                expected.push(output(input));
            }
            if !duplicate || refresh {
                known.insert(input.key, seen.unwrap_or(i64::MIN).max(input.time));
            }
        }
        let (bound, ttl, refresh) = (bound.to_string(), ttl.to_string(), refresh.to_string());
        let pairs = [
            ("type", "tributary.transforms.Deduplicate"),
            ("key", "v.k"),
            ("ttl.ms", ttl.as_str()),
            ("ttl.refresh", refresh.as_str()),
            ("eventtime.max.out.of.orderness.ms", bound.as_str()),
        ];
        let mut rig = Rig::new(&pairs, seed % 2 == 1, [1, 1 << 20][(seed / 2 % 2) as usize]);
        rig.run(seed, &inputs);
        assert_eq!(rig.outputs, expected, "seed {seed}");
        assert_eq!((rig.late, rig.failures.len()), (late, 0), "seed {seed}");
    }
}

#[test]
fn the_last_is_held_and_goes_on() {
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let (bound, ttl, refresh) = (random.random_range(0..20), random.random_range(1..80), random.random_bool(0.5));
        let by_x = random.random_bool(0.5);
        let inputs = records(&mut random, bound);
        let (before, last) = watermarks(&inputs, bound);
        // When it goes on, and which.
        let (mut held, mut expected, mut late) = (BTreeMap::<i64, (i64, Input)>::new(), Vec::new(), 0);
        let mut release = |held: &mut BTreeMap<i64, (i64, Input)>, watermark: i64| {
            held.retain(|_, (due, input)| {
                if *due <= watermark {
                    expected.push(output(input));
                }
                *due > watermark
            });
        };
        for (input, before) in inputs.iter().zip(before) {
            release(&mut held, before);
            if input.time + ttl <= before {
                late += 1;
                continue;
            }
            let greater = |new: &Input, old: &Input| if by_x { new.x >= old.x } else { new.time >= old.time };
            match held.get_mut(&input.key) {
                None => _ = held.insert(input.key, (input.time + ttl, *input)),
                Some((due, record)) => {
                    if refresh {
                        *due = (*due).max(input.time + ttl);
                    }
                    if greater(input, record) {
                        *record = *input;
                    }
                }
            }
        }
        release(&mut held, last);
        expected.sort();
        let (bound, ttl, refresh) = (bound.to_string(), ttl.to_string(), refresh.to_string());
        let mut pairs = vec![
            ("type", "Deduplicate"),
            ("keep", "last"),
            ("key", "v.k"),
            ("ttl.ms", ttl.as_str()),
            ("ttl.refresh", refresh.as_str()),
            ("eventtime.max.out.of.orderness.ms", bound.as_str()),
        ];
        if by_x {
            pairs.push(("order.by", "v.x"));
        }
        let mut rig = Rig::new(&pairs, seed % 2 == 1, [1, 1 << 20][(seed / 2 % 2) as usize]);
        rig.run(seed, &inputs);
        rig.outputs.sort();
        assert_eq!(rig.outputs, expected, "seed {seed}");
        assert_eq!((rig.late, rig.failures.len()), (late, 0), "seed {seed}");
    }
}

#[test]
fn duplicates_are_tagged_if_asked_for() {
    let pairs = [("type", "Deduplicate"), ("key", "v.k"), ("action", "tag")];
    let mut rig = Rig::new(&pairs, false, 1 << 20);
    let input = |key, time| Input { key, time, x: None };
    let applied = rig.chain.apply(rig.batch(&[input(1, 1), input(2, 1), input(1, 2)])).unwrap();
    let batch = &applied.batches[0];
    let headers = batch.headers.as_ref().unwrap();
    let counts: Vec<i32> = headers.value_offsets().windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!((batch.len(), counts), (3, vec![0, 0, 1]));
    let known = crate::transform::headers::Headers::of(Some(headers));
    let header = known.row(2).next().unwrap();
    assert_eq!((header.key, header.value), ("duplicate", Some(b"true".as_slice())));
    rig.transaction(&[]);
}

#[test]
fn held_records_keep_key_headers_and_topic() {
    use arrow_array::{BinaryArray, StringArray};
    use tributary_sdk::{Batch, Column};
    let mut rig = Rig::new(&[("type", "Deduplicate"), ("keep", "last"), ("ttl.ms", "10")], false, 1 << 20);
    let mut batch = Batch::new("a", Column::bytes(BinaryArray::from(vec![Some(b"x".as_slice()), None])));
    batch.key = Some(Column::text(StringArray::from(vec!["k", "l"])));
    batch.partition = Some(0);
    batch.timestamps = Some(vec![5, 6].into());
    let mut headers = crate::transform::headers::HeadersBuilder::new(2);
    headers.end_row();
    headers.push(crate::transform::headers::Header { key: "h", schema: None, value: Some(b"v") });
    headers.end_row();
    batch.headers = headers.finish();
    assert_eq!(rig.chain.apply(batch.clone()).unwrap().batches.len(), 0);
    rig.reopen_after_commit();
    batch = batch.slice(0, 1);
    batch.timestamps = Some(vec![100_000].into());
    let applied = rig.chain.apply(batch).unwrap();
    let held = &applied.batches[0];
    assert_eq!((&*held.topic, held.len()), ("a", 2));
    let keys = held.key.as_ref().unwrap().as_text().unwrap();
    assert_eq!((keys.value(0), keys.value(1)), ("k", "l"));
    let values = held.value.as_bytes().unwrap();
    assert!(arrow_array::Array::is_null(values, 1) && values.value(0) == b"x");
    assert_eq!(held.headers.as_ref().unwrap().value_offsets(), [0, 0, 1]);
}
