//! Sinks whose store can prepare a transaction durably and commit it later, from any session: each record is written exactly once.
//!
//! For stores with two-phase commit that cannot keep the worker's offsets beside the rows: `PREPARE TRANSACTION` and XA, files that are renamed
//! when they are complete, multipart uploads. A connector says so with [`ExactlyOnceSupport::Prepared`](crate::ExactlyOnceSupport::Prepared), and
//! its task implements four calls beside `put`:
//!
//! 1. [`prepare`](crate::SinkTask::prepare) makes what was put of each partition durable and not visible, and answers with a *token* of it.
//! 2. The worker commits the partition's offset **with the token in its metadata**: both are in the group, or neither is.
//! 3. [`commit_prepared`](crate::SinkTask::commit_prepared) makes it visible. Only then the next `prepare` comes.
//! 4. Whoever has the partition next finds the last token with the offset: [`recover`](crate::SinkTask::recover) commits it before the first `put`,
//!    and aborts what was prepared and is carried by no offset.
//!
//! So a crash between any two steps leaves a transaction that is either carried by the group, and is committed, or is not, and is aborted; the
//! records of the latter come again.
//!
//! # What a sink has to keep
//!
//! - **A token is one partition's.** Offsets of two partitions may be committed apart, so what is prepared together must not be of both.
//! - **No token is used twice.** One that is not known to the store is taken for committed.
//! - **Names have the epoch.** A task that stood still while another one took its partition over may wake up in the middle of `recover`; it must
//!   not abort what its successor has prepared. Each [`Claim`] has an epoch larger than all before in the group's metadata: `recover` aborts what *smaller* epochs have
//!   prepared for the partition, and nothing else. [`Claims`] makes such tokens, which can serve as the names in the store.
//! - **Names tell whose store it is not, too.** Epochs are of one consumer group in one cluster. If connectors of two of them write into one store
//!   under one connector's name (two regions, a test beside the live one, `group.id` set anew), each aborts what the other has prepared, and its
//!   records are lost: give [`Claims::new`] a name with a namespace from the config in front, `eu/orders` and `us/orders`.
//! - **A failed `prepare` is the end of the instance**, whatever it has done for some of the partitions: also after a retriable error the task begins
//!   anew, its next `recover` aborts what was prepared, and the records come again. What cannot be prepared *yet* is left out of the answer instead.
//! - `recover` may find less than there will be: a `PREPARE TRANSACTION` of a task that stands still may become durable later, with its locks. A
//!   sink that is blocked by one may abort what [`Claims::is_orphan`] names at any time, not only in `recover`.
//! - **Committing and aborting are idempotent**, and two tasks may commit the same token at the same time.
//! - `close` drops what was put of its partitions and not prepared. What is prepared stays.
//! - Rows that `put` names as failed are not in the transaction; those around them may be.
//!
//! A worker that does not know prepared commits (plugin interface before 1.2) never calls `recover`. [`Claims::of`] then has no claim of the
//! partition, so that `put` fails instead of writing what nobody would commit. If all records of a partition are filtered there is no `put`, and such a
//! worker replaces the token that the group carries: upgrade all workers of a group before the first such sink is created.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::errors::{Error, Result};
use crate::sink::TopicPartition;

/// Bytes that a token may have.
pub const MAX_TOKEN: usize = tributary_abi::MAX_TOKEN;

/// A partition that this task has from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which.
    #[serde(flatten)]
    pub at: TopicPartition,
    /// Larger than the epochs of all that had the partition before.
    pub epoch: i64,
    /// The token that the group's offset carries: it has to be committed, if it is not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Arc<str>>,
}

/// What was put of a partition up to `offset` is durable, and not visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Of which partition.
    #[serde(flatten)]
    pub at: TopicPartition,
    /// The offset behind the last of its records.
    pub offset: i64,
    /// What commits it, at most [`MAX_TOKEN`] bytes; `None`: there is nothing to commit, as where all records were filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Arc<str>>,
}

/// A token to commit or to abort.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PreparedToken {
    /// Of which partition.
    #[serde(flatten)]
    pub at: TopicPartition,
    /// What `prepare` answered.
    pub token: Arc<str>,
}

/// The claims of one task, and tokens by them: `<connector>/<topic>/<partition>/<epoch>/<number>`. Whoever lists what is prepared in the store finds
/// whose it is by [`TokenName::parse`].
#[derive(Debug)]
pub struct Claims {
    connector: Arc<str>,
    held: BTreeMap<TopicPartition, (i64, u64)>,
}

impl Claims {
    /// No partition is claimed. `connector` is the connector's name (`name` in its config); with a namespace in front of it where connectors of other
    /// clusters or groups write into the same store.
    pub fn new(connector: impl Into<Arc<str>>) -> Self {
        Self { connector: connector.into(), held: BTreeMap::new() }
    }

