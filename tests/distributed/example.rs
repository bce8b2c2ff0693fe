//! The example properties run as they are, but for what is this machine's.

use std::fs;
use std::path::Path;

use tributary_harness::{Context, KafkaBroker, Result, TributaryWorker, WorkerOptions};

#[test]
fn the_example_properties_run() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/distributed.properties");
    let text = fs::read_to_string(&file).context(format_args!("cannot read {}", file.display()))?;
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let group = format!("example-{}", std::process::id());
    let mut options = WorkerOptions::default().group(&group);
    for (key, value) in pairs {
        // A broker that others share needs names of this test's own.
        if !["bootstrap.servers", "listeners", "data.dir", "group.id"].contains(&key)
            && !key.ends_with(".storage.topic")
        {
            options = options.set(key, value);
        }
    }
    let mut worker = TributaryWorker::start_with(&broker.bootstrap(), options)?;
    worker.rest().get("/connectors")?.ok()?;
    let log = worker.log();
    assert!(!log.contains("is not known and has no effect"), "{log}");
    worker.stop()
}
