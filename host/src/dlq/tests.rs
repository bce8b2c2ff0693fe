//! Listing, showing and replaying on the embedded log.

use arrow_array::{BinaryArray, Int64Array};
use tempfile::TempDir;

use super::*;
use crate::log::embedded::EmbeddedLog;
use crate::log::{ClientSettings, Log, LogRecords, NewTopic};
use crate::task::errors::{FailedRecord, Stage};
use crate::task::letter_headers::{
    AS_POLLED, AS_PRODUCED, Context, HeaderLists, OFFSET, PARTITION, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_RECORD,
    TOPIC, reason, with_context,
};

struct Stand {
    log: EmbeddedLog,
    _dir: TempDir,
}

impl Stand {
    /// A log with the topics `orders` (three partitions), `other` and `dlq`.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log.db")).unwrap();
        for (name, partitions) in [("orders", 3), ("other", 1), ("dlq", 1)] {
            let topic = NewTopic { name: name.into(), partitions: Some(partitions), ..NewTopic::default() };
            log.admin().create_topic(&topic, TIMEOUT).unwrap();
        }
        Self { log, _dir: dir }
    }

    fn write(&self, topic: &str, records: &LogRecords) {
        let mut producer = self.log.producer(&ClientSettings::new()).unwrap();
        assert_eq!(producer.send(topic, records, 0, 1, TIMEOUT).unwrap(), records.len());
        producer.finish(1);
        producer.flush(TIMEOUT).unwrap();
        producer.close(TIMEOUT).unwrap();
    }

    /// Letters of a sink `sink`, read from `orders`-2, that failed in these stages; the values count from `from`.
    fn letters(&self, from: i64, stages: &[Stage]) {
        let numbers = from..from + stages.len() as i64;
        let values = numbers.clone().map(|n| n.to_string()).collect::<Vec<_>>();
        let mut own = HeaderLists::default();
        let mut contexts = Vec::new();
        for (stage, n) in stages.iter().zip(numbers.clone()) {
            own.add("trace", Some(format!("t{n}").as_bytes()));
            own.end_record();
            let failed = FailedRecord::data(0, *stage, "a.Class", format!("Bad number {n}"));
            let mut context: Context =
                vec![(TOPIC, "orders".into()), (PARTITION, "2".into()), (OFFSET, (100 + n).to_string())];
            context.extend(reason("sink", 0, &failed));
            contexts.push(context);
        }
        let records = LogRecords {
            keys: Some(BinaryArray::from_iter_values(values.iter().map(|value| format!("k{value}")))),
            headers: Some(with_context(Some(&own.finish()), &contexts)),
            timestamps: Some(numbers.map(|n| 1_000 + n).collect::<Int64Array>()),
            ..LogRecords::from_values(BinaryArray::from_iter_values(&values))
        };
        self.write("dlq", &records);
    }

    fn replay(&self, change: impl FnOnce(&mut ReplayOptions)) -> Replayed {
        let mut options = ReplayOptions { topic: "dlq".into(), ..ReplayOptions::default() };
        change(&mut options);
        replay(&self.log, &options).unwrap()
    }

    /// `partition timestamp key value headers` of each record.
    fn read(&self, topic: &str) -> Vec<String> {
        use crate::log::commands::{ConsumeOptions, Format, consume};
        let options = ConsumeOptions {
            topic: topic.into(),
            exit_at_end: true,
            format: Format::parse(r"%p %T %k %v %h\n").unwrap(),
            ..ConsumeOptions::default()
        };
        let mut out = Vec::new();
        consume(&self.log, &options, &mut out, &Default::default()).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }
}

const VALUE: Stage = Stage::ValueConverter;
const PUT: Stage = Stage::TaskPut;

fn only(stage: &str) -> Filter {
    Filter { stage: Some(stage.into()), ..Filter::default() }
}

#[test]
fn a_replay_restores_the_records_and_a_second_one_goes_on_behind_them() {
    let stand = Stand::new();
    stand.letters(0, &[VALUE, PUT]);
    let dry = stand.replay(|options| options.dry_run = true);
    assert_eq!((dry.total(), stand.read("orders").len()), (2, 0));

    let first = stand.replay(|options| options.keep_partition = true);
    assert_eq!((first.read, first.total(), first.done_before, &first.failure), (2, 2, 0, &None));
    assert_eq!(stand.read("orders"), ["2 1000 k0 0 trace=t0", "2 1001 k1 1 trace=t1"]);

    stand.letters(2, &[VALUE]);
    let second = stand.replay(|_| ());
    assert_eq!((second.read, second.total(), second.done_before), (1, 1, 2));
    assert_eq!(stand.replay(|_| ()).total(), 0);
    assert_eq!(stand.read("orders").len(), 3);
    // By hand, all of them once more.
    assert_eq!(stand.replay(|options| options.from = Some(0)).total(), 3);
}

#[test]
fn filters_have_positions_of_their_own() {
    let stand = Stand::new();
    stand.letters(0, &[VALUE, PUT, VALUE]);
    let some = stand.replay(|options| options.filter = only("task_put"));
    assert_eq!((some.total(), some.left_out), (1, 2));
    let others = stand.replay(|options| options.filter = only("VALUE_CONVERTER"));
    assert_eq!((others.total(), others.left_out, others.done_before), (2, 1, 0));
    assert_ne!(some.group, others.group);
    assert_eq!(stand.replay(|options| options.filter = only("TASK_PUT")).total(), 0);
    let by_reason = Filter { reason: Some("bad NUMBER 2".into()), ..Filter::default() };
    assert_eq!(stand.replay(|options| options.filter = by_reason).total(), 1);
    let late = Filter {
        since: Some(1_001),
        connector: Some("sink".into()),
        origin: Some("orders".into()),
        ..only("Value_Converter")
    };
    assert_eq!(stand.replay(|options| options.filter = late).total(), 1);
}

