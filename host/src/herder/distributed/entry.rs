//! One connector as a worker of a group has it: what is wanted, what of it is assigned here, what runs, and the next step.
//!
//! [`Entry::next_step`] is a pure function of the entry, taken again after each change, as in the standalone herder; so the
//! config topic, the group, the worker and users may speak in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::Config;

use super::fencing::Wish;
use crate::herder::PluginKind;
use crate::herder::entry::{Clock, Instance};
use crate::herder::restart_policy::RestartPolicy;
use crate::herder::view::{ConnectorView, InstanceView, TaskView};
use crate::storage::{ClusterConnector, TaskFencing};
use crate::worker::{FollowSpec, State};

/// The first and the longest pause between tries to hand task configs to the leader.
const HAND_OVER_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// When task configs that the leader has taken are given to it again, if the config topic does not show them.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// A task that runs here, or is to.
#[derive(Debug)]
pub(super) struct LocalTask {
    pub instance: Instance,
    /// The configs that it runs with.
    pub configs: Option<(Arc<Config>, Arc<Config>)>,
    /// When progress was last looked at, and the records then.
    pub sample: Option<(Instant, u64)>,
    pub records_per_second: Option<f64>,
    /// The membership was lost while it ran: it may say nothing more.
    pub fenced: bool,
    /// Of an exactly-once source: which commit of task configs it is of.
    pub generation: Option<u32>,
}

impl Default for LocalTask {
    fn default() -> Self {
        let instance = Instance::new(State::Unassigned);
        Self { instance, configs: None, sample: None, records_per_second: None, fenced: false, generation: None }
    }
}

/// What the leader has to be given.
#[derive(Debug, Default)]
pub(super) struct HandOver {
    /// The task configs that the running connector asked for last. While the config topic has others (its former owner's came
    /// late, the connector was deleted and created again, a leader died while it wrote), they are given to the leader again.
    pub made: Option<Vec<Config>>,
    /// On their way.
    pub under_way: bool,
    /// Not before this time.
    pub not_before: Option<Instant>,
    pause: Duration,
}

impl HandOver {
    /// It did not work: again after a pause.
    pub fn failed(&mut self, now: Instant) {
        self.under_way = false;
        self.pause = (self.pause * 2).clamp(HAND_OVER_AGAIN.0, HAND_OVER_AGAIN.1);
        self.not_before = Some(now + self.pause);
    }

    /// The leader has them; they have to show in the config topic soon.
    pub fn succeeded(&mut self, now: Instant) {
        self.under_way = false;
        self.pause = Duration::ZERO;
        self.not_before = Some(now + SHOWN_WITHIN);
    }

    /// Something has changed: at once.
    pub fn at_once(&mut self) {
        (self.not_before, self.pause) = (None, Duration::ZERO);
    }
}

/// One connector.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    /// What the config topic says; `None`: there is no such connector (any more).
    pub wanted: Option<ClusterConnector>,
    /// Its last task configs are not whole: a leader died while it wrote them.
    pub inconsistent: bool,
    /// The connector itself is assigned here.
    pub assigned: bool,
    /// Its tasks that are assigned here.
    pub assigned_tasks: BTreeSet<u32>,
    /// Its tasks that run elsewhere and whose state this worker follows.
    pub standby_tasks: BTreeSet<u32>,
    /// What the worker was told of that last.
    pub following: Option<FollowSpec>,
    // What is known of its class.
    pub kind: Option<PluginKind>,
    pub version: Option<String>,
    // What is.
    pub connector: Instance,
    /// The config that the connector runs with.
    pub running_config: Option<Arc<Config>>,
    pub tasks: BTreeMap<u32, LocalTask>,
    /// The target state that what runs here was told last.
    pub told: Option<State>,
    pub hand_over: HandOver,
    /// It is a source that delivers exactly once: its tasks start only when former ones are fenced.
    pub exactly_once: bool,
    /// Whether they are.
    pub fencing: TaskFencing,
    /// The wish to have them fenced.
    pub fence: Wish,
    /// A step that takes time is under way.
    pub busy: bool,
    /// STOPPED was recorded.
    pub stop_recorded: bool,
    /// The membership was lost while the connector ran: it may say nothing more.
    pub connector_fenced: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Stop these, on a thread of their own.
    Stop {
        tasks: Vec<u32>,
        connector: bool,
    },
    /// Everything has stopped, and nothing is assigned here.
    Forget,
    /// The connector is assigned here and stopped: say so.
    RecordStopped,
    /// Tell what runs here to pause or to go on.
    Tell(State),
    StartConnector,
    StartTasks(Vec<u32>),
    HandOver,
    /// Have former tasks fenced.
    Fence,
}

