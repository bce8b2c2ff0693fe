//! How long this worker may write.
//!
//! A member that the coordinator has not heard of for the session time-out is removed, and its tasks run elsewhere. The
//! lease ends before that, by this machine's own clock: each answer of the coordinator that confirms the membership
//! extends it to a session time-out after the *request was sent*. Whoever is about to write looks at it once a batch, so
//! that a worker that was frozen (SIGSTOP, a suspended machine, a cut network) writes nothing when it comes back.
//!
//! What it cannot do: stop a request that was already on its way to the broker when the lease ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Never ends.
const FOREVER: u64 = u64::MAX;

/// The right to write, shared by everything that does. Clones are the same lease; looking costs a load and a clock read.
#[derive(Debug, Clone)]
pub struct Lease(Arc<AtomicU64>);

impl Lease {
    /// One that never ends: a standalone worker's.
    pub fn unlimited() -> Self {
        Self(Arc::new(AtomicU64::new(FOREVER)))
    }

    /// One that has ended.
    pub fn ended() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    /// Whether this worker may write now.
    pub fn holds(&self) -> bool {
        let until = self.0.load(Ordering::Acquire);
        until == FOREVER || now() < until
    }

    /// How long it holds from now on without being extended; zero when it has ended.
    pub fn remaining(&self) -> Duration {
        match self.0.load(Ordering::Acquire) {
            FOREVER => Duration::MAX,
            until => Duration::from_nanos(until.saturating_sub(now())),
        }
    }

    /// Extends it to `session` after `sent`, a moment of [`Lease::clock`]. Never shortens it.
    pub(crate) fn extend(&self, sent: u64, session: Duration) {
        let until = sent.saturating_add(u64::try_from(session.as_nanos()).unwrap_or(FOREVER)).min(FOREVER - 1);
        self.0.fetch_max(until, Ordering::AcqRel);
    }

    /// Ends it now.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// The clock that leases go by, in nanoseconds: it goes on while the process is stopped and the machine sleeps.
    pub(crate) fn clock() -> u64 {
        now()
    }
}

fn now() -> u64 {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_a_session_after_the_request() {
        let lease = Lease::ended();
        let other = lease.clone();
        assert!(!other.holds() && other.remaining().is_zero());
        lease.extend(Lease::clock(), Duration::from_secs(60));
        assert!(other.holds());
        lease.extend(Lease::clock() - 50_000_000_000, Duration::from_secs(60));
        assert!(other.remaining() > Duration::from_secs(50), "an older answer shortens nothing");
        lease.end();
        assert!(!other.holds());
        lease.extend(Lease::clock(), Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(25));
        assert!(!other.holds());
    }

    #[test]
    fn a_standalone_workers_never_ends() {
        assert!(Lease::unlimited().holds());
        assert_eq!(Lease::unlimited().remaining(), Duration::MAX);
    }
}