#[test]
fn a_count_stops_in_the_middle_and_the_next_replay_goes_on_there() {
    let stand = Stand::new();
    stand.letters(0, &[VALUE; 5]);
    for expected in [2, 2, 1, 0] {
        let replayed = stand.replay(|options| (options.count, options.to) = (Some(2), Some("other".into())));
        assert_eq!(replayed.total(), expected);
    }
    let values: Vec<_> = stand.read("other").iter().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect();
    assert_eq!(values, ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_letter_that_cannot_be_replayed_ends_it_before_that_letter() {
    let stand = Stand::new();
    stand.letters(0, &[VALUE, VALUE]);
    let source = |form: &str| -> Context {
        vec![
            (TOPIC, "orders".into()),
            (SOURCE_PARTITION, r#"{"file":"f"}"#.into()),
            (SOURCE_OFFSET, r#"{"position":7}"#.into()),
            (SOURCE_RECORD, form.into()),
        ]
    };
    let contexts = [source(AS_PRODUCED), source(AS_POLLED)];
    let records = LogRecords {
        headers: Some(with_context(None, &contexts)),
        ..LogRecords::from_values(BinaryArray::from_vec(vec![b"p", b"q"]))
    };
    stand.write("dlq", &records);
    for (total, read) in [(3, 3), (0, 0)] {
        let replayed = stand.replay(|_| ());
        assert_eq!((replayed.total(), replayed.read), (total, read));
        let failure = replayed.failure.unwrap();
        assert!(failure.contains("dlq-0 offset 3") && failure.contains("--to TOPIC"), "{failure}");
    }
    assert_eq!(stand.replay(|options| options.to = Some("other".into())).total(), 1);
    assert!(stand.read("other")[0].ends_with(" q "));

    stand.write("dlq", &LogRecords::from_values(BinaryArray::from_vec(vec![b"bare"])));
    let failure = stand.replay(|_| ()).failure.unwrap();
    assert!(failure.contains("context.headers.enable was false"), "{failure}");
}

#[test]
fn a_record_that_the_topic_refuses_ends_the_replay_before_it() {
    let stand = Stand::new();
    stand.letters(0, &[VALUE]);
    stand.write("dlq", &LogRecords::from_values(BinaryArray::from_vec(vec![&[b'x'; 5000]])));
    stand.letters(1, &[VALUE]);
    let small = |options: &mut ReplayOptions| {
        options.to = Some("other".into());
        options.settings.insert("max.request.size".into(), "2000".into());
    };
    let replayed = stand.replay(small);
    assert_eq!(replayed.total(), 1);
    let failure = replayed.failure.unwrap();
    assert!(failure.contains("dlq-0 offset 1 was refused") && failure.contains("too large"), "{failure}");
    assert_eq!(stand.replay(|options| options.to = Some("other".into())).total(), 2);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let stand = Stand::new();
    stand.letters(0, &[VALUE]);
    let refused = |change: fn(&mut ReplayOptions)| {
        let mut options = ReplayOptions { topic: "dlq".into(), ..ReplayOptions::default() };
        change(&mut options);
        replay(&stand.log, &options).unwrap_err().message
    };
    assert!(refused(|options| options.to = Some("dlq".into())).contains("would not end"));
    assert!(refused(|options| options.to = Some("ordes".into())).contains("no topic ordes"));
    assert!(refused(|options| options.topic = "dql".into()).contains("no topic dql"));
}

#[test]
fn letters_are_counted_by_reason_and_shown_for_reading() {
    let stand = Stand::new();
    stand.letters(0, &[VALUE, VALUE, PUT]);
    let known = |topic: &str| Known { topic: topic.into(), connectors: ["sink".to_owned()].into() };
    let listed = |json| {
        let mut out = Vec::new();
        let topics = [known("dlq"), known("none-yet")];
        list(&stand.log, &ClientSettings::new(), &topics, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&listed(true)).unwrap();
    assert_eq!(json[0]["letters"], 3);
    assert_eq!(json[0]["reasons"][1]["stage"], "VALUE_CONVERTER");
    assert_eq!(json[0]["reasons"][1]["letters"], 2);
    assert_eq!(json[1]["exists"], false);
    let text = listed(false);
    assert!(text.contains("no topic yet") && text.contains("DataException") && text.contains("Bad number 1"), "{text}");

    let shown = |change: fn(&mut ShowOptions)| {
        let mut options = ShowOptions { topic: "dlq".into(), ..ShowOptions::default() };
        change(&mut options);
        let mut out = Vec::new();
        let count = show(&stand.log, &options, &mut out).unwrap();
        (count, String::from_utf8(out).unwrap())
    };
    let (count, text) = shown(|options| options.filter = only("TASK_PUT"));
    assert_eq!(count, 1);
    for line in [
        "dlq-0 offset 2  1970-01-01T00:00:01.002Z",
        "  from       orders-2 offset 102",
        "  connector  sink task 0",
        "  stage      TASK_PUT in a.Class",
        "  reason     org.apache.kafka.connect.errors.DataException: Bad number 2",
        "  header     trace=t2",
        "  key        k2",
        "  value      2",
    ] {
        assert!(text.lines().any(|other| other == line), "no {line:?} in\n{text}");
    }
    let (count, text) = shown(|options| (options.from, options.count, options.json) = (Some(1), Some(1), true));
    let letter: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((count, &letter["offset"], &letter["error"]["offset"]), (1, &1.into(), &101.into()));
    assert_eq!(letter["headers"][0], serde_json::json!({"key": "trace", "value": "t1"}));
}