    /// The partitions are this task's; what [`SinkTask::recover`](crate::SinkTask::recover) ends with.
    pub fn claim(&mut self, claims: &[Claim]) {
        self.held.extend(claims.iter().map(|claim| (claim.at.clone(), (claim.epoch, 0))));
    }

    /// They are not any more.
    pub fn close(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|at| _ = self.held.remove(at));
    }

    /// The epoch in which the task has the partition.
    pub fn of(&self, at: &TopicPartition) -> Result<i64> {
        self.held.get(at).map(|(epoch, _)| *epoch).ok_or_else(|| {
            Error::failed(format!(
                "records of {}-{} were put, and the partition was not claimed: this worker does not know prepared commits (it needs the plugin \
                 interface 1.2), or a transform has renamed their topic, which such a sink cannot follow",
                at.topic, at.partition
            ))
        })
    }

    /// A token that there was never before.
    pub fn next_token(&mut self, at: &TopicPartition) -> Result<Arc<str>> {
        let epoch = self.of(at)?;
        let number = self.held.get_mut(at).map_or(0, |(_, number)| {
            *number += 1;
            *number
        });
        let name = TokenName { connector: self.connector.clone(), at: at.clone(), epoch, number };
        Ok(name.to_string().into())
    }

    /// Whether `token`, found prepared in the store, is one that [`SinkTask::recover`](crate::SinkTask::recover) has to abort for this claim.
    pub fn is_orphan(&self, claim: &Claim, token: &str) -> bool {
        claim.token.as_deref() != Some(token)
            && TokenName::parse(token)
                .is_some_and(|name| name.connector == self.connector && name.at == claim.at && name.epoch < claim.epoch)
    }
}

/// What a token of [`Claims`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenName {
    /// The connector's name.
    pub connector: Arc<str>,
    /// Of which partition.
    pub at: TopicPartition,
    /// Of which epoch.
    pub epoch: i64,
    /// Which one of that epoch, from 1.
    pub number: u64,
}

impl TokenName {
    /// Reads a token; `None` where it is none of [`Claims`].
    pub fn parse(token: &str) -> Option<Self> {
        // From behind: a connector's name may have slashes, a topic's may not.
        let mut parts = token.rsplitn(5, '/');
        let number = parts.next()?.parse().ok()?;
        let epoch = parts.next()?.parse().ok()?;
        let partition = parts.next()?.parse().ok()?;
        let topic = parts.next()?.into();
        let connector = parts.next()?.into();
        Some(Self { connector, at: TopicPartition { topic, partition }, epoch, number })
    }
}

impl std::fmt::Display for TokenName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connector, at, epoch, number } = self;
        write!(f, "{connector}/{}/{}/{epoch}/{number}", at.topic, at.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    #[test]
    fn tokens_say_whose_they_are_and_come_once() {
        let mut claims = Claims::new("a/b");
        assert!(claims.next_token(&at(0)).unwrap_err().to_string().contains("was not claimed"));
        claims.claim(&[Claim { at: at(0), epoch: 7, token: None }]);
        let (first, second) = (claims.next_token(&at(0)).unwrap(), claims.next_token(&at(0)).unwrap());
        assert_eq!((&*first, &*second), ("a/b/t/0/7/1", "a/b/t/0/7/2"));
        let name = TokenName::parse(&second).unwrap();
        assert_eq!(name, TokenName { connector: "a/b".into(), at: at(0), epoch: 7, number: 2 });
        for other in ["", "t/0/7/1", "a/t/0/7/x", "a/t/x/7/1"] {
            assert_eq!(TokenName::parse(other), None, "{other}");
        }
        claims.close(&[at(0)]);
        assert!(claims.of(&at(0)).is_err());
    }

    #[test]
    fn only_what_smaller_epochs_have_prepared_is_aborted() {
        let claims = Claims::new("c");
        let claim = Claim { at: at(0), epoch: 7, token: Some("c/t/0/6/4".into()) };
        let orphans = ["c/t/0/6/3", "c/t/0/5/9"];
        let others = ["c/t/0/6/4", "c/t/0/7/1", "c/t/0/8/1", "c/t/1/6/3", "d/t/0/6/3", "c/u/0/6/3", "something else"];
        assert!(orphans.iter().all(|token| claims.is_orphan(&claim, token)));
        assert!(!others.iter().any(|token| claims.is_orphan(&claim, token)));
    }

    #[test]
    fn what_crosses_is_flat() {
        let claim = Claim { at: at(1), epoch: 2, token: None };
        assert_eq!(serde_json::to_string(&claim).unwrap(), r#"{"topic":"t","partition":1,"epoch":2}"#);
        let prepared: Prepared = serde_json::from_str(r#"{"topic":"t","partition":1,"offset":5,"token":"x"}"#).unwrap();
        assert_eq!(prepared, Prepared { at: at(1), offset: 5, token: Some("x".into()) });
    }
}
