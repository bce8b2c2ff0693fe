//! Built-in classes run through the same function tables as a library's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tributary::plugin::{Kind, Location, Registry};
use tributary_abi_tests::Recorder;
use tributary_sdk::arrow::array::{Array, Int64Array, StringArray};
use tributary_sdk::sink::{Failures, TopicPartitionOffset};
use tributary_sdk::source::SourcePosition;
use tributary_sdk::*;

#[derive(Default)]
struct Ticks;

#[derive(Default)]
struct TicksTask {
    next: i64,
    context: Option<Context>,
}

impl SourceConnector for Ticks {
    type Task = TicksTask;

    fn config_def() -> ConfigDef {
        ConfigDef::new().define(ConfigKey::optional("rows", Type::Int, "3", Importance::Low, "Rows a batch."))
    }

    fn validate(&mut self, config: &Config) -> Vec<(String, String)> {
        match config.get("rows") {
            Some("13") => vec![("rows".into(), "is unlucky".into()), ("rows".into(), "really".into())],
            _ => vec![],
        }
    }

    fn start(&mut self, context: &Context, _: &Config) -> Result<()> {
        context.info("connector started");
        Ok(())
    }

    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>> {
        Ok((0..max_tasks).map(|task| Config::from_iter([("task", task.to_string())])).collect())
    }

    fn alter_offsets(&mut self, _: &Config, offsets: &[SourcePosition]) -> Result<bool> {
        match offsets.first() {
            Some(SourcePosition { offset: None, .. }) => Ok(true),
            _ => Err(Error::failed("only resets")),
        }
    }

    fn exactly_once_support(&mut self, _: &Config) -> Option<ExactlyOnceSupport> {
        Some(ExactlyOnceSupport::Supported)
    }
}

impl SourceTask for TicksTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        self.next = config.parsed("from", 0)?;
        self.context = Some(context.clone());
        let offset = context.offset(&serde_json::json!({ "clock": 1 }))?;
        context.log(Level::Info, "resuming", &offset.unwrap().to_string());
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        if self.context.as_ref().unwrap().wait(std::time::Duration::from_millis(1)) {
            return Err(Error::retriable("cancelled"));
        }
        let values: StringArray = (self.next..self.next + 3).map(|n| Some(n.to_string())).collect();
        self.next += 3;
        let offset = format!("{{\"next\":{}}}", self.next);
        output.emit(Batch::new("ticks", Column::text(values)).with_resume_point("{\"clock\":1}", &offset))
    }

    fn commit(&mut self, positions: &[SourcePosition]) -> Result<()> {
        self.context.as_ref().unwrap().count("commits", positions.len() as f64);
        Ok(())
    }

    fn acknowledger(&self) -> Option<Box<dyn Fn(&[SourcePosition]) + Send + Sync>> {
        let context = self.context.clone()?;
        Some(Box::new(move |positions| match &positions[0].offset {
            Some(offset) => context.count("acknowledged", offset["next"].as_f64().unwrap()),
            None => panic!("there is no offset"),
        }))
    }
}

#[derive(Default)]
struct Sum;

#[derive(Default)]
struct SumTask {
    context: Option<Context>,
    sum: i64,
}

impl SinkConnector for Sum {
    type Task = SumTask;

    fn config_def() -> ConfigDef {
        ConfigDef::new()
    }

    fn start(&mut self, _: &Context, _: &Config) -> Result<()> {
        Ok(())
    }

    fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
        Ok(vec![Config::default()])
    }
}

impl SinkTask for SumTask {
    fn start(&mut self, context: &Context, _: &Config) -> Result<()> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn open(&mut self, partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        Ok(partitions.iter().map(|p| TopicPartitionOffset { offset: Some(42), ..p.clone() }).collect())
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        let text = batch.value.as_text().ok_or_else(|| Error::failed("only text"))?;
        for (row, value) in text.iter().enumerate() {
            match value.unwrap_or_default().parse::<i64>() {
                Ok(value) => self.sum += value,
                Err(error) => failures.fail(row, error.to_string()),
            }
        }
        self.context.as_ref().unwrap().gauge("sum", self.sum as f64);
        Ok(())
    }

