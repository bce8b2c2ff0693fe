//! What is measured in this run.

use crate::contender::Contender;
use crate::job::Job;

/// The rows asked for.
#[derive(Debug)]
pub struct Plan {
    only: Vec<String>,
}

impl Plan {
    /// All rows, or only those whose key contains one of these words.
    pub fn new(only: &[String]) -> Self {
        Self { only: only.iter().map(|word| word.to_lowercase()).collect() }
    }

    /// The rows of all jobs, in the order of the table.
    pub fn rows(&self) -> Vec<(Job, Contender)> {
        let all = Job::all().flat_map(|job| Contender::ALL.map(|contender| (job, contender)));
        all.filter(|(job, contender)| job.suits(*contender))
            .filter(|(job, contender)| self.wants(&format!("{}/{}", job.key(), contender.key())))
            .collect()
    }

    /// Whether the start of a worker is to be measured.
    pub fn start(&self, contender: Contender) -> bool {
        self.wants(&format!("start/{}", contender.key()))
    }

    /// Whether a worker's REST API is to be measured.
    pub fn rest(&self, contender: Contender) -> bool {
        self.wants(&format!("rest/{}", contender.key()))
    }

    /// Whether the boundary to plugins is to be measured.
    pub fn boundary(&self) -> bool {
        self.wants("boundary/")
    }

    /// Whether groups of workers are to be measured.
    pub fn group(&self) -> bool {
        self.wants("group/")
    }

    fn wants(&self, key: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| key.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_rows() {
        assert_eq!(Plan::new(&[]).rows().len(), 20);
        let rows = Plan::new(&["sink-strings".into()]).rows();
        assert_eq!(rows.len(), 4);
        let plan = Plan::new(&["connect".into()]);
        assert!(plan.rows().iter().all(|(_, contender)| *contender == Contender::Connect));
        assert!(plan.start(Contender::Connect) && !plan.start(Contender::Tributary));
    }
}
