//! Addresses, redirects, TLS and proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use tributary_harness::{HttpServer, Reply};

use super::{bodies, config, start, texts};

#[test]
fn the_machine_itself_is_refused_under_every_name() {
    let server = HttpServer::start(|_| Reply::status(200, "")).unwrap();
    let port = server.port();
    for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "127.1", "2130706433"] {
        let mut config =
            config(&server, "/", &[("url", &format!("http://{host}:{port}/")), ("addresses.allowed", "link-local")]);
        let error = start(&config).put(texts(&["x"])).unwrap_err();
        assert!(!error.is_retriable(), "{host}: {error}");
        assert!(error.to_string().contains("a loopback address; set addresses.allowed=loopback"), "{host}: {error}");
        // Nor by way of a proxy on another machine, as far as the URL tells.
        config.set("proxy.url", "http://192.0.2.1:3128");
        let error = start(&config).put(texts(&["x"])).unwrap_err();
        assert!(!error.is_retriable() && error.to_string().contains(" is "), "{host}: {error}");
    }
    let metadata = config(&server, "/", &[("url", "http://169.254.169.254/latest/")]);
    let error = start(&metadata).put(texts(&["x"])).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("a link-local address"), "{error}");
    assert_eq!(server.connections(), 0);
}

#[test]
fn redirects_lead_no_record_to_another_host() {
    let other = HttpServer::start(|_| Reply::status(200, "")).unwrap();
    let elsewhere = other.url("/in");
    let server = HttpServer::start(move |request| match request.target.as_str() {
        "/here" => Reply::status(307, "").with("Location", "/there?x=1"),
        "/away" => Reply::status(308, "").with("Location", &elsewhere),
        "/round" => Reply::status(307, "").with("Location", "/round"),
        _ => Reply::status(200, ""),
    })
    .unwrap();
    assert!(start(&config(&server, "/here", &[])).put(texts(&["x"])).unwrap().is_empty());
    assert_eq!(server.requests()[1].target, "/there?x=1");
    assert_eq!(bodies(&server), ["x", "x"]);
    let error = start(&config(&server, "/away", &[])).put(texts(&["x"])).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("which is not followed"), "{error}");
    let error = start(&config(&server, "/round", &[])).put(texts(&["x"])).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("leads on, after 5 redirects"), "{error}");
    assert_eq!(other.connections(), 0);
}

/// An authority, and a server certificate for localhost.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key.
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn server(&self, wants_client: bool) -> HttpServer {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_client {
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue("localhost");
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        HttpServer::start_with(Some(Arc::new(tls)), |_| Reply::status(200, "")).unwrap()
    }
}

#[test]
fn tls_trusts_whom_it_is_told_to_and_shows_its_certificate() {
    let authority = Authority::new();
    let ca = authority.0.pem();
    let server = authority.server(true);
    let (certificate, key) = authority.issue("client");
    let (chain, key) = (certificate.pem(), key.serialize_pem());
    let trusting = [("ssl.truststore.certificates", ca.as_str())];
    let error = start(&config(&server, "/", &[])).put(texts(&["x"])).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().to_lowercase().contains("unknownissuer"), "{error}");
    let error = start(&config(&server, "/", &[trusting[0], ("max.retries", "0")])).put(texts(&["x"])).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    assert!(server.requests().is_empty());

    let folded = key.replace('\n', "\\n");
    let mut run = start(&config(
        &server,
        "/",
        &[trusting[0], ("ssl.keystore.certificate.chain", &chain), ("ssl.keystore.key", &folded)],
    ));
    assert!(run.put(texts(&["inline"])).unwrap().is_empty());

    let directory = std::env::temp_dir().join(format!("http-sink-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (trust, both) = (directory.join("ca.pem"), directory.join("client.pem"));
    std::fs::write(&trust, &ca).unwrap();
    std::fs::write(&both, format!("{chain}{key}")).unwrap();
    let files =
        [("ssl.truststore.location", trust.to_str().unwrap()), ("ssl.keystore.location", both.to_str().unwrap())];
    let put = start(&config(&server, "/", &files)).put(texts(&["files"]));
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(put.unwrap().is_empty());
    assert_eq!(bodies(&server), ["inline", "files"]);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = authority.server(false);
    let url = format!("https://127.0.0.1:{}/", server.port());
    let ca = authority.0.pem();
    let error = start(&config(&server, "/", &[("url", &url), ("ssl.truststore.certificates", &ca)])).put(texts(&["x"]));
    let error = error.unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("not valid for name"), "{error}");
}

/// A proxy for CONNECT that lets those in who say who they are. Answers the heads of the requests that it got.
fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
            seen.lock().unwrap().push(head.clone());
            let mut client = client;
            if !head.contains("Proxy-Authorization: Basic dXM6cHc0cHJveHk=") {
                client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").unwrap();
                continue;
            }
            let target = head.split_whitespace().nth(1).unwrap().to_owned();
            let server = TcpStream::connect(target).unwrap();
            client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let mut server = server;
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut reader.take(u64::MAX), &mut server);
            });
        }
    });
    (port, heads)
}

#[test]
fn tls_goes_through_a_proxy() {
    let authority = Authority::new();
    let server = authority.server(false);
    let (port, heads) = proxy();
    let (ca, url) = (authority.0.pem(), format!("http://127.0.0.1:{port}"));
    let keys = [("ssl.truststore.certificates", ca.as_str()), ("proxy.url", url.as_str())];
    let error = start(&config(&server, "/", &keys)).put(texts(&["x"])).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("answers CONNECT to localhost:"), "{error}");
    let keys = [keys[0], keys[1], ("proxy.user", "us"), ("proxy.password", "pw4proxy")];
    let mut run = start(&config(&server, "/", &keys));
    assert!(run.put(texts(&["x", "y"])).unwrap().is_empty());
    assert_eq!(bodies(&server), ["x", "y"]);
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 2, "one connection for each task");
    assert!(heads[1].starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", server.port())), "{heads:?}");
    assert_eq!(server.requests()[0].header("proxy-authorization"), None, "it is the proxy's alone");
}

#[test]
fn plain_requests_go_to_the_proxy_whole() {
    // It answers by itself.
    let proxy = HttpServer::start(|_| Reply::status(200, "")).unwrap();
    let url = proxy.url("");
    let keys = [
        ("url", "http://api.example.org/x/${topic}"),
        ("proxy.url", &url),
        ("proxy.user", "u"),
        ("proxy.password", "pass"),
    ];
    assert!(start(&config(&proxy, "/", &keys)).put(texts(&["x"])).unwrap().is_empty());
    let request = &proxy.requests()[0];
    assert_eq!(request.target, "http://api.example.org/x/t");
    assert_eq!(request.header("host"), Some("api.example.org"));
    assert_eq!(request.header("proxy-authorization"), Some("Basic dTpwYXNz"));
}

#[test]
fn a_kept_connection_that_was_closed_meanwhile_is_no_error() {
    let mut server = HttpServer::start(|_| Reply::status(200, "")).unwrap();
    let mut run = start(&config(&server, "/", &[("max.retries", "0")]));
    assert!(run.put(texts(&["1"])).unwrap().is_empty());
    server.go_away();
    server.come_back().unwrap();
    // The close may be noticed before or after the request is on its way; in the second case it is sent again.
    let put = run.put(texts(&["2"]));
    assert!(put.is_ok() || put.is_err_and(|error| error.is_retriable()));
}
