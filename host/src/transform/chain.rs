//! The chain: `transforms=a,b` with their predicates, applied to batches.
//!
//! Built-in transforms that stand together share one division of the batch into parts; a plugin's transform gets batches, and so does
//! one that keeps state, which works on the store of the batch's shard.
//!
//! In front of a transform with `repartition=auto` the chain is cut: what comes before is one stage, what follows the next one. Records
//! that leave a stage that is not the last are told their [`Place`] by the transform behind the cut, and come to the next stage through a
//! topic; how is the task's business.

use std::ops::Range;
use std::sync::Arc;

use tributary_sdk::{Batch, Config, Error, Result};

use super::cuts::{self, Facts};
use super::merge::{Merged, merge};
use super::part::Target;
use super::part::{Outcome, Part};
use super::plugin_step;
use super::predicate::Predicate;
use super::registry;
use super::single_message::SingleMessage;
use super::single_message::records::{self, Records};
use super::stateful::{Emitted, Moment, News, Stateful};
use crate::expression::Variable;
use crate::plugin::{BUILT_IN_VERSION, TransformHandle, check_version};
use crate::state::{Shard, Store, TaskState};
use crate::task::control::now_ms;

/// Finds a plugin's transform by class name and the versions that are asked for; the error says that there is none.
pub type Resolve<'r> = dyn FnMut(&str, Option<&str>) -> Result<Box<dyn TransformHandle>> + 'r;

/// The transforms of one task. One instance a task, called from one thread.
pub struct TransformChain {
    steps: Vec<Step>,
    /// Steps that begin a stage, without the first stage's.
    cuts: Vec<usize>,
    state: Option<Arc<TaskState>>,
    clock: Clock,
}

/// Tells the time in milliseconds since the epoch; tests have their own.
pub type Clock = Box<dyn Fn() -> i64 + Send>;

struct Step {
    alias: String,
    class: String,
    condition: Option<Condition>,
    action: Action,
}

/// The end of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The alias of the transform behind it.
    pub alias: String,
    /// Its class.
    pub class: String,
    /// `repartition.partitions`.
    pub partitions: Option<i32>,
    /// `eventtime.idle.timeout.ms` of that transform; `None`: never.
    pub idle_timeout: Option<i64>,
}

/// Where a record goes that leaves a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To the shard of a key. The bytes are those of the state.
    Key {
        /// The key.
        key: Box<[u8]>,
        /// Its time, in milliseconds.
        time: i64,
    },
    /// Anywhere: the transform behind the cut is not for it.
    Anywhere,
    /// Nowhere: it counts for nothing.
    Nowhere,
    /// The transform behind the cut would refuse it, for this reason.
    Refused(String),
}

struct Condition {
    predicate: Box<dyn Predicate>,
    negate: bool,
}

