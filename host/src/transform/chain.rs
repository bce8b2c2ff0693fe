//! The chain: `transforms=a,b` with their predicates, applied to batches.
//!
//! Built-in transforms that stand together share one division of the batch into parts; a plugin's transform gets batches.

use tributary_sdk::{Batch, Config, Error, Result};

use super::merge::{Merged, merge};
use super::part::{Outcome, Part};
use super::plugin_step;
use super::predicate::Predicate;
use super::registry;
use super::single_message::SingleMessage;
use crate::plugin::TransformHandle;

/// Finds a plugin's transform by class name; the error says that there is none.
pub type Resolve<'r> = dyn FnMut(&str) -> Result<Box<dyn TransformHandle>> + 'r;

/// The transforms of one task. One instance a task, called from one thread.
pub struct TransformChain {
    steps: Vec<Step>,
}

struct Step {
    alias: String,
    class: String,
    condition: Option<Condition>,
    action: Action,
}

struct Condition {
    predicate: Box<dyn Predicate>,
    negate: bool,
}

enum Action {
    BuiltIn(Box<dyn SingleMessage>),
    Plugin(Box<dyn TransformHandle>),
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// In the order of the input's rows. Each row keeps the offset and timestamp of the one it comes from.
    pub batches: Vec<Batch>,
    /// For each batch, the rows of the input that its rows come from; empty where there are no transforms.
    pub rows: Vec<Vec<u32>>,
    /// Records that a transform refused.
    pub failures: Vec<ChainFailure>,
    /// Records that a transform dropped on purpose.
    pub dropped: usize,
}

/// A record that a transform refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFailure {
    /// Row in the input.
    pub row: usize,
    /// The transform's alias in the config.
    pub alias: String,
    /// Its class.
    pub class: String,
    /// Why.
    pub message: String,
}

impl TransformChain {
    /// Of a whole connector config. Errors name the key that is wrong.
    pub fn build(config: &Config, resolve: &mut Resolve<'_>) -> Result<Self> {
        let mut steps: Vec<Step> = Vec::new();
        for alias in config.list("transforms") {
            if steps.iter().any(|step| step.alias == alias) {
                return Err(Error::failed(format!("Duplicate alias provided in transforms: {alias}")));
            }
            steps.push(Step::build(config, alias, resolve)?);
        }
        Ok(Self { steps })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Sends a batch through. The error is of a plugin's transform as a whole.
    pub fn apply(&mut self, batch: Batch) -> Result<Applied> {
        let mut applied = Applied::default();
        if self.steps.is_empty() {
            applied.batches.push(batch);
            return Ok(applied);
        }
        let rows = (0..batch.len() as u32).collect();
        let mut merged = vec![Merged { batch, rows }];
        let mut steps = &mut self.steps[..];
        while let Some((first, _)) = steps.split_first() {
            let together = match first.action {
                Action::Plugin(_) => 1,
                Action::BuiltIn(_) => {
                    steps.iter().position(|step| matches!(step.action, Action::Plugin(_))).unwrap_or(steps.len())
                }
            };
            let (now, later) = steps.split_at_mut(together);
            let mut next = Vec::with_capacity(merged.len());
            for input in merged {
                match now {
                    [Step { action: Action::Plugin(_), .. }] => now[0].apply_plugin(input, &mut next, &mut applied)?,
                    _ => apply_built_in(now, input, &mut next, &mut applied),
                }
            }
            merged = next;
            steps = later;
        }
        (applied.batches, applied.rows) = merged.into_iter().map(|merged| (merged.batch, merged.rows)).unzip();
        applied.failures.sort_by_key(|failure| failure.row);
        Ok(applied)
    }
}

impl Step {
    fn build(config: &Config, alias: &str, resolve: &mut Resolve<'_>) -> Result<Self> {
        let prefix = format!("transforms.{alias}.");
        let type_key = format!("{prefix}type");
        let name = config.required(&type_key)?;
        let within = |error: Error| Error::failed(format!("transform {alias} ({name}): {error}"));
        let mut own = config.with_prefix(&prefix);
        let condition = match own.0.remove("predicate") {
            None => None,
            Some(predicate) => {
                let negate = own.get("negate").is_some_and(|negate| negate.trim().eq_ignore_ascii_case("true"));
                Some(Condition { predicate: build_predicate(config, &predicate)?, negate })
            }
        };
        own.0.remove("negate");
        own.0.remove("type");
        let (class, action) = match registry::transform(name, &own) {
            Some(built) => {
                let (class, transform) = built.map_err(within)?;
                (class.to_owned(), Action::BuiltIn(transform))
            }
            None => {
                let mut handle = resolve(name).map_err(|error| {
                    Error::failed(format!("Invalid value {name} for configuration {type_key}: {error}"))
                })?;
                handle.configure(&own).map_err(within)?;
                (name.to_owned(), Action::Plugin(handle))
            }
        };
        Ok(Self { alias: alias.to_owned(), class, condition, action })
    }

