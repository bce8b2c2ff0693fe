//! Who is to run what: the arithmetic of an assignment, on numbers only.
//!
//! Units (a connector's tasks, or connectors themselves) are spread over members, in this order of importance: only where
//! they are allowed; the units of one connector evenly (their counts differ by one at most); then the load of the members
//! evenly. What runs stays where it is unless evenness wants it to move, and units that run nowhere are used for evening
//! out before any that run are. A unit that runs nowhere and is put where its state is followed counts as running there: it is
//! moved on for evenness after all others, and for the sake of load only where that is worth a move.

/// A connector's units, and where they may run.
#[derive(Debug, Clone)]
pub(super) struct UnitGroup {
    /// For each member.
    pub(super) allowed: Vec<bool>,
    /// The load of each of its units.
    pub(super) weight: f64,
}

/// Something to place.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// Its connector.
    pub(super) group: usize,
    /// Where it runs.
    pub(super) current: Option<usize>,
    /// Where it should run if that is as good as elsewhere, and where it should be moved to if something is.
    pub(super) hint: Option<usize>,
    /// Where its state is followed: it should run there if it runs nowhere and the hint says nothing.
    pub(super) standbys: Vec<usize>,
}

/// How units that run may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moves {
    /// Only where they may not stay.
    Forced,
    /// For evenness too.
    Free,
}

/// A move for the sake of load alone has to even out at least this part of the mean load, where weights differ: measured
/// loads change all the time, and a move stops a task.
const WORTH_A_MOVE: f64 = 0.1;

/// The member of each unit, or `None` where none is allowed. `loads` are what the members carry besides; they only break ties
/// if they are not all zero.
pub(super) fn balance(groups: &[UnitGroup], units: &[Unit], members: usize, moves: Moves) -> Vec<Option<usize>> {
    let mut plan = Plan::new(groups, units, members, moves);
    if members > 0 {
        plan.place();
        plan.even_out_groups();
        plan.even_out_loads();
    }
    plan.target
}

struct Plan<'a> {
    groups: &'a [UnitGroup],
    units: &'a [Unit],
    moves: Moves,
    target: Vec<Option<usize>>,
    /// Units by group and member.
    counts: Vec<Vec<u32>>,
    /// Units of each group.
    sizes: Vec<u32>,
    by_member: Vec<Vec<usize>>,
    loads: Vec<f64>,
    /// By how much a move for load's sake has to do better.
    worth: f64,
}

impl<'a> Plan<'a> {
    fn new(groups: &'a [UnitGroup], units: &'a [Unit], members: usize, moves: Moves) -> Self {
        let mut plan = Self {
            groups,
            units,
            moves,
            target: vec![None; units.len()],
            counts: vec![vec![0; members]; groups.len()],
            sizes: vec![0; groups.len()],
            by_member: vec![Vec::new(); members],
            loads: vec![0.0; members],
            worth: 0.0,
        };
        for (index, unit) in units.iter().enumerate() {
            plan.sizes[unit.group] += 1;
            if let Some(member) = unit.current.filter(|&member| groups[unit.group].allowed[member]) {
                plan.put(index, member);
            }
        }
        let first = groups.first().map_or(1.0, |group| group.weight);
        if groups.iter().any(|group| group.weight != first) {
            let total: f64 = units.iter().map(|unit| groups[unit.group].weight).sum();
            plan.worth = WORTH_A_MOVE * total / members.max(1) as f64;
        }
        plan
    }

    fn put(&mut self, unit: usize, member: usize) {
        let group = self.units[unit].group;
        self.target[unit] = Some(member);
        self.counts[group][member] += 1;
        self.loads[member] += self.groups[group].weight;
        self.by_member[member].push(unit);
    }

    fn shift(&mut self, unit: usize, from: usize, to: usize) {
        let group = self.units[unit].group;
        self.counts[group][from] -= 1;
        self.loads[from] -= self.groups[group].weight;
        self.by_member[from].retain(|&other| other != unit);
        self.put(unit, to);
    }

