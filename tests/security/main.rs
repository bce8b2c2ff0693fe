//! Who may use the REST API: certificates, passwords, tokens and roles, on the real worker with real clients.

mod authority;
mod tokens;

use std::fs;

use base64::Engine;
use serde_json::{Value, json};
use tributary_harness::{Rest, Result, TributaryWorker, WorkerOptions, ports};

use authority::Authority;
use tokens::Issuer;

const ACCESS: &str = "\
admin = admin
viewer = view
ci = edit:staging-*, view:prod-*
operator = operate
CN=robot = operate:staging-*
";

fn basic(rest: &Rest, user: &str, password: &str) -> Rest {
    let credentials = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
    rest.with_header("Authorization", &format!("Basic {credentials}"))
}

fn source(topic: &str) -> Value {
    json!({"connector.class": "Generator", "generator.template": "orders", "generator.rate": "1", "topic": topic})
}

/// Statuses of one request after the other.
fn expect(what: &str, answer: Result<tributary_harness::Answer>, status: u16) -> Result<Value> {
    let answer = answer?;
    assert_eq!(answer.status, status, "{what}: {}", answer.body);
    Ok(answer.body)
}

#[test]
fn everybody_has_to_say_who_they_are_and_may_do_what_their_role_allows() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let user = |name: &str| format!("{name}:{}\n", bcrypt::hash(format!("{name}-secret"), 4).expect("a hash"));
    let users = ["admin", "viewer", "ci", "operator", "stranger"].map(user).concat();
    let authority = Authority::new();
    let server = authority.issue("localhost");
    let robot = authority.issue_to("robot");
    let other = Authority::new().issue_to("robot");
    let issuer = Issuer::new();
    let port = ports::free()?;
    let options = WorkerOptions::default()
        .listener(&format!("https://localhost:{port}"))
        .set("listeners.https.ssl.keystore.type", "PEM")
        .set(
            "listeners.https.ssl.keystore.location",
            &file("server.pem", &format!("{}{}", server.key, server.certificate))?,
        )
        .set("listeners.https.ssl.truststore.type", "PEM")
        .set("listeners.https.ssl.truststore.location", &file("ca.pem", authority.pem())?)
        .set("listeners.https.ssl.client.auth", "requested")
        .set("rest.authentication.methods", "basic,bearer,mtls")
        .set("rest.basic.users.file", &file("users", &users)?)
        .set("rest.bearer.jwks", &file("keys.json", &issuer.key_set().to_string())?)
        .set("rest.bearer.audience", "tributary")
        .set("rest.bearer.roles.claim", "roles")
        .set("rest.access.file", &file("access", ACCESS)?);
    let worker = TributaryWorker::start_with("embedded", options)?;
    let plain = worker.rest();

    // Nobody, and those who are not who they say.
    let refused = plain.get("/connectors")?;
    assert_eq!(refused.status, 401, "{}", refused.body);
    let challenge = refused.headers.get("WWW-Authenticate").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(challenge.contains("Basic") && challenge.contains("Bearer"), "{challenge}");
    expect("a wrong password", basic(plain, "admin", "viewer-secret").get("/"), 401)?;
    expect("an unknown user", basic(plain, "nobody", "nobody-secret").get("/"), 401)?;
    expect("no scheme", plain.with_header("Authorization", "admin").get("/"), 401)?;
    expect("a load balancer", plain.get("/health"), 200)?;
    expect("a load balancer that wants to know more", plain.get("/health?connector=staging-a"), 401)?;

    // Roles.
    let [admin, viewer, ci, operator, stranger] =
        ["admin", "viewer", "ci", "operator", "stranger"].map(|name| basic(plain, name, &format!("{name}-secret")));
    let create = |name: &str| json!({"name": name, "config": source("orders")});
    expect("no role at all", stranger.get("/connectors"), 403)?;
    expect("a viewer creates", viewer.post("/connectors", &create("prod-a")), 403)?;
    expect("ci creates its own", ci.post("/connectors", &create("staging-a")), 201)?;
    expect("ci creates another's", ci.post("/connectors", &create("prod-a")), 403)?;
    expect(
        "the name in the config alone",
        ci.post("/connectors", &json!({"name": "staging-b", "config": {"name": "prod-b"}})),
        400,
    )?;
    expect("an admin creates", admin.post("/connectors", &create("prod-a")), 201)?;
    expect("an admin creates what ci does not see", admin.post("/connectors", &create("secret-a")), 201)?;
    assert_eq!(expect("ci lists", ci.get("/connectors"), 200)?, json!(["prod-a", "staging-a"]));
    assert_eq!(expect("an admin lists", admin.get("/connectors"), 200)?, json!(["prod-a", "secret-a", "staging-a"]));
    expect("ci reads what it may see", ci.get("/connectors/prod-a/status"), 200)?;
    expect("ci reads what it may not see", ci.get("/connectors/secret-a/status"), 403)?;
    expect("ci asks whether it is well", ci.get("/health?connector=secret-a"), 403)?;
    expect("ci changes another's", ci.put("/connectors/prod-a/config", &source("x")), 403)?;
    expect("ci changes another's by a trick", ci.put("/connectors/prod%2Da/config", &source("x")), 403)?;
    expect("ci pauses its own", ci.put("/connectors/staging-a/pause", &Value::Null), 202)?;
    expect("an operator resumes", operator.put("/connectors/staging-a/resume", &Value::Null), 202)?;
    expect("an operator changes", operator.patch("/connectors/staging-a/config", &json!({"a": "b"})), 403)?;
    expect("an operator deletes", operator.delete("/connectors/staging-a"), 403)?;
    expect("ci changes log levels", ci.put("/admin/loggers/root", &json!({"level": "INFO"})), 403)?;
    expect("an admin changes log levels", admin.put("/admin/loggers/root", &json!({"level": "INFO"})), 200)?;

    // Tokens.
    let bearer = |claims: Value| plain.with_header("Authorization", &format!("Bearer {}", issuer.token(claims)));
    let claims = json!({"sub": "viewer", "aud": "tributary"});
    expect("a token of a viewer", bearer(claims.clone()).get("/connectors/secret-a"), 200)?;
    expect("a token of a viewer deletes", bearer(claims).delete("/connectors/secret-a"), 403)?;
    let granted = json!({"sub": "x", "aud": "tributary", "roles": ["edit:secret-*"]});
    expect("a token with a role", bearer(granted).delete("/connectors/secret-a"), 204)?;
    expect("a token for another", bearer(json!({"sub": "admin", "aud": "other"})).get("/connectors"), 401)?;

    // Certificates.
    let url = format!("https://localhost:{port}");
    let bare = Rest::over_tls(&url, authority.pem(), None)?;
    expect("TLS without credentials", bare.get("/connectors"), 401)?;
    expect("TLS with a password", basic(&bare, "viewer", "viewer-secret").get("/connectors"), 200)?;
    let with_certificate = Rest::over_tls(&url, authority.pem(), Some((&robot.certificate, &robot.key)))?;
    expect("a certificate", with_certificate.put("/connectors/staging-a/pause", &Value::Null), 202)?;
    expect("a certificate elsewhere", with_certificate.put("/connectors/prod-a/pause", &Value::Null), 403)?;
    let forged = Rest::over_tls(&url, authority.pem(), Some((&other.certificate, &other.key)))?;
    assert!(forged.get("/connectors").is_err(), "a certificate of another authority gets no connection");
    assert!(
        Rest::over_tls(&url, &other.certificate, None)?.get("/health").is_err(),
        "nor does a client that does not trust"
    );

    // Roles are taken while the worker runs.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    file("access", "admin = admin\n")?;
    std::thread::sleep(std::time::Duration::from_millis(1100));
    expect("a viewer no longer", viewer.get("/connectors/prod-a"), 403)?;
    expect("an admin still", admin.get("/connectors/prod-a"), 200)?;

    let log = worker.log();
    for line in [
        "user=ci",
        "method=POST",
        "path=/connectors",
        "status=201",
        "refused: unknown user or wrong password",
        "forbidden: needs the role edit",
    ] {
        assert!(log.contains(line), "the audit log has no {line}:\n{log}");
    }
    for secret in ["-secret\"", "admin-secret", "$2b$"] {
        assert!(!log.contains(secret), "the log shows {secret}");
    }
    Ok(())
}

