//! Each way to a secured broker, by the properties that a Java worker has: for the worker's own Kafka client and for
//! librdkafka alike.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tributary::group::wire::{Cluster, WireErrorKind, WireSettings};
use tributary::log::ClientSettings;
use tributary::log::Log;
use tributary::log::kafka::KafkaLog;
use tributary_harness::{BrokerOptions, KafkaBroker, STORE_PASSWORD};

use crate::support::{Cluster as Shared, Worker, group_id, settings};

const TIMEOUT: Duration = Duration::from_secs(30);

fn broker() -> Arc<KafkaBroker> {
    static SHARED: Mutex<Option<Arc<KafkaBroker>>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.get_or_insert_with(|| Arc::new(KafkaBroker::start_with(BrokerOptions::default().secured()).unwrap())).clone()
}

fn client(bootstrap: String, pairs: &[(&str, &str)]) -> ClientSettings {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.chain([("bootstrap.servers".to_owned(), bootstrap)]).collect()
}

/// The worker's own client.
fn own(settings: &ClientSettings) -> Result<(), String> {
    let settings = WireSettings::new(settings).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Removing nobody from a group that is not there takes a coordinator and a request to it.
        let gone = Cluster::new(settings).remove_member("no-group", "nobody", TIMEOUT).await;
        gone.map_err(|error| error.to_string())
    })
}

/// librdkafka.
fn data(settings: &ClientSettings) -> Result<(), String> {
    let bootstrap = settings["bootstrap.servers"].clone();
    let log = KafkaLog::new(&bootstrap, settings);
    log.cluster_id(TIMEOUT).map(drop).map_err(|error| error.to_string())
}

fn both(what: &str, settings: &ClientSettings) {
    own(settings).unwrap_or_else(|error| panic!("{what}, own client: {error}"));
    data(settings).unwrap_or_else(|error| panic!("{what}, librdkafka: {error}"));
}

#[test]
fn truststores_of_every_kind() {
    let broker = broker();
    let secured = broker.secured();
    let server = || secured.bootstrap("TLS");
    let pem = secured.file("broker.pem");
    let inline = std::fs::read_to_string(&pem).unwrap().trim().replace('\n', "\\n");
    let tls = ("security.protocol", "SSL");
    both("PEM", &client(server(), &[tls, ("ssl.truststore.type", "PEM"), ("ssl.truststore.location", &pem)]));
    both(
        "PEM inline",
        &client(server(), &[tls, ("ssl.truststore.type", "PEM"), ("ssl.truststore.certificates", &inline)]),
    );
    both("librdkafka's name", &client(server(), &[tls, ("ssl.ca.location", &pem)]));
    for (file, kind) in [("trust.jks", "JKS"), ("trust.p12", "PKCS12"), ("trust.p12", "JKS")] {
        let file = secured.file(file);
        let password = ("ssl.truststore.password", STORE_PASSWORD);
        both(
            kind,
            &client(server(), &[tls, ("ssl.truststore.type", kind), ("ssl.truststore.location", &file), password]),
        );
    }
}

#[test]
fn a_broker_that_is_not_trusted_is_refused_with_what_to_do() {
    let broker = broker();
    let secured = broker.secured();
    let other = secured.file("client.pem");
    let error = own(&client(
        secured.bootstrap("TLS"),
        &[("security.protocol", "SSL"), ("ssl.truststore.type", "PEM"), ("ssl.truststore.location", &other)],
    ));
    let error = error.unwrap_err();
    assert!(error.contains("ssl.truststore.location") && error.contains("issuer"), "{error}");
    // Plain towards a TLS listener, and TLS towards a plain one.
    let settings = client(secured.bootstrap("TLS"), &[]);
    let settings = WireSettings::new(&settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Cluster::new(settings).any()).unwrap_err();
    assert!(error.to_string().contains("security.protocol"), "{error}");
    let pem = secured.file("broker.pem");
    let settings = client(broker.bootstrap(), &[("security.protocol", "SSL"), ("ssl.ca.location", &pem)]);
    let error = runtime.block_on(Cluster::new(WireSettings::new(&settings).unwrap()).any()).unwrap_err();
    assert!(error.kind != WireErrorKind::Setting, "{error}");
    // A wrong password of a store names the setting and not the password.
    let trust = secured.file("trust.p12");
    let error = own(&client(
        secured.bootstrap("TLS"),
        &[("security.protocol", "SSL"), ("ssl.truststore.location", &trust), ("ssl.truststore.password", "wr0ng")],
    ));
    let error = error.unwrap_err();
    assert!(error.contains("ssl.truststore.location") && !error.contains("wr0ng"), "{error}");
}