impl Entry {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            wanted: None,
            inconsistent: false,
            assigned: false,
            assigned_tasks: BTreeSet::new(),
            standby_tasks: BTreeSet::new(),
            following: None,
            kind: None,
            version: None,
            connector: Instance::new(State::Unassigned),
            running_config: None,
            tasks: BTreeMap::new(),
            told: None,
            hand_over: HandOver::default(),
            exactly_once: false,
            fencing: TaskFencing::default(),
            fence: Wish::default(),
            busy: false,
            stop_recorded: false,
            connector_fenced: false,
        }
    }

    /// See the module.
    pub fn next_step(&self, now: Instant) -> Step {
        if self.busy {
            return Step::Nothing;
        }
        let running = self.wanted.as_ref().filter(|wanted| wanted.target != State::Stopped);
        let stop_task = |(id, task): &(&u32, &LocalTask)| {
            task.instance.started
                && (task.instance.stale
                    || !self.assigned_tasks.contains(id)
                    || running.is_none_or(|wanted| self.outdated(**id, task, wanted)))
        };
        let tasks: Vec<u32> = self.tasks.iter().filter(stop_task).map(|(id, _)| *id).collect();
        let outdated = running.is_none_or(|wanted| self.running_config.as_ref() != Some(&wanted.config));
        let connector = self.connector.started && (self.connector.stale || !self.assigned || outdated);
        if !tasks.is_empty() || connector {
            return Step::Stop { tasks, connector };
        }
        let Some(wanted) = running else {
            return match &self.wanted {
                None if !self.assigned && self.assigned_tasks.is_empty() => Step::Forget,
                Some(_) if self.assigned && !self.stop_recorded => Step::RecordStopped,
                _ => Step::Nothing,
            };
        };
        let any = self.connector.started || self.tasks.values().any(|task| task.instance.started);
        if any && self.told != Some(wanted.target) {
            return Step::Tell(wanted.target);
        }
        if self.assigned && !self.connector.started {
            return Step::StartConnector;
        }
        // As in Connect, a paused connector's tasks keep the configs they have.
        if self.has_to_hand_over() && self.hand_over.not_before.is_none_or(|due| due <= now) {
            return Step::HandOver;
        }
        // Tasks made from an older config wait until the connector has been asked with the present one.
        if settled(wanted) || wanted.target == State::Paused {
            let idle = |id: &&u32| {
                (**id as usize) < wanted.tasks.len() && self.tasks.get(id).is_none_or(|task| !task.instance.started)
            };
            let idle: Vec<u32> = self.assigned_tasks.iter().filter(idle).copied().collect();
            if !idle.is_empty() {
                if self.exactly_once && self.fencing.pending {
                    return if self.fence.is_due(now) { Step::Fence } else { Step::Nothing };
                }
                return Step::StartTasks(idle);
            }
        }
        Step::Nothing
    }

    /// Whose state this worker should follow. Not of a stopped connector: its state may be purged.
    pub fn follows(&self) -> Option<FollowSpec> {
        let wanted = self.wanted.as_ref().filter(|wanted| wanted.target != State::Stopped)?;
        let of = wanted.tasks.len() as u32;
        let tasks: BTreeSet<u32> = self.standby_tasks.iter().copied().filter(|task| *task < of).collect();
        let spec = FollowSpec { connector: self.name.clone(), config: wanted.config.clone(), tasks, of };
        (!spec.tasks.is_empty()).then_some(spec)
    }

    /// Whether the config topic has other task configs than the connector wants.
    fn has_to_hand_over(&self) -> bool {
        let wanted = self.wanted.as_ref().filter(|wanted| wanted.target == State::Running);
        let current = wanted.is_some_and(|wanted| self.running_config.as_ref() == Some(&wanted.config));
        let made = self.hand_over.made.as_ref();
        current && !self.hand_over.under_way && made.is_some_and(|made| !self.has(made))
    }

    /// Whether a task that runs has to stop for another config, or because there are fewer tasks now.
    fn outdated(&self, id: u32, task: &LocalTask, wanted: &ClusterConnector) -> bool {
        let Some(config) = wanted.tasks.get(id as usize) else { return true };
        let same = |(connector, task): &(Arc<Config>, Arc<Config>)| *connector == wanted.config && task == config;
        // As in Connect, all tasks of such a source begin anew: their producers are about to be fenced.
        let former = self.exactly_once && task.generation != Some(self.fencing.generation);
        former || settled(wanted) && !task.configs.as_ref().is_some_and(same)
    }

    /// Whether the config topic has these task configs already, made from the present config.
    pub fn has(&self, configs: &[Config]) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| {
            settled(wanted)
                && !self.inconsistent
                && wanted.tasks.len() == configs.len()
                && wanted.tasks.iter().zip(configs).all(|(have, offered)| **have == *offered)
        })
    }

    /// The connector's own config.
    pub fn config(&self) -> Option<&Arc<Config>> {
        self.wanted.as_ref().map(|wanted| &wanted.config)
    }

    pub fn policy(&self) -> RestartPolicy {
        self.config().map_or_else(|| RestartPolicy::of(&Config::default()), |config| RestartPolicy::of(config))
    }

    /// Connector and tasks that run here.
    pub fn instances(&mut self) -> impl Iterator<Item = (Option<u32>, &mut Instance)> {
        let tasks = self.tasks.iter_mut().map(|(id, task)| (Some(*id), &mut task.instance));
        tasks.chain([(None, &mut self.connector)])
    }

    /// When something has to happen by itself.
    pub fn next_due(&self) -> Option<Instant> {
        let restarts = self.tasks.values().map(|task| &task.instance).chain([&self.connector]);
        let hand_over = self.hand_over.not_before.filter(|_| self.has_to_hand_over());
        let fence = self.fence.not_before.filter(|_| self.exactly_once && self.fencing.pending);
        restarts.filter_map(|instance| instance.restarts.due).chain(hand_over).chain(fence).min()
    }

    /// Whether any of these still runs here.
    pub fn runs(&self, connector: bool, tasks: impl Iterator<Item = u32>) -> bool {
        let running = |id: u32| self.tasks.get(&id).is_some_and(|task| task.instance.started);
        (connector && self.connector.started) || tasks.into_iter().any(running)
    }

    /// `None` if there is no such connector.
    pub fn view(&self, clock: Clock) -> Option<ConnectorView> {
        let wanted = self.wanted.as_ref()?;
        // What is not here is filled in from what its worker reports.
        let elsewhere =
            |state| InstanceView { state, trace: None, restart: None, here: false, worker_id: Some("".into()) };
        let task = |(id, config): (usize, &Arc<Config>)| {
            let id = id as u32;
            let local = self.tasks.get(&id).filter(|task| task.instance.started || self.assigned_tasks.contains(&id));
            TaskView {
                id,
                config: config.clone(),
                instance: local.map_or_else(|| elsewhere(State::Unassigned), |task| task.instance.view(clock)),
                records_per_second: local.and_then(|task| task.records_per_second),
            }
        };
        let here = self.connector.started || (self.assigned && (wanted.target != State::Stopped || self.stop_recorded));
        let stopped = if wanted.target == State::Stopped { State::Stopped } else { State::Unassigned };
        Some(ConnectorView {
            name: self.name.clone(),
            config: wanted.config.clone(),
            kind: self.kind,
            version: self.version.clone(),
            target: wanted.target,
            instance: if here { self.connector.view(clock) } else { elsewhere(stopped) },
            tasks: wanted.tasks.iter().enumerate().map(task).collect(),
            topics: Arc::default(),
        })
    }
}

