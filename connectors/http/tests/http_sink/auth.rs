//! Who the sink is, and that nobody else learns it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tributary_harness::{HttpServer, Reply};

use super::{bodies, config, first, start, texts};

#[test]
fn every_kind_signs_in_and_shows_no_secret() {
    let secret = "s3cret-of-the-test";
    for (more, expected) in [
        (
            vec![("auth.type", "basic"), ("auth.user", "me"), ("auth.password", secret)],
            "authorization: Basic bWU6czNjcmV0LW9mLXRoZS10ZXN0",
        ),
        (vec![("auth.type", "bearer"), ("auth.token", secret)], "authorization: Bearer s3cret-of-the-test"),
        (
            vec![("auth.type", "header"), ("auth.header.name", "X-Api-Key"), ("auth.header.value", secret)],
            "x-api-key: s3cret-of-the-test",
        ),
    ] {
        // A server that says what it got.
        let server = HttpServer::start(|request| {
            let lines: Vec<_> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            Reply::status(400, lines.join("\n"))
        })
        .unwrap();
        let mut run = start(&config(&server, "/", &more));
        let failures = run.put(texts(&["x"])).unwrap().into_records();
        let sent: Vec<_> = server.requests()[0].headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        assert!(sent.contains(&expected.to_owned()), "{sent:?}");
        let told = &failures[0].message;
        assert!(told.contains("[hidden]"), "{told}");
        assert!(!told.contains(secret) && !told.contains("bWU6czNjcmV0"), "{told}");
        assert!(run.services().logged("without TLS"));
        assert!(!run.services().logged(secret));
    }
}

#[test]
fn wrong_credentials_fail_the_task() {
    let server = HttpServer::start(|_| Reply::status(401, "who are you?")).unwrap();
    let mut run = start(&config(&server, "/", &[("auth.type", "bearer"), ("auth.token", "old-token")]));
    let error = run.put(texts(&["x", "y"])).unwrap_err();
    assert!(!error.is_retriable(), "{error}");
    assert!(error.to_string().contains("was answered with 401 Unauthorized: who are you?"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

/// A token endpoint and an API that accepts the newest token only.
fn oauth2(expires: bool) -> HttpServer {
    let tokens = AtomicUsize::new(0);
    HttpServer::start(move |request| {
        if request.target == "/token" {
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::json(format!(
                r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":3600}}"#
            ));
        }
        let newest = tokens.load(Ordering::SeqCst);
        // The API has forgotten the first token.
        let wanted = if expires { newest.max(2) } else { newest };
        match request.header("authorization") == Some(&format!("Bearer token-{wanted}")) {
            true => Reply::status(200, ""),
            false => Reply::status(401, "expired"),
        }
    })
    .unwrap()
}

#[test]
fn tokens_are_fetched_kept_and_renewed() {
    for (expires, in_body) in [(false, false), (true, true)] {
        let server = oauth2(expires);
        let token_url = server.url("/token");
        let more = [
            ("auth.type", "oauth2"),
            ("oauth2.token.url", token_url.as_str()),
            ("oauth2.client.id", "client/1"),
            ("oauth2.client.secret", "the+secret"),
            ("oauth2.scope", "read write"),
            ("oauth2.client.auth", if in_body { "body" } else { "basic" }),
        ];
        let mut run = start(&config(&server, "/api", &more));
        assert!(run.put(texts(&["a", "b", "c"])).unwrap().is_empty());
        let (tokens, api): (Vec<_>, Vec<_>) = server.requests().into_iter().partition(|r| r.target == "/token");
        assert_eq!((tokens.len(), api.len()), if expires { (2, 4) } else { (1, 3) });
        if in_body {
            assert_eq!(
                tokens[0].text(),
                "grant_type=client_credentials&scope=read%20write&client_id=client%2F1&client_secret=the%2Bsecret"
            );
        } else {
            assert_eq!(tokens[0].text(), "grant_type=client_credentials&scope=read%20write");
            // "client%2F1:the%2Bsecret"
            assert_eq!(tokens[0].header("authorization"), Some("Basic Y2xpZW50JTJGMTp0aGUlMkJzZWNyZXQ="));
        }
    }
}

#[test]
fn a_token_endpoint_that_refuses_fails_the_task_and_one_that_is_down_is_waited_for() {
    let more = |server: &HttpServer| {
        let url = server.url("/token");
        config(
            server,
            "/api",
            &[
                ("auth.type", "oauth2"),
                ("oauth2.token.url", &url),
                ("oauth2.client.id", "me"),
                ("oauth2.client.secret", "the-secret"),
            ],
        )
    };
    let server = HttpServer::start(|_| {
        Reply::status(401, r#"{"error":"invalid_client","error_description":"the-secret is wrong"}"#)
    })
    .unwrap();
    let error = start(&more(&server)).put(texts(&["x"])).unwrap_err();
    assert!(!error.is_retriable());
    let told = error.to_string();
    assert!(told.contains("status 401 invalid_client [hidden] is wrong") && !told.contains("the-secret"), "{told}");

    let down = first(2);
    let server = HttpServer::start(move |request| match request.target.as_str() {
        "/token" if down() => Reply::status(503, ""),
        "/token" => Reply::json(r#"{"access_token":"t0ken","expires_in":1}"#),
        _ => Reply::status(200, ""),
    })
    .unwrap();
    assert!(start(&more(&server)).put(texts(&["x"])).unwrap().is_empty());
    assert!(bodies(&server).contains(&"x".to_owned()));
}