#[test]
fn client_certificates_of_every_kind() {
    let broker = broker();
    let secured = broker.secured();
    let pem = secured.file("broker.pem");
    let with = |more: &[(&str, &str)]| {
        let common = [("security.protocol", "SSL"), ("ssl.ca.location", pem.as_str())];
        client(secured.bootstrap("MTLS"), &[&common[..], more].concat())
    };
    let (p12, jks) = (secured.file("client.p12"), secured.file("client.jks"));
    let password = ("ssl.keystore.password", STORE_PASSWORD);
    both("PKCS12", &with(&[("ssl.keystore.type", "PKCS12"), ("ssl.keystore.location", &p12), password]));
    both("JKS", &with(&[("ssl.keystore.location", &jks), password, ("ssl.key.password", STORE_PASSWORD)]));
    // The broker may leave the request unanswered, so a try has to end before the search does.
    let error = own(&with(&[("request.timeout.ms", "3000")])).unwrap_err();
    assert!(error.contains("broker 127.0.0.1"), "{error}");

    // PEM with an encrypted key, in one file as Java has it.
    let dir = tempfile::tempdir().unwrap();
    let both_pem = dir.path().join("client.pem");
    let status = std::process::Command::new("openssl")
        .args(["pkcs12", "-in", &p12, "-out"])
        .arg(&both_pem)
        .args(["-passin", &format!("pass:{STORE_PASSWORD}"), "-passout", "pass:key-secret"])
        .status();
    if status.is_ok_and(|status| status.success()) {
        let file = both_pem.display().to_string();
        let store = [("ssl.keystore.type", "PEM"), ("ssl.keystore.location", file.as_str())];
        both("PEM", &with(&[&store[..], &[("ssl.key.password", "key-secret")]].concat()));
        let error = own(&with(&store)).unwrap_err();
        assert!(error.contains("ssl.key.password"), "{error}");
    }
}

