//! How a registry is reached: with a password, a token, through a proxy; and what a wrong one is told.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tributary_harness::{KafkaBroker, Result, SchemaRegistry, wait};

use super::front::Front;
use super::{AVRO, converter, merged, orders, unique, values, worker};

#[test]
fn credentials_and_proxies() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    let registry = SchemaRegistry::shared()?;
    let worker = worker(&broker)?;
    let basic = format!("Basic {}", BASE64_STANDARD.encode("me:secret"));
    let guarded = Front::start(registry.port(), &[&basic, "Bearer token"])?;
    let proxy = Front::start(registry.port(), &[])?;
    let guarded_url = format!("http://127.0.0.1:{}/apis/ccompat/v7", guarded.port());
    let in_url = guarded_url.replace("//", "//me:secret@");
    let key = |name: &str| format!("value.converter.{name}");
    let source = |name: &str, url: &str, more: Value| -> Result<String> {
        let topic = unique(name);
        let config = merged(orders(&topic, 10), converter(AVRO, url, more));
        worker.rest().put_connector(&topic, &config)?;
        Ok(topic)
    };
    let user_info =
        json!({key("basic.auth.credentials.source"): "USER_INFO", key("basic.auth.user.info"): "me:secret"});
    let bearer = json!({key("bearer.auth.credentials.source"): "STATIC_TOKEN", key("bearer.auth.token"): "token"});
    let through = json!({key("proxy.host"): "127.0.0.1", key("proxy.port"): proxy.port().to_string()});
    for topic in [
        source("user-info", &guarded_url, user_info)?,
        source("in-url", &in_url, json!({}))?,
        source("bearer", &guarded_url, bearer)?,
        source("proxied", &registry.url(), through)?,
    ] {
        let found = values(&broker, &topic, 10);
        let found = found.map_err(|error| worker.with_log(format!("{error}; {:?}", worker.rest().status(&topic))))?;
        assert_eq!(found.len(), 10, "{topic}");
    }
    assert!(guarded.seen().iter().all(|request| !request.ends_with("401")), "{:?}", guarded.seen());
    assert!(!proxy.seen().is_empty(), "nothing went through the proxy");

    let wrong = json!({key("basic.auth.credentials.source"): "USER_INFO", key("basic.auth.user.info"): "me:other"});
    let topic = source("wrong", &guarded_url, wrong)?;
    let trace = wait::until("the task to fail", wait::PATIENCE, || {
        let status = worker.rest().status(&topic)?;
        Ok(status["tasks"][0]["trace"].as_str().map(str::to_owned))
    })?;
    assert!(trace.contains("401") && trace.contains("who are you?"), "{trace}");
    assert!(guarded.seen().iter().any(|request| request.ends_with("401")));
    for secret in ["me:secret", "me:other", "c2VjcmV0"] {
        assert!(!worker.log().contains(secret) && !trace.contains(secret), "{secret} is shown");
    }
    Ok(())
}
