//! Answers of all kinds, and none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tributary_harness::{HttpServer, Reply};

use super::{bodies, config, documents, first, start, texts};

#[test]
fn what_may_pass_is_sent_again_and_stored_once_it_does() {
    let half = || Reply::HalfBody(500, b"an error page".to_vec());
    let replies: Vec<(&str, Reply)> = vec![
        ("503", Reply::status(503, "busy")),
        ("429", Reply::status(429, "slow down")),
        ("reset", Reply::Reset),
        ("close", Reply::Close),
        ("half of an error", half()),
        ("no HTTP", Reply::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec())),
        ("slow", Reply::Slow(Duration::from_secs(9), Box::new(Reply::status(200, "")))),
    ];
    for (name, reply) in replies {
        let bad = first(2);
        let server = HttpServer::start(move |_| if bad() { reply.clone() } else { Reply::status(200, "") }).unwrap();
        // On a machine that stands still, good answers may be late as well.
        let slow = name == "slow";
        let more = [("request.timeout.ms", if slow { "3000" } else { "60000" }), ("idempotency.header", "Key")];
        let mut run = start(&config(&server, "/", &more));
        assert!(run.put(texts(&["one", "two"])).unwrap().is_empty(), "{name}");
        let requests = server.requests();
        let mut sent: Vec<_> = requests.iter().map(|r| (r.text(), r.header("key").unwrap())).collect();
        let one = || ("one".to_owned(), "t-0-0");
        let retries = run.services().counter("http-retries");
        assert!(retries == 2.0 || slow && retries > 2.0, "{name}: {retries}");
        if slow {
            assert_eq!(sent[..3], [one(), one(), one()]);
            sent.drain(..2);
            sent.dedup();
            assert_eq!(sent, [one(), ("two".to_owned(), "t-0-1")]);
        } else {
            assert_eq!(sent, [one(), one(), one(), ("two".to_owned(), "t-0-1")], "{name}");
        }
    }
}

#[test]
fn a_good_status_counts_whatever_comes_behind_it() {
    let replies = [
        Reply::HalfBody(200, b"{\"ok\":true}".to_vec()),
        Reply::status(201, "<html>").with("Content-Type", "application/json"),
        Reply::status(200, vec![b'x'; 1 << 20]),
        Reply::Raw(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
    ];
    for reply in replies {
        let server = HttpServer::start(move |_| reply.clone()).unwrap();
        let mut run = start(&config(&server, "/", &[]));
        assert!(run.put(texts(&["one", "two"])).unwrap().is_empty());
        assert_eq!(bodies(&server), ["one", "two"]);
    }
}

#[test]
fn a_refused_record_is_told_with_what_the_server_said() {
    let server = HttpServer::start(|request| match request.text().as_str() {
        "bad" => Reply::status(422, "no \"bad\"\r\nplease"),
        "gone" => Reply::status(404, ""),
        "moved" => Reply::status(302, "").with("Location", "/elsewhere"),
        _ => Reply::status(200, ""),
    })
    .unwrap();
    let mut run = start(&config(&server, "/in?secret=1", &[]));
    let failures = run.put(texts(&["a", "bad", "b", "gone", "moved", "c"])).unwrap().into_records();
    let url = server.url("/in?…");
    let told: Vec<_> = failures.iter().map(|f| (f.row, f.retriable, f.message.clone())).collect();
    assert_eq!(
        told,
        [
            (1, false, format!("POST {url} was answered with 422 Unprocessable Entity: no \"bad\"  please")),
            (3, false, format!("POST {url} was answered with 404 Not Found")),
            (4, false, format!("POST {url} was answered with 302 Found")),
        ]
    );
    assert_eq!(bodies(&server), ["a", "bad", "b", "gone", "moved", "c"], "nothing is sent twice");
}

#[test]
fn the_record_to_blame_in_a_batch_is_found() {
    let server = HttpServer::start(|request| match request.text().contains("\"n\":37}") {
        true => Reply::status(400, "37 is not allowed"),
        false => Reply::status(200, ""),
    })
    .unwrap();
    let mut run = start(&config(&server, "/", &[("batch.max.records", "100")]));
    let rows: Vec<_> = (0..100).map(|n| ("k", json!({"n": n}))).collect();
    let failures = run.put(documents(&rows)).unwrap().into_records();
    assert_eq!(failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [37]);
    assert!(failures[0].message.ends_with("400 Bad Request: 37 is not allowed"), "{failures:?}");
    let requests = server.requests();
    let accepted = requests.iter().filter(|request| !request.text().contains("\"n\":37}"));
    let numbers: Vec<i64> = accepted
        .flat_map(|request| serde_json::from_slice::<Vec<serde_json::Value>>(&request.body).unwrap())
        .map(|item| item["n"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, (0..100).filter(|n| *n != 37).collect::<Vec<_>>(), "each once, in order");
    assert!(requests.len() < 20, "{} requests", requests.len());
}

#[test]
fn an_outage_costs_nothing_and_repeats_nothing() {
    let taken = AtomicUsize::new(0);
    let server = HttpServer::start(move |_| {
        // After three records it is over, until it is told otherwise.
        if taken.fetch_add(1, Ordering::SeqCst) < 3 {
            Reply::status(200, "")
        } else {
            Reply::status(503, "maintenance")
        }
    })
    .unwrap();
    let mut run = start(&config(&server, "/", &[("max.retries", "2")]));
    let error = run.put(texts(&["1", "2", "3", "4", "5"])).unwrap_err();
    assert!(error.is_retriable());
    let message = error.to_string();
    assert!(message.contains("503 Service Unavailable: maintenance; 2 records wait"), "{message}");
    assert_eq!(bodies(&server), ["1", "2", "3", "4", "4", "4"]);
    server.take_requests();
    server.answer(|_| Reply::status(200, ""));
    assert!(run.put(texts(&["1", "2", "3", "4", "5"])).unwrap().is_empty());
    assert_eq!(bodies(&server), ["4", "5"], "what was answered is not sent again");
    // The next batch has other offsets.
    assert!(run.put(texts(&["1", "2", "3", "4", "5"])).unwrap().is_empty());
    assert_eq!(server.requests().len(), 7);
}

#[test]
fn a_record_is_given_up_when_its_time_is_over() {
    let server = HttpServer::start(|request| match request.text().as_str() {
        "stuck" => Reply::status(500, "cannot handle stuck"),
        _ => Reply::status(200, ""),
    })
    .unwrap();
    let mut run = start(&config(&server, "/", &[("retry.timeout.ms", "50"), ("max.retries", "100")]));
    let failures = run.put(texts(&["a", "stuck", "b"])).unwrap().into_records();
    assert_eq!(failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [1]);
    assert!(failures[0].message.contains("cannot handle stuck (given up after"), "{failures:?}");
    assert!(bodies(&server).ends_with(&["b".to_owned()]));
}

#[test]
fn the_server_says_how_long_to_wait() {
    let bad = first(1);
    let server = HttpServer::start(move |_| match bad() {
        true => Reply::status(429, "").with("Retry-After", "1"),
        false => Reply::status(200, ""),
    })
    .unwrap();
    let mut run = start(&config(&server, "/", &[("concurrency", "4")]));
    let begun = Instant::now();
    assert!(run.put(texts(&["a", "b", "c", "d", "e", "f", "g", "h"])).unwrap().is_empty());
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());

    server.answer(|_| Reply::status(503, "").with("Retry-After", "3600"));
    let mut run = start(&config(&server, "/", &[]));
    server.take_requests();
    let error = run.put(texts(&["a"])).unwrap_err();
    assert!(error.is_retriable());
    let error = run.put(texts(&["a"])).unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains("asks to be left alone for another"), "{error}");
    assert_eq!(server.requests().len(), 1, "it is left alone");
}