/// A store of keytool's with a key for localhost, and the certificate of that.
fn java_store(directory: &std::path::Path, name: &str, key: &str, more: &[&str]) -> Result<(String, String)> {
    let path = directory.join(name).display().to_string();
    let with = |args: &[&str]| -> Result<String> {
        let output = std::process::Command::new(tributary_harness::java::java()?.program.with_file_name("keytool"))
            .args(args)
            .args(["-alias", "worker", "-keystore", &path, "-storepass", "changeit", "-J-XX:TieredStopAtLevel=1"])
            .output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let pair = ["-genkeypair", "-keyalg", key, "-dname", "CN=localhost", "-ext", "san=dns:localhost"];
    with(&[&pair[..], more].concat())?;
    let certificate = with(&["-exportcert", "-rfc"])?;
    Ok((path, certificate))
}

#[test]
fn java_keystores_of_all_kinds_serve() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let start = |store: &str, properties: &[(&str, &str)]| {
        let port = ports::free().expect("a port");
        let options =
            WorkerOptions::default().listener(&format!("https://localhost:{port}")).set("ssl.keystore.location", store);
        let options = properties.iter().fold(options, |options, (key, value)| options.set(key, value));
        (format!("https://localhost:{port}"), TributaryWorker::start_with("embedded", options))
    };
    let password = ("ssl.keystore.password", "changeit");
    let another = ["-storetype", "JKS", "-keypass", "another"];
    for (name, key, more, properties) in [
        ("pkcs12", "EC", &["-storetype", "PKCS12"][..], &[password][..]),
        ("jks", "EC", &["-storetype", "JKS", "-keypass", "changeit"], &[password]),
        ("jks.rsa", "RSA", &another, &[password, ("ssl.key.password", "another")]),
        // What Java 8 wrote: RC2 and triple DES.
        ("pkcs12.old", "RSA", &["-storetype", "PKCS12", "-J-Dkeystore.pkcs12.legacy"], &[password]),
    ] {
        let (store, certificate) = java_store(directory.path(), name, key, more)?;
        let (url, worker) = start(&store, properties);
        let _worker = worker.map_err(|error| tributary_harness::Error::new(format!("{name}: {error}")))?;
        expect(name, Rest::over_tls(&url, &certificate, None)?.get("/"), 200)?;
    }

    let message = |store: &str, properties: &[(&str, &str)]| {
        start(store, properties).1.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let at = |name: &str| directory.path().join(name).display().to_string();
    let wrong = [("ssl.keystore.password", "other")];
    for (store, properties, told) in [
        (at("pkcs12"), &wrong[..], "ssl.keystore.password is not the right one"),
        (at("jks"), &wrong, "ssl.keystore.password is not the right one"),
        (at("jks.rsa"), &[password], "ssl.key.password"),
        (at("nowhere"), &[password], "No such file"),
    ] {
        let error = message(&store, properties);
        assert!(error.contains(told) && error.contains(&format!("ssl.keystore.location={store}")), "{error}");
    }
    Ok(())
}

#[test]
fn clients_are_checked_by_a_java_truststore() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (store, certificate) = java_store(directory.path(), "server", "EC", &["-storetype", "JKS"])?;
    let authority = Authority::new();
    let pem = directory.path().join("ca.pem");
    fs::write(&pem, authority.pem())?;
    let truststore = directory.path().join("trust.jks");
    let output = std::process::Command::new(tributary_harness::java::java()?.program.with_file_name("keytool"))
        .args(["-importcert", "-noprompt", "-alias", "ca", "-storetype", "JKS", "-storepass", "changeit"])
        .args(["-file".as_ref(), pem.as_os_str(), "-keystore".as_ref(), truststore.as_os_str()])
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let url = format!("https://localhost:{}", ports::free()?);
    let options = WorkerOptions::default()
        .listener(&url)
        .set("ssl.keystore.location", &store)
        .set("ssl.keystore.password", "changeit")
        .set("ssl.truststore.location", &truststore.display().to_string())
        .set("ssl.truststore.password", "changeit")
        .set("ssl.client.auth", "required");
    let _worker = TributaryWorker::start_with("embedded", options)?;
    let robot = authority.issue_to("robot");
    let other = Authority::new().issue_to("robot");
    let client = |pair: Option<(&str, &str)>| Rest::over_tls(&url, &certificate, pair);
    expect("a certificate", client(Some((&robot.certificate, &robot.key)))?.get("/"), 200)?;
    assert!(client(Some((&other.certificate, &other.key)))?.get("/").is_err(), "another authority's");
    assert!(client(None)?.get("/").is_err(), "no certificate");
    Ok(())
}

