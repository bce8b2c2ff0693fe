//! The record batch against its own reader, against Kafka's format as another crate knows it, and against
//! garbage.

use proptest::prelude::*;

use super::super::TopicPartition;
use super::super::run_builder::RunBuilder;
use super::record_batch::{BatchEncoder, BatchReader, Record, set_base_offset};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    let header = ("[a-z\u{e9}]{0,5}", proptest::option::of(bytes()));
    let record = (
        0_i64..4_000_000_000_000,
        proptest::option::of(bytes()),
        proptest::option::of(bytes()),
        proptest::collection::vec(header, 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| Plain { timestamp, key, value, headers });
    proptest::collection::vec(record, 1..40)
}

fn encode(records: &[Plain], base_offset: i64) -> Vec<u8> {
    let mut encoder = BatchEncoder::new(0);
    for record in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
        encoder.push(
            Record { timestamp: record.timestamp, key: record.key.as_deref(), value: record.value.as_deref() },
            headers.iter().copied(),
        );
    }
    let mut batch = encoder.finish();
    assert_eq!(batch.max_timestamp, records.iter().map(|r| r.timestamp).max().unwrap());
    set_base_offset(&mut batch.bytes, base_offset);
    batch.bytes
}

fn decode(bytes: &[u8]) -> Vec<(i64, Plain)> {
    let mut out = Vec::new();
    BatchReader::new(bytes)
        .unwrap()
        .for_each(|record| {
            let mut headers = Vec::new();
            record.for_each_header(|k, v| {
                headers.push((String::from_utf8(k.to_vec()).unwrap(), v.map(<[u8]>::to_vec)))
            })?;
            let plain = Plain {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers,
            };
            out.push((record.offset, plain));
            Ok(())
        })
        .unwrap();
    out
}

/// The same records as Kafka's own generated messages read them. Duplicate header keys are lost there.
fn decode_elsewhere(bytes: &[u8]) -> Vec<(i64, Plain)> {
    use kafka_protocol::records::RecordBatchDecoder;
    let mut input = bytes::Bytes::copy_from_slice(bytes);
    let set = RecordBatchDecoder::decode(&mut input).unwrap();
    set.records
        .into_iter()
        .map(|record| {
            let headers = record.headers.into_iter().map(|(k, v)| (k.to_string(), v.map(|v| v.to_vec()))).collect();
            let plain = Plain {
                timestamp: record.timestamp,
                key: record.key.map(|k| k.to_vec()),
                value: record.value.map(|v| v.to_vec()),
                headers,
            };
            (record.offset, plain)
        })
        .collect()
}

fn numbered(records: &[Plain], base: i64) -> Vec<(i64, Plain)> {
    records.iter().enumerate().map(|(i, r)| (base + i as i64, r.clone())).collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(records in records(), base in 0_i64..1 << 60) {
        prop_assert_eq!(decode(&encode(&records, base)), numbered(&records, base));
    }

    #[test]
    fn another_implementation_reads_the_same(records in records(), base in 0_i64..1 << 40) {
        let mut unique = records;
        for record in &mut unique {
            let mut seen = std::collections::BTreeSet::new();
            record.headers.retain(|(key, _)| seen.insert(key.clone()));
        }
        prop_assert_eq!(decode_elsewhere(&encode(&unique, base)), numbered(&unique, base));
    }

    #[test]
    fn what_another_implementation_writes_is_read(records in records()) {
        use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
        let mut unique = records;
        for record in &mut unique {
            let mut seen = std::collections::BTreeSet::new();
            record.headers.retain(|(key, _)| seen.insert(key.clone()));
        }
        let theirs: Vec<Record> = unique.iter().enumerate().map(|(i, r)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: 7 + i as i64,
            sequence: i as i32,
            timestamp: r.timestamp,
            key: r.key.clone().map(Into::into),
            value: r.value.clone().map(Into::into),
            headers: r.headers.iter().map(|(k, v)| (kafka_protocol::protocol::StrBytes::from_string(k.clone()), v.clone().map(Into::into))).collect(),
        }).collect();
        let mut out = bytes::BytesMut::new();
        RecordBatchEncoder::encode(&mut out, theirs.iter(), &RecordEncodeOptions { version: 2, compression: Compression::None }).unwrap();
        prop_assert_eq!(decode(&out), numbered(&unique, 7));
    }

    #[test]
    fn a_changed_byte_is_noticed_or_harmless(records in records(), at in any::<prop::sample::Index>(), xor in 1_u8..) {
        let mut bytes = encode(&records, 5);
        let at = at.index(bytes.len());
        bytes[at] ^= xor;
        // Base offset and leader epoch are outside the checksum.
        let read = BatchReader::new(&bytes);
        prop_assert_eq!(read.is_ok(), at < 8 || (12..16).contains(&at), "byte {}", at);
    }

    #[test]
    fn garbage_is_refused_without_a_panic(records in records(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&records, 0);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        // Lengths and checksum made right, so that the records themselves are tried.
        if bytes.len() >= 61 {
            let length = bytes.len() as i32 - 12;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let mut run = RunBuilder::new(TopicPartition { topic: "t".into(), partition: 0 }, 0, 0);
        if BatchReader::new(&bytes).is_ok_and(|batch| batch.read_into(&mut run, 0).is_ok()) {
            run.finish();
        }
    }

    #[test]
    fn noise_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(BatchReader::new(&bytes).is_err());
    }
}

#[test]
fn reading_begins_inside_a_batch_and_gaps_stay() {
    let mut encoder = BatchEncoder::new(0);
    for delta in [0, 3, 9] {
        let value = [delta as u8];
        encoder.push_at(delta, Record { timestamp: 5, key: None, value: Some(&value) }, [].into_iter());
    }
    let mut batch = encoder.finish_at(20);
    set_base_offset(&mut batch.bytes, 100);
    let reader = BatchReader::new(&batch.bytes).unwrap();
    assert_eq!((reader.base_offset(), reader.last_offset()), (100, 120));
    let mut run = RunBuilder::new(TopicPartition { topic: "t".into(), partition: 0 }, 0, 0);
    reader.read_into(&mut run, 102).unwrap();
    assert_eq!(run.finish().offsets.values(), &[103, 109]);
}
