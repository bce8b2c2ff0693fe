//! What records become.

use serde_json::json;
use tributary_harness::{HttpServer, Reply};
use tributary_sdk::arrow::array::{BinaryArray, StringArray};
use tributary_sdk::{Batch, Column, Record, Records};

use super::{bodies, config, documents, start, texts};

fn server() -> HttpServer {
    HttpServer::start(|_| Reply::status(204, "")).unwrap()
}

#[test]
fn url_method_headers_and_body_come_from_the_record() {
    let server = server();
    let mut run = start(&config(
        &server,
        "/${topic}/users/${key}?n=${value.n}",
        &[
            ("method", "${header.method}"),
            ("headers", "X-Topic: ${topic}/${partition}\nX-Fixed: a | X-Fixed: b"),
            ("body", r#"{"user": ${key}, "text": "<${value.text}>", "all": ${value}}"#),
            ("idempotency.header", "Idempotency-Key"),
        ],
    ));
    let mut records = Records::to("orders");
    let value = json!({"n": 1, "text": "say \"hi\""});
    records.push(Record::json(&value).unwrap().key("a b/ü").header("method", "put")).unwrap();
    records.push(Record::json(&json!({"n": 2, "text": ""})).unwrap().key("c").header("method", "PATCH")).unwrap();
    let failures = run.put(records.finish().unwrap().remove(0)).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    let requests = server.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].target.as_str()), ("PUT", "/orders/users/a%20b%2F%C3%BC?n=1"));
    assert_eq!((requests[1].method.as_str(), requests[1].target.as_str()), ("PATCH", "/orders/users/c?n=2"));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&requests[0].body).unwrap(),
        json!({"user": "a b/ü", "text": "<say \"hi\">", "all": value})
    );
    assert_eq!(requests[0].header("x-topic"), Some("orders/0"));
    let fixed: Vec<_> =
        requests[0].headers.iter().filter(|(name, _)| name == "x-fixed").map(|(_, v)| v.as_str()).collect();
    assert_eq!(fixed, ["a", "b"]);
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(requests[0].header("idempotency-key"), Some("orders-0-0"));
    assert_eq!(requests[1].header("idempotency-key"), Some("orders-0-1"));
    assert_eq!(server.connections(), 1, "connections are kept");
}

