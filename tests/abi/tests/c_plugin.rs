//! A source and a sink in plain C, through the loader; malformed batches from there; nonsense in place of answers.

use std::sync::Arc;

use tributary::plugin::{Registry, SourceTaskHandle, write_manifest};
use tributary_abi_tests::Recorder;
use tributary_abi_tests::libraries::{compiled, scanned};
use tributary_sdk::arrow::array::{BinaryArray, Int64Array, StringArray};
use tributary_sdk::sink::{Failures, TopicPartitionOffset};
use tributary_sdk::{Batch, Column, Config, Error, Offsets};

fn plugins(source: &str, options: &[&str]) -> (Registry, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join(source);
    std::fs::create_dir(&place).unwrap();
    write_manifest(&compiled(source, &place, options)).unwrap_or_else(|error| panic!("{error}"));
    let registry = scanned(root.path());
    assert_eq!(registry.problems(), []);
    (registry, root)
}

fn source(registry: &Registry, services: &Arc<Recorder>, config: &[(&str, &str)]) -> Box<dyn SourceTaskHandle> {
    let class = registry.connector("LinesSource", None).unwrap();
    let mut task = class.source_task(services.clone()).unwrap();
    task.start(&config.iter().copied().collect::<Config>()).unwrap();
    task
}

/// The gauge that a C instance leaves when it is destroyed: structs not yet released.
fn live(services: &Recorder) -> Vec<String> {
    services.calls.lock().unwrap().iter().filter(|call| call.starts_with("gauge live")).cloned().collect()
}

#[test]
fn a_source_in_c_runs() {
    let (registry, _root) = plugins("lines", &[]);
    let class = registry.connector("com.example.c.LinesSourceConnector", None).unwrap();
    assert_eq!(class.info().documentation, "Numbered lines, in C.");
    let services = Arc::new(Recorder::default());
    let config = Config::from_iter([("topic", "lines")]);
    let mut connector = class.connector(services.clone()).unwrap();
    assert_eq!(connector.validate(&config).unwrap(), []);
    connector.start(&config).unwrap();
    assert_eq!(connector.task_configs(1).unwrap(), [config]);
    assert_eq!(connector.exactly_once_support(&Config::default()).unwrap(), None);
    assert!(!connector.can_define_transaction_boundaries(&Config::default()).unwrap());
    assert!(!connector.alter_source_offsets(&Config::default(), &[]).unwrap());
    connector.stop().unwrap();

    let mut task = source(&registry, &services, &[]);
    let mut batches = Vec::new();
    task.poll(&mut batches).unwrap();
    task.poll(&mut batches).unwrap();
    task.commit(&[]).unwrap();
    let values: Vec<&str> =
        batches.iter().flat_map(|batch| batch.rows().map(|row| row.value().as_str().unwrap())).collect();
    assert_eq!(values, ["line 0", "line 1", "line 2", "line 3", "line 4", "line 5"]);
    assert_eq!(batches[1].resume_point(), Some("{\"next\":6}"));
    assert_eq!(batches[0].timestamps.as_ref().unwrap().values()[..], [1000, 1001, 1002]);
    task.stop().unwrap();
    drop(task);
    // Columns outlive the task; a batch is 4 array structs, its schema is not kept.
    assert_eq!(live(&services).last().unwrap(), "gauge live 8");
    drop(batches);
    drop(source(&registry, &services, &[]));
    assert_eq!(live(&services).last().unwrap(), "gauge live 0");
}

#[test]
fn a_table_of_an_earlier_minor_version_is_taken() {
    let (registry, _root) = plugins("lines", &["-DOF_MINOR_0"]);
    let mut task = source(&registry, &Arc::new(Recorder::default()), &[]);
    let mut batches = Vec::new();
    task.poll(&mut batches).unwrap();
    assert_eq!(batches[0].resume_point(), Some("{\"next\":3}"));
    assert!(task.acknowledger().is_none(), "what the table does not cover is not there");
    task.stop().unwrap();
}

