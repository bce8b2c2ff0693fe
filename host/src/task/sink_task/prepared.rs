//! Commits of a sink that prepares its transactions: prepare, commit the offsets with the tokens, commit the tokens; one after the other.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tributary_sdk::Error;
use tributary_sdk::prepared::{Claim, MAX_TOKEN, Prepared, PreparedToken};

use super::{ACKNOWLEDGED_WITHIN, PutLoop};
use crate::log::{CommittedOffset, LogError, TopicPartition};
use crate::task::backoff::Backoff;
use crate::task::errors::TaskError;
use crate::task::prepared::{Carried, Orders, Outcome};
use crate::task::transaction::fail_points;

/// What a task with prepared commits remembers.
pub struct PreparedCommits<'a> {
    orders: &'a Orders,
    /// The epochs of the partitions that are open.
    epochs: HashMap<TopicPartition, i64>,
    /// From where the next commit of each goes on: an answer below would take the group back.
    floors: HashMap<TopicPartition, i64>,
    /// Something was put whose offset does not count yet: what is prepared now would hold more than its offset says.
    pub partial: bool,
    /// A commit has begun and not come to its end. While that is so nothing is prepared: the connector may have taken what was put, and the group
    /// may carry a token that the store has not committed.
    broken: bool,
}

impl<'a> PreparedCommits<'a> {
    /// No partition is open.
    pub fn new(orders: &'a Orders) -> Self {
        Self { orders, epochs: HashMap::new(), floors: HashMap::new(), partial: false, broken: false }
    }

    /// These partitions are given up.
    pub fn close(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.epochs.remove(partition);
            self.floors.remove(partition);
        }
    }
}

