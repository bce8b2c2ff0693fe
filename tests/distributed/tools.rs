//! Kafka's own tools, asked about a group of Tributary's workers.

use std::path::Path;
use std::process::{Command, Stdio};

use tributary_harness::{ClassPath, Context, Error, KafkaBroker, Result, java_with_compiler, wait};
use tributary_tests::Workers;

/// Runs a class, or a source file, with Kafka's tools at hand, and answers what it printed.
fn java(program: &str, args: &[&str]) -> Result<String> {
    let class_path = format!("{}:{}", ClassPath::Tools.resolve()?, ClassPath::Broker.resolve()?);
    let output = Command::new(java_with_compiler()?.program)
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path, program])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("cannot run java")?;
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(printed.into_owned()) } else { Err(Error::new(format!("{printed}{errors}"))) }
}

#[test]
fn kafkas_tools_see_the_group_and_its_workers() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start(&broker.bootstrap(), 2)?;
    let bootstrap = broker.bootstrap();
    // What kafka-groups.sh runs.
    let listed = java("org.apache.kafka.tools.GroupsCommand", &["--bootstrap-server", &bootstrap, "--list"])?;
    let ours = listed.lines().find(|line| line.split_whitespace().next() == Some(&workers.group));
    let columns: Vec<&str> = ours.context(listed.clone())?.split_whitespace().collect();
    assert_eq!(columns[1..], ["Classic", "connect"], "{listed}");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("distributed/Describe.java").display().to_string();
    let described = wait::until("a stable group", wait::PATIENCE, || {
        let described = java(&program, &[&bootstrap, &workers.group])?;
        if described.contains("group connect sessioned Stable") {
            Ok(Some(described))
        } else {
            Err(Error::new(described))
        }
    })?;
    for number in 0..2 {
        let id = workers.id(number);
        assert!(described.contains(&format!("member connect-{id} connect-{id}-")), "{described}");
    }
    workers.stop()
}
