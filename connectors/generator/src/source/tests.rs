//! The generator in a worker made of memory.

use std::collections::HashSet;

use tributary_sdk::{Form, Services};
use tributary_testkit::{SourceRun, TestServices, rows};

use super::*;

fn config(pairs: &[(&str, &str)]) -> Config {
    let mut config = Config::from_iter([("name", "demo"), ("rate", "0")]);
    for (key, value) in pairs {
        config.set(*key, *value);
    }
    config
}

fn run(pairs: &[(&str, &str)]) -> SourceRun<GeneratorSource> {
    SourceRun::start(&config(pairs)).unwrap()
}

fn first(pairs: &[(&str, &str)], records: usize) -> Vec<String> {
    let mut values = rows::values(&run(pairs).poll_records(records).unwrap());
    values.truncate(records);
    values
}

#[test]
fn records_are_pinned() {
    // What was once made from a seed must stay so: tests and measurements elsewhere build on it.
    let json = |schema| first(&[("schema", schema)], 1).remove(0);
    assert_eq!(
        json("orders"),
        r#"{"order_id":"o-0000000000","customer_id":"c-000642","ts":1767225600000,"product":"lamp","quantity":1,"amount":1.98,"currency":"CHF","country":"CH","channel":"app","status":"paid"}"#
    );
    assert_eq!(
        json("clicks"),
        r#"{"click_id":"k-0000000000","user_id":"u-000642","session_id":"s-0620486370","ts":1767225600000,"page":"/products/88","action":"view","device":"desktop","referrer":"social","country":"CH","duration_ms":32864}"#
    );
    assert_eq!(
        json("payments"),
        r#"{"payment_id":"p-0000000000","customer_id":"c-000642","ts":1767225600000,"amount":45.06,"currency":"CHF","method":"card","merchant":"m-0011","country":"CH","status":"approved","online":true}"#
    );
    assert_eq!(
        first(&[("schema", "payments"), ("format", "text")], 2)[1],
        "p-0000000001,c-004321,1767225600001,187.68,USD,card,m-0164,US,approved,true"
    );
}

#[test]
fn batches_and_restarts_change_nothing() {
    let whole = first(&[("batch.size", "5000")], 10_000);
    assert_eq!(whole.iter().collect::<HashSet<_>>().len(), 10_000);
    assert_ne!(whole, first(&[("seed", "2")], 10_000));
    let services = TestServices::new();
    let mut parts = Vec::new();
    for batch_size in ["1", "7", "100", "3000"].into_iter().cycle() {
        let mut run =
            SourceRun::<GeneratorSource>::start_in(services.clone(), &config(&[("batch.size", batch_size)])).unwrap();
        let batches = [run.poll().unwrap(), run.poll().unwrap()].concat();
        run.deliver(&batches).unwrap();
        parts.extend(rows::values(&batches));
        if parts.len() >= 10_000 {
            break;
        }
    }
    assert_eq!(parts[..10_000], whole);
    assert!(services.stored_offsets().contains_key(r#"{"generator":"demo","task":0}"#));
}

#[test]
fn tasks_divide_the_sequence() {
    let services = TestServices::new();
    let config = config(&[("max.records", "1000"), ("schema", "clicks")]);
    let mut connector = GeneratorSource::default();
    connector.start(&services.context(), &config).unwrap();
    let mut all = Vec::new();
    for task_config in connector.task_configs(3).unwrap() {
        let mut task = GeneratorSourceTask::default();
        task.start(&services.context(), &task_config).unwrap();
        for _ in 0..3 {
            task.poll(&mut Output::new(&mut |batch| {
                all.extend(rows::values(&[batch]));
                Ok(())
            }))
            .unwrap();
        }
    }
    let mut expected = first(&[("schema", "clicks")], 1000);
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    assert!(services.logged("all 1000 records are made"));
}

#[test]
fn another_number_of_tasks_is_reported() {
    let services = TestServices::new();
    services.set_offset(&offsets::partition("demo", 1), Some(serde_json::json!({"sequence": 40})));
    let mut config = config(&[]);
    config.set(config::TASK, "1");
    config.set(config::TASKS, "4");
    let generator = Generator::new(&services.context(), GeneratorConfig::parse(&config).unwrap()).unwrap();
    assert_eq!(generator.next, 41);
    assert!(services.logged("which another number of tasks has left"));
}

#[test]
fn formats_say_the_same() {
    let fields = |schema: &str| -> Vec<(String, String)> {
        let batches = run(&[("schema", schema), ("format", "structured"), ("batch.size", "3")]).poll().unwrap();
        assert_eq!(batches[0].value.form(), Form::Structured);
        let json = rows::values(&run(&[("schema", schema)]).poll().unwrap());
        let document: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json[2]).unwrap();
        let text = first(&[("schema", schema), ("format", "text")], 3);
        assert_eq!(text[2].split(',').count(), document.len());
        let plain = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for ((name, value), cell) in document.iter().zip(text[2].split(',')) {
            // JSON numbers lose their last zeros when they are read.
            assert_eq!(plain(value).parse::<f64>().ok(), cell.parse::<f64>().ok(), "{name}");
            assert!(value.is_number() || plain(value) == cell, "{name}: {value} and {cell}");
        }
        let structs = format!("{:?}", batches[0].value.array());
        document
            .iter()
            .map(|(name, value)| (name.clone(), plain(value)))
            .inspect(|(name, _)| assert!(structs.contains(name)))
            .collect()
    };
    for schema in ["orders", "clicks", "payments"] {
        assert_eq!(fields(schema).len(), 10);
    }
}

#[test]
fn structs_have_a_connect_schema() {
    let batch = run(&[("format", "structured")]).poll().unwrap().remove(0);
    let metadata = batch.value.field().metadata();
    assert_eq!(metadata["connect.name"], "io.tributary.generator.Order");
    assert_eq!((metadata["connect.version"].as_str(), metadata["connect.optional"].as_str()), ("1", "false"));
}

#[test]
fn keys_are_customers_and_users() {
    for (schema, field) in [("orders", "customer_id"), ("clicks", "user_id"), ("payments", "customer_id")] {
        let batches = run(&[("schema", schema), ("keys", "50")]).poll_records(2000).unwrap();
        assert_eq!(&*batches[0].topic, schema);
        let keys = rows::keys(&batches);
        for (key, value) in keys.iter().zip(rows::values(&batches)) {
            let value: serde_json::Value = serde_json::from_str(&value).unwrap();
            assert_eq!(value[field].as_str().unwrap(), key);
        }
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 50);
    }
}

