//! Two and three workers: any of them takes every request, they share the work evenly, and each task has one owner.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tributary_harness::{Error, KafkaBroker, Result, wait};
use tributary_tests::Workers;

/// A source that makes records for ever, slowly.
fn generator(topic: &str, tasks: usize) -> Value {
    json!({"connector.class": "GeneratorSource", "schema": "orders", "rate": "5", "topic": topic, "tasks.max": tasks.to_string()})
}

#[test]
fn every_worker_takes_every_request() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start(&broker.bootstrap(), 2)?;
    let leader = workers.leader()?;
    let other = 1 - leader;
    let names: Vec<String> = (0..6).map(|number| format!("{}-{number}", workers.group)).collect();
    for (number, name) in names.iter().enumerate() {
        let request = json!({"name": name, "config": generator(&workers.group, 2)});
        let created = workers.rest(number % 2).post("/connectors", &request)?;
        assert_eq!(created.status, 201, "{}", created.body);
        // The address under which the worker was asked, whoever did it.
        let location = created.headers["location"].to_str().unwrap_or_default();
        assert_eq!(location, format!("{}/connectors/{name}", workers.rest(number % 2).base()));
    }
    workers.wait_balanced(other, 12, &[0, 1])?;
    workers.wait_balanced(leader, 12, &[0, 1])?;
    // Both tell the same.
    assert_eq!(workers.owners(0)?, workers.owners(1)?);

    // Restarts reach the owner, whoever is asked.
    let owners = workers.owners(other)?;
    for owner in [leader, other] {
        let theirs = |name: &&String| owners[*name] == workers.id(owner);
        let name = names.iter().find(theirs).ok_or_else(|| Error::new(format!("{owners:?}")))?;
        for asked in [leader, other] {
            let answer = workers.rest(asked).post(&format!("/connectors/{name}/restart"), &Value::Null)?;
            assert_eq!(answer.status, 204, "{}", answer.body);
        }
        let (task, _) =
            owners.iter().find(|(key, id)| key.len() > name.len() && *id == workers.id(owner)).ok_or("no task")?;
        let (connector, task) = task.rsplit_once('-').ok_or("no task")?;
        for asked in [leader, other] {
            let answer =
                workers.rest(asked).post(&format!("/connectors/{connector}/tasks/{task}/restart"), &Value::Null)?;
            assert_eq!(answer.status, 204, "{}", answer.body);
        }
        workers.wait_running(asked(owner), std::slice::from_ref(name))?;
    }
    let all = workers.rest(other).post(&format!("/connectors/{}/restart?includeTasks=true", names[0]), &Value::Null)?;
    assert_eq!((all.status, &all.body["tasks"][0]["state"]), (202, &json!("RESTARTING")), "{}", all.body);
    workers.wait_running(other, &names)?;

    // What does not exist is not there for either.
    for asked in [leader, other] {
        let rest = workers.rest(asked);
        assert_eq!(rest.put("/connectors/absent/pause", &Value::Null)?.status, 404);
        assert_eq!(rest.delete("/connectors/absent")?.status, 404);
        assert_eq!(rest.post("/connectors/absent/restart", &Value::Null)?.status, 404);
        assert_eq!(rest.post(&format!("/connectors/{}/tasks/7/restart", names[0]), &Value::Null)?.status, 404);
        assert_eq!(rest.post("/connectors", &json!({"name": names[0], "config": generator("x", 1)}))?.status, 409);
        // At most two hops.
        if asked == other {
            let answer = rest.put(&format!("/connectors/{}/pause?forward=false", names[0]), &Value::Null)?;
            assert_eq!(answer.status, 409, "{}", answer.body);
            assert!(answer.headers.contains_key("retry-after"));
        }
    }
    requests_between_workers_are_signed(&workers, leader, &names[0])?;

    // A config change touches only its connector.
    let before = workers.owners(leader)?;
    let restarts =
        |workers: &Workers| workers.iter().map(|worker| worker.log().matches("stopped").count()).sum::<usize>();
    let quiet = restarts(&workers);
    workers.rest(other).patch(&format!("/connectors/{}/config", names[1]), &json!({"rate": "6"}))?.ok()?;
    wait::until("the new task configs", wait::PATIENCE, || {
        let tasks = workers.rest(other).get(&format!("/connectors/{}/tasks", names[1]))?.ok()?;
        Ok((tasks[0]["config"]["rate"] == "6").then_some(()))
    })?;
    workers.wait_running(other, &names)?;
    assert_eq!(workers.owners(leader)?, before);
    let stopped = restarts(&workers) - quiet;
    assert!(stopped <= 2, "{stopped} tasks were stopped for a change of a connector with two");

    // Pause, resume, log levels of the cluster, delete: through the one that does not lead.
    let rest = workers.rest(other);
    rest.put(&format!("/connectors/{}/pause", names[2]), &Value::Null)?.ok()?;
    workers.rest(leader).wait_state(&names[2], "PAUSED")?;
    rest.put(&format!("/connectors/{}/resume", names[2]), &Value::Null)?.ok()?;
    workers.rest(leader).wait_state(&names[2], "RUNNING")?;
    let answer = rest.put("/admin/loggers/tributary.transform?scope=cluster", &json!({"level": "DEBUG"}))?;
    assert_eq!(answer.status, 204, "{}", answer.body);
    for number in 0..2 {
        wait::until("the log level", wait::PATIENCE, || {
            let level = workers.rest(number).get("/admin/loggers/tributary.transform")?;
            Ok((level.body["level"] == "DEBUG").then_some(()))
        })?;
    }
    for name in &names {
        rest.delete_connector(name)?;
    }
    for number in 0..2 {
        wait::until("nothing to be left", wait::PATIENCE, || {
            Ok((workers.rest(number).get("/connectors")?.ok()? == json!([])).then_some(()))
        })?;
    }
    workers.stop()
}

