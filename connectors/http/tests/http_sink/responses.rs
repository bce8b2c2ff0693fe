//! Answers that are written to a topic.

use serde_json::json;
use tributary_harness::{HttpServer, Reply};
use tributary_sdk::arrow::array::cast::AsArray;
use tributary_sdk::arrow::array::{Array, BinaryArray, ListArray, StringArray, StructArray};
use tributary_sdk::{Batch, Cell, Config};

use super::{config, documents, first, start, texts};

fn asking(server: &HttpServer, more: &[(&str, &str)]) -> Config {
    let mut config = config(server, "/orders?token=t", more);
    config.set("response.topic", "answers");
    config
}

/// Key, value and headers of each record.
fn records(batches: &[Batch]) -> Vec<(Option<String>, String, Vec<(String, String)>)> {
    let mut all = Vec::new();
    for batch in batches {
        assert_eq!(&*batch.topic, "answers");
        for (number, row) in batch.rows().enumerate() {
            let text = |cell: Cell<'_>| cell.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            all.push((text(row.key()), text(row.value()).unwrap(), headers(batch.headers.as_ref().unwrap(), number)));
        }
    }
    all
}

fn headers(column: &ListArray, row: usize) -> Vec<(String, String)> {
    let items = column.value(row);
    let items: &StructArray = items.as_struct();
    let keys: &StringArray = items.column(0).as_string();
    let values: &BinaryArray = items.column(2).as_binary();
    let value = |at| String::from_utf8_lossy(values.value(at)).into_owned();
    (0..items.len()).map(|at| (keys.value(at).to_owned(), value(at))).collect()
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[test]
fn each_accepted_request_has_its_answer_once() {
    let busy = first(1);
    let server = HttpServer::start(move |request| match request.text().as_str() {
        _ if busy() => Reply::status(503, "busy"),
        "{\"id\":2}" => Reply::status(404, "no such thing"),
        body => Reply::status(201, format!("made {body}")).with("Content-Type", "text/plain"),
    })
    .unwrap();
    let mut run = start(&asking(&server, &[]));
    let batch = documents(&[("a", json!({"id": 1})), ("b", json!({"id": 2})), ("c", json!({"id": 3}))]);
    assert_eq!(run.put(batch).unwrap().records().len(), 1);
    let answers = records(&run.services().take_produced());
    let shown = |(key, value, _): &(Option<String>, String, _)| (key.clone().unwrap(), value.clone());
    let expected = [("a", "made {\"id\":1}"), ("c", "made {\"id\":3}")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(answers.iter().map(shown).collect::<Vec<_>>(), expected);
    let headers = &answers[1].2;
    for (name, value) in [
        ("http.status", "201"),
        ("http.method", "POST"),
        ("http.content-type", "text/plain"),
        ("request.topic", "t"),
        ("request.partition", "0"),
        ("request.offset", "2"),
        ("request.records", "1"),
    ] {
        assert_eq!(header(headers, name), Some(value), "{name}");
    }
    // It may hold a secret.
    assert!(!headers.iter().any(|(_, value)| value.contains("orders")), "{headers:?}");
    assert_eq!(header(headers, "http.incomplete"), None);
}

#[test]
fn what_was_answered_before_the_batch_had_to_come_again_is_not_lost() {
    let server = HttpServer::start(|request| match request.text().as_str() {
        "two" => Reply::status(503, "busy"),
        body => Reply::status(200, format!("took {body}")),
    })
    .unwrap();
    let mut run = start(&asking(&server, &[("max.retries", "0")]));
    assert!(run.put(texts(&["one", "two"])).unwrap_err().is_retriable());
    let answers = records(&run.services().take_produced());
    assert_eq!(
        answers.iter().map(|(key, value, _)| (key.clone(), value.as_str())).collect::<Vec<_>>(),
        [(None, "took one")]
    );
}

#[test]
fn a_batch_has_one_answer_and_a_long_or_broken_one_says_so() {
    let replies = [
        (Reply::status(200, vec![b'x'; 4_000]), "x".repeat(1_000), Some("response.max.bytes")),
        (Reply::HalfBody(200, b"{\"ok\":true}".to_vec()), String::new(), Some("breaks off")),
        (Reply::status(204, ""), String::new(), None),
    ];
    for (reply, body, incomplete) in replies {
        let server = HttpServer::start(move |_| reply.clone()).unwrap();
        let more = [("batch.max.records", "10"), ("batch.format", "lines"), ("response.max.bytes", "1000")];
        let mut run = start(&asking(&server, &more));
        assert!(run.put(texts(&["one", "two", "three"])).unwrap().is_empty());
        let answers = records(&run.services().take_produced());
        assert_eq!(answers.len(), 1);
        let (_, value, headers) = &answers[0];
        assert_eq!((header(headers, "request.records"), header(headers, "request.offset")), (Some("3"), Some("0")));
        match incomplete {
            None => assert_eq!((value, header(headers, "http.incomplete")), (&body, None)),
            Some(why) => {
                assert!(header(headers, "http.incomplete").is_some_and(|told| told.contains(why)), "{headers:?}")
            }
        }
        assert!(body.is_empty() || *value == body);
    }
}