/// Whether the tasks were made from the present config.
fn settled(wanted: &ClusterConnector) -> bool {
    wanted.applied.as_ref() == Some(&wanted.config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Arc<Config> {
        Arc::new([("k", text)].into_iter().collect())
    }

    fn entry() -> Entry {
        let mut entry = Entry::new("c");
        entry.wanted = Some(ClusterConnector {
            config: config("a"),
            target: State::Running,
            tasks: vec![config("0"), config("1")],
            applied: Some(config("a")),
        });
        entry
    }

    fn run_task(entry: &mut Entry, id: u32) {
        let wanted = entry.wanted.clone().unwrap();
        let task = entry.tasks.entry(id).or_default();
        task.instance.started = true;
        task.configs = Some((wanted.config, wanted.tasks[id as usize].clone()));
        entry.told = Some(wanted.target);
    }

    #[test]
    fn only_what_is_assigned_here_runs_here() {
        let now = Instant::now();
        let mut entry = entry();
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.assigned_tasks = [1].into();
        assert_eq!(entry.next_step(now), Step::StartTasks(vec![1]));
        run_task(&mut entry, 1);
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.assigned = true;
        assert_eq!(entry.next_step(now), Step::StartConnector);
        (entry.connector.started, entry.running_config) = (true, Some(config("a")));
        entry.assigned_tasks.clear();
        assert_eq!(entry.next_step(now), Step::Stop { tasks: vec![1], connector: false });
    }

    #[test]
    fn tasks_run_on_until_the_new_configs_are_there_and_only_changed_ones_restart() {
        let now = Instant::now();
        let mut entry = entry();
        entry.assigned_tasks = [0, 1].into();
        run_task(&mut entry, 0);
        run_task(&mut entry, 1);
        // Other task configs of the same connector config.
        entry.wanted.as_mut().unwrap().tasks[1] = config("other");
        assert_eq!(entry.next_step(now), Step::Stop { tasks: vec![1], connector: false });
        entry.wanted.as_mut().unwrap().tasks[1] = config("1");
        // Another connector config, before the connector was asked.
        entry.wanted.as_mut().unwrap().config = config("b");
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.wanted.as_mut().unwrap().applied = Some(config("b"));
        assert_eq!(entry.next_step(now), Step::Stop { tasks: vec![0, 1], connector: false });
        // Fewer tasks.
        let mut entry = self::entry();
        entry.assigned_tasks = [0, 1].into();
        run_task(&mut entry, 0);
        run_task(&mut entry, 1);
        entry.wanted.as_mut().unwrap().tasks.pop();
        assert_eq!(entry.next_step(now), Step::Stop { tasks: vec![1], connector: false });
    }

    #[test]
    fn tasks_of_an_exactly_once_source_begin_anew_once_the_former_ones_are_fenced() {
        let now = Instant::now();
        let mut entry = entry();
        entry.exactly_once = true;
        entry.fencing = TaskFencing { task_count: Some(3), pending: true, generation: 4 };
        entry.assigned_tasks = [0, 1].into();
        run_task(&mut entry, 0);
        entry.tasks.get_mut(&0).unwrap().generation = Some(3);
        assert_eq!(entry.next_step(now), Step::Stop { tasks: vec![0], connector: false });
        entry.tasks.get_mut(&0).unwrap().instance.started = false;
        assert_eq!(entry.next_step(now), Step::Fence);
        entry.fence.under_way = true;
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.fencing.pending = false;
        assert_eq!(entry.next_step(now), Step::StartTasks(vec![0, 1]));
        for id in [0, 1] {
            run_task(&mut entry, id);
            entry.tasks.get_mut(&id).unwrap().generation = Some(4);
        }
        assert_eq!(entry.next_step(now), Step::Nothing);
    }

    #[test]
    fn stopped_is_recorded_by_the_owner_alone_and_removed_ones_are_forgotten() {
        let now = Instant::now();
        let mut entry = entry();
        entry.wanted.as_mut().unwrap().target = State::Stopped;
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.assigned = true;
        assert_eq!(entry.next_step(now), Step::RecordStopped);
        entry.stop_recorded = true;
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.wanted = None;
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.assigned = false;
        assert_eq!(entry.next_step(now), Step::Forget);
    }

    #[test]
    fn state_is_followed_of_tasks_that_there_are_unless_the_connector_is_stopped() {
        let mut entry = entry();
        assert_eq!(entry.follows(), None);
        entry.standby_tasks = [1, 2].into();
        let spec = entry.follows().unwrap();
        assert_eq!((spec.tasks, spec.of, spec.config), ([1].into(), 2, config("a")));
        // Nothing that runs here depends on it.
        assert_eq!(entry.next_step(Instant::now()), Step::Nothing);
        entry.wanted.as_mut().unwrap().target = State::Paused;
        assert!(entry.follows().is_some());
        entry.wanted.as_mut().unwrap().target = State::Stopped;
        assert_eq!(entry.follows(), None);
        entry.wanted = None;
        assert_eq!(entry.follows(), None);
        assert_eq!(entry.next_step(Instant::now()), Step::Forget);
    }

    #[test]
    fn task_configs_go_to_the_leader_one_try_at_a_time() {
        let now = Instant::now();
        let mut entry = entry();
        (entry.assigned, entry.connector.started, entry.running_config) = (true, true, Some(config("a")));
        entry.told = Some(State::Running);
        assert!(entry.has(&[(*config("0")).clone(), (*config("1")).clone()]));
        entry.hand_over.made = Some(vec![(*config("0")).clone(), (*config("1")).clone()]);
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.hand_over.made = Some(vec![]);
        assert_eq!(entry.next_step(now), Step::HandOver);
        entry.hand_over.under_way = true;
        assert_eq!(entry.next_step(now), Step::Nothing);
        entry.hand_over.failed(now);
        assert_eq!(entry.next_step(now), Step::Nothing);
        assert_eq!(entry.next_due(), Some(now + HAND_OVER_AGAIN.0));
        assert_eq!(entry.next_step(now + HAND_OVER_AGAIN.0), Step::HandOver);
        entry.hand_over.succeeded(now);
        assert_eq!(entry.next_due(), Some(now + SHOWN_WITHIN));
        entry.wanted.as_mut().unwrap().target = State::Paused;
        assert_eq!(entry.next_step(now + HAND_OVER_AGAIN.0), Step::Tell(State::Paused));
        entry.told = Some(State::Paused);
        assert_eq!(entry.next_step(now + HAND_OVER_AGAIN.0), Step::Nothing);
    }
}
