//! One commit at a time, ordered by the thread that puts, made by the thread that has the consumer.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::Carried;
use crate::log::{CommitError, CommittedOffset, LogError, TopicPartition};

/// What became of a commit.
#[derive(Debug)]
pub enum Outcome {
    /// The group has it.
    Committed,
    /// It was not tried and will not be.
    NotSent,
    /// It is not in the group and will not be.
    Refused(LogError),
    /// It may be in the group, as long as this membership lasts.
    InDoubt(LogError),
}

impl From<Result<(), CommitError>> for Outcome {
    fn from(answer: Result<(), CommitError>) -> Self {
        match answer {
            Ok(()) => Self::Committed,
            Err(CommitError::Refused(error)) => Self::Refused(error),
            Err(CommitError::InDoubt(error)) => Self::InDoubt(error),
        }
    }
}

/// A commit to make. Whatever happens to it, its outcome is told.
pub struct Order {
    offsets: Vec<CommittedOffset>,
    begun: bool,
    outcome: Option<SyncSender<Outcome>>,
}

impl Order {
    /// Whether it is of nothing but partitions that are claimed now, in the epochs in which it was prepared.
    pub fn is_of(&self, claimed: &HashMap<TopicPartition, i64>) -> bool {
        self.offsets.iter().all(|CommittedOffset { partition, metadata, .. }| {
            Carried::parse(metadata).is_some_and(|carried| claimed.get(partition) == Some(&carried.epoch))
        })
    }

    /// What to commit, now.
    pub fn begin(&mut self) -> &[CommittedOffset] {
        self.begun = true;
        &self.offsets
    }

    /// Tells the outcome.
    pub fn end(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(told) = self.outcome.take() {
            _ = told.send(outcome);
        }
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        let begun = self.begun;
        self.tell(match begun {
            true => {
                Outcome::InDoubt(LogError::retriable("the thread that commits offsets has ended in the middle of it"))
            }
            false => Outcome::NotSent,
        });
    }
}

#[derive(Default)]
struct Port {
    order: Option<Order>,
    closed: bool,
}

/// Where the order is left.
#[derive(Default)]
pub struct Orders(Mutex<Port>);

impl Orders {
    /// Leaves an order; its outcome comes from the receiver.
    pub fn place(&self, offsets: Vec<CommittedOffset>) -> Receiver<Outcome> {
        let (outcome, told) = sync_channel(1);
        let order = Order { offsets, begun: false, outcome: Some(outcome) };
        let mut port = self.lock();
        if !port.closed {
            port.order = Some(order);
        }
        told
    }

    /// Whether there is one.
    pub fn is_placed(&self) -> bool {
        self.lock().order.is_some()
    }

    /// Takes it.
    pub fn take(&self) -> Option<Order> {
        self.lock().order.take()
    }

    /// Nobody takes orders any more.
    pub fn close(&self) {
        let order = {
            let mut port = self.lock();
            port.closed = true;
            port.order.take()
        };
        drop(order);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Port> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who takes the orders. Once it is dropped, whoever waits for a commit is told that it does not come.
pub struct Taker(pub Arc<Orders>);

impl std::ops::Deref for Taker {
    type Target = Orders;

    fn deref(&self) -> &Orders {
        &self.0
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_whatever_happens() {
        let orders = Orders::default();
        let told = orders.place(Vec::new());
        orders.take().unwrap().end(Outcome::Committed);
        assert!(matches!(told.recv(), Ok(Outcome::Committed)));
        let told = orders.place(Vec::new());
        drop(orders.take());
        assert!(matches!(told.recv(), Ok(Outcome::NotSent)));
        let told = orders.place(Vec::new());
        let mut order = orders.take().unwrap();
        order.begin();
        drop(order);
        assert!(matches!(told.recv(), Ok(Outcome::InDoubt(_))));
        let told = orders.place(Vec::new());
        orders.close();
        assert!(matches!(told.recv(), Ok(Outcome::NotSent)));
        assert!(matches!(orders.place(Vec::new()).recv(), Ok(Outcome::NotSent)));
    }
}
