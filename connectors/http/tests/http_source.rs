//! The HTTP source: the behaviour suite, all kinds of pages, and a server that misbehaves on purpose.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tributary_connector_http::HttpSource;
use tributary_harness::{HttpRequest, HttpServer, Reply};
use tributary_sdk::{Batch, Config, SourceConnector, SourcePosition};
use tributary_testkit::{SourceRun, SourceSubject, TestServices, rows, source_suite};

/// Items that can grow, served in pages.
#[derive(Clone, Default)]
struct Items(Arc<Mutex<Vec<Value>>>);

impl Items {
    fn set(&self, count: usize) {
        *self.0.lock().unwrap() = (0..count).map(|n| json!({"id": n})).collect();
    }

    fn push(&self, item: Value) {
        self.0.lock().unwrap().push(item);
    }

    /// Items from `at` on, and whether there are more.
    fn page(&self, at: usize, size: usize) -> (Vec<Value>, bool) {
        let items = self.0.lock().unwrap();
        let page = items.iter().skip(at).take(size).cloned().collect();
        (page, items.len() > at + size)
    }
}

fn number(request: &HttpRequest, name: &str) -> Option<usize> {
    request.query(name).and_then(|text| text.parse().ok())
}

const SIZE: usize = 7;

fn cursor(items: &Items, request: &HttpRequest) -> Reply {
    let at = number(request, "cursor").unwrap_or(0);
    let (page, more) = items.page(at, SIZE);
    let next = if more { json!((at + SIZE).to_string()) } else { Value::Null };
    Reply::json(json!({"data": {"items": page}, "next_cursor": next}))
}

fn page(items: &Items, request: &HttpRequest) -> Reply {
    let (page, _) = items.page((number(request, "page").unwrap() - 1) * SIZE, SIZE);
    Reply::json(json!({"data": {"items": page}}))
}

fn offset(items: &Items, request: &HttpRequest) -> Reply {
    let (page, _) = items.page(number(request, "offset").unwrap(), number(request, "limit").unwrap());
    Reply::json(json!({"data": {"items": page}}))
}

