//! What the boundary between worker and plugin costs: the same task through the function tables that every plugin goes
//! through, and called directly. The batches are made as a source makes them: text of 99 bytes a record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary::plugin::handle::Canceller;
use tributary::plugin::{Registry, SourceTaskHandle};
use tributary_harness::{Context as _, Error as HarnessError, Result as HarnessResult};
use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::arrow::array::builder::StringBuilder;
use tributary_sdk::source::SourcePosition;
use tributary_sdk::*;
use tributary_testkit::TestServices;

/// Records of a batch.
const ROWS: usize = 1_000;

/// Polls of a round.
const POLLS: u32 = 200;
/// Rounds of each way; they alternate, since the machine's other load comes and goes.
const ROUNDS: usize = 40;

/// Emits lines, made anew each time.
#[derive(Default)]
struct Lines;

#[derive(Default)]
struct LinesTask {
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
    fn start(&mut self, _: &Context, _: &Config) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let values = lines(self.next);
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

/// What a batch takes each way.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    pub direct: Duration,
    pub across: Duration,
}

impl Crossing {
    /// What the boundary adds, in percent.
    pub fn percent(&self) -> f64 {
        (self.across.as_secs_f64() / self.direct.as_secs_f64() - 1.0) * 100.0
    }
}

/// Measures both ways; of each its best round, since other work on the machine only adds.
pub fn measure() -> HarnessResult<Crossing> {
    let registry = Registry::new().with_builtin(Plugin::new("lines", "1").source::<Lines>("Lines"));
    let class = registry.connector("Lines", None).context("the class is not known")?;
    let services = TestServices::new();
    let mut direct = Direct(LinesTask::default(), Context::new(services.clone()));
    let mut across = class.source_task(services).map_err(|error| HarnessError::new(error.to_string()))?;
    let mut best = Crossing { direct: Duration::MAX, across: Duration::MAX };
    for _ in 0..ROUNDS {
        best.direct = best.direct.min(round(&mut direct)?);
        best.across = best.across.min(round(&mut *across)?);
    }
    Ok(best)
}

fn round(task: &mut dyn SourceTaskHandle) -> HarnessResult<Duration> {
    let failed = |error: Error| HarnessError::new(error.to_string());
    task.start(&Config::default()).map_err(failed)?;
    let mut batches = Vec::new();
    let begun = Instant::now();
    for _ in 0..POLLS {
        task.poll(&mut batches).map_err(failed)?;
        if batches.pop().is_none_or(|batch| batch.len() != ROWS) {
            return Err(HarnessError::new("a poll did not bring its batch"));
        }
    }
    Ok(begun.elapsed() / POLLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_bring_the_batches() {
        let crossing = measure().unwrap();
        assert!(crossing.direct > Duration::ZERO && crossing.across > Duration::ZERO);
    }
}
