//! The broker's life: what was acknowledged survives a kill, and nothing outlives the test process.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tributary_harness::{BrokerOptions, KafkaBroker, Result, wait};

fn produce(bootstrap: &str, topic: &str, count: u32) -> Result<()> {
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("message.timeout.ms", "60000")
        .create()?;
    for i in 0..count {
        producer.send(BaseRecord::<(), _>::to(topic).payload(&i.to_string())).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

#[test]
fn records_survive_kill_and_stop() -> Result<()> {
    let mut broker = KafkaBroker::start()?;
    broker.create_topic("survivors", 2, &[("retention.ms", "-1")])?;
    produce(&broker.bootstrap(), "survivors", 1000)?;
    broker.kill()?;
    broker.restart()?;
    assert_eq!(broker.record_count("survivors")?, 1000);
    broker.stop()?;
    broker.restart()?;
    produce(&broker.bootstrap(), "survivors", 10)?;
    assert_eq!(broker.record_count("survivors")?, 1010);
    Ok(())
}

#[test]
fn a_frozen_broker_goes_on() -> Result<()> {
    let broker = KafkaBroker::start()?;
    produce(&broker.bootstrap(), "frozen", 1)?;
    broker.pause()?;
    let bootstrap = broker.bootstrap();
    let producing = thread::spawn(move || produce(&bootstrap, "frozen", 10));
    thread::sleep(Duration::from_secs(1));
    assert!(!producing.is_finished());
    broker.resume()?;
    producing.join().expect("the producing thread panicked")?;
    assert_eq!(broker.record_count("frozen")?, 11);
    Ok(())
}

#[test]
fn topics_are_not_created_unless_asked_for() -> Result<()> {
    let broker = KafkaBroker::start_with(BrokerOptions::default().auto_create_topics(false).proxied())?;
    broker.create_topic("there", 1, &[])?;
    let before = broker.proxy().bytes_passed();
    produce(&broker.proxied_bootstrap(), "there", 100)?;
    assert!(broker.proxy().bytes_passed() > before + 100, "the client went past the proxy");
    assert!(broker.record_count("absent").is_err());
    Ok(())
}

#[test]
fn the_shared_broker_is_one() -> Result<()> {
    assert_eq!(KafkaBroker::shared()?.bootstrap(), KafkaBroker::shared()?.bootstrap());
    Ok(())
}

/// Runs this very test binary again, as a process that starts a broker and is killed.
#[test]
fn nothing_outlives_a_killed_test_process() -> Result<()> {
    const CHILD: &str = "TRIBUTARY_TEST_CHILD";
    if let Some(file) = std::env::var_os(CHILD) {
        let broker = KafkaBroker::shared()?;
        std::fs::write(file, format!("{} {}", broker.pid()?, broker.dir().display()))?;
        loop {
            thread::park();
        }
    }
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("broker");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "nothing_outlives_a_killed_test_process"])
        .env(CHILD, &file)
        .spawn()?;
    let line = wait::until("the child to start a broker", wait::PATIENCE * 2, || {
        Ok(std::fs::read_to_string(&file).ok().filter(|line| line.contains(' ')))
    });
    child.kill()?;
    child.wait()?;
    let line = line?;
    let (pid, dir) = line.split_once(' ').expect("the child writes two words");
    let killed = Instant::now();
    wait::until("the broker and its directory to be gone", Duration::from_secs(20), || {
        let gone = !std::path::Path::new(&format!("/proc/{pid}")).exists() && !std::path::Path::new(dir).exists();
        Ok(gone.then_some(()))
    })?;
    println!("gone {:?} after the kill", killed.elapsed());
    Ok(())
}
