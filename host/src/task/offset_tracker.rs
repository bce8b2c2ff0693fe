//! Which source offsets may be committed: per source partition, the position before the first batch that is not safely out.
//!
//! Batches are submitted in the order in which they were polled, and complete in any order. A position becomes committable
//! only when its batch and every earlier batch of the same source partition are complete, so that a crash repeats records
//! and never skips one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tributary_sdk::source::SourcePosition;

/// One batch that was handed to the producer.
#[derive(Debug)]
struct Submitted {
    token: u64,
    complete: bool,
    /// The batch's last resume point, JSON.
    offset: Option<Box<str>>,
}

/// Follows the batches of one task.
#[derive(Debug, Default)]
pub struct OffsetTracker {
    partitions: HashMap<Arc<str>, VecDeque<Submitted>>,
    partition_of: HashMap<u64, Arc<str>>,
    committable: HashMap<Arc<str>, Box<str>>,
    /// The same, for telling the plugin; kept only where it wants to know.
    acknowledged: Option<HashMap<Arc<str>, Box<str>>>,
}

impl OffsetTracker {
    /// A tracker whose [`Self::take_acknowledged`] answers.
    pub fn telling() -> Self {
        Self { acknowledged: Some(HashMap::new()), ..Self::default() }
    }

    /// A batch was polled; `offset` is its last resume point, if it has one. Tokens grow.
    pub fn submit(&mut self, token: u64, partition: &Arc<str>, offset: Option<&str>) {
        self.partition_of.insert(token, partition.clone());
        let submitted = Submitted { token, complete: false, offset: offset.map(Into::into) };
        self.partitions.entry(partition.clone()).or_default().push_back(submitted);
    }

    /// Every record of the batch is acknowledged, filtered, or disposed of as an error.
    pub fn complete(&mut self, token: u64) {
        let Some(partition) = self.partition_of.remove(&token) else { return };
        let queue = self.partitions.get_mut(&partition).expect("a submitted token has a queue");
        let place =
            queue.binary_search_by_key(&token, |submitted| submitted.token).expect("tokens are queued in order");
        queue[place].complete = true;
        while queue.front().is_some_and(|front| front.complete) {
            if let Some(offset) = queue.pop_front().and_then(|front| front.offset) {
                if let Some(acknowledged) = &mut self.acknowledged {
                    acknowledged.insert(partition.clone(), offset.clone());
                }
                self.committable.insert(partition.clone(), offset);
            }
        }
        if queue.is_empty() {
            self.partitions.remove(&partition);
        }
    }

    /// Batches that are not complete.
    pub fn unfinished(&self) -> usize {
        self.partition_of.len()
    }

    /// Whether positions became committable since [`Self::take_committable`] was called.
    pub fn has_committable(&self) -> bool {
        !self.committable.is_empty()
    }

    /// The positions that became committable since the last call.
    pub fn take_committable(&mut self) -> Vec<SourcePosition> {
        take(&mut self.committable)
    }

    /// Whether there is something to tell.
    pub fn has_acknowledged(&self) -> bool {
        self.acknowledged.as_ref().is_some_and(|acknowledged| !acknowledged.is_empty())
    }

    /// The positions that became committable since the last call of this function, whether or not they were taken to be stored.
    pub fn take_acknowledged(&mut self) -> Vec<SourcePosition> {
        self.acknowledged.as_mut().map(take).unwrap_or_default()
    }

    /// Nobody wants to know any more.
    pub fn tell_no_more(&mut self) {
        self.acknowledged = None;
    }

    /// Puts back positions whose commit failed, where nothing newer has become committable since.
    pub fn put_back(&mut self, positions: Vec<SourcePosition>) {
        for SourcePosition { partition, offset } in positions {
            if let Some(offset) = offset {
                self.committable
                    .entry(partition.to_string().into())
                    .or_insert_with(|| offset.to_string().into_boxed_str());
            }
        }
    }
}

fn take(positions: &mut HashMap<Arc<str>, Box<str>>) -> Vec<SourcePosition> {
    let parse = |json: &str| serde_json::from_str(json).expect("offsets were checked when they were polled");
    let position = |(partition, offset): (Arc<str>, Box<str>)| SourcePosition {
        partition: parse(&partition),
        offset: Some(parse(&offset)),
    };
    positions.drain().map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition(n: usize) -> Arc<str> {
        format!(r#"{{"p":{n}}}"#).into()
    }

    #[test]
    fn commits_only_the_contiguous_prefix() {
        let (mut tracker, p) = (OffsetTracker::default(), partition(0));
        for token in 1..=3 {
            tracker.submit(token, &p, Some(&format!(r#"{{"position":{token}}}"#)));
        }
        tracker.complete(2);
        assert!(tracker.take_committable().is_empty());
        tracker.complete(1);
        assert_eq!(tracker.take_committable()[0].offset, Some(serde_json::json!({"position": 2})));
        assert_eq!(tracker.unfinished(), 1);
    }

    #[test]
    fn a_failed_commit_is_tried_again_unless_overtaken() {
        let (mut tracker, p) = (OffsetTracker::default(), partition(0));
        tracker.submit(1, &p, Some(r#"{"position":1}"#));
        tracker.submit(2, &p, Some(r#"{"position":2}"#));
        tracker.complete(1);
        let failed = tracker.take_committable();
        tracker.put_back(failed.clone());
        assert_eq!(tracker.take_committable(), failed);
        tracker.complete(2);
        tracker.put_back(failed);
        assert_eq!(tracker.take_committable()[0].offset, Some(serde_json::json!({"position": 2})));
    }

    proptest! {
        /// Against the naive model: a list of all batches, searched from the start each time.
        #[test]
        fn agrees_with_a_naive_model(
            batches in prop::collection::vec((0usize..3, prop::bool::weighted(0.7)), 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let mut tracker = OffsetTracker::default();
            for (token, (p, has_offset)) in batches.iter().enumerate() {
                let offset = format!("{{\"n\":{token}}}");
                tracker.submit(token as u64, &partition(*p), has_offset.then_some(offset.as_str()));
            }
            let mut open: Vec<usize> = (0..batches.len()).collect();
            let mut last: HashMap<usize, Option<usize>> = HashMap::new();
            for index in order.iter().take(batches.len()) {
                let token = open.remove(index.index(open.len()));
                tracker.complete(token as u64);
                let mut now = HashMap::new();
                for position in tracker.take_committable() {
                    let p = position.partition["p"].as_u64().unwrap() as usize;
                    now.insert(p, position.offset.unwrap()["n"].as_u64().unwrap() as usize);
                }
                for p in 0..3 {
                    let first_open = open.iter().filter(|&&t| batches[t].0 == p).min().copied().unwrap_or(usize::MAX);
                    let expected = (0..batches.len()).rfind(|&t| batches[t].0 == p && batches[t].1 && t < first_open);
                    let before = last.insert(p, expected).flatten();
                    prop_assert_eq!(now.get(&p).copied(), if expected == before { None } else { expected });
                }
            }
            prop_assert_eq!(tracker.unfinished(), 0);
        }
    }
}