fn link(items: &Items, request: &HttpRequest) -> Reply {
    let at = number(request, "at").unwrap_or(0);
    let (page, more) = items.page(at, SIZE);
    let reply = Reply::json(json!({"data": {"items": page}}));
    let prev = r#"</x>; rel="prev""#;
    if more {
        reply.with("Link", &format!(r#"{prev}, <?at={}>; rel="next""#, at + SIZE))
    } else {
        reply.with("Link", prev)
    }
}

/// A kind of pages, and the config for it.
type Kind = (fn(&Items, &HttpRequest) -> Reply, &'static [(&'static str, &'static str)]);

const KINDS: [Kind; 4] = [
    (cursor, &[("pagination", "cursor")]),
    (page, &[("pagination", "page"), ("page.size", "7")]),
    (offset, &[("pagination", "offset"), ("page.size", "7"), ("page.size.parameter", "limit")]),
    (link, &[("pagination", "link")]),
];

struct Api {
    server: HttpServer,
    items: Items,
    spoiled: Arc<AtomicUsize>,
    more: &'static [(&'static str, &'static str)],
}

impl Api {
    fn new(kind: usize) -> Self {
        let (items, (serve, more)) = (Items::default(), KINDS[kind]);
        let spoiled = Arc::new(AtomicUsize::new(usize::MAX));
        let (served, when) = (items.clone(), spoiled.clone());
        let count = AtomicUsize::new(0);
        let server = HttpServer::start(move |request| {
            if count.fetch_add(1, Ordering::SeqCst) >= when.load(Ordering::SeqCst) {
                return Reply::status(200, "<html>down for maintenance</html>").with("Content-Type", "text/html");
            }
            serve(&served, request)
        })
        .unwrap();
        Self { server, items, spoiled, more }
    }

    fn config(&self) -> Config {
        let mut config = Config::from_iter([
            ("url", self.server.url("/items?fixed=1").as_str()),
            ("topic", "items"),
            ("records.pointer", "/data/items"),
            ("addresses.allowed", "loopback"),
            ("poll.interval.ms", "1000"),
        ]);
        self.more.iter().for_each(|(key, value)| config.set(*key, *value));
        config
    }
}

impl SourceSubject for Api {
    type Connector = HttpSource;

    fn prepare(&mut self, records: usize) -> Config {
        self.items.set(records);
        self.config()
    }

    fn spoil(&mut self) -> bool {
        // From the third request on.
        self.spoiled.store(2, Ordering::SeqCst);
        true
    }
}

source_suite!(by_cursor, Api::new(0));
source_suite!(by_page, Api::new(1));
source_suite!(by_offset, Api::new(2));
source_suite!(by_link, Api::new(3));

fn ids(batches: &[Batch]) -> Vec<i64> {
    rows::values(batches)
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap()["id"].as_i64().unwrap())
        .collect()
}

#[test]
fn what_is_added_comes_whatever_the_pages() {
    for kind in 0..KINDS.len() {
        let api = Api::new(kind);
        api.items.set(10);
        let services = TestServices::new();
        let mut run = SourceRun::<HttpSource>::start_in(services.clone(), &api.config()).unwrap();
        let first = run.poll_records(10).unwrap();
        assert_eq!(ids(&first), (0..10).collect::<Vec<_>>(), "{kind}");
        for id in 10..16 {
            api.items.push(json!({"id": id}));
        }
        let second = run.poll_records(6).unwrap();
        assert_eq!(ids(&second), (10..16).collect::<Vec<_>>(), "{kind}");
        run.deliver(&first).unwrap();
        run.deliver(&second).unwrap();
        run.stop().unwrap();
        let mut run = SourceRun::<HttpSource>::start_in(services, &api.config()).unwrap();
        api.items.push(json!({"id": 16}));
        assert_eq!(ids(&run.poll_records(1).unwrap()), [16], "{kind}");
        let targets: Vec<_> = api.server.requests().iter().map(|request| request.target.clone()).collect();
        assert!(kind == 3 || targets.iter().all(|target| target.starts_with("/items?fixed=1")), "{targets:?}");
    }
}

#[test]
fn timestamps_ask_for_what_is_new() {
    let items = Items::default();
    for n in 0..25 {
        items.push(json!({"id": n, "at": n / 2}));
    }
    let served = items.clone();
    let server = HttpServer::start(move |request| {
        let since = number(request, "since").unwrap_or(0);
        let matching: Vec<Value> =
            served.0.lock().unwrap().iter().filter(|item| item["at"].as_u64() >= Some(since as u64)).cloned().collect();
        let at = (number(request, "page").unwrap() - 1) * 4;
        Reply::json(json!(matching.iter().skip(at).take(4).collect::<Vec<_>>()))
    })
    .unwrap();
    let config = Config::from_iter([
        ("url", server.url("/changes").as_str()),
        ("topic", "t"),
        ("addresses.allowed", "loopback"),
        ("pagination", "page"),
        ("page.size", "4"),
        ("timestamp.parameter", "since"),
        ("timestamp.pointer", "/at"),
        ("key.pointer", "/id"),
    ]);
    let services = TestServices::new();
    let mut run = SourceRun::<HttpSource>::start_in(services.clone(), &config).unwrap();
    let first = run.poll_records(25).unwrap();
    assert_eq!(ids(&first), (0..25).collect::<Vec<_>>());
    assert_eq!(rows::keys(&first)[24], "24");
    // The same time as the last one, and a later one.
    items.push(json!({"id": 25, "at": 12}));
    items.push(json!({"id": 26, "at": 13}));
    let second = run.poll_records(2).unwrap();
    assert_eq!(ids(&second), [25, 26]);
    run.deliver(&first).unwrap();
    run.deliver(&second).unwrap();
    let stored = services.stored_offsets();
    assert_eq!(stored.values().next().unwrap()["since"], "13", "{stored:?}");
    server.take_requests();
    let mut run = SourceRun::<HttpSource>::start_in(services, &config).unwrap();
    items.push(json!({"id": 27, "at": 14}));
    assert_eq!(ids(&run.poll_records(1).unwrap()), [27]);
    assert_eq!(server.requests()[0].target, "/changes?page=1&since=13");
}

fn plain(server: &HttpServer, more: &[(&str, &str)]) -> Config {
    let mut config = Config::from_iter([
        ("url", server.url("/").as_str()),
        ("topic", "t"),
        ("addresses.allowed", "loopback"),
        ("request.timeout.ms", "60000"),
    ]);
    more.iter().for_each(|(key, value)| config.set(*key, *value));
    config
}

#[test]
fn what_may_pass_is_asked_for_again() {
    use std::time::Duration;
    let good = || Reply::json(json!([{"id": 1}, {"id": 2}]));
    for (name, reply) in [
        ("503", Reply::status(503, "busy")),
        ("429", Reply::status(429, "").with("Retry-After", "7")),
        ("reset", Reply::Reset),
        ("half a body", Reply::HalfBody(200, br#"[{"id":1},{"id":2}]"#.to_vec())),
        ("slow", Reply::Slow(Duration::from_secs(9), Box::new(good()))),
        ("no JSON", Reply::status(200, "<html>").with("Content-Type", "text/html")),
        ("no HTTP", Reply::Raw(b"hello\r\n".to_vec())),
    ] {
        let bad = AtomicUsize::new(2);
        let server = HttpServer::start(move |_| {
            let is_bad = bad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if is_bad { reply.clone() } else { good() }
        })
        .unwrap();
        // On a machine that stands still, good answers may be late as well.
        let more: &[_] = if name == "slow" { &[("request.timeout.ms", "3000")] } else { &[] };
        let mut run = SourceRun::<HttpSource>::start(&plain(&server, more)).unwrap();
        let before = run.services().context().now_ms();
        assert_eq!(ids(&run.poll_records(2).unwrap()), [1, 2], "{name}");
        let retries = run.services().counter("http-retries");
        assert!(retries == 2.0 || name == "slow" && retries > 2.0, "{name}: {retries}");
        let waited = run.services().context().now_ms() - before;
        assert!(name != "429" || waited >= 14_000, "{waited}");
    }
}

#[test]
fn what_does_not_pass_fails_with_what_the_server_said() {
    for (reply, why) in [
        (Reply::status(404, "no such thing"), "was answered with 404 Not Found: no such thing"),
        (Reply::status(401, ""), "401 Unauthorized"),
        (Reply::status(200, vec![b' '; 2000]), "larger than max.response.bytes=1000"),
        (Reply::json(json!({"items": []})), "nothing at records.pointer=/data (5 times)"),
        (
            Reply::status(302, "").with("Location", "http://192.0.2.1/"),
            "credentials and configured headers go to no other host",
        ),
    ] {
        let server = HttpServer::start(move |_| reply.clone()).unwrap();
        let more = [("max.response.bytes", "1000"), ("records.pointer", "/data"), ("headers", "X-A: b")];
        let mut run = SourceRun::<HttpSource>::start(&plain(&server, &more)).unwrap();
        let error = run.poll_records(1).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn nothing_is_sent_twice_where_nothing_has_changed() {
    let items = Items::default();
    items.set(3);
    let served = items.clone();
    let server = HttpServer::start(move |request| {
        let (all, _) = served.page(0, 100);
        let tag = format!("\"{}\"", all.len());
        match request.header("if-none-match") == Some(&tag) {
            true => Reply::status(304, ""),
            false => Reply::json(json!(all)).with("ETag", &tag),
        }
    })
    .unwrap();
    let services = TestServices::new();
    let mut run = SourceRun::<HttpSource>::start_in(services.clone(), &plain(&server, &[])).unwrap();
    let first = run.poll_records(3).unwrap();
    run.deliver(&first).unwrap();
    for _ in 0..100 {
        assert!(run.poll().unwrap().is_empty());
    }
    let requests = server.take_requests();
    assert!(requests.len() > 1, "it asks again");
    assert!(requests[1..].iter().all(|request| request.header("if-none-match") == Some("\"3\"")));
    // A new task knows the tag, and what came before.
    items.push(json!({"id": 3}));
    let mut run = SourceRun::<HttpSource>::start_in(services, &plain(&server, &[])).unwrap();
    assert_eq!(ids(&run.poll_records(1).unwrap()), [3]);
    assert_eq!(server.requests()[0].header("if-none-match"), Some("\"3\""));
}

#[test]
fn records_of_the_same_text_are_counted() {
    for more in [&[][..], &[("timestamp.parameter", "since"), ("timestamp.pointer", "/at")]] {
        let items = Items::default();
        let item = || json!({"id": 7, "at": 3});
        items.push(item());
        items.push(item());
        let served = items.clone();
        let server = HttpServer::start(move |_| Reply::json(json!(served.page(0, 100).0))).unwrap();
        let services = TestServices::new();
        let mut run = SourceRun::<HttpSource>::start_in(services.clone(), &plain(&server, more)).unwrap();
        let first = run.poll_records(2).unwrap();
        run.deliver(&first).unwrap();
        items.push(item());
        let second = run.poll_records(1).unwrap();
        assert_eq!(ids(&second), [7]);
        run.deliver(&second).unwrap();
        run.stop().unwrap();
        // And by the stored offset.
        let mut run = SourceRun::<HttpSource>::start_in(services, &plain(&server, more)).unwrap();
        assert!(run.poll().unwrap().is_empty());
        items.push(item());
        items.push(item());
        assert_eq!(ids(&run.poll_records(2).unwrap()), [7, 7]);
    }
}

#[test]
fn requests_keep_their_distance() {
    let api = Api::new(0);
    api.items.set(70);
    let mut config = api.config();
    config.set("rate.limit", "2");
    let mut run = SourceRun::<HttpSource>::start(&config).unwrap();
    let before = run.services().context().now_ms();
    run.poll_records(70).unwrap();
    // Ten pages.
    let took = run.services().context().now_ms() - before;
    assert!(took >= 4_500, "{took}");
}

#[test]
fn pages_lead_to_no_other_host() {
    let server =
        HttpServer::start(|_| Reply::json(json!([1])).with("Link", r#"<http://192.0.2.1/x>; rel="next""#)).unwrap();
    let mut run = SourceRun::<HttpSource>::start(&plain(&server, &[("pagination", "link")])).unwrap();
    let error = run.poll_records(2).unwrap_err().to_string();
    assert!(error.contains("the next page is not followed: it is on another host"), "{error}");
}

#[test]
fn offsets_are_checked_before_they_are_changed() {
    let mut source = HttpSource::default();
    let position = |partition: Value, offset: Option<Value>| SourcePosition { partition, offset };
    let url = || json!({"url": "http://h/"});
    let mut alter = |position| source.alter_offsets(&Config::default(), &[position]);
    assert!(alter(position(url(), None)).unwrap());
    assert!(alter(position(url(), Some(json!({"cursor": "x"})))).unwrap());
    assert!(alter(position(url(), Some(json!({"position": 1})))).is_err());
    assert!(alter(position(json!({"file": "x"}), None)).is_err());
}
