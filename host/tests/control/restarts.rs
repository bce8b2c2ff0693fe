//! Restarts, by hand and by the policy.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stand::{Stand, task};

#[test]
fn restarts_by_hand() {
    let stand = Stand::new();
    stand.create("c", &[("tasks.max", "2"), ("fake.tasks", "2"), ("errors.restart.policy", "never")]);
    stand.wait_for_states("c", "RUNNING [RUNNING, RUNNING]");
    stand.runner.fail_task(&task("c", 1), "no");
    stand.wait_for_states("c", "RUNNING [RUNNING, FAILED]");
    stand.runner.calls();

    assert_eq!(stand.call("POST", "/connectors/c/restart").status, 204);
    stand.wait_for_states("c", "RUNNING [RUNNING, FAILED]");
    stand.wait_for_calls(&["stop c", "start c"]);

    let answer = stand.call("POST", "/connectors/c/restart?includeTasks=true&onlyFailed=true");
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["connector"]["state"], "RUNNING");
    assert_eq!(answer.json()["tasks"][0]["state"], "RUNNING");
    assert_eq!(answer.json()["tasks"][1]["state"], "RESTARTING");
    stand.wait_for_states("c", "RUNNING [RUNNING, RUNNING]");
    stand.wait_for_calls(&["stop c-1", "start c-1"]);

    let answer = stand.call("POST", "/connectors/c/restart?includeTasks=true").json();
    assert_eq!(answer["connector"]["state"], "RESTARTING");
    stand.wait_for_states("c", "RUNNING [RUNNING, RUNNING]");
    stand.runner.calls();

    assert_eq!(stand.call("POST", "/connectors/c/tasks/0/restart").status, 204);
    stand.wait_for_states("c", "RUNNING [RUNNING, RUNNING]");
    stand.wait_for_calls(&["stop c-0", "start c-0"]);
    assert_eq!(stand.call("POST", "/connectors/c/tasks/7/restart").message(), "Unknown task: c-7");
}

#[test]
fn the_policy_brings_a_failed_task_back() {
    let stand = Stand::new();
    let backoff = ("errors.restart.backoff.initial.ms", "100");
    stand.create("c", &[backoff, ("errors.restart.max.attempts", "2")]);
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    for attempts in 0..2 {
        let begin = Instant::now();
        stand.runner.fail_task(&task("c", 0), "once more");
        stand.wait_for_states("c", "RUNNING [FAILED]");
        let status: Value = stand.get("/connectors/c/tasks/0/status").json();
        assert_eq!(status["trace"], "once more");
        assert_eq!(status["restart"]["attempts"], attempts);
        assert!(status["restart"]["next"].is_string(), "{status}");
        stand.wait_for_states("c", "RUNNING [RUNNING]");
        assert!(begin.elapsed() >= Duration::from_millis(90), "{:?}", begin.elapsed());
        assert_eq!(stand.get("/connectors/c/tasks/0/status").json()["restart"]["attempts"], attempts + 1);
    }
    stand.runner.fail_task(&task("c", 0), "for good");
    stand.wait_for_states("c", "RUNNING [FAILED]");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(stand.states("c"), "RUNNING [FAILED]");
    assert_eq!(stand.get("/connectors/c/tasks/0/status").json()["restart"]["next"], Value::Null);
}

#[test]
fn a_connector_that_fails_to_start_is_tried_again_and_mended_by_a_config() {
    let stand = Stand::new();
    let created = stand.create("c", &[("fake.fail", "no such host"), ("errors.restart.backoff.initial.ms", "50")]);
    assert_eq!(created.status, 201);
    let begin = Instant::now();
    while stand.runner.calls().iter().filter(|call| *call == "start c").count() < 1
        || stand.get("/connectors/c/status").json()["connector"]["restart"]["attempts"].as_u64() < Some(2)
    {
        assert!(begin.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(stand.get("/connectors/c/status").body.contains("no such host"));
    let patched = stand.json("PATCH", "/connectors/c/config", &serde_json::json!({"fake.fail": null}));
    assert_eq!(patched.status, 200);
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    assert_eq!(stand.get("/connectors/c/status").json()["connector"]["restart"], Value::Null);
}

#[test]
fn too_many_tasks_fail_the_connector() {
    let stand = Stand::new();
    stand.create("c", &[("fake.tasks", "3"), ("errors.restart.policy", "never")]);
    stand.wait_for_states("c", "FAILED []");
    assert!(stand.get("/connectors/c/status").body.contains("more than tasks.max=1"));
    stand.json("PATCH", "/connectors/c/config", &serde_json::json!({"tasks.max": "4"}));
    stand.wait_for_states("c", "RUNNING [RUNNING, RUNNING, RUNNING]");
    // Fewer tasks: those beyond are stopped and forgotten.
    stand.json("PATCH", "/connectors/c/config", &serde_json::json!({"fake.tasks": "1"}));
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    let begin = Instant::now();
    while stand.runner.running_tasks() != ["c-0"] {
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