#[test]
fn log_levels_have_a_tls_listener_of_their_own() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (main, main_certificate) = java_store(directory.path(), "main", "EC", &["-storetype", "JKS"])?;
    let (admin, admin_certificate) = java_store(directory.path(), "admin", "EC", &["-storetype", "PKCS12"])?;
    let url = format!("https://localhost:{}", ports::free()?);
    let admin_url = format!("https://localhost:{}", ports::free()?);
    let options = WorkerOptions::default()
        .listener(&url)
        .set("ssl.keystore.location", &main)
        .set("ssl.keystore.password", "changeit")
        .set("admin.listeners", &admin_url)
        .set("admin.listeners.https.ssl.keystore.location", &admin)
        .set("admin.listeners.https.ssl.keystore.password", "changeit");
    let _worker = TributaryWorker::start_with("embedded", options)?;
    let (rest, levels) =
        (Rest::over_tls(&url, &main_certificate, None)?, Rest::over_tls(&admin_url, &admin_certificate, None)?);
    expect("connectors", rest.get("/connectors"), 200)?;
    expect("log levels there", levels.get("/admin/loggers"), 200)?;
    expect("log levels here", rest.get("/admin/loggers"), 404)?;
    expect("connectors there", levels.get("/connectors"), 404)?;
    Ok(())
}

#[test]
fn what_would_leave_the_api_open_is_refused() -> Result<()> {
    for (properties, told) in [
        (vec![("listeners", "http://0.0.0.0:0")], "rest.allow.unauthenticated=true"),
        (vec![("rest.authentication.methods", "basic")], "rest.basic.users.file"),
        (vec![("rest.authentication.methods", "mtls")], "ssl.client.auth"),
        (vec![("rest.authentication.methods", "kerberos")], "kerberos"),
        (vec![("rest.access.file", "/nowhere")], "rest.authentication.methods"),
        (vec![("listeners", "https://127.0.0.1:0")], "ssl.keystore.location"),
    ] {
        let options = properties.iter().fold(WorkerOptions::default(), |options, (key, value)| options.set(key, value));
        let error =
            TributaryWorker::start_with("embedded", options).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(told), "{properties:?}: {error}");
    }
    Ok(())
}