#[test]
fn passwords_by_every_mechanism() {
    let broker = broker();
    let secured = broker.secured();
    let pem = secured.file("broker.pem");
    let module = "org.apache.kafka.common.security";
    let plain = format!("{module}.plain.PlainLoginModule required username=\"alice\" password=\"alice-secret\";");
    let scram = format!("{module}.scram.ScramLoginModule required\n  username='bob'\n  password='bob-secret';");
    for (mechanism, jaas) in [("PLAIN", &plain), ("SCRAM-SHA-256", &scram), ("SCRAM-SHA-512", &scram)] {
        let login = [("sasl.mechanism", mechanism), ("sasl.jaas.config", jaas.as_str())];
        both(
            mechanism,
            &client(secured.bootstrap("SASLPLAIN"), &[&login[..], &[("security.protocol", "SASL_PLAINTEXT")]].concat()),
        );
        let tls = [("security.protocol", "SASL_SSL"), ("ssl.truststore.location", pem.as_str())];
        both(mechanism, &client(secured.bootstrap("SASLTLS"), &[&login[..], &tls].concat()));
        let wrong = jaas.replace("-secret", "-s3cret");
        let login = [("sasl.mechanism", mechanism), ("sasl.jaas.config", wrong.as_str())];
        let error = own(&client(
            secured.bootstrap("SASLPLAIN"),
            &[&login[..], &[("security.protocol", "SASL_PLAINTEXT")]].concat(),
        ));
        let error = error.unwrap_err();
        assert!(error.contains(mechanism) && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn tokens_unsecured_and_from_an_endpoint() {
    let broker = broker();
    let server = broker.secured().bootstrap("SASLPLAIN");
    let bearer = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "OAUTHBEARER")];
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required";
    let unsecured = format!("{module} unsecuredLoginStringClaim_sub=\"alice\";");
    both("unsecured", &client(server.clone(), &[&bearer[..], &[("sasl.jaas.config", &unsecured)]].concat()));

    let asked = Arc::new(Mutex::new(Vec::new()));
    let url = token_endpoint(asked.clone());
    let credentials = format!("{module} clientId=\"id\" clientSecret=\"s3cret\" scope=\"kafka all\";");
    let endpoint = [("sasl.jaas.config", credentials.as_str()), ("sasl.oauthbearer.token.endpoint.url", url.as_str())];
    both("endpoint", &client(server.clone(), &[&bearer[..], &endpoint].concat()));
    let asked = asked.lock().unwrap().clone();
    assert!(asked[0].to_ascii_lowercase().contains("authorization: basic awq6cznjcmv0"), "{}", asked[0]);
    assert!(asked[0].ends_with("grant_type=client_credentials&scope=kafka+all"), "{}", asked[0]);

    let wrong = credentials.replace("s3cret", "wr0ng");
    let endpoint = [("sasl.jaas.config", wrong.as_str()), ("sasl.oauthbearer.token.endpoint.url", url.as_str())];
    let settings = WireSettings::new(&client(server, &[&bearer[..], &endpoint].concat())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Cluster::new(settings).any()).unwrap_err().to_string();
    assert!(error.contains("invalid_client") && !error.contains("wr0ng"), "{error}");
}

/// A token endpoint: gives unsecured tokens to whoever has the secret.
fn token_endpoint(asked: Arc<Mutex<Vec<String>>>) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(10).any(|part| part == b"kafka+all\0" || part.ends_with(b"kafka+all")) {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request.extend_from_slice(&buffer[..count]),
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
            let token = format!(
                "{}.{}.",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
                URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"service","iat":{seconds},"exp":{}}}"#, seconds + 600))
            );
            let (status, body) = if request.to_ascii_lowercase().contains("awq6cznjcmv0") {
                ("200 OK", format!(r#"{{"access_token":"{token}","expires_in":600,"token_type":"Bearer"}}"#))
            } else {
                ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned())
            };
            asked.lock().unwrap().push(request);
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    url
}

#[test]
fn members_meet_over_every_listener() {
    let broker = broker();
    let secured = broker.secured();
    let group = group_id("secured");
    let cluster = Shared::new(6, 2);
    let pem = secured.file("broker.pem");
    let jks = secured.file("client.jks");
    let jaas =
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"bob\" password=\"bob-secret\";";
    let ways: BTreeMap<&str, ClientSettings> = [
        ("http://a:1", client(broker.bootstrap(), &[])),
        (
            "http://b:2",
            client(
                secured.bootstrap("MTLS"),
                &[
                    ("security.protocol", "SSL"),
                    ("ssl.ca.location", &pem),
                    ("ssl.keystore.location", &jks),
                    ("ssl.keystore.password", STORE_PASSWORD),
                ],
            ),
        ),
        (
            "http://c:3",
            client(
                secured.bootstrap("SASLTLS"),
                &[
                    ("security.protocol", "SASL_SSL"),
                    ("ssl.ca.location", &pem),
                    ("sasl.mechanism", "SCRAM-SHA-512"),
                    ("sasl.jaas.config", jaas),
                ],
            ),
        ),
    ]
    .into();
    let workers: Vec<Worker> = ways
        .iter()
        .map(|(url, client)| {
            let mut settings = settings(&broker.bootstrap(), &group, url);
            settings.wire = WireSettings::new(client).unwrap();
            Worker::start_with(&cluster, settings)
        })
        .collect();
    cluster.wait_until_even(&["http://a:1", "http://b:2", "http://c:3"]);
    drop(workers);
    assert!(cluster.twice.lock().unwrap().is_empty());
}