#[test]
fn keys_keep_their_order_among_many_requests() {
    let count = AtomicUsize::new(0);
    let server = HttpServer::start(move |_| match count.fetch_add(1, Ordering::SeqCst) % 7 {
        0 => Reply::status(503, ""),
        1 => Reply::Reset,
        2 => Reply::Slow(Duration::from_millis(3), Box::new(Reply::status(200, ""))),
        _ => Reply::status(200, ""),
    })
    .unwrap();
    let mut run =
        start(&config(&server, "/", &[("concurrency", "8"), ("max.retries", "50"), ("retry.backoff.ms", "1")]));
    let keys: Vec<String> = (0..10).map(|key| format!("key {key}")).collect();
    let rows: Vec<_> = (0..200_usize).map(|n| (keys[n % 10].as_str(), json!({"k": n % 10, "n": n}))).collect();
    assert!(run.put(documents(&rows)).unwrap().is_empty());
    let mut seen = vec![Vec::new(); 10];
    for request in server.requests() {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let numbers = &mut seen[body["k"].as_u64().unwrap() as usize];
        let n = body["n"].as_u64().unwrap();
        if numbers.last() != Some(&n) {
            numbers.push(n);
        }
    }
    for (key, numbers) in seen.iter().enumerate() {
        assert_eq!(*numbers, (0..20).map(|n| n * 10 + key as u64).collect::<Vec<_>>(), "key {key}");
    }
    assert!(server.connections() > 1);
}

#[test]
fn a_cancel_ends_every_wait() {
    for reply in [
        Reply::status(503, "").with("Retry-After", "15"),
        Reply::Slow(Duration::from_secs(60), Box::new(Reply::status(200, ""))),
    ] {
        let server = HttpServer::start(move |_| reply.clone()).unwrap();
        let mut run = start(&config(&server, "/", &[]));
        let cancel = {
            use tributary_sdk::SinkTask;
            run.task().canceller().unwrap()
        };
        let services = run.services().clone();
        let waiting = std::thread::spawn(move || {
            let error = run.put(texts(&["a"])).unwrap_err();
            (error, Instant::now())
        });
        tributary_harness::wait::until("the request", Duration::from_secs(60), || {
            Ok((!server.requests().is_empty()).then_some(()))
        })
        .unwrap();
        services.cancel();
        let cancelled = Instant::now();
        cancel();
        let (error, ended) = waiting.join().unwrap();
        assert!(error.is_retriable(), "{error}");
        // Far less than it would have waited.
        assert!(ended - cancelled < Duration::from_secs(12), "{:?}", ended - cancelled);
    }
}
