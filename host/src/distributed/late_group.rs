//! The group, for those who have to know it before the worker may join: it joins when the config topic was read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::group::{Group, GroupState, Lease};
use crate::rest::Health;

/// Until the worker has joined nobody leads, and nothing may be written.
#[derive(Default)]
pub struct LateGroup {
    joined: OnceLock<(Arc<dyn Group>, Lease)>,
    problem: Mutex<Option<String>>,
    been_member: AtomicBool,
}

impl LateGroup {
    /// The worker joins.
    pub fn joined(&self, group: Arc<dyn Group>) {
        let lease = group.lease();
        let _ = self.joined.set((group, lease));
        self.set_problem(None);
    }

    /// Why it has not joined yet.
    pub fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// It is a member now, or has been one.
    pub fn set_member(&self) {
        self.been_member.store(true, Ordering::Relaxed);
    }

    /// What is wrong with the membership, if anything is.
    pub fn health(&self) -> Option<Health> {
        let state = self.state();
        if state.member_id.is_some() && state.generation >= 0 {
            return None;
        }
        let problem = state.problem.unwrap_or_else(|| "joining".to_owned());
        Some(if self.been_member.load(Ordering::Relaxed) {
            Health::Unhealthy(format!("The worker is not in its group any more, and runs nothing: {problem}."))
        } else {
            Health::Starting(format!("The worker is not in its group yet: {problem}."))
        })
    }

    /// Whether this worker may write now.
    pub fn may_write(&self) -> bool {
        self.joined.get().is_some_and(|(_, lease)| lease.holds())
    }

    fn get(&self) -> Option<&Arc<dyn Group>> {
        self.joined.get().map(|(group, _)| group)
    }
}

impl Group for LateGroup {
    fn request_rejoin(&self, reason: &str) {
        if let Some(group) = self.get() {
            group.request_rejoin(reason);
        }
    }

    fn leave(&self, timeout: Duration) {
        if let Some(group) = self.get() {
            group.leave(timeout);
        }
    }

    fn lease(&self) -> Lease {
        self.joined.get().map_or_else(Lease::ended, |(_, lease)| lease.clone())
    }

    fn state(&self) -> GroupState {
        let problem = || self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.get().map_or_else(
            || GroupState { generation: -1, problem: problem(), ..GroupState::default() },
            |group| group.state(),
        )
    }

    fn owner_url(&self, connector: &str, task: Option<u32>) -> Option<String> {
        self.get()?.owner_url(connector, task)
    }
}