enum Action {
    BuiltIn(Box<dyn SingleMessage>),
    Plugin(Box<dyn TransformHandle>),
    Stateful(Box<dyn Stateful>),
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
    /// Records that came too late for a stateful transform, whatever became of them.
    pub late: u64,
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
        let (mut steps, mut cuts): (Vec<Step>, _) = (Vec::new(), Vec::new());
        let mut facts = Vec::new();
        for alias in config.list("transforms") {
            if steps.iter().any(|step| step.alias == alias) {
                return Err(Error::failed(format!("Duplicate alias provided in transforms: {alias}")));
            }
            let step = Step::build(config, alias, resolve)?;
            let repartition = config.get(&format!("transforms.{alias}.repartition")).map(str::trim);
            if let Action::Stateful(stateful) = &step.action {
                if repartition == Some("auto") {
                    cuts.push(steps.len());
                }
                facts.push(Facts::of(alias, repartition, &**stateful));
            }
            steps.push(step);
        }
        cuts::check(&facts).map_err(|(_, message)| Error::failed(message))?;
        Ok(Self { steps, cuts, state: None, clock: Box::new(now_ms) })
    }

    /// Whether a step keeps state: the task has to run the loop that commits it with the offsets, and give it with [`Self::set_state`].
    pub fn is_stateful(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::Stateful(_)))
    }

    /// The ends of its stages, without the last one.
    pub fn cuts(&self, config: &Config) -> Vec<Cut> {
        let cut = |&at: &usize| {
            let step = &self.steps[at];
            let Action::Stateful(stateful) = &step.action else { unreachable!("a cut is in front of a stateful step") };
            let partitions = config.get(&format!("transforms.{}.repartition.partitions", step.alias));
            Cut {
                alias: step.alias.clone(),
                class: step.class.clone(),
                partitions: partitions.and_then(|text| text.trim().parse().ok()),
                idle_timeout: stateful.shared().event_time.idle_timeout,
            }
        };
        self.cuts.iter().map(cut).collect()
    }

    /// Whether a stage keeps state.
    pub fn stage_is_stateful(&self, stage: usize) -> bool {
        self.steps[self.stage(stage)].iter().any(|step| matches!(step.action, Action::Stateful(_)))
    }

    /// Whether what leaves a stage is made there, in the order of event time.
    pub fn stage_makes_records(&self, stage: usize) -> bool {
        let makes = |step: &Step| matches!(&step.action, Action::Stateful(stateful) if stateful.makes_records());
        self.steps[self.stage(stage)].iter().any(makes)
    }

    fn stage(&self, stage: usize) -> Range<usize> {
        let from = stage.checked_sub(1).map_or(0, |cut| self.cuts[cut]);
        from..self.cuts.get(stage).copied().unwrap_or(self.steps.len())
    }

    /// The partitions that a stage's records come from, through a repartition topic.
    pub fn expect(&mut self, stage: usize, upstream: &Arc<[String]>) {
        for number in self.told(stage) {
            if let Action::Stateful(stateful) = &mut self.steps[number].action {
                stateful.expect(upstream.clone());
            }
        }
    }

    /// The steps of a stage that event time in front of its repartition topic is told to: as that is the first one's, those with the same,
    /// up to the first that makes records.
    fn told(&self, stage: usize) -> Vec<usize> {
        let mut first: Option<Option<&str>> = None;
        let mut told = Vec::new();
        for number in self.stage(stage) {
            let Action::Stateful(stateful) = &self.steps[number].action else { continue };
            let own = stateful.shared().time.as_ref().map(|time| time.expression().text());
            if *first.get_or_insert(own) == own {
                told.push(number);
            }
            if stateful.makes_records() {
                break;
            }
        }
        told
    }

    /// Where the records of a batch go that leaves this stage, one a row.
    pub fn places(&self, stage: usize, batch: &Batch) -> Vec<Place> {
        let step = &self.steps[self.cuts[stage]];
        let Action::Stateful(stateful) = &step.action else { unreachable!("a cut is in front of a stateful step") };
        let rows = (0..batch.len() as u32).collect();
        let (mut places, mut key) = (Vec::with_capacity(batch.len()), Vec::new());
        for (answer, run) in step.runs(&Merged { batch: batch.clone(), rows }) {
            if !answer {
                places.extend(std::iter::repeat_n(Place::Anywhere, run.batch.len()));
                continue;
            }
            let picks = stateful.place_picks();
            let mut part = Part::whole(&run.batch);
            records::open(&mut part, picks.iter().filter(|pick| pick.opens()).map(|pick| pick.expression()));
            part.open(Target::Key);
            part.open(Target::Value);
            let with_headers = picks.iter().any(|pick| pick.expression().needs(Variable::Headers).is_some());
            let records = Records::of(&part, with_headers);
            for at in 0..part.rows.len() {
                places.push(match stateful.place(&records.row(at), &mut key) {
                    Ok(Some(time)) => Place::Key { key: key.as_slice().into(), time },
                    Ok(None) => Place::Nowhere,
                    Err(message) => Place::Refused(message),
                });
            }
        }
        places
    }

    /// Something is told of a partition in front of a stage's repartition topic: emits what is due. Rows in the answer mean nothing.
    pub fn hear(&mut self, stage: usize, shard: Shard, news: &News) -> Result<Applied> {
        let at = Moment { now_ms: (self.clock)(), reading: true, upstream: None };
        let (mut applied, steps) = (Applied::default(), self.stage(stage));
        for number in self.told(stage) {
            let Action::Stateful(stateful) = &mut self.steps[number].action else { continue };
            let mut emitted = Emitted::default();
            with_store(self.state.as_deref(), shard, |store| stateful.hear(store, shard, news, at, &mut emitted))?;
            let next = self.steps[number].take(emitted, &mut applied);
            self.run(number + 1..steps.end, next, None, &mut applied)?;
        }
        Ok(applied)
    }

    /// Memory that the stateful steps together may have for their state.
    pub fn state_bytes(&self) -> usize {
        let bytes = |step: &Step| match &step.action {
            Action::Stateful(stateful) => stateful.max_bytes(),
            _ => 0,
        };
        self.steps.iter().map(bytes).sum()
    }

    /// Where the stateful steps keep their state. The shard of a batch has to be open when it is applied.
    pub fn set_state(&mut self, state: Arc<TaskState>) {
        self.state = Some(state);
    }

    /// Another clock than the system's.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Sends a batch through the first stage. The error is of a plugin's transform as a whole.
    pub fn apply(&mut self, batch: Batch) -> Result<Applied> {
        self.apply_in(0, batch, None)
    }

    /// Sends a batch through a stage; behind a repartition topic, with the partition in front of it that its records come from.
    pub fn apply_in(&mut self, stage: usize, batch: Batch, upstream: Option<&str>) -> Result<Applied> {
        let mut applied = Applied::default();
        if self.steps.is_empty() {
            applied.batches.push(batch);
            return Ok(applied);
        }
        let rows = (0..batch.len() as u32).collect();
        self.run(self.stage(stage), vec![Merged { batch, rows }], upstream, &mut applied)?;
        applied.failures.sort_by_key(|failure| failure.row);
        Ok(applied)
    }

    /// Time has passed without records of a shard of a stage: emits what is due. `reading`: the shard's input is being read, so that silence
    /// means that there was nothing; not while the task is paused or pushed back. Rows in the answer mean nothing.
    pub fn advance(&mut self, stage: usize, shard: Shard, reading: bool) -> Result<Applied> {
        let at = Moment { now_ms: (self.clock)(), reading, upstream: None };
        self.emit(stage, shard, |stateful, store, emitted| stateful.advance(store, shard, at, emitted))
    }

    /// A transaction is about to be sealed: emits what is emitted once a commit. Rows in the answer mean nothing.
    pub fn before_commit(&mut self, stage: usize, shard: Shard) -> Result<Applied> {
        self.emit(stage, shard, |stateful, store, emitted| stateful.before_commit(store, shard, emitted))
    }

    /// A shard was closed, or the state of open transactions discarded.
    pub fn forget(&mut self, shard: Shard) {
        for step in &mut self.steps {
            if let Action::Stateful(stateful) = &mut step.action {
                stateful.forget(shard);
            }
        }
    }

    /// Lets each stateful step emit, and sends that through the steps behind it.
    fn emit(
        &mut self,
        stage: usize,
        shard: Shard,
        mut of: impl FnMut(&mut dyn Stateful, &mut Store, &mut Emitted) -> Result<()>,
    ) -> Result<Applied> {
        let (mut applied, steps) = (Applied::default(), self.stage(stage));
        for at in steps.clone() {
            let Action::Stateful(stateful) = &mut self.steps[at].action else { continue };
            let mut emitted = Emitted::default();
            with_store(self.state.as_deref(), shard, |store| of(&mut **stateful, store, &mut emitted))?;
            let next = self.steps[at].take(emitted, &mut applied);
            self.run(at + 1..steps.end, next, None, &mut applied)?;
        }
        Ok(applied)
    }

    /// Sends batches through some steps.
    fn run(
        &mut self,
        steps: Range<usize>,
        mut merged: Vec<Merged>,
        upstream: Option<&str>,
        applied: &mut Applied,
    ) -> Result<()> {
        let mut at = Moment { now_ms: (self.clock)(), reading: true, upstream };
        let mut steps = &mut self.steps[steps];
        while let Some((first, _)) = steps.split_first() {
            let together = match first.action {
                Action::Plugin(_) | Action::Stateful(_) => 1,
                Action::BuiltIn(_) => {
                    steps.iter().position(|step| !matches!(step.action, Action::BuiltIn(_))).unwrap_or(steps.len())
                }
            };
            let (now, later) = steps.split_at_mut(together);
            let mut next = Vec::with_capacity(merged.len());
            for input in merged {
                match now {
                    [Step { action: Action::Plugin(_), .. }] => now[0].apply_plugin(input, &mut next, applied)?,
                    [Step { action: Action::Stateful(_), .. }] => {
                        now[0].apply_stateful(self.state.as_deref(), at, input, &mut next, applied)?;
                    }
                    _ => apply_built_in(now, input, &mut next, applied),
                }
            }
            if let [Step { action: Action::Stateful(stateful), .. }] = now
                && stateful.makes_records()
            {
                // What goes on is the shard's own.
                at.upstream = None;
            }
            merged = next;
            steps = later;
        }
        for Merged { batch, rows } in merged {
            applied.batches.push(batch);
            applied.rows.push(rows);
        }
        Ok(())
    }
}