    fn failure(&self, row: u32, message: String) -> ChainFailure {
        ChainFailure { row: row as usize, alias: self.alias.clone(), class: self.class.clone(), message }
    }

    fn apply_plugin(&mut self, input: Merged, next: &mut Vec<Merged>, applied: &mut Applied) -> Result<()> {
        // Consecutive rows that the predicate answers alike, so that the order is kept.
        let runs = match &self.condition {
            None => vec![(true, 0, input.rows.len())],
            Some(condition) => {
                let answers = condition.predicate.test(&Part::whole(&input.batch));
                let mut runs: Vec<(bool, usize, usize)> = Vec::new();
                for (row, answer) in answers.values().iter().enumerate() {
                    let answer = answer != condition.negate;
                    match runs.last_mut() {
                        Some((last, _, length)) if *last == answer => *length += 1,
                        _ => runs.push((answer, row, 1)),
                    }
                }
                runs
            }
        };
        for (answer, from, length) in runs {
            let run = Merged { batch: input.batch.slice(from, length), rows: input.rows[from..from + length].to_vec() };
            if !answer {
                next.push(run);
                continue;
            }
            let Action::Plugin(handle) = &mut self.action else { unreachable!("called for plugins only") };
            let mut refused = Vec::new();
            applied.dropped += plugin_step::apply(&mut **handle, run, next, &mut refused)?;
            applied.failures.extend(refused.into_iter().map(|(row, message)| self.failure(row, message)));
        }
        Ok(())
    }
}

fn apply_built_in(steps: &[Step], input: Merged, next: &mut Vec<Merged>, applied: &mut Applied) {
    let mut parts = vec![Part::whole(&input.batch)];
    for step in steps {
        let Action::BuiltIn(transform) = &step.action else { unreachable!("a plugin's transform stands alone") };
        let mut outcome = Outcome::default();
        for part in parts {
            match &step.condition {
                None => transform.apply(part, &mut outcome),
                Some(condition) => {
                    let answers = condition.predicate.test(&part);
                    let (yes, no) = part.divide(&answers);
                    let (mine, others) = if condition.negate { (no, yes) } else { (yes, no) };
                    if let Some(mine) = mine {
                        transform.apply(mine, &mut outcome);
                    }
                    if let Some(others) = others {
                        outcome.push(others);
                    }
                }
            }
        }
        parts = outcome.parts;
        applied.dropped += outcome.dropped;
        let of_input = |(row, message): (u32, String)| step.failure(input.rows[row as usize], message);
        applied.failures.extend(outcome.failures.into_iter().map(of_input));
    }
    if parts.is_empty() {
        return;
    }
    next.extend(merge(parts).into_iter().map(|merged| {
        let rows = merged.rows.iter().map(|&row| input.rows[row as usize]).collect();
        Merged { rows, ..merged }
    }));
}

fn build_predicate(config: &Config, alias: &str) -> Result<Box<dyn Predicate>> {
    if !config.list("predicates").contains(&alias) {
        let message = format!("Unknown predicate '{alias}': it is not listed in predicates");
        return Err(Error::failed(message));
    }
    let prefix = format!("predicates.{alias}.");
    let type_key = format!("{prefix}type");
    let name = config.required(&type_key)?;
    let mut own = config.with_prefix(&prefix);
    own.0.remove("type");
    registry::predicate(name, &own)
        .unwrap_or_else(|| Err(Error::failed("there is no such predicate class")))
        .map_err(|error| Error::failed(format!("predicate {alias} ({name}): {error}")))
}