#[test]
fn malformed_batches_from_c_are_refused() {
    let (registry, _root) = plugins("lines", &[]);
    let services = Arc::new(Recorder::default());
    for (spoil, expected) in [
        ("offsets", "the offsets of column value go from 0 to -1"),
        ("falling", "malformed batch for topic lines"),
        ("length", "column value has 2 rows, 3 are needed"),
        ("type", "column timestamp of type Utf8 has 2 buffers, it must have 3"),
        ("utf8", "malformed batch for topic lines"),
        ("size", "a batch says it is 3 bytes large"),
        ("twice", "already released or was moved elsewhere"),
    ] {
        let mut task = source(&registry, &services, &[("spoil", spoil)]);
        let mut batches = Vec::new();
        let error = task.poll(&mut batches).unwrap_err().to_string();
        assert!(error.contains(expected), "{spoil}: {error}");
        assert_eq!(batches.len(), usize::from(spoil == "twice"));
        drop((task, batches));
    }
    drop(source(&registry, &services, &[]));
    assert_eq!(live(&services).last().unwrap(), "gauge live 0", "each struct is released once, whatever fails");
}

#[test]
fn a_sink_in_c_runs() {
    let (registry, _root) = plugins("lines", &[]);
    let class = registry.connector("CountSink", None).unwrap();
    let services = Arc::new(Recorder::default());
    let mut task = class.sink_task(services.clone()).unwrap();
    task.start(&Config::default()).unwrap();
    let at = |offset| TopicPartitionOffset { topic: "t".into(), partition: 0, offset };
    assert_eq!(task.open(&[at(Some(0))]).unwrap(), []);
    let batch = |column| {
        let mut batch = Batch::new("t", column);
        batch.offsets = Offsets::Sink(Int64Array::from_iter_values(0..batch.len() as i64));
        batch
    };
    let mut failures = Failures::default();
    let texts = batch(Column::text(StringArray::from(vec!["skipped", "four", "bad", "äö"])));
    task.put(texts.slice(1, 3), &mut failures).unwrap();
    assert_eq!(failures.records().len(), 1);
    assert_eq!((failures.records()[0].row, failures.records()[0].message.as_str()), (1, "bad is not counted"));
    task.put(batch(Column::bytes(BinaryArray::from_vec(vec![b"xy"]))), &mut failures).unwrap();
    assert!(services.calls.lock().unwrap().contains(&"gauge bytes 10".to_owned()));
    let numbers = Column::new(
        tributary_sdk::arrow::schema::Field::new("", tributary_sdk::arrow::schema::DataType::Int64, true),
        Arc::new(Int64Array::from(vec![1])),
    );
    assert_eq!(
        task.put(batch(numbers), &mut failures).unwrap_err(),
        Error::failed("only text and bytes can be counted")
    );
    // Without pre_commit in its table: flush, and all may be committed.
    assert_eq!(task.pre_commit(&[at(Some(9))]).unwrap(), [at(Some(9))]);
    assert!(services.calls.lock().unwrap().contains(&"put 0 records Some(\"3\")".to_owned()));
    task.close(&[]).unwrap();
    task.stop().unwrap();
}

#[test]
fn nonsense_in_place_of_answers_is_an_error() {
    for (status, expected) in [
        ("0", None),
        ("1", Some("configure of com.example.Misfit failed and gave no reason")),
        ("3", Some("panicked: configure of com.example.Misfit failed and gave no reason")),
        ("4", Some("not supported: configure of com.example.Misfit is not implemented")),
        ("77", Some("configure of com.example.Misfit answered with the unknown status 77")),
    ] {
        let option = format!("-DTALKS_NONSENSE={status}");
        let (registry, _root) = plugins("misfit", &[&option]);
        let mut transform =
            registry.transform("Misfit", None).unwrap().transform(Arc::new(Recorder::default())).unwrap();
        let result = transform.configure(&Config::default()).map_err(|error| error.to_string());
        assert_eq!(result, expected.map_or(Ok(()), |text: &str| Err(text.to_owned())));
    }
}
