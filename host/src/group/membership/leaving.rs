//! Leaving: the member says so in a round of its own, so that the group knows what to keep for it and for how long, and goes.
//!
//! Nobody can tell whether a worker that is stopped in order will be started again. If it is, giving its tasks to others at
//! once means to interrupt them twice or more: now, and when it, or the worker that took them, is restarted next. So they are
//! kept for it for about as long as a restart takes: by what its last restart took, if there was one, and its last start. On
//! a machine that has nothing else to do that is a second or two. Whoever took longer for the last restart than anything is
//! kept is not waited for at all. `worker.restart.max.delay.ms` says it instead, for workers that are slow to be started again.

use std::time::Duration;

use super::{Action, MILLISECOND, Membership, Phase};

/// How long a leaving member tries to tell so: a round needs every member.
const FAREWELL: u64 = 5_000 * MILLISECOND;
/// How long a leader stays after that round, so that the others have their assignments: by them they know, and tell the next
/// leader, what is to be kept. Who leaves at once takes the answers along that have not been fetched.
const LINGER: u64 = 500 * MILLISECOND;
/// What a restart takes on any machine: a supervisor has to see that the process has ended, and launch it again.
const AROUND: Duration = Duration::from_millis(500);
/// A restart takes so many times as long as the start before it, at most: there is the end of the process, the start, and
/// joining, and the machine may be busier now. It was seen to be slowed down by load as starts are.
const STARTS: u32 = 4;
/// The next restart may take so much longer than the last one, in tenths.
const LATITUDE: u32 = 15;
/// However long that is.
const LONGEST: Duration = Duration::from_secs(6);

/// What is known of how long a restart of this worker takes.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::group) struct RestartTime {
    /// `worker.restart.max.delay.ms`, if it is set.
    pub(in crate::group) told: Option<Duration>,
    /// How long this process had run when it became ready to join its group.
    pub(in crate::group) starting: Duration,
    /// From the last time that this worker left in order until it was a member again.
    pub(in crate::group) last: Option<Duration>,
}

impl Membership {
    pub(super) fn leave(&mut self, now: u64) {
        if self.leaving || self.phase == Phase::Leaving {
            return;
        }
        self.leaving = true;
        self.leave_by = now + FAREWELL;
        self.rejoin = Some("leaving".to_owned());
    }

    /// Whether a leaving member should go now, said or not.
    pub(super) fn has_to_go(&self, now: u64) -> bool {
        self.leaving && (now >= self.leave_by || !self.coordinator || !self.active)
    }

    /// The round in which this member said that it leaves has ended.
    pub(super) fn leave_is_told(&mut self, now: u64) {
        if !self.led.as_ref().is_some_and(|led| self.leader && led.urls.len() > 1) {
            return self.farewell();
        }
        self.leave_by = self.leave_by.min(now + LINGER);
        self.phase = Phase::Stable;
        self.rejoin = None;
    }

    pub(super) fn farewell(&mut self) {
        if self.phase != Phase::Leaving {
            self.call += 1;
            self.phase = Phase::Leaving;
            self.out.push(Action::Leave { member_id: self.member_id.clone() });
        }
    }

    /// How long the group should keep this worker's part for it, if it leaves now.
    pub(super) fn back_within(&self) -> Duration {
        let RestartTime { told, starting, last } = self.settings.restart;
        match (told, self.settings.delay) {
            (Some(told), _) => told,
            // Nobody is to be waited for.
            (None, Some(Duration::ZERO)) => Duration::ZERO,
            (None, _) if last.is_some_and(|last| last > LONGEST) => Duration::ZERO,
            (None, _) => {
                let lingers = if self.leader { Duration::from_nanos(LINGER) } else { Duration::ZERO };
                let by_start = (starting + self.joining) * STARTS;
                let by_restart = last.map_or(Duration::ZERO, |last| last * LATITUDE / 10);
                (AROUND + by_start.max(by_restart)).min(LONGEST) + lingers
            }
        }
    }

    /// How long this worker was away when it was restarted.
    pub(in crate::group) fn was_away(&mut self, last: Duration) {
        self.settings.restart.last = Some(last);
    }
}