/// Works on the store of a shard.
fn with_store(state: Option<&TaskState>, shard: Shard, work: impl FnOnce(&mut Store) -> Result<()>) -> Result<()> {
    let state = state.ok_or_else(|| {
        Error::failed("the task has no state for its stateful transforms; this is a bug of the worker")
    })?;
    // The steps' errors are the SDK's, the store's own are not.
    let mut result = Ok(());
    state.with(shard, |store| {
        result = work(store);
        Ok(())
    })?;
    result
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
        let version = own.0.remove("plugin.version");
        let built_in =
            |class: &str| is_built_in_version(class, version.as_deref()).map_err(Error::failed).map_err(within);
        let (class, action) = match (registry::transform(name, &own), registry::stateful(name, alias, &own)) {
            (Some(built), _) => {
                let (class, transform) = built.map_err(within)?;
                built_in(class)?;
                (class.to_owned(), Action::BuiltIn(transform))
            }
            (None, Some(built)) => {
                let (class, transform) = built.map_err(within)?;
                built_in(class)?;
                (class.to_owned(), Action::Stateful(transform))
            }
            (None, None) => {
                let mut handle = resolve(name, version.as_deref()).map_err(|error| {
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

    /// Consecutive rows that the predicate answers alike, so that the order is kept, and whether the step is for them.
    fn runs(&self, input: &Merged) -> Vec<(bool, Merged)> {
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
        let run = |(answer, from, length): (bool, usize, usize)| {
            let rows = input.rows[from..from + length].to_vec();
            (answer, Merged { batch: input.batch.slice(from, length), rows })
        };
        runs.into_iter().map(run).collect()
    }

    fn apply_stateful(
        &mut self,
        state: Option<&TaskState>,
        at: Moment<'_>,
        input: Merged,
        next: &mut Vec<Merged>,
        applied: &mut Applied,
    ) -> Result<()> {
        for (answer, run) in self.runs(&input) {
            if !answer {
                next.push(run);
                continue;
            }
            let Some(shard) = run.batch.partition else {
                return Err(Error::failed(format!(
                    "transform {} ({}) keeps state for each input partition, and this record has none",
                    self.alias, self.class
                )));
            };
            let Action::Stateful(stateful) = &mut self.action else { unreachable!("called for stateful ones only") };
            let mut emitted = Emitted::default();
            with_store(state, shard, |store| stateful.apply(store, shard, run, at, &mut emitted))?;
            next.extend(self.take(emitted, applied));
        }
        Ok(())
    }

    /// What goes on of what a stateful step emitted; the rest is noted.
    fn take(&self, emitted: Emitted, applied: &mut Applied) -> Vec<Merged> {
        let Emitted { next, routed, refused, dropped, late } = emitted;
        applied.dropped += dropped;
        applied.late += late;
        applied.failures.extend(refused.into_iter().map(|(row, message)| self.failure(row, message)));
        for Merged { batch, rows } in routed {
            applied.batches.push(batch);
            applied.rows.push(rows);
        }
        next
    }

    fn apply_plugin(&mut self, input: Merged, next: &mut Vec<Merged>, applied: &mut Applied) -> Result<()> {
        for (answer, run) in self.runs(&input) {
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

/// Validation says so, too; a config may come from elsewhere, or from an older worker.
fn is_built_in_version(class: &str, asked: Option<&str>) -> std::result::Result<(), String> {
    check_version(class, asked, &[BUILT_IN_VERSION])
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
    let version = own.0.remove("plugin.version");
    is_built_in_version(name, version.as_deref())
        .map_err(|error| Error::failed(format!("predicate {alias} ({name}): {error}")))?;
    registry::predicate(name, &own)
        .unwrap_or_else(|| Err(Error::failed("there is no such predicate class")))
        .map_err(|error| Error::failed(format!("predicate {alias} ({name}): {error}")))
}