fn asked(owner: usize) -> usize {
    1 - owner
}

/// Nobody else can give a connector other tasks.
fn requests_between_workers_are_signed(workers: &Workers, leader: usize, name: &str) -> Result<()> {
    let rest = workers.rest(leader);
    let path = format!("/connectors/{name}/tasks");
    let unsigned = rest.post(&path, &json!([{"task": "0"}]))?;
    assert_eq!(unsigned.status, 400, "{}", unsigned.body);
    let wrong = rest.send_with_headers(
        "POST",
        &path,
        r#"[{"task":"0"}]"#,
        &[("X-Connect-Authorization", "AAAA"), ("X-Connect-Request-Signature-Algorithm", "HmacSHA256")],
    )?;
    assert_eq!(wrong.status, 403, "{}", wrong.body);
    Ok(())
}

#[test]
fn workers_that_come_and_go_in_order_share_the_work() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start(&broker.bootstrap(), 1)?;
    let names: Vec<String> = (0..6).map(|number| format!("{}-{number}", workers.group)).collect();
    for name in &names {
        workers.rest(0).put_connector(name, &generator(&workers.group, 2))?;
    }
    workers.wait_running(0, &names)?;
    workers.add()?;
    workers.wait_balanced(1, 12, &[0, 1])?;
    workers.add()?;
    workers.wait_balanced(2, 12, &[0, 1, 2])?;
    // One that leaves in order is not waited for.
    let begun = std::time::Instant::now();
    workers.get_mut(0).stop()?;
    let stopped = begun.elapsed();
    workers.wait_balanced(1, 12, &[1, 2])?;
    println!("stopped after {stopped:?}, everything ran again after {:?}", begun.elapsed());
    assert_eq!(workers.owners(1)?, workers.owners(2)?);
    let statuses = workers.rest(2).get("/connectors?expand=status")?.ok()?;
    assert!(!statuses.to_string().contains("UNASSIGNED"), "{statuses}");
    rebalances_are_counted(&workers, 2)?;
    workers.get_mut(1).stop()?;
    workers.wait_balanced(2, 12, &[2])?;
    workers.get_mut(2).stop()
}

/// Changes that come to another worker while the leader is stopped in order wait for the next leader.
#[test]
fn a_leader_that_stops_fails_no_request_to_others() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let mut workers = Workers::start(&broker.bootstrap(), 3)?;
    let (group, name) = (workers.group.clone(), format!("{}-changed", workers.group));
    let config = |version: usize| {
        let mut config = generator(&group, 1);
        config["note"] = version.to_string().into();
        config
    };
    for _ in 0..2 {
        let leader = workers.leader()?;
        let other = (0..3).find(|number| *number != leader && workers.get(*number).pid().is_ok());
        let other = other.ok_or_else(|| Error::new("nobody is left"))?;
        let rest = workers.rest(other).clone();
        let ended = AtomicBool::new(false);
        let version = std::thread::scope(|scope| -> Result<usize> {
            let (rest, ended, name, config) = (&rest, &ended, &name, &config);
            let asking = scope.spawn(move || -> Result<usize> {
                // Some before, some while it stops, some after.
                let (mut version, mut after) = (0, 0);
                while after < 5 {
                    after += usize::from(ended.load(Ordering::Acquire));
                    version += 1;
                    let answer = rest.put(&format!("/connectors/{name}/config"), &config(version))?;
                    assert!([200, 201].contains(&answer.status), "{} {}", answer.status, answer.body);
                }
                Ok(version)
            });
            std::thread::sleep(Duration::from_millis(300));
            let stopped = workers.get_mut(leader).stop();
            ended.store(true, Ordering::Release);
            stopped?;
            asking.join().map_err(|_| Error::new("a request failed"))?
        })?;
        assert_eq!(rest.get(&format!("/connectors/{name}/config"))?.ok()?["note"], version.to_string());
        println!("{version} requests");
    }
    Ok(())
}

fn rebalances_are_counted(workers: &Workers, number: usize) -> Result<()> {
    let answer = workers.rest(number).get("/metrics")?;
    let text = answer.body.as_str().unwrap_or_default();
    let value = |name: &str| -> Result<f64> {
        let name = format!("kafka_connect_connect_worker_rebalance_metrics_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).ok_or_else(|| Error::new(text.to_owned()))?;
        line.parse().map_err(|_| Error::new(line.to_owned()))
    };
    assert!(value("completed_rebalances_total")? >= 2.0 && value("epoch")? >= 2.0, "{text}");
    let (average, longest) = (value("rebalance_avg_time_ms")?, value("rebalance_max_time_ms")?);
    assert!(0.0 < average && average <= longest && longest < 60_000.0, "{text}");
    assert!(value("time_since_last_rebalance_ms")? < 600_000.0 && value("rebalancing")? <= 1.0, "{text}");
    Ok(())
}