#[test]
fn values_go_as_they_are() {
    let server = server();
    let mut run = start(&config(&server, "/", &[]));
    run.put(texts(&["plain"])).unwrap();
    run.put(Batch::new("t", Column::bytes(BinaryArray::from_vec(vec![b"\xff\x00"])))).unwrap();
    run.put(Batch::new("t", Column::json(StringArray::from(vec!["{ \"a\" : 1.10 }"])))).unwrap();
    let mut records = Records::to("t");
    records.push(Record::row(&json!({"a": 1, "b": "x"})).unwrap()).unwrap();
    run.put(records.finish().unwrap().remove(0)).unwrap();
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().map(|r| (r.header("content-type").unwrap(), r.body.as_slice())).collect();
    assert_eq!(
        sent,
        [
            ("text/plain; charset=utf-8", b"plain".as_slice()),
            ("application/octet-stream", b"\xff\x00"),
            ("application/json", b"{ \"a\" : 1.10 }"),
            ("application/json", br#"{"a":1,"b":"x"}"#),
        ]
    );
}

#[test]
fn records_share_requests_as_configured() {
    let server = server();
    let rows = [("a", json!({"n": 1, "s": "x\ny"})), ("a", json!({"n": 2})), ("b", json!({"n": 3}))];
    for (format, expected) in [
        ("json-array", [r#"[{"n":1,"s":"x\ny"},{"n":2}]"#, r#"[{"n":3}]"#]),
        ("ndjson", ["{\"n\":1,\"s\":\"x\\ny\"}\n{\"n\":2}\n", "{\"n\":3}\n"]),
    ] {
        server.take_requests();
        // By key, so that the last one is a request of its own.
        let more = [("batch.max.records", "10"), ("batch.format", format), ("idempotency.header", "I")];
        let mut run = start(&config(&server, "/${key}", &more));
        assert!(run.put(documents(&rows)).unwrap().is_empty());
        assert_eq!(bodies(&server), expected, "{format}");
        assert_eq!(server.requests()[0].header("i"), Some("t-0-0+2"));
    }
    server.take_requests();
    let mut run = start(&config(&server, "/", &[("batch.max.records", "10"), ("batch.format", "lines")]));
    run.put(texts(&["one", "two"])).unwrap();
    let mut run = start(&config(&server, "/", &[("batch.max.records", "10"), ("batch.max.bytes", "12")]));
    run.put(texts(&["one", "two", "three"])).unwrap();
    assert_eq!(bodies(&server), ["one\ntwo\n", r#"["one"]"#, r#"["two"]"#, r#"["three"]"#]);
}

#[test]
fn tombstones_are_what_the_config_says() {
    let server = server();
    let batch = || {
        let mut batch = Batch::new("t", Column::text(StringArray::from(vec![Some("x"), None])));
        batch.key = Some(Column::text(StringArray::from(vec!["1", "2"])));
        batch
    };
    let failures = start(&config(&server, "/${key}", &[])).put(batch()).unwrap().into_records();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].row == 1 && failures[0].message.contains("set tombstone.method=skip"), "{failures:?}");
    assert!(start(&config(&server, "/${key}", &[("tombstone.method", "skip")])).put(batch()).unwrap().is_empty());
    assert_eq!(bodies(&server), ["x", "x"]);
    server.take_requests();
    let mut run = start(&config(&server, "/${key}", &[("tombstone.method", "delete"), ("batch.max.records", "9")]));
    assert!(run.put(batch()).unwrap().is_empty());
    let requests = server.requests();
    assert_eq!(
        requests.iter().map(|r| (r.method.as_str(), r.target.as_str())).collect::<Vec<_>>(),
        [("POST", "/1"), ("DELETE", "/2")]
    );
    assert_eq!((requests[1].body.len(), requests[1].header("content-type")), (0, None));
}

#[test]
fn a_record_that_makes_no_request_is_told_with_its_reason() {
    let server = server();
    let mut run = start(&config(&server, "/a/${value.id}/b", &[("headers", "X-Note: ${value.note}")]));
    let rows = [
        ("k", json!({"id": "1", "note": "fine"})),
        ("k", json!({"note": "no id"})),
        ("k", json!({"id": "..", "note": "x"})),
        ("k", json!({"id": "3", "note": "a\r\nX-Evil: 1"})),
        ("k", json!({"id": "4", "note": "ümlaut"})),
    ];
    let failures = run.put(documents(&rows)).unwrap().into_records();
    let told: Vec<_> = failures.iter().map(|failure| (failure.row, failure.message.as_str())).collect();
    assert_eq!(
        told,
        [
            (1, "no ${value.id}: the record has no such field"),
            (2, "the record makes a URL that leads out of its path: a part of it is only dots"),
            (3, "header x-note: it holds characters that headers cannot have"),
        ]
    );
    assert_eq!(server.requests().iter().map(|r| r.target.clone()).collect::<Vec<_>>(), ["/a/1/b", "/a/4/b"]);
}

#[test]
fn configs_that_cannot_work_are_refused() {
    use tributary_connector_http::HttpSink;
    use tributary_sdk::{Config, SinkConnector};
    for (key, value, why) in [
        ("url", "ftp://h/", "http:// or https://"),
        ("url", "http://${value.host}/", "scheme, host and port have to stand in it"),
        ("url", "http://h${key}/", "scheme, host and port"),
        ("url", "http://u:p@h/", "must not hold a user"),
        ("url", "http://h/${what}", "stands for nothing"),
        ("method", "CONNECT", "no method that records"),
        ("headers", "no colon", "write Name: value"),
        ("headers", "Host: x", "the client's own"),
        ("retry.status", "2xx", "is no status"),
        ("auth.type", "basic", "it is needed with auth.type=basic"),
        ("proxy.url", "https://p:1", "without TLS"),
        ("ssl.truststore.location", "/no/such/file", "cannot read /no/such/file"),
        ("ssl.keystore.key", "x", "the chain is not"),
        ("idempotency.header", "a b", "no name of a header"),
    ] {
        let mut config = Config::from_iter([("url", "http://example.org/")]);
        config.set(key, value);
        let wrong = HttpSink::default().validate(&config);
        assert!(wrong.len() == 1 && wrong[0].1.contains(why), "{key}={value}: {wrong:?}");
    }
}
