//! Requests and answers. The expected ones were compared with Kafka Connect 4.3.1.

use std::time::{Duration, Instant};

use serde_json::json;
use tributary::worker::TaskProgress;

use crate::stand::{Stand, task};

#[test]
fn a_connector_from_creation_to_deletion() {
    let stand = Stand::new();
    assert_eq!(stand.get("/connectors").body, "[]");
    let created = stand.create("src", &[("tasks.max", "2"), ("fake.tasks", "2")]);
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header("location"), Some("http://connect.test/connectors/src"));
    let config = json!({
        "connector.class": "FileStreamSource", "topic": "t", "file": "/tmp/in", "name": "src",
        "tasks.max": "2", "fake.tasks": "2",
    });
    let tasks = json!([{"connector": "src", "task": 0}, {"connector": "src", "task": 1}]);
    let info = json!({"name": "src", "config": config, "tasks": tasks, "type": "source"});
    assert_eq!(created.json(), info);
    assert_eq!(stand.get("/connectors/src").json(), info);
    assert_eq!(stand.get("/connectors/src/").json(), info);
    assert_eq!(stand.get("/connectors/src/config").json(), config);
    stand.wait_for_states("src", "RUNNING [RUNNING, RUNNING]");
    assert_eq!(stand.get("/connectors").body, r#"["src"]"#);
    assert_eq!(stand.create("src", &[]).message(), "Connector src already exists");
    assert_eq!(stand.create("src", &[]).status, 409);

    assert_eq!(stand.call("PUT", "/connectors/src/pause").status, 202);
    stand.wait_for_states("src", "PAUSED [PAUSED, PAUSED]");
    assert_eq!(stand.call("PUT", "/connectors/src/resume").status, 202);
    stand.wait_for_states("src", "RUNNING [RUNNING, RUNNING]");
    assert_eq!(stand.call("PUT", "/connectors/src/stop").status, 204);
    // The answer came when it had stopped.
    assert_eq!(stand.states("src"), "STOPPED []");
    assert_eq!(stand.runner.running_tasks(), [""; 0]);
    assert_eq!(stand.get("/connectors/src/tasks").body, "[]");
    assert_eq!(stand.call("PUT", "/connectors/src/resume").status, 202);
    stand.wait_for_states("src", "RUNNING [RUNNING, RUNNING]");

    assert_eq!(stand.call("DELETE", "/connectors/src").status, 204);
    assert_eq!(stand.runner.running_tasks(), [""; 0]);
    assert_eq!(stand.get("/connectors/src").message(), "Connector src not found");
    assert_eq!(stand.call("DELETE", "/connectors/src").message(), "Connector src not found");
}

#[test]
fn status_shows_versions_traces_and_progress() {
    let stand = Stand::new();
    stand.create("c", &[("errors.restart.policy", "never")]);
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    let progress = TaskProgress { records_in: 7, last_record_ms: Some(0), lag: Some(3), ..TaskProgress::default() };
    stand.runner.set_progress(&task("c", 0), progress);
    stand.runner.fail_task(&task("c", 0), "no such file\nat line 1");
    stand.wait_for_states("c", "RUNNING [FAILED]");
    let worker = "127.0.0.1:8083";
    let task = json!({
        "id": 0, "state": "FAILED", "worker_id": worker, "version": "1.2.3", "trace": "no such file\nat line 1",
        "progress": {
            "records_in": 7, "records_out": 0, "bytes_in": 0, "records_failed": 0, "records_filtered": 0,
            "last_record": "1970-01-01T00:00:00.000Z", "last_commit": null, "lag": 3,
        },
        "restart": {"attempts": 0},
    });
    let mut shown = stand.get("/connectors/c/tasks/0/status").json();
    // Not planned with this policy, and so not shown.
    assert_eq!(shown.as_object_mut().unwrap().remove("restart"), None);
    let mut expected = task.clone();
    expected.as_object_mut().unwrap().remove("restart");
    assert_eq!(shown, expected);
    assert_eq!(
        stand.get("/connectors/c/status").json(),
        json!({
            "name": "c",
            "connector": {"state": "RUNNING", "worker_id": worker, "version": "1.2.3"},
            "tasks": [expected],
            "type": "source",
        })
    );
    assert_eq!(stand.get("/health").json()["status"], "healthy");
    let health = stand.get("/health?connector=c");
    assert_eq!((health.status, health.json()["status"].as_str()), (500, Some("unhealthy")));
}

