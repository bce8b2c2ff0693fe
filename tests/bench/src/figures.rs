//! Figures that are no rates of a job: what was measured, by whom, and what is aimed at.

use std::fmt::Write as _;

use crate::contender::Contender;

/// A figure that an issue asks for.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is measured.
    pub what: String,
    /// What it is to be.
    pub wanted: String,
    /// What it was here.
    pub found: String,
    pub met: bool,
}

impl Target {
    /// A figure that is to stay below a limit.
    pub fn below(what: impl Into<String>, limit: f64, found: f64, unit: &str) -> Self {
        Self::new(what, format!("under {limit} {unit}"), format!("{} {unit}", short(found)), found < limit)
    }

    /// A ratio that is to be reached.
    pub fn at_least(what: impl Into<String>, limit: f64, found: f64) -> Self {
        Self::new(what, format!("at least {limit}"), short(found), found >= limit)
    }

    /// A ratio that is not to be exceeded.
    pub fn at_most(what: impl Into<String>, limit: f64, found: f64) -> Self {
        Self::new(what, format!("at most {limit}"), short(found), found <= limit)
    }

    fn new(what: impl Into<String>, wanted: String, found: String, met: bool) -> Self {
        Self { what: what.into(), wanted, found, met }
    }
}

/// As many digits as say something.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The targets as Markdown.
pub fn targets(targets: &[Target]) -> String {
    let mut text = String::from("| figure | to reach | here | |\n|---|---|---|---|\n");
    for target in targets {
        let met = if target.met { "met" } else { "**not met**" };
        let _ = writeln!(text, "| {} | {} | {} | {met} |", target.what, target.wanted, target.found);
    }
    text
}

/// What was measured of each worker, row by row.
#[derive(Debug, Default)]
pub struct Figures {
    rows: Vec<(String, [String; 2])>,
    pub targets: Vec<Target>,
}

impl Figures {
    /// Takes down a figure of one worker; the other's stands beside it.
    pub fn add(&mut self, contender: Contender, what: &str, value: String) {
        eprintln!("{}: {what}: {value}", contender.key());
        let column = usize::from(contender == Contender::Tributary);
        match self.rows.iter_mut().find(|(known, _)| known == what) {
            Some((_, values)) => values[column] = value,
            None => {
                let mut values = [const { String::new() }; 2];
                values[column] = value;
                self.rows.push((what.to_owned(), values));
            }
        }
    }

    /// All rows as Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from("| | Kafka Connect 4.3.1 | Tributary |\n|---|---|---|\n");
        for (what, [connect, tributary]) in &self.rows {
            let _ = writeln!(text, "| {what} | {connect} | {tributary} |");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_workers_stand_in_one_row() {
        let mut figures = Figures::default();
        figures.add(Contender::Connect, "starts", "9 s".into());
        figures.add(Contender::Tributary, "sleeps", "1 s".into());
        figures.add(Contender::Tributary, "starts", "1 s".into());
        let table = figures.table();
        assert!(table.contains("| starts | 9 s | 1 s |") && table.contains("| sleeps |  | 1 s |"), "{table}");
    }

    #[test]
    fn a_target_says_whether_it_is_met() {
        assert!(Target::below("x", 1.5, 1.49, "s").met && !Target::below("x", 1.5, 1.5, "s").met);
        assert!(Target::at_least("x", 3.0, 3.0).met && !Target::at_most("x", 0.35, 0.36).met);
        let text = targets(&[Target::below("start", 0.5, 0.7, "s")]);
        assert!(text.contains("| start | under 0.5 s | 0.70 s | **not met** |"), "{text}");
    }
}
