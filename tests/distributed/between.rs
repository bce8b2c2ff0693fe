//! The network between workers: requests that have to go to another worker wait while it is cut, and records do not.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use tributary_harness::{KafkaBroker, Proxy, Result, WorkerOptions, ports};
use tributary_tests::Workers;

use crate::jobs::Jobs;

/// A worker that others reach through a proxy only.
fn behind(proxy: &Proxy, listens: u16) -> WorkerOptions {
    WorkerOptions::default()
        .listener(&format!("http://127.0.0.1:{listens}"))
        .set("rest.advertised.host.name", "127.0.0.1")
        .set("rest.advertised.port", &proxy.port().to_string())
        .set("rest.request.timeout.ms", "6000")
}

#[test]
fn workers_that_cannot_reach_each_other_go_on_and_say_so() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let listens = [ports::free()?, ports::free()?];
    let proxies = [Proxy::start(listens[0])?, Proxy::start(listens[1])?];
    // Who is alone in the group leads it, and goes on to when another one comes.
    let mut leader = Workers::start_with(&broker.bootstrap(), 1, behind(&proxies[0], listens[0]))?;
    let group = leader.group.clone();
    let mut other = Workers::in_group(&group, &broker.bootstrap(), 1, behind(&proxies[1], listens[1]))?;
    let mut jobs = Jobs::create(&leader, 2)?;
    let path = format!("/connectors/{}/pause", jobs.sources()[0]);
    proxies.iter().for_each(Proxy::cut);
    jobs.more()?;
    jobs.wait_delivered(&leader)?;
    // The leader does it itself. The other one can read, and names the worker that it cannot reach.
    leader.rest(0).put(&path, &Value::Null)?.ok()?;
    leader.rest(0).put(&path.replace("pause", "resume"), &Value::Null)?.ok()?;
    assert_eq!(other.rest(0).get("/connectors")?.ok()?.as_array().map(Vec::len), Some(4));
    let refused = other.rest(0).put(&path, &Value::Null)?;
    let message = refused.body["message"].as_str().unwrap_or_default();
    assert!([409, 500].contains(&refused.status), "{} {}", refused.status, refused.body);
    assert!(message.contains(&format!("127.0.0.1:{}", proxies[0].port())), "{message}");
    // A request that came before the network is back has waited for it.
    let waiting = {
        let (rest, path) = (other.rest(0).clone(), path.clone());
        thread::spawn(move || rest.put(&path, &Value::Null))
    };
    thread::sleep(Duration::from_secs(1));
    proxies.iter().for_each(Proxy::resume);
    let answer = waiting.join().map_err(|_| "the request panicked")??;
    assert_eq!(answer.status, 202, "{}", answer.body);
    leader.rest(0).wait_state(&jobs.sources()[0], "PAUSED")?;
    other.rest(0).put(&path.replace("pause", "resume"), &Value::Null)?.ok()?;
    jobs.more()?;
    jobs.wait_delivered(&other)?;
    jobs.check(&broker)?;
    other.stop()?;
    leader.stop()
}
