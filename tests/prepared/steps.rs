//! A worker that dies between every two steps of a commit, or of taking partitions over.

use std::path::PathBuf;

use rand::Rng;
use tributary_harness::{KafkaBroker, Result, Seed, TributaryWorker, wait};

use crate::rig::{Rig, options, rounds, unique};

/// The steps, and whether each life passes them once only.
const STEPS: [(&str, bool); 5] =
    [("claim", true), ("recover", true), ("prepare", false), ("group-commit", false), ("commit-prepared", false)];

/// A worker, and the place at which it dies.
struct Mortal {
    worker: TributaryWorker,
    place: PathBuf,
}

impl Mortal {
    fn start(broker: &KafkaBroker, plugins: &tempfile::TempDir, dir: &tempfile::TempDir) -> Result<Self> {
        let place = dir.path().join("fail-point");
        std::fs::write(&place, "")?;
        let options = options(plugins)?
            .set("group.id", &unique("prepared"))
            .env("TRIBUTARY_TEST_FAIL_POINT", &format!("@{}", place.display()));
        Ok(Self { worker: TributaryWorker::start_with(&broker.bootstrap(), options)?, place })
    }

    /// From its next start on, until it is dead. There has to be something to commit as often as that takes.
    fn live_until(&mut self, place: &str, mut meanwhile: impl FnMut() -> Result<()>) -> Result<()> {
        std::fs::write(&self.place, place)?;
        self.worker.spawn()?;
        let worker = &mut self.worker;
        let died = wait::until(&format!("the death {place}"), wait::PATIENCE, || {
            meanwhile()?;
            Ok((!worker.is_running()).then_some(()))
        });
        died.map_err(|error| self.worker.with_log(error.to_string()))?;
        self.worker.kill9()?;
        std::fs::write(&self.place, "").map_err(Into::into)
    }
}

#[test]
fn dies_everywhere() -> Result<()> {
    let mut seed = Seed::announce("prepared commits: fail points");
    let broker = KafkaBroker::shared()?;
    let (plugins, dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut mortal = Mortal::start(&broker, &plugins, &dir)?;
    let mut rig = Rig::on(&broker, "steps")?;
    rig.create(mortal.worker.rest(), 1)?;
    mortal.worker.wait_running(&rig.name)?;
    mortal.worker.kill9()?;
    for round in 0..rounds(1) {
        for (step, once) in STEPS {
            for side in ["before", "after"] {
                let count = if once { 1 } else { seed.random_range(1..3) };
                let place = format!("{side}-{step}:{count}");
                println!("round {round}: {place}");
                rig.produce(&broker, 500)?;
                mortal.live_until(&place, || rig.produce(&broker, 50))?;
            }
        }
        mortal.worker.spawn()?;
        rig.check(mortal.worker.rest(), &broker).map_err(|error| mortal.worker.with_log(error.to_string()))?;
        mortal.worker.kill9()?;
    }
    println!("{} transactions were aborted", rig.store()?.aborted());
    mortal.worker.restart()?;
    mortal.worker.stop()
}