#[test]
fn lists_expand() {
    let stand = Stand::new();
    stand.create("b", &[]);
    stand.create("a", &[]);
    stand.wait_for_states("a", "RUNNING [RUNNING]");
    assert_eq!(stand.get("/connectors").json(), json!(["a", "b"]));
    let both = stand.get("/connectors?expand=info&expand=status&expand=other").json();
    assert_eq!(both["a"]["info"], stand.get("/connectors/a").json());
    assert_eq!(both["a"]["status"], stand.get("/connectors/a/status").json());
    assert_eq!(both["b"].as_object().unwrap().len(), 2);
    assert_eq!(stand.get("/connectors?expand=zzz").json(), json!({"a": {}, "b": {}}));
}

#[test]
fn configs_are_put_and_patched() {
    let stand = Stand::new();
    let config = json!({"connector.class": "FileStreamSource", "topic": "t", "tasks.max": 1});
    let put = stand.json("PUT", "/connectors/c/config", &config);
    assert_eq!((put.status, put.header("location")), (201, Some("http://connect.test/connectors/c")));
    assert_eq!(
        put.json()["config"],
        json!({"connector.class": "FileStreamSource", "topic": "t", "tasks.max": "1", "name": "c"})
    );
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    stand.runner.calls();
    // The same again changes nothing.
    assert_eq!(stand.json("PUT", "/connectors/c/config", &config).status, 200);
    assert_eq!(stand.runner.calls(), [""; 0]);

    let patch = json!({"batch.size": 1.50, "flag": true, "tasks.max": null, "absent": null});
    let patched = stand.send(
        "PATCH",
        "/connectors/c/config",
        Some(("application/json", &patch.to_string().replace("1.5", "1.50"))),
    );
    let expected =
        json!({"connector.class": "FileStreamSource", "topic": "t", "name": "c", "batch.size": "1.50", "flag": "true"});
    assert_eq!((patched.status, &patched.json()["config"]), (200, &expected));
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    stand.wait_for_calls(&["stop c", "start c", "stop c-0", "start c-0"]);
    assert_eq!(stand.runner.task_config(&task("c", 0)).unwrap().get("batch.size"), Some("1.50"));
    assert_eq!(stand.json("PATCH", "/connectors/x/config", &json!({})).message(), "Connector x not found");
    let mismatch = stand.json("PATCH", "/connectors/c/config", &json!({"name": "d"}));
    assert_eq!((mismatch.status, mismatch.message().contains("doesn't match")), (400, true));
}

#[test]
fn concurrent_patches_are_all_applied() {
    let stand = Stand::new();
    stand.create("c", &[]);
    std::thread::scope(|scope| {
        for key in 0..8 {
            let stand = &stand;
            scope.spawn(move || {
                let patch = json!({format!("key.{key}"): "x"});
                assert_eq!(stand.json("PATCH", "/connectors/c/config", &patch).status, 200);
            });
        }
    });
    let config = stand.get("/connectors/c/config").json();
    assert!((0..8).all(|key| config[format!("key.{key}")] == "x"), "{config}");
}

#[test]
fn names_may_be_odd() {
    let stand = Stand::new();
    let config = json!({"connector.class": "FileStreamSource", "topic": "t"});
    for name in ["a b/c%ü☃", "..", "a?b#c", "status", "+ +"] {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/connectors/{encoded}");
        let put = stand.json("PUT", &format!("{path}/config"), &config);
        assert_eq!((put.status, put.json()["name"].as_str()), (201, Some(name)), "{put:?}");
        let location = put.header("location").unwrap().replace("http://connect.test", "");
        assert_eq!(stand.get(&location).json()["name"], name);
        stand.wait_for_states(&encoded, "RUNNING [RUNNING]");
        assert_eq!(stand.call("DELETE", &path).status, 204);
    }
}

