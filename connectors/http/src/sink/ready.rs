//! Which records may be sent next, while others are under way.
//!
//! Promises: the records of a group are sent by one lane at a time, in their order; whoever is free takes the group whose next record
//! comes first. So no lane is idle while another has records that need not wait.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// The records of a batch that are to be sent.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The rows of each group that nobody has taken.
    groups: Vec<VecDeque<usize>>,
    /// The next row of each group that no lane has, and the group.
    free: BinaryHeap<Reverse<(usize, usize)>>,
}

impl Ready {
    /// Of rows with the mark of their group, in the order of rows.
    pub fn of(rows: impl Iterator<Item = (usize, u64)>) -> Self {
        let mut ready = Self::default();
        let mut known = HashMap::new();
        for (row, mark) in rows {
            let group = *known.entry(mark).or_insert_with(|| {
                ready.groups.push(VecDeque::new());
                ready.groups.len() - 1
            });
            ready.groups[group].push_back(row);
        }
        for group in 0..ready.groups.len() {
            ready.give_back(group);
        }
        ready
    }

    /// How many lanes have something to do at first.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// The free group whose next record comes first, which is then the caller's. `None`: all that is left is others'.
    pub fn take(&mut self) -> Option<usize> {
        self.free.pop().map(|Reverse((_, group))| group)
    }

    /// The next row of a group that the caller has.
    pub fn row_of(&mut self, group: usize) -> Option<usize> {
        self.groups[group].pop_front()
    }

    /// What is left of a group is everybody's again.
    pub fn give_back(&mut self, group: usize) {
        if let Some(row) = self.groups[group].front() {
            self.free.push(Reverse((*row, group)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_with_one_lane_and_the_first_record_goes_first() {
        let mut ready = Ready::of([(0, 7), (1, 8), (2, 7), (3, 7), (4, 8)].into_iter());
        assert_eq!(ready.len(), 2);
        let (first, second) = (ready.take().unwrap(), ready.take().unwrap());
        assert_eq!((ready.row_of(first), ready.row_of(second), ready.take()), (Some(0), Some(1), None));
        ready.give_back(second);
        ready.give_back(first);
        // Its next record is 2, the other's 4.
        assert_eq!(ready.take(), Some(first));
        assert_eq!((ready.row_of(first), ready.row_of(first), ready.row_of(first)), (Some(2), Some(3), None));
        ready.give_back(first);
        assert_eq!(ready.take(), Some(second));
        assert_eq!((ready.row_of(second), ready.take()), (Some(4), None));
    }
}