    fn allowed(&self, group: usize) -> impl Iterator<Item = usize> + '_ {
        self.groups[group].allowed.iter().enumerate().filter(|(_, allowed)| **allowed).map(|(member, _)| member)
    }

    /// Whether evenness may move the unit from where the plan has it.
    fn movable(&self, unit: usize) -> bool {
        self.moves == Moves::Free || self.units[unit].current.is_none_or(|member| self.target[unit] != Some(member))
    }

    /// Where the unit runs, if the plan leaves it there; or where its state is, if it runs nowhere and the plan puts it there.
    fn running_at(&self, unit: usize) -> Option<usize> {
        let Unit { current, standbys, .. } = &self.units[unit];
        let at = |member: &usize| match current {
            Some(current) => current == member,
            None => standbys.contains(member),
        };
        self.target[unit].filter(at)
    }

    /// Whether the unit should rather be moved to this member than to others.
    fn is_at_home(&self, unit: usize, member: usize) -> bool {
        let Unit { hint, standbys, .. } = &self.units[unit];
        hint.map_or_else(|| standbys.contains(&member), |hint| hint == member)
    }

    fn place(&mut self) {
        for index in 0..self.units.len() {
            if self.target[index].is_some() {
                continue;
            }
            let Unit { group, hint, standbys, .. } = &self.units[index];
            let group = *group;
            let members = self.allowed(group).count() as u32;
            if members == 0 {
                continue;
            }
            let quota = self.sizes[group].div_ceil(members);
            let has_room = |member: &usize| self.groups[group].allowed[*member] && self.counts[group][*member] < quota;
            let hinted = hint.filter(has_room);
            let rank = |member: &usize| (self.counts[group][*member], self.loads[*member]);
            let less = |a: &usize, b: &usize| {
                let (a, b) = (rank(a), rank(b));
                a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
            };
            let following = || standbys.iter().copied().filter(has_room).min_by(less);
            let least = || self.allowed(group).min_by(less);
            if let Some(member) = hinted.or_else(following).or_else(least) {
                self.put(index, member);
            }
        }
    }

    /// Until the counts of each connector differ by one at most.
    fn even_out_groups(&mut self) {
        let mut by_group = vec![Vec::new(); self.groups.len()];
        for (index, unit) in self.units.iter().enumerate() {
            by_group[unit.group].push(index);
        }
        for (group, units) in by_group.into_iter().enumerate() {
            for _ in 0..units.len() {
                let Some(unit) = self.uneven(group, &units) else { break };
                let Some(from) = self.target[unit] else { break };
                let least = self.allowed(group).min_by(|&a, &b| {
                    let key = |member: usize| (self.counts[group][member], !self.is_at_home(unit, member));
                    key(a).cmp(&key(b)).then(self.loads[a].total_cmp(&self.loads[b]))
                });
                let Some(to) = least else { break };
                self.shift(unit, from, to);
            }
        }
    }

    /// A unit of the group that should move: one that runs nowhere if possible, from the fullest member.
    fn uneven(&self, group: usize, units: &[usize]) -> Option<usize> {
        let counts = &self.counts[group];
        let least = self.allowed(group).map(|member| counts[member]).min()?;
        let candidates = units
            .iter()
            .copied()
            .filter(|&unit| self.movable(unit) && self.target[unit].is_some_and(|member| counts[member] >= least + 2));
        candidates.max_by(|&a, &b| {
            let key = |unit: usize| {
                let member = self.target[unit].unwrap_or_default();
                let home = self.allowed(group).any(|to| counts[to] == least && self.is_at_home(unit, to));
                ((counts[member], self.running_at(unit).is_none(), home), self.loads[member])
            };
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        })
    }

    /// Until no single move makes the loads more even without making a connector uneven.
    fn even_out_loads(&mut self) {
        // Each move lessens the sum of squares; the bound is for loads that differ by rounding only.
        for _ in 0..self.units.len() * 2 {
            let Some((unit, from, to)) = self.best_move() else { return };
            self.shift(unit, from, to);
        }
    }

    fn best_move(&self) -> Option<(usize, usize, usize)> {
        let mut order: Vec<usize> = (0..self.loads.len()).collect();
        order.sort_by(|&a, &b| self.loads[a].total_cmp(&self.loads[b]));
        for &from in order.iter().rev() {
            for &to in &order {
                if self.loads[from] <= self.loads[to] {
                    break;
                }
                let unit = self.unit_between(from, to);
                if let Some(unit) = unit {
                    return Some((unit, from, to));
                }
            }
        }
        None
    }

    /// The unit whose move evens out the most, preferring those that run nowhere, and then those that are at home there.
    fn unit_between(&self, from: usize, to: usize) -> Option<usize> {
        let difference = self.loads[from] - self.loads[to];
        let fits = |unit: &&usize| {
            let group = self.units[**unit].group;
            let counts = &self.counts[group];
            let worth = if self.running_at(**unit).is_some() { self.worth } else { 0.0 };
            self.groups[group].allowed[to]
                && counts[from] > counts[to]
                && difference > self.groups[group].weight + worth + 1e-9
                && self.movable(**unit)
        };
        let key = |unit: usize| {
            let weight = self.groups[self.units[unit].group].weight;
            let away = !self.is_at_home(unit, to);
            ((self.running_at(unit).is_some(), away), (difference / 2.0 - weight).abs())
        };
        let best = self.by_member[from].iter().filter(fits).min_by(|&&a, &&b| {
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        best.copied()
    }
}