    fn pre_commit(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        let context = self.context.as_ref().unwrap();
        context.produce(Batch::new("sums", Column::text(StringArray::from(vec![self.sum.to_string()]))))?;
        let refused = context.produce(Batch::new("nowhere", Column::text(StringArray::from(vec!["x"]))));
        assert_eq!(refused, Err(Error::Unsupported("there is no such topic".into())));
        Ok(offsets[..1].to_vec())
    }
}

#[derive(Default)]
struct Double;

impl Transform for Double {
    fn config_def() -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&mut self, _: &Context, _: &Config) -> Result<()> {
        Ok(())
    }

    fn apply(&mut self, batch: Batch, output: &mut Output<'_>, _: &mut Failures) -> Result<()> {
        output.emit(batch.clone())?;
        output.emit(batch)
    }

    fn on_watermark(&mut self, ms: i64, output: &mut Output<'_>) -> Result<()> {
        let value: StringArray = [Some(ms.to_string())].into_iter().collect();
        output.emit(Batch::new("watermarks", Column::text(value)))
    }
}

fn registry() -> Registry {
    Registry::new().with_builtin(
        Plugin::new("test", "1.2.3")
            .source::<Ticks>("com.example.TicksSourceConnector")
            .alias("org.old.ClockSourceConnector")
            .documentation("Ticks.")
            .sink::<Sum>("com.example.SumSink")
            .transform::<Double>("com.example.Double"),
    )
}

#[test]
fn classes_have_all_their_names() {
    let registry = registry();
    for name in [
        "com.example.TicksSourceConnector",
        "TicksSourceConnector",
        "TicksSource",
        "org.old.ClockSourceConnector",
        "ClockSource",
        " TicksSource ",
    ] {
        let class = registry.connector(name, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(class.info().class, "com.example.TicksSourceConnector");
    }
    let class = registry.connector("TicksSource", Some("1.2.3")).unwrap();
    let info = class.info();
    assert_eq!((info.kind, info.version.as_str(), &info.location), (Kind::Source, "1.2.3", &Location::BuiltIn));
    assert_eq!(info.documentation, "Ticks.");
    assert_eq!(info.config_def.keys[0].name, "rows");

    let error = registry.connector("TickSource", None).unwrap_err().to_string();
    assert!(error.contains("did you mean TicksSource?") && error.contains("com.example.SumSink"), "{error}");
    let error = registry.connector("TicksSource", Some("2.0")).unwrap_err().to_string();
    assert_eq!(
        error,
        "Plugin com.example.TicksSourceConnector not found that matches the version range [2.0,2.0], available versions: [1.2.3]"
    );
    assert!(registry.connector("Double", None).is_err());
    assert!(registry.transform("Double", None).is_ok());
}

#[test]
fn a_source_runs() {
    let services = Arc::new(Recorder::default());
    services.has_offsets.store(true, Ordering::Relaxed);
    let class = registry().connector("TicksSource", None).unwrap();
    let mut connector = class.connector(services.clone()).unwrap();
    let odd = Config::from_iter([("rows", "13")]);
    let messages = [("rows".to_owned(), "is unlucky".to_owned()), ("rows".to_owned(), "really".to_owned())];
    assert_eq!(connector.validate(&odd).unwrap(), messages);
    connector.start(&Config::default()).unwrap();
    assert_eq!(connector.task_configs(2).unwrap()[1].get("task"), Some("1"));
    assert_eq!(connector.exactly_once_support(&odd).unwrap(), Some(ExactlyOnceSupport::Supported));
    assert!(!connector.can_define_transaction_boundaries(&odd).unwrap());
    let reset = SourcePosition { partition: serde_json::json!({ "a": 1 }), offset: None };
    assert!(connector.alter_source_offsets(&odd, std::slice::from_ref(&reset)).unwrap());
    let set = SourcePosition { offset: Some(serde_json::json!({})), ..reset.clone() };
    assert_eq!(connector.alter_source_offsets(&odd, &[set]).unwrap_err(), Error::failed("only resets"));
    connector.stop().unwrap();

    let mut task = class.source_task(services.clone()).unwrap();
    assert!(class.sink_task(services.clone()).is_err());
    task.start(&Config::from_iter([("from", "5")])).unwrap();
    let mut batches = Vec::new();
    task.poll(&mut batches).unwrap();
    task.poll(&mut batches).unwrap();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[1].value.as_text().unwrap().value(2), "10");
    assert_eq!(batches[1].resume_point(), Some("{\"next\":11}"));
    assert_eq!(batches[1].source_partition.as_deref(), Some("{\"clock\":1}"));
    // From another thread, while the task is in its own.
    let acknowledge = task.acknowledger().unwrap();
    let told = SourcePosition { offset: Some(serde_json::json!({"next": 8})), ..reset.clone() };
    std::thread::scope(|scope| assert!(scope.spawn(|| acknowledge(&[told.clone()])).join().unwrap()));
    task.commit(&[reset.clone()]).unwrap();
    services.cancelled.store(true, Ordering::Relaxed);
    assert!(task.poll(&mut batches).unwrap_err().is_retriable());
    let cancel = task.canceller();
    assert!(!acknowledge(&[reset]), "it panics");
    assert!(!acknowledge(&[told.clone()]), "it has panicked");
    let error = task.stop().unwrap_err().to_string();
    assert!(error.contains("panicked before"), "{error}");
    drop(task);
    cancel();
    assert!(!acknowledge(&[told]), "it is gone");
    let lines = services.lines.lock().unwrap();
    assert_eq!(lines[..2], ["Info connector started", "Info resuming {\"of\":{\"clock\":1}}"]);
    assert!(lines[2].contains("while it was told of acknowledgements") && lines[2].contains("there is no offset"));
    assert_eq!(services.calls.lock().unwrap()[..], ["count acknowledged 8", "count commits 1"]);
}