#[test]
fn initial_states() {
    let stand = Stand::new();
    let create = |name: &str, state: &str| {
        let config = json!({"connector.class": "FileStreamSource", "topic": "t"});
        stand.json("POST", "/connectors", &json!({"name": name, "config": config, "initial_state": state}))
    };
    assert_eq!(create("stopped", "stopped").status, 201);
    assert_eq!(create("paused", "Paused").status, 201);
    assert_eq!(create("running", "RUNNING").status, 201);
    stand.wait_for_states("stopped", "STOPPED []");
    stand.wait_for_states("paused", "PAUSED []");
    stand.wait_for_states("running", "RUNNING [RUNNING]");
    assert_eq!(
        (create("bad", "up").status, create("bad", "up").message().contains("RUNNING, PAUSED or STOPPED")),
        (400, true)
    );
    assert_eq!(stand.call("PUT", "/connectors/paused/resume").status, 202);
    stand.wait_for_states("paused", "RUNNING [RUNNING]");
}

#[test]
fn everything_comes_back_after_a_restart_of_the_worker() {
    let stand = Stand::new();
    stand.create("running", &[("fake.tasks", "2"), ("tasks.max", "2")]);
    stand.create("paused", &[]);
    stand.create("stopped", &[]);
    for name in ["running", "paused", "stopped"] {
        stand.wait_for_states(name, if name == "running" { "RUNNING [RUNNING, RUNNING]" } else { "RUNNING [RUNNING]" });
    }
    stand.call("PUT", "/connectors/paused/pause");
    stand.call("PUT", "/connectors/stopped/stop");
    stand.runner.use_topic(&task("running", 0), "t1");
    stand.runner.use_topic(&task("running", 1), "t0");
    let begin = Instant::now();
    while stand.get("/connectors/running/topics").json() != json!({"running": {"topics": ["t0", "t1"]}}) {
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    let stand = stand.restart();
    stand.wait_for_states("running", "RUNNING [RUNNING, RUNNING]");
    stand.wait_for_states("paused", "PAUSED [PAUSED]");
    assert_eq!(stand.states("stopped"), "STOPPED []");
    // Configs are as they were, and so nothing was started twice.
    let calls = stand.runner.calls();
    assert_eq!(calls.len(), 5, "{calls:?}");
    assert_eq!(stand.get("/connectors/running/topics").json(), json!({"running": {"topics": ["t0", "t1"]}}));
    assert_eq!(stand.call("PUT", "/connectors/running/topics/reset").status, 202);
    assert_eq!(stand.get("/connectors/running/topics").json(), json!({"running": {"topics": []}}));
}

#[test]
fn secrets_are_shown_as_references() {
    let stand = Stand::new();
    stand.create("c", &[("password", "${file:/secrets:key}")]);
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    for path in ["/connectors/c", "/connectors/c/config", "/connectors/c/tasks"] {
        let body = stand.get(path).body;
        assert!(body.contains("${file:/secrets:key}") && !body.contains("the secret"), "{path}: {body}");
    }
}

#[test]
fn errors_are_connects() {
    let stand = Stand::new();
    for (method, path, status, message) in [
        ("GET", "/nope", 404, "HTTP 404 Not Found"),
        ("GET", "/connectors/nope", 404, "Connector nope not found"),
        ("GET", "/connectors/nope/config", 404, "Connector nope not found"),
        ("GET", "/connectors/nope/tasks", 404, "Connector nope not found"),
        ("GET", "/connectors/nope/status", 404, "No status found for connector nope"),
        ("GET", "/connectors/nope/tasks/0/status", 404, "No status found for task nope-0"),
        ("GET", "/connectors/nope/tasks/x/status", 404, "HTTP 404 Not Found"),
        ("PUT", "/connectors/nope/pause", 404, "Unknown connector nope"),
        ("PUT", "/connectors/nope/resume", 404, "Unknown connector nope"),
        ("PUT", "/connectors/nope/stop", 404, "Unknown connector nope"),
        ("POST", "/connectors/nope/restart", 404, "Unknown connector: nope"),
        ("POST", "/connectors/nope/restart?includeTasks=true", 404, "Unknown connector: nope"),
        ("POST", "/connectors/nope/tasks/0/restart", 404, "Unknown connector: nope"),
        ("PATCH", "/connectors", 405, "HTTP 405 Method Not Allowed"),
        ("DELETE", "/connectors/", 405, "HTTP 405 Method Not Allowed"),
        ("GET", "/connector-plugins/Nope/config", 404, "Unknown plugin Nope."),
    ] {
        let answer = stand.call(method, path);
        assert_eq!((answer.status, answer.message().as_str()), (status, message), "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(stand.get("/connectors/nope/topics").json(), json!({"nope": {"topics": []}}));
    let options = stand.call("OPTIONS", "/connectors/x/config");
    assert_eq!((options.status, options.header("allow")), (200, Some("OPTIONS, GET, HEAD, PUT, PATCH")));
    assert_eq!(stand.call("HEAD", "/connectors").body, "");
}

#[test]
fn offsets_change_only_while_the_connector_is_held_stopped() {
    let stand = Stand::new();
    let path = "/connectors/c/offsets";
    let alter = |offset: serde_json::Value| {
        stand.json("PATCH", path, &json!({"offsets": [{"partition": {"f": 1}, "offset": offset}]}))
    };
    assert_eq!(stand.get(path).status, 404);
    assert_eq!(alter(json!({"p": 1})).status, 404);
    stand.create("c", &[]);
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    assert_eq!(stand.get(path).json(), json!({"offsets": [{"partition": {"file": "f"}, "offset": {"position": 1}}]}));
    for refused in [alter(json!({"p": 1})), stand.call("DELETE", path)] {
        assert_eq!(refused.status, 400);
        assert!(refused.message().starts_with("Connectors must be in the STOPPED state"), "{refused:?}");
    }
    assert_eq!(stand.call("PUT", "/connectors/c/stop").status, 204);
    for empty in [json!({}), json!({"offsets": []}), json!({"offsets": null})] {
        assert!(stand.json("PATCH", path, &empty).message().contains("need to be provided"));
    }
    assert_eq!(alter(json!(null)).message(), "no");
    stand.runner.calls();
    // Three changes and a resume at once: one after the other, and the connector starts after the last of those that were in time.
    std::thread::scope(|scope| {
        let change = scope.spawn(|| alter(json!({"p": 1})));
        std::thread::sleep(std::time::Duration::from_millis(100));
        let second = scope.spawn(|| stand.call("DELETE", path));
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(stand.call("PUT", "/connectors/c/resume").status, 202);
        let late = stand.call("DELETE", path);
        assert_eq!(late.status, 400);
        assert_eq!(
            change.join().unwrap().json()["message"],
            "The offsets for this connector have been altered successfully"
        );
        // It waited for its turn, and then the connector was to run.
        assert_eq!(second.join().unwrap().status, 400);
    });
    stand.wait_for_states("c", "RUNNING [RUNNING]");
    let calls = stand.runner.calls();
    let place = |call: &str| calls.iter().position(|made| made.starts_with(call)).unwrap();
    assert!(place("begin Alter") < place("end") && place("end") < place("start c"), "{calls:?}");

    assert_eq!(stand.call("PUT", "/connectors/c/stop").status, 204);
    let message = stand.call("DELETE", path).json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("framework-managed offsets") && message.contains("manually reset"), "{message}");
}

#[test]
fn bodies_are_checked() {
    let stand = Stand::new();
    let post = |content_type: &str, body: &str| stand.send("POST", "/connectors", Some((content_type, body)));
    let json_type = "application/json; charset=utf-8";
    for (content_type, body, status, part) in [
        ("text/plain", "{}", 415, "HTTP 415 Unsupported Media Type"),
        (json_type, "", 400, "empty"),
        (json_type, "{bad", 400, "malformed JSON in the request body: key must be a string at line 1 column 2"),
        (json_type, "{\"name\":\"x\",\n\"config\":{}", 400, "line 2 column 11"),
        (json_type, "[]", 400, "unexpected JSON"),
        (json_type, r#"{"name":"x","config":{},"foo":1}"#, 400, "unknown field `foo`"),
        (json_type, r#"{"name":"x"}"#, 400, "no \"config\""),
        (json_type, r#"{"name":"x","config":{"a":[1]}}"#, 400, "\"a\""),
        (json_type, r#"{"name":"x","config":{}}"#, 400, "Connector config {name=x} contains no connector type"),
        (
            json_type,
            r#"{"name":"x","config":{"name":"y"}}"#,
            400,
            "Connector name configuration (y) doesn't match connector name in the URL (x)",
        ),
        (
            json_type,
            r#"{"name":"x","config":{"connector.class":"Nope"}}"#,
            400,
            "Failed to find any class that implements Connector and which name matches Nope",
        ),
        (
            json_type,
            r#"{"name":"x","config":{"connector.class":"FileStreamSource"}}"#,
            400,
            "contains the following 1 error(s):\nMissing required configuration \"topic\" which has no default value.\nYou can also find",
        ),
        (json_type, &format!("{{\"name\":\"{}\"}}", "x".repeat(20_000)), 413, "larger than 10000 bytes"),
    ] {
        let answer = post(content_type, body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.message().contains(part), "{body}: {answer:?}");
    }
    assert_eq!(stand.get("/connectors").body, "[]");
}

#[test]
fn one_connector_that_hangs_holds_up_nothing() {
    let stand = Stand::new();
    stand.create("slow", &[("fake.stop.ms", "1200")]);
    stand.wait_for_states("slow", "RUNNING [RUNNING]");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let deleted = scope.spawn(|| stand.call("DELETE", "/connectors/slow"));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(stand.create("quick", &[]).status, 201);
        stand.wait_for_states("quick", "RUNNING [RUNNING]");
        assert_eq!(stand.call("DELETE", "/connectors/quick").status, 204);
        // A connector that does not come up: creating it is answered all the same.
        assert_eq!(stand.create("hanging", &[("fake.hang", "1")]).status, 201);
        assert!(!deleted.is_finished(), "the slow one holds up the others: {:?}", begin.elapsed());
        assert_eq!(stand.create("slow", &[]).status, 409);
        assert_eq!(deleted.join().unwrap().status, 204);
        // Its task took 1.2 s to stop, and the connector itself, too.
        assert!(begin.elapsed() >= Duration::from_millis(2300), "{:?}", begin.elapsed());
    });
}

#[test]
fn a_request_that_takes_too_long_names_what_it_waits_for() {
    let stand = Stand::new();
    stand.create("slow", &[("fake.stop.ms", "2000")]);
    stand.wait_for_states("slow", "RUNNING [RUNNING]");
    let answer = stand.call("PUT", "/connectors/slow/stop");
    assert_eq!(answer.status, 500);
    assert!(answer.message().contains("currently stopping connector slow and its tasks"), "{answer:?}");
    stand.wait_for_states("slow", "STOPPED []");
}

#[test]
fn loggers_have_levels() {
    let stand = Stand::new();
    assert_eq!(stand.get("/admin/loggers").json(), json!({"root": {"level": "INFO", "last_modified": null}}));
    assert_eq!(stand.get("/admin/loggers/com.example").message(), "Logger com.example not found.");
    let set = |path: &str, body| stand.json("PUT", &format!("/admin/loggers/{path}"), &body);
    assert_eq!(set("org.apache.kafka.connect", json!({"level": "debug"})).json(), json!(["tributary"]));
    let level = stand.get("/admin/loggers/tributary").json();
    assert_eq!((&level["level"], level["last_modified"].is_i64()), (&json!("DEBUG"), true));
    assert_eq!(set("root?scope=cluster", json!({"level": "WARN"})).status, 204);
    assert_eq!(set("root", json!({"level": "BAD"})).message(), "invalid log level 'BAD'.");
    assert_eq!(set("root", json!({})).message(), "Desired 'level' parameter was not specified in request.");
}

#[test]
fn the_document_has_every_route() {
    let stand = Stand::new();
    let document = stand.get("/openapi.json").json();
    let mut operations_shown = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let path = path
                .replace("{connector}", "none")
                .replace("{task}", "0")
                .replace("{plugin}", "none")
                .replace("{logger}", "none");
            let answer = stand.call(&method.to_uppercase(), &path);
            let plain = answer.status == 405 || (answer.status == 404 && answer.message() == "HTTP 404 Not Found");
            assert!(!plain, "{method} {path} is documented and not there");
            let statuses: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
            operations_shown.push(format!("{method} {path} {statuses:?}"));
            let documented = &operation["responses"][answer.status.to_string()];
            assert!(documented.is_object(), "{method} {path} answers {}, which is not documented", answer.status);
        }
    }
    insta::assert_json_snapshot!("operations", operations_shown);
}
