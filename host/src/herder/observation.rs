//! What the worker reports of connectors and tasks, taken over into what the herder has of them.

use std::sync::Arc;
use std::time::Instant;

use super::entry::Instance;
use super::restart_policy::RestartPolicy;
use crate::worker::State;

/// Takes over a reported state; `false` if it changes nothing. A failure plans the next restart.
pub(super) fn observe(instance: &mut Instance, policy: &RestartPolicy, state: State, trace: Option<String>) -> bool {
    let trace: Option<Arc<str>> = trace.map(Into::into);
    // What was stopped has nothing to say any more.
    if !instance.started || (instance.state == state && instance.trace == trace) {
        return false;
    }
    // Until it has stopped, what is to be restarted shows that.
    if instance.stale && instance.state == State::Restarting {
        return false;
    }
    (instance.state, instance.trace) = (state, trace);
    if state == State::Failed {
        instance.restarts.failed(policy, Instant::now());
    }
    true
}

pub(super) fn log_state(connector: &str, task: Option<u32>, instance: &Instance) {
    let trace = instance.trace.as_deref().unwrap_or_default();
    match (instance.state, instance.restarts.due) {
        (State::Failed, None) => {
            tracing::error!(connector, task, "failed, and stays so until it is restarted: {trace}")
        }
        (State::Failed, Some(due)) => {
            let pause = due.saturating_duration_since(Instant::now());
            tracing::error!(connector, task, "failed, and restarts in {:.1} s: {trace}", pause.as_secs_f64());
        }
        (state, _) => tracing::info!(connector, task, ?state, "changed state"),
    }
}