#[test]
fn a_sink_runs() {
    let services = Arc::new(Recorder::default());
    let class = registry().connector("SumSink", None).unwrap();
    let mut task = class.sink_task(services.clone()).unwrap();
    task.start(&Config::default()).unwrap();
    let at = |offset| TopicPartitionOffset { topic: "t".into(), partition: 3, offset };
    assert_eq!(task.open(&[at(None)]).unwrap(), [at(Some(42))]);
    let mut batch = Batch::new("t", Column::text(StringArray::from(vec!["1", "x", "40"])));
    batch.partition = Some(3);
    batch.offsets = Offsets::Sink(Int64Array::from(vec![7, 8, 9]));
    let mut failures = Failures::default();
    task.put(batch, &mut failures).unwrap();
    assert_eq!(failures.records().len(), 1);
    assert_eq!((failures.records()[0].row, failures.records()[0].retriable), (1, false));
    assert_eq!(task.pre_commit(&[at(Some(10)), at(Some(11))]).unwrap(), [at(Some(10))]);
    task.flush(&[]).unwrap();
    task.close(&[]).unwrap();
    task.stop().unwrap();
    assert_eq!(services.calls.lock().unwrap()[..], ["gauge sum 41", "produce sums [41]"]);
}

#[test]
fn a_transform_runs() {
    let class = registry().transform("com.example.Double", None).unwrap();
    let mut transform = class.transform(Arc::new(Recorder::default())).unwrap();
    transform.configure(&Config::default()).unwrap();
    let mut batches = Vec::new();
    let batch = Batch::new("t", Column::json(StringArray::from(vec!["{}", "1"])));
    transform.apply(batch, &mut batches, &mut Failures::default()).unwrap();
    transform.on_watermark(99, &mut batches).unwrap();
    assert_eq!(batches.len(), 3);
    assert_eq!(batches[1].value.form(), Form::Json);
    assert_eq!(batches[2].value.as_text().unwrap().value(0), "99");
    assert_eq!(batches[2].value.array().null_count(), 0);
}