impl PutLoop<'_> {
    /// Commits what the group carries of partitions that the task was given, each with its offset, and aborts what is left of earlier owners, as
    /// often as it takes. Answers `false` when the task has to stop first.
    pub(super) fn recover(&mut self, claimed: &[(Claim, i64)]) -> Result<bool, TaskError> {
        let claims = claimed.iter().map(|(claim, _)| claim.clone()).collect::<Vec<_>>();
        fail_points::pass("before", "recover");
        let recovered = self.until_done("recover", |handle| handle.recover(&claims))?;
        fail_points::pass("after", "recover");
        if let Some(prepared) = &mut self.prepared {
            let at = |claim: &Claim| TopicPartition { topic: claim.at.topic.clone(), partition: claim.at.partition };
            prepared.epochs.extend(claims.iter().map(|claim| (at(claim), claim.epoch)));
            prepared.floors.extend(claimed.iter().map(|(claim, offset)| (at(claim), *offset)));
        }
        Ok(recovered)
    }

    /// Commits what the group carries of partitions that no task is given any more.
    pub(super) fn settle(&mut self, tokens: &[PreparedToken]) -> Result<(), TaskError> {
        if !tokens.is_empty() {
            self.until_done("commit_prepared", |handle| handle.commit_prepared(tokens))?;
        }
        Ok(())
    }

    /// One commit from its beginning to its end, of these partitions or all. Whatever ends it in between, also a connector that cannot prepare for
    /// now and may have prepared some of it, is the end of the task's commits: it begins anew, or has failed.
    pub(super) fn commit_prepared(&mut self, only: Option<&[TopicPartition]>) -> Result<(), TaskError> {
        let Some(prepared) = &self.prepared else { return Ok(()) };
        if prepared.broken || prepared.partial {
            return Ok(());
        }
        let Some(delivered) = self.delivered(only)? else { return Ok(()) };
        let offered = delivered.iter().map(|(partition, offset)| partition.at(Some(*offset))).collect::<Vec<_>>();
        fail_points::pass("before", "prepare");
        self.broken(true);
        let answer = match self.handle.prepare(&offered) {
            Err(Error::Retriable(message)) => return Err(anew(format!("the connector cannot prepare: {message}"))),
            answer => self.checked("prepare", answer)?,
        };
        fail_points::pass("after", "prepare");
        let tokens = tokens(&answer);
        let commits = match self.commits(&answer, &delivered) {
            Ok(commits) => commits,
            Err(error) => return self.abort(&tokens, TaskError::new(error)),
        };
        if commits.is_empty() {
            self.broken(false);
            return Ok(());
        }
        // What it has written itself is as safe as its records are.
        loop {
            match self.services.own_records.flush(ACKNOWLEDGED_WITHIN) {
                Ok(true) => break,
                Ok(false) if self.control.stopping() => {
                    let error = anew("the connector's own records were not acknowledged before the task stopped");
                    return self.abort(&tokens, error);
                }
                Ok(false) => {}
                Err(error) => return self.abort(&tokens, error),
            }
        }
        match self.in_the_group(commits) {
            Outcome::Committed => {}
            Outcome::NotSent => return self.abort(&tokens, anew("the task could not commit offsets any more")),
            Outcome::Refused(error) => {
                let failed = TaskError { anew: error.retriable, ..refused(&error) };
                return self.abort(&tokens, failed);
            }
            Outcome::InDoubt(error) => {
                let failed = refused(&error).message;
                return Err(TaskError {
                    anew: error.retriable,
                    ..TaskError::new(format!(
                        "it is not known whether offsets were committed, which the group will tell when the task has joined it again: {failed}"
                    ))
                });
            }
        }
        let state = self.services.state.commit(self.epoch);
        state.unwrap_or_else(|error| tracing::error!("state was not stored and will be at the next commit: {error}"));
        let at =
            |prepared: &Prepared| TopicPartition { topic: prepared.at.topic.clone(), partition: prepared.at.partition };
        self.requested.extend(answer.iter().map(|prepared| (at(prepared), prepared.offset)));
        if let Some(prepared) = &mut self.prepared {
            prepared.floors.extend(answer.iter().map(|prepared| (at(prepared), prepared.offset)));
        }
        if tokens.is_empty() {
            self.broken(false);
            return Ok(());
        }
        fail_points::pass("before", "commit-prepared");
        match self.until_done("commit_prepared", |handle| handle.commit_prepared(&tokens))? {
            true => self.broken(false),
            false => tracing::warn!(
                "{} prepared transactions are committed by the next task that has their partitions",
                tokens.len()
            ),
        }
        fail_points::pass("after", "commit-prepared");
        Ok(())
    }

    /// Hands a commit to the thread that has the consumer, and waits for its outcome.
    fn in_the_group(&self, commits: Vec<CommittedOffset>) -> Outcome {
        let Some(prepared) = &self.prepared else { return Outcome::NotSent };
        let told = prepared.orders.place(commits);
        self.control.wake();
        // The order itself tells it, also when the other thread ends.
        told.recv().unwrap_or_else(|_| Outcome::InDoubt(LogError::retriable("the outcome of a commit was lost")))
    }

    /// Nothing carries these tokens. What they stand for comes again, so nothing of this task can be committed any more.
    fn abort(&mut self, tokens: &[PreparedToken], error: TaskError) -> Result<(), TaskError> {
        if !tokens.is_empty()
            && let Err(failed) = self.handle.abort_prepared(tokens)
        {
            if matches!(failed, Error::Panicked { .. }) {
                return self.checked("abort_prepared", Err(failed));
            }
            tracing::warn!(
                "{} prepared transactions were not aborted, which the next task that has their partitions will do: {failed}",
                tokens.len()
            );
        }
        Err(error)
    }

    fn broken(&mut self, broken: bool) {
        if let Some(prepared) = &mut self.prepared {
            prepared.broken = broken;
        }
    }

    /// What goes to the group, or why the connector's answer cannot.
    fn commits(
        &self,
        answer: &[Prepared],
        delivered: &HashMap<TopicPartition, i64>,
    ) -> Result<Vec<CommittedOffset>, String> {
        let (mut named, mut used) = (HashSet::new(), HashSet::new());
        let mut commits = Vec::with_capacity(answer.len());
        for Prepared { at, offset, token } in answer {
            let partition = TopicPartition { topic: at.topic.clone(), partition: at.partition };
            let name = format!("{}-{}", at.topic, at.partition);
            let wrong = |what: String| Err(format!("prepare answered with {what}: this is a bug of the connector"));
            match delivered.get(&partition) {
                None => return wrong(format!("{name}, of which nothing was put since the last commit")),
                Some(put) if offset > put => {
                    return wrong(format!("the offset {offset} of {name}, and records were put up to {put}"));
                }
                Some(_) => {}
            }
            let floor = self.prepared.as_ref().and_then(|prepared| prepared.floors.get(&partition));
            if let Some(floor) = floor.filter(|floor| offset < floor) {
                return wrong(format!("the offset {offset} of {name}, which is committed up to {floor}"));
            }
            if !named.insert(at) {
                return wrong(format!("{name} twice"));
            }
            if let Some(token) = token {
                if token.is_empty() || token.len() > MAX_TOKEN {
                    let length = token.len();
                    return wrong(format!(
                        "a token of {length} bytes for {name}; it has to have between 1 and {MAX_TOKEN}"
                    ));
                }
                if !used.insert(token) {
                    return wrong(format!(
                        "the token {token} for two partitions, whose offsets may be committed apart"
                    ));
                }
            }
            let epoch = self.prepared.as_ref().and_then(|prepared| prepared.epochs.get(&partition)).copied();
            let Some(epoch) = epoch else { return wrong(format!("{name}, which is not open")) };
            let metadata = Carried { epoch, token: token.clone() }.metadata();
            commits.push(CommittedOffset { partition, offset: *offset, metadata });
        }
        Ok(commits)
    }

    /// Makes a call until it succeeds or fails for good. Answers `false` when the task has to stop first.
    fn until_done(
        &mut self,
        name: &str,
        mut call: impl FnMut(&mut dyn crate::plugin::SinkTaskHandle) -> tributary_sdk::Result<()>,
    ) -> Result<bool, TaskError> {
        let mut backoff = Backoff::default();
        loop {
            match call(self.handle) {
                Err(Error::Retriable(message)) => {
                    self.control.counters.set_retrying(Some(&message));
                    tracing::warn!("{name} will be tried again in {:?}: {message}", backoff.next());
                    if self.control.wait(backoff.advance()) {
                        return Ok(false);
                    }
                }
                answer => {
                    self.checked(name, answer)?;
                    self.control.counters.set_retrying(None);
                    return Ok(true);
                }
            }
        }
    }
}

/// A task that ran for longer before it began anew pauses as if it were the first time.
pub const ANEW_FORGOTTEN: Duration = Duration::from_secs(60);

fn tokens(answer: &[Prepared]) -> Vec<PreparedToken> {
    let token = |prepared: &Prepared| Some(PreparedToken { at: prepared.at.clone(), token: prepared.token.clone()? });
    answer.iter().filter_map(token).collect()
}

fn anew(message: impl Into<String>) -> TaskError {
    TaskError { anew: true, ..TaskError::new(message) }
}

fn refused(error: &LogError) -> TaskError {
    let hint = match error.code {
        Some("OFFSET_METADATA_TOO_LARGE") => {
            ": raise offset.metadata.max.bytes of the brokers, which has to take the tokens of this connector"
        }
        Some("INVALID_COMMIT_OFFSET_SIZE") => {
            ": raise max.message.bytes of __consumer_offsets, which has to take the tokens of this connector"
        }
        _ => "",
    };
    TaskError::new(format!("{error}{hint}"))
}
