//! Workers that follow the state of tasks on other workers: who loses a task's worker has little to restore.

use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::{Value, json};
use tributary_harness::{Error, KafkaBroker, Result, Seed, TributaryWorker, WorkerOptions, wait};
use tributary_tests::Workers;

use crate::events::{Events, values};
use crate::hurt::{hold, kill, two_workers};
use crate::rig::{PARTITIONS, Rig, extend, finished, produce, rounds, stopped, unique};

/// A worker's series of a connector that it follows.
fn standby(worker: &TributaryWorker, series: &str, connector: &str) -> Result<Option<u64>> {
    let metrics = worker.rest().get("/metrics")?.ok()?;
    let metrics = metrics.as_str().unwrap_or_default();
    let start = format!("tributary_standby_{series}{{connector=\"{connector}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&start)?.trim().parse::<f64>().ok());
    Ok(value.map(|value| value as u64))
}

/// Waits until a worker has so many shards of a connector, and has read all that there is: nothing more comes for a while.
fn wait_followed(worker: &TributaryWorker, connector: &str, shards: u64) -> Result<()> {
    let (mut last, mut since) = (None, Instant::now());
    let followed = wait::until(&format!("{connector} is followed"), wait::PATIENCE, || {
        let series = |name| standby(worker, name, connector);
        let now = (series("shards")?, series("lag_records")?, series("records_read_total")?);
        if last != Some(now) {
            (last, since) = (Some(now), Instant::now());
        }
        let quiet = since.elapsed() > Duration::from_millis(1_500);
        if quiet && now.0 == Some(shards) && now.1 == Some(0) {
            Ok(Some(()))
        } else {
            Err(Error::new(format!("{now:?}")))
        }
    });
    followed.map_err(|error| worker.with_log(error.to_string()))
}

/// What restores of a connector's shards a worker has logged: records, and whether they were of the whole.
fn restores(log: &str, connector: &str) -> Vec<(u64, bool)> {
    let of = format!("connector={connector}");
    let own = |line: &&str| line.contains("the state is restored") && line.split_whitespace().any(|word| word == of);
    let field =
        |line: &str, name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name).map(str::to_owned));
    let restore = |line: &str| Some((field(line, "records=")?.parse().ok()?, field(line, "whole=")? == "true"));
    log.lines().filter(own).filter_map(restore).collect()
}

/// The number of the worker that runs a task.
fn owner(workers: &Workers, seen_by: usize, task: &str) -> Result<usize> {
    wait::until(&format!("{task} has a worker"), wait::PATIENCE, || {
        let owners = workers.owners(seen_by)?;
        let id = owners.get(task).cloned().unwrap_or_default();
        Ok((0..workers.count()).find(|number| workers.id(*number) == id))
    })
}

fn extended(mut config: Value, more: &Value) -> Value {
    extend(&mut config, more);
    config
}

/// Counts by key: as many entries as there are keys.
fn counts(input: &str, output: &str, more: &Value) -> Value {
    let config = json!({
        "connector.class": "KafkaSink", "topics": input, "topic": output, "transaction.interval.ms": 100,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false,
        "transforms": "sums", "transforms.sums.type": "Aggregate", "transforms.sums.key": "v.k", "transforms.sums.window": "none",
        "transforms.sums.state.ttl.ms": -1, "transforms.sums.emit": "change", "transforms.sums.aggs": "n:count(), total:sum(v.a)",
        "state.standby.replicas": 1,
    });
    extended(config, more)
}

