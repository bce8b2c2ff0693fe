//! What the boundary costs: batches of 1,000 records through the function tables, and handed over directly.
//!
//! `cargo test --release -p tributary-abi-tests --test crossing -- --ignored --nocapture`

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary::plugin::handle::Canceller;
use tributary::plugin::{Registry, SourceTaskHandle};
use tributary_abi_tests::Recorder;
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::arrow::array::builder::StringBuilder;
use tributary_sdk::source::SourcePosition;
use tributary_sdk::*;

const ROWS: usize = 1_000;

/// Emits text of 99 bytes a record: made anew each time, or the same arrays over and over, as the config says.
#[derive(Default)]
struct Lines;

#[derive(Default)]
struct LinesTask {
    made: Option<StringArray>,
    next: u64,
}

impl SourceConnector for Lines {
    type Task = LinesTask;

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

fn lines(from: u64) -> StringArray {
    use std::fmt::Write;
    let mut builder = StringBuilder::with_capacity(ROWS, ROWS * 99);
    for row in 0..ROWS as u64 {
        let _ = write!(
            builder,
            "{:020} some words that make up a line of an ordinary length, about a hundred bytes..",
            from + row
        );
        builder.append_value("");
    }
    builder.finish()
}

impl SourceTask for LinesTask {
    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.made = config.get("same").map(|_| lines(0));
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let values = match &self.made {
            Some(made) => made.clone(),
            None => lines(self.next),
        };
        self.next += ROWS as u64;
        let offset = format!("{{\"position\":{}}}", self.next);
        output.emit(Batch::new("lines", Column::text(values)).with_resume_point("{\"filename\":\"f\"}", &offset))
    }
}

/// The same task without the boundary.
struct Direct(LinesTask, Context);

impl SourceTaskHandle for Direct {
    fn start(&mut self, config: &Config) -> Result<()> {
        self.0.start(&self.1, config)
    }

    fn poll(&mut self, batches: &mut Vec<Batch>) -> Result<()> {
        self.0.poll(&mut Output::new(&mut |batch| {
            batches.push(batch);
            Ok(())
        }))
    }

    fn commit(&mut self, positions: &[SourcePosition]) -> Result<()> {
        self.0.commit(positions)
    }

    fn stop(&mut self) -> Result<()> {
        self.0.stop()
    }

    fn canceller(&self) -> Canceller {
        Arc::new(|| ())
    }
}

/// Time of a poll, the best of several rounds: other work on the machine only adds.
fn time(task: &mut dyn SourceTaskHandle, config: &Config) -> Duration {
    task.start(config).unwrap();
    let mut batches = Vec::new();
    (0..20)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..200 {
                task.poll(&mut batches).unwrap();
                assert_eq!(batches.pop().unwrap().len(), ROWS);
            }
            began.elapsed() / 200
        })
        .min()
        .unwrap()
}

#[test]
#[ignore = "a measurement, to be run on an optimised build"]
fn crossing_costs_little() {
    let registry = Registry::new().with_builtin(Plugin::new("lines", "1").source::<Lines>("Lines"));
    let class = registry.connector("Lines", None).unwrap();
    for (what, config) in [
        ("handing over the same arrays", Config::from_iter([("same", "")])),
        ("making and handing over", Config::default()),
    ] {
        let services = Arc::new(Recorder::default());
        let direct = time(&mut Direct(LinesTask::default(), Context::new(services.clone())), &config);
        let across = time(&mut *class.source_task(services).unwrap(), &config);
        let extra = across.saturating_sub(direct);
        let share = extra.as_secs_f64() / direct.as_secs_f64() * 100.0;
        println!("{what}: direct {direct:?}, across {across:?} a batch of {ROWS}: {extra:?} more ({share:.1} %)");
    }
}