#[test]
fn events_have_their_time() {
    let pairs = [
        ("event.start.ms", "1000000"),
        ("event.step.us", "2500"),
        ("event.disorder.ms", "40"),
        ("record.timestamp", "event"),
    ];
    let batches = run(&pairs).poll_records(2000).unwrap();
    let times = batches[0].timestamps.as_ref().unwrap();
    let (mut back, mut values) = (0, rows::values(&batches));
    for (row, value) in values.drain(..).enumerate() {
        let value: serde_json::Value = serde_json::from_str(&value).unwrap();
        assert_eq!(value["ts"].as_i64().unwrap(), times.value(row));
        let late = 1_000_000 + row as i64 * 5 / 2 - times.value(row);
        assert!((0..=40).contains(&late), "row {row} is {late} ms late");
        back = back.max(late);
    }
    assert_eq!(back, 40);
    assert!(run(&[]).poll().unwrap()[0].timestamps.is_none(), "by default the time of sending");
}

#[test]
fn a_rate_is_kept_and_the_end_is_idle() {
    let mut run = run(&[("rate", "500"), ("max.records", "1500")]);
    let services = run.services().clone();
    let begin = services.now_ms();
    let batches = run.poll_records(1500).unwrap();
    let took = services.now_ms() - begin;
    assert!((2900..=3300).contains(&took), "1500 records at 500 a second took {took} ms");
    assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), 1500);
    let before = services.now_ms();
    assert!(run.poll().unwrap().is_empty());
    assert!((200..=400).contains(&(services.now_ms() - before)));
}

#[test]
fn wrong_configs_are_named() {
    for (key, value) in
        [("schema", "x"), ("format", "x"), ("rate", "-1"), ("keys", "0"), ("batch.size", "0"), ("seed", "x")]
    {
        let error = SourceRun::<GeneratorSource>::start(&config(&[(key, value)])).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
}

/// What this thread has used of a processor: on a busy machine, time tells nothing.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// `cargo test --release -p tributary-connector-generator throughput -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn throughput() {
    for format in ["json", "text", "structured"] {
        for schema in ["orders", "clicks", "payments"] {
            let mut run = run(&[("schema", schema), ("format", format)]);
            let (begin, mut records, mut bytes) = (cpu_seconds(), 0, 0);
            while records < 3_000_000 {
                for batch in run.poll().unwrap() {
                    records += batch.len();
                    bytes += batch.value.as_text().map_or(0, |text| text.value_data().len());
                }
            }
            let rate = records as f64 / (cpu_seconds() - begin) / 1e6;
            println!("{schema} as {format}: {rate:.1} M records of {} bytes a CPU second", bytes / records);
        }
    }
}