#[test]
fn a_task_that_loses_its_worker_reads_only_what_its_follower_had_not_read() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = two_workers(&broker, WorkerOptions::default())?;
    let (input, name) = (unique("standby-in"), unique("standby"));
    broker.create_topic(&input, 1, &[])?;
    broker.create_topic(&name, 1, &[])?;
    let keys = 5_000;
    produce(&broker, &input, (0..keys).map(|k| format!(r#"{{"k":{k},"a":1}}"#)))?;
    workers.rest(0).put_connector(&name, &counts(&input, &name, &json!({})))?;
    finished(workers.rest(0), &broker, &input, &name)?;
    let victim = owner(&workers, 0, &format!("{name}-0"))?;
    let heir = 1 - victim;
    wait_followed(workers.get(heir), &name, 1)?;
    assert_eq!(standby(workers.get(victim), "shards", &name)?, None, "the owner follows itself");
    workers.get_mut(victim).kill9()?;
    // All keys once more, and a few after the take-over.
    produce(&broker, &input, (0..keys).map(|k| format!(r#"{{"k":{k},"a":2}}"#)))?;
    let done = finished(workers.rest(heir), &broker, &input, &name);
    done.map_err(|error| workers.with_logs(error.to_string()))?;
    let restored = restores(&workers.get(heir).log(), &name);
    println!("restored after the kill: {restored:?}");
    assert!(matches!(restored[..], [(records, false)] if records < keys / 10), "{restored:?}");
    // As a batch has it: the last total of each key.
    let mut totals = std::collections::BTreeMap::new();
    for value in values(&broker, &name)?.into_values().flatten() {
        let value: Value = serde_json::from_str(&value).map_err(|error| Error::new(error.to_string()))?;
        totals.insert(value["key"].as_i64(), (value["n"].as_i64(), value["total"].as_i64()));
    }
    assert_eq!(totals.len() as u64, keys);
    assert!(
        totals.values().all(|total| *total == (Some(2), Some(3))),
        "{:?}",
        totals.iter().find(|(_, t)| **t != (Some(2), Some(3)))
    );
    workers.get_mut(victim).restart()?;
    // It follows in its turn.
    let (owner, follower) = (owner(&workers, heir, &format!("{name}-0"))?, 0);
    let follower = if owner == follower { 1 } else { follower };
    wait_followed(workers.get(follower), &name, 1)?;
    workers.stop()
}

/// A connector's offsets are reset while another worker follows its state.
#[test]
fn a_reset_purges_what_a_follower_has() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = two_workers(&broker, WorkerOptions::default())?;
    let (input, name) = (unique("standby-reset-in"), unique("standby-reset"));
    broker.create_topic(&input, 1, &[])?;
    broker.create_topic(&name, 1, &[])?;
    produce(&broker, &input, (0..500).map(|k| format!(r#"{{"k":{k},"a":1}}"#)))?;
    let config = counts(&input, &name, &json!({}));
    workers.rest(0).put_connector(&name, &config)?;
    finished(workers.rest(0), &broker, &input, &name)?;
    let task = format!("{name}-0");
    let before = owner(&workers, 0, &task)?;
    wait_followed(workers.get(1 - before), &name, 1)?;
    stopped(workers.rest(0), &name)?;
    workers.rest(0).delete(&format!("/connectors/{name}/offsets"))?.ok()?;
    workers.rest(0).put(&format!("/connectors/{name}/resume"), &json!({}))?;
    finished(workers.rest(0), &broker, &input, &name)?;
    let follower = 1 - owner(&workers, 0, &task)?;
    wait_followed(workers.get(follower), &name, 1)?;
    // Had anything of the former state been left, it would be counted twice now.
    let victim = 1 - follower;
    workers.get_mut(victim).kill9()?;
    produce(&broker, &input, (0..500).map(|k| format!(r#"{{"k":{k},"a":1}}"#)))?;
    finished(workers.rest(follower), &broker, &input, &name)?;
    let results = values(&broker, &name)?.into_values().flatten().collect::<Vec<_>>();
    let of = |n: i64| results.iter().filter(|value| crate::events::number(value, "n") == n).count();
    assert_eq!((of(1), of(2), of(3)), (1000, 500, 0), "{}", workers.with_logs("counts"));
    assert!(restores(&workers.get(follower).log(), &name).iter().any(|(_, whole)| !whole));
    // Deleted: nobody follows.
    workers.rest(follower).delete(&format!("/connectors/{name}?purgeState=true"))?.ok()?;
    wait::until("nothing is followed", wait::PATIENCE, || {
        Ok(standby(workers.get(follower), "shards", &name)?.is_none().then_some(()))
    })?;
    workers.get_mut(victim).restart()?;
    workers.stop()
}

/// Workers that are killed, stand still, come back, and have their tasks moved, with state that is followed.
#[test]
fn kills_with_followers_lose_nothing_and_repeat_nothing() -> Result<()> {
    let mut seed = Seed::announce("kills of workers whose state is followed");
    let broker = KafkaBroker::shared()?;
    let mut workers = two_workers(&broker, WorkerOptions::default())?;
    let dir = tempfile::tempdir()?;
    let rig = Rig::new(&broker, "followed", dir.path())?;
    let mut events = Events::new(&broker, &rig.input)?;
    events.produce(5_000, &mut seed)?;
    let more = json!({"state.standby.replicas": 1, "consumer.override.session.timeout.ms": "6000"});
    rig.create(workers.rest(0), 2, &more)?;
    for round in 0..rounds(5) {
        events.produce(3_000, &mut seed)?;
        thread::sleep(Duration::from_millis(seed.random_range(0..3_000)));
        let victim = seed.random_range(0..2);
        match round % 4 {
            0 | 2 => kill(&mut workers, round, victim, &mut seed)?,
            1 => hold(&workers, round, victim, &mut events, &mut seed)?,
            _ => {
                let (tasks, replicas) = (seed.random_range(1..4), seed.random_range(0..3));
                println!("round {round}: {tasks} tasks, {replicas} followers");
                let more = extended(more.clone(), &json!({"state.standby.replicas": replicas}));
                rig.create(workers.rest(victim), tasks, &more)?;
            }
        }
    }
    events.finish(PARTITIONS)?;
    let done = rig.finished(workers.rest(0), &broker).and_then(|()| rig.check(&broker));
    done.map_err(|error| workers.with_logs(error.to_string()))?;
    let incremental =
        (0..2).flat_map(|number| restores(&workers.get(number).log(), &rig.first)).filter(|(_, whole)| !whole);
    println!("{} restores went on from a file", incremental.count());
    workers.stop()
}

/// Each of two tasks has shards of two stages, and the other worker follows them.
#[test]
fn all_stages_are_followed() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = two_workers(&broker, WorkerOptions::default())?;
    let (input, name) = (unique("standby-stages-in"), unique("standby-stages"));
    broker.create_topic(&input, PARTITIONS, &[])?;
    broker.create_topic(&name, 1, &[])?;
    let keys = 600;
    let more = |a: i64| produce(&broker, &input, (0..keys).map(|k| format!(r#"{{"k":{k},"a":{a},"id":"{a}-{k}"}}"#)));
    more(1)?;
    let config = counts(
        &input,
        &name,
        &json!({
            "tasks.max": 2, "transforms": "once, sums", "transforms.once.type": "Deduplicate", "transforms.once.key": "v.id",
            "transforms.sums.repartition": "auto",
        }),
    );
    workers.rest(0).put_connector(&name, &config)?;
    let totals = |total: i64| {
        wait::until("all are counted", 2 * wait::PATIENCE, || {
            let mut totals = std::collections::BTreeMap::new();
            for value in values(&broker, &name)?.into_values().flatten() {
                totals.insert(crate::events::number(&value, "key"), crate::events::number(&value, "total"));
            }
            let done = totals.len() as i64 == keys && totals.values().all(|found| *found == total);
            if done { Ok(Some(())) } else { Err(Error::new(format!("{} keys", totals.len()))) }
        })
    };
    totals(1).map_err(|error| workers.with_logs(error.to_string()))?;
    let shards = |worker: usize| standby(workers.get(worker), "shards", &name);
    wait::until("all shards are followed", wait::PATIENCE, || {
        let (a, b) = (shards(0)?.unwrap_or_default(), shards(1)?.unwrap_or_default());
        let all = a > 0 && b > 0 && a + b == 2 * PARTITIONS as u64;
        if all { Ok(Some(())) } else { Err(Error::new(format!("{a} and {b}"))) }
    })
    .map_err(|error| workers.with_logs(error.to_string()))?;
    let heirs = shards(0)?.unwrap_or_default();
    wait_followed(workers.get(0), &name, heirs)?;
    let before = restores(&workers.get(0).log(), &name).len();
    workers.get_mut(1).kill9()?;
    more(2)?;
    totals(3).map_err(|error| workers.with_logs(error.to_string()))?;
    let restored = restores(&workers.get(0).log(), &name).split_off(before);
    println!("restored after the kill: {restored:?}");
    let from_files = restored.iter().filter(|(_, whole)| !whole).count() as u64;
    assert!(from_files >= heirs, "{restored:?}");
    workers.get_mut(1).restart()?;
    workers.stop()
}

/// A task that goes to its follower and back again, in order: each time it goes on from a file.
#[test]
fn a_task_moves_back_and_forth() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    // Nobody is waited for, so that the other one takes over.
    let mut workers = two_workers(&broker, WorkerOptions::default().set("worker.restart.max.delay.ms", "0"))?;
    let (input, name) = (unique("standby-moves-in"), unique("standby-moves"));
    broker.create_topic(&input, 1, &[])?;
    broker.create_topic(&name, 1, &[])?;
    workers.rest(0).put_connector(&name, &counts(&input, &name, &json!({})))?;
    let task = format!("{name}-0");
    for round in 0..4 {
        produce(&broker, &input, (0..1_000).map(|k| format!(r#"{{"k":{k},"a":1}}"#)))?;
        finished(workers.rest(0), &broker, &input, &name)?;
        let from = owner(&workers, 0, &task)?;
        let to = 1 - from;
        wait_followed(workers.get(to), &name, 1)?;
        let before = restores(&workers.get(to).log(), &name).len();
        workers.get_mut(from).stop()?;
        let restored = wait::until("the task is at its follower", wait::PATIENCE, || {
            Ok(restores(&workers.get(to).log(), &name).get(before).copied())
        });
        let restored = restored.map_err(|error| workers.with_logs(error.to_string()))?;
        println!("round {round}: {restored:?}");
        assert!(!restored.1 && restored.0 < 100, "round {round}: {restored:?}");
        workers.get_mut(from).restart()?;
    }
    let results = values(&broker, &name)?.into_values().flatten().collect::<Vec<_>>();
    assert_eq!(results.len(), 4_000);
    workers.stop()
}

/// How long a take-over takes with and without a follower. Printed; `STANDBY_KEYS` is how large the state is.
#[test]
fn a_figure_of_take_overs() -> Result<()> {
    let keys: u64 = std::env::var("STANDBY_KEYS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let broker = KafkaBroker::shared()?;
    for replicas in [0, 1] {
        let mut workers = two_workers(&broker, WorkerOptions::default())?;
        let (input, name) = (unique("standby-figure-in"), unique("standby-figure"));
        broker.create_topic(&input, 1, &[])?;
        broker.create_topic(&name, 1, &[])?;
        // Fewer than the client's queue holds.
        for begin in (0..keys).step_by(50_000) {
            let some = begin..keys.min(begin + 50_000);
            produce(&broker, &input, some.map(|k| format!(r#"{{"k":{k},"a":1}}"#)))?;
        }
        let config = counts(&input, &name, &json!({"state.standby.replicas": replicas}));
        workers.rest(0).put_connector(&name, &config)?;
        finished(workers.rest(0), &broker, &input, &name)?;
        let victim = owner(&workers, 0, &format!("{name}-0"))?;
        let heir = 1 - victim;
        if replicas > 0 {
            wait_followed(workers.get(heir), &name, 1)?;
        }
        let begun = Instant::now();
        workers.get_mut(victim).kill9()?;
        produce(&broker, &input, [r#"{"k":0,"a":1}"#.to_owned()])?;
        let log = || workers.get(heir).log();
        let restored = wait::until("the state is restored", Duration::from_secs(180), || {
            Ok(restores(&log(), &name).first().map(|restored| (*restored, begun.elapsed())))
        })?;
        finished(workers.rest(heir), &broker, &input, &name)?;
        let took = log()
            .lines()
            .filter(|line| line.contains("the state is restored"))
            .filter(|line| line.contains(&name))
            .find_map(|line| {
                line.split(", in ").nth(1).map(|rest| rest.split_whitespace().next().unwrap_or_default().to_owned())
            });
        println!(
            "{keys} keys, {replicas} followers: restored {:?} in {}, {:?} after the kill; the next result is committed after {:?}",
            restored.0,
            took.unwrap_or_default(),
            restored.1,
            begun.elapsed()
        );
        workers.get_mut(victim).restart()?;
        workers.stop()?;
    }
    Ok(())
}

/// A source's state is followed too: whatever comes again after its worker was killed is known.
#[test]
fn a_source_that_loses_its_worker_remembers() -> Result<()> {
    let mut seed = Seed::announce("sources whose state is followed");
    let broker = KafkaBroker::shared()?;
    let options = WorkerOptions::default()
        .set("exactly.once.source.support", "enabled")
        .set("offset.storage.replication.factor", "1");
    let mut workers = two_workers(&broker, options)?;
    let dir = tempfile::tempdir()?;
    let (name, file) = (unique("standby-source"), dir.path().join("lines"));
    broker.create_topic(&name, 1, &[])?;
    let mut length = 0;
    let mut more = |from: u32, to: u32| -> Result<u64> {
        let text: String = (from..to).map(|number| format!("line-{number}\n")).collect();
        let mut all = std::fs::OpenOptions::new().create(true).append(true).open(&file)?;
        std::io::Write::write_all(&mut all, text.as_bytes())?;
        length += text.len() as u64;
        Ok(length)
    };
    let end = more(0, 3_000)?;
    let scope = if seed.random_range(0..2) == 0 { "connector" } else { "partition" };
    println!("state.scope={scope}");
    let config = json!({
        "connector.class": "FileStreamSource", "file": dir.path().join("lines"), "topic": name, "batch.size": "200",
        "transforms": "once", "transforms.once.type": "Deduplicate", "transforms.once.key": "v",
        "transforms.once.eventtime.expr": "timestamp('2024-01-01T00:00:00Z')",
        "state.scope": scope, "state.standby.replicas": 1,
    });
    workers.rest(0).put_connector(&name, &config)?;
    let committed = |rest: &tributary_harness::Rest, end: u64| {
        wait::until("the file's end is committed", 2 * wait::PATIENCE, || {
            let answer = rest.get(&format!("/connectors/{name}/offsets"))?.ok()?;
            Ok((answer["offsets"][0]["offset"]["position"].as_u64() == Some(end)).then_some(()))
        })
    };
    committed(workers.rest(0), end).map_err(|error| workers.with_logs(error.to_string()))?;
    let victim = owner(&workers, 0, &format!("{name}-0"))?;
    let heir = 1 - victim;
    wait_followed(workers.get(heir), &name, 1)?;
    workers.get_mut(victim).kill9()?;
    // All of them again, and some that are new.
    let end = more(0, 3_500)?;
    committed(workers.rest(heir), end).map_err(|error| workers.with_logs(error.to_string()))?;
    let restored = restores(&workers.get(heir).log(), &name);
    println!("restored after the kill: {restored:?}");
    assert!(matches!(restored[..], [(records, false)] if records < 300), "{restored:?}");
    let found: Vec<String> = values(&broker, &name)?.into_values().flatten().collect();
    assert_eq!(found, (0..3_500).map(|number| format!("line-{number}")).collect::<Vec<_>>());
    workers.get_mut(victim).restart()?;
    // It follows in its turn, and takes over again.
    wait_followed(workers.get(victim), &name, 1)?;
    workers.get_mut(heir).kill9()?;
    let end = more(1_000, 4_000)?;
    committed(workers.rest(victim), end).map_err(|error| workers.with_logs(error.to_string()))?;
    let found: Vec<String> = values(&broker, &name)?.into_values().flatten().collect();
    assert_eq!(found, (0..4_000).map(|number| format!("line-{number}")).collect::<Vec<_>>());
    workers.get_mut(heir).restart()?;
    workers.stop()
}
