//! Offsets that are changed over REST: all of a change or nothing, whatever happens in the middle of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tributary_harness::{Error, Rest, Result, TributaryWorker, WorkerOptions, wait};

use crate::stamps;

/// Partitions that one request changes.
const PARTITIONS: u64 = 300;

fn stamps_worker(options: WorkerOptions) -> Result<(TributaryWorker, tempfile::TempDir)> {
    let directory = tempfile::tempdir()?;
    stamps::install(directory.path(), "7001.0.0")?;
    let options = options.set("plugin.path", &directory.path().display().to_string());
    Ok((TributaryWorker::start_with("embedded", options)?, directory))
}

fn stop(rest: &Rest, name: &str) -> Result<()> {
    rest.put(&format!("/connectors/{name}/stop"), &Value::Null)?.ok()?;
    wait_stopped(rest, name)
}

/// A stopped connector has no tasks.
fn wait_stopped(rest: &Rest, name: &str) -> Result<()> {
    wait::until(&format!("{name} to be STOPPED"), wait::PATIENCE, || {
        let status = rest.status(name)?;
        Ok((status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([])).then_some(()))
    })
}

fn offsets(rest: &Rest, name: &str) -> Result<Vec<Value>> {
    let answer = rest.get(&format!("/connectors/{name}/offsets"))?.ok()?;
    Ok(answer["offsets"].as_array().cloned().unwrap_or_default())
}

/// All partitions at the same round.
fn round(round: u64) -> Value {
    let one = |partition: u64| json!({"partition": {"n": partition}, "offset": {"round": round}});
    json!({"offsets": (0..PARTITIONS).map(one).collect::<Vec<_>>()})
}

#[test]
fn a_change_that_a_kill_interrupts_is_made_whole_or_not_at_all() -> Result<()> {
    let (mut worker, _plugins) = stamps_worker(WorkerOptions::default())?;
    let path = "/connectors/s/offsets";
    worker.rest().put_connector("s", &json!({"connector.class": "StampsSource", "topic": "t"}))?;
    worker.wait_running("s")?;
    stop(worker.rest(), "s")?;
    worker.rest().delete(path)?.ok()?;
    let (next, acknowledged) = (AtomicU64::new(1), AtomicU64::new(0));
    let mut resets = 0;
    for kill in 0..6_u64 {
        let base = worker.rest().base().to_owned();
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let rest = Rest::new(base);
                loop {
                    let now = next.fetch_add(1, Ordering::SeqCst);
                    // Each fifth forgets them all.
                    let answer = match now % 5 {
                        0 => rest.delete(path),
                        _ => rest.patch(path, &round(now)),
                    };
                    match answer {
                        Ok(answer) if answer.status == 200 => acknowledged.store(now, Ordering::SeqCst),
                        _ => return,
                    }
                }
            });
            let before = acknowledged.load(Ordering::SeqCst);
            wait::until("changes", wait::PATIENCE, || {
                Ok((acknowledged.load(Ordering::SeqCst) >= before + 2).then_some(()))
            })?;
            std::thread::sleep(Duration::from_millis(3 + kill * 7));
            worker.kill9()?;
            changing.join().map_err(|_| Error::new("the changing thread panicked"))
        })?;
        worker.restart()?;
        let rest = worker.rest();
        wait_stopped(rest, "s")?;
        let (last, begun) = (acknowledged.load(Ordering::SeqCst), next.load(Ordering::SeqCst) - 1);
        let found = offsets(rest, "s")?;
        let rounds: Vec<Option<u64>> = found.iter().map(|offset| offset["offset"]["round"].as_u64()).collect();
        let of = |round: u64| match round % 5 {
            0 => Vec::new(),
            _ => vec![Some(round); PARTITIONS as usize],
        };
        // What was told to be done, or what was under way.
        assert!(rounds == of(last) || rounds == of(begun), "{last} was acknowledged, {begun} begun: {rounds:?}");
        resets += u64::from(rounds.is_empty());
        // What was interrupted can be asked for again.
        for round in [round(begun), round(begun)] {
            rest.patch(path, &round)?.ok()?;
        }
        assert_eq!(offsets(rest, "s")?.len() as u64, PARTITIONS);
    }
    println!("{} changes, {resets} resets found", next.load(Ordering::SeqCst));
    Ok(())
}

#[test]
fn a_plugin_that_hangs_over_offsets_holds_up_nobody() -> Result<()> {
    let (worker, _plugins) = stamps_worker(WorkerOptions::default().set("plugin.call.timeout.ms", "1500"))?;
    let rest = worker.rest();
    let config = |hangs: bool| json!({"connector.class": "StampsSource", "topic": "t", "hang.in.alter.offsets": hangs.to_string()});
    rest.put_connector("hangs", &config(true))?;
    rest.put_connector("well", &config(false))?;
    let offset =
        |partition: Value, number: u64| json!({"offsets": [{"partition": partition, "offset": {"emitted": number}}]});
    for name in ["hangs", "well"] {
        wait::until("an offset", wait::PATIENCE, || Ok((!offsets(rest, name)?.is_empty()).then_some(())))
            .map_err(|error| worker.with_log(error.to_string()))?;
        stop(rest, name)?;
    }
    let before = offsets(rest, "hangs")?;
    let path = |name: &str| format!("/connectors/{name}/offsets");
    for _ in 0..2 {
        std::thread::scope(|scope| {
            let asked = Instant::now();
            let hanging =
                scope.spawn(|| [rest.patch(&path("hangs"), &offset(json!({"n": 1}), 5)), rest.delete(&path("hangs"))]);
            // Others are served meanwhile, and their offsets change.
            for number in 0..5 {
                rest.patch(&path("well"), &offset(json!({"n": 1}), number))?.ok()?;
                rest.get("/connectors?expand=status")?.ok()?;
            }
            assert!(!hanging.is_finished() || asked.elapsed() > Duration::from_secs(3), "nothing hung");
            for answer in hanging.join().map_err(|_| Error::new("the hanging thread panicked"))? {
                let answer = answer?;
                let told = answer.body["message"].as_str().unwrap_or_default();
                assert!(
                    answer.status == 500
                        && told.contains("'alterOffsets'")
                        && told.contains("connector hangs")
                        && told.contains("plugin.call.timeout.ms")
                        && told.contains("nothing was changed"),
                    "{answer:?}"
                );
            }
            Ok::<_, Error>(())
        })?;
        assert_eq!(offsets(rest, "hangs")?, before);
    }
    assert_eq!(offsets(rest, "well")?.iter().filter(|offset| offset["partition"] == json!({"n": 1})).count(), 1);

    // Once it no longer hangs, the same is done; and it runs.
    rest.put_connector("hangs", &config(false))?;
    rest.patch(&path("hangs"), &offset(json!({"n": 1}), 5))?.ok()?;
    assert_eq!(offsets(rest, "hangs")?.len(), before.len() + 1);
    rest.delete(&path("hangs"))?.ok()?;
    assert_eq!(offsets(rest, "hangs")?, [] as [Value; 0]);
    rest.put("/connectors/hangs/resume", &Value::Null)?.ok()?;
    worker.wait_running("hangs")
}
