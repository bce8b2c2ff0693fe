//! Clients that are slow, many, or do not speak as they should: the worker answers, and the others are served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use tributary_harness::{Context, Result, TributaryWorker};

use crate::http::{Request, send};

fn connect(worker: &TributaryWorker) -> Result<TcpStream> {
    let host = worker.rest().base().trim_start_matches("http://");
    let stream = TcpStream::connect(host).context(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    Ok(stream)
}

fn put(body: Vec<u8>, headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request {
        method: "PUT".into(),
        target: "/connector-plugins/FileStreamSource/config/validate".into(),
        headers,
        body: Some(body),
    }
}

#[test]
fn bodies_in_other_encodings_are_read_or_refused() -> Result<()> {
    let worker = TributaryWorker::start_embedded()?;
    let url = worker.rest().base();
    let text = json!({"name": "é", "connector.class": "FileStreamSource", "topic": "t", "file": "/tmp/😀"}).to_string();
    let json_type = ("Content-Type", "application/json");
    let wide = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let expected = send(url, &put(text.clone().into_bytes(), &[json_type]))?;
    assert_eq!((expected.status, expected.body()["error_count"].as_u64()), (200, Some(0)), "{expected:?}");
    for body in [
        [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
        [&b"\xFF\xFE"[..], &wide(u16::to_le_bytes)].concat(),
    ] {
        let answer = send(url, &put(body, &[json_type]))?;
        assert_eq!((answer.status, answer.body()), (200, expected.body()));
    }
    let answer = send(url, &put(b"\x1f\x8b\x08\0".to_vec(), &[json_type, ("Content-Encoding", "gzip")]))?;
    let told = answer.body()["message"].to_string();
    assert!(answer.status == 415 && told.contains("Content-Encoding gzip"), "{answer:?}");
    Ok(())
}

/// Nobody has to send what will be refused, nor holds a connection for ever.
#[test]
fn who_is_slow_holds_up_nobody_and_is_let_go() -> Result<()> {
    let worker = TributaryWorker::start_embedded()?;
    let began = Instant::now();
    let mut announced = connect(&worker)?;
    let head = "PUT /connectors/a/config HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    announced.write_all(format!("{head}Content-Length: 99999999999\r\n\r\n{{").as_bytes())?;
    let mut start = [0; 12];
    announced.read_exact(&mut start)?;
    assert_eq!(&start, b"HTTP/1.1 413");
    assert!(began.elapsed() < Duration::from_secs(20));

    // Silent, in the middle of a head, in the middle of a body, and one letter at a time.
    let silent = connect(&worker)?;
    let mut half = connect(&worker)?;
    half.write_all(b"GET /connec")?;
    let mut body = connect(&worker)?;
    body.write_all(format!("{head}Content-Length: 100\r\n\r\n{{").as_bytes())?;
    let trickle = connect(&worker)?;
    let crowd = (0..500).map(|_| connect(&worker)).collect::<Result<Vec<_>>>()?;
    let mut letters = trickle.try_clone()?;
    std::thread::spawn(move || {
        for letter in b"GET / HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
            if letters.write_all(&[*letter]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    assert_eq!(worker.rest().get("/connectors")?.ok()?, json!([]));
    let ends = |mut stream: TcpStream| -> Result<String> {
        let mut all = Vec::new();
        match stream.read_to_end(&mut all) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err("it was not let go".into()),
            _ => Ok(String::from_utf8_lossy(&all).into_owned()),
        }
    };
    assert_eq!(ends(silent)?, "");
    assert_eq!(ends(half)?, "");
    assert_eq!(ends(trickle)?, "");
    let told = ends(body)?;
    assert!(told.starts_with("HTTP/1.1 408") && told.contains("did not come within"), "{told}");
    for one in crowd {
        assert_eq!(ends(one)?, "");
    }
    let elapsed = began.elapsed();
    assert!((Duration::from_secs(25)..Duration::from_secs(110)).contains(&elapsed), "{elapsed:?}");
    // A connection in use is kept.
    let mut kept = connect(&worker)?;
    for _ in 0..3 {
        kept.write_all(b"GET /connectors HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut seen = Vec::new();
        while !seen.ends_with(b"[]") {
            let mut more = [0; 1024];
            let count = kept.read(&mut more)?;
            assert_ne!(count, 0);
            seen.extend_from_slice(&more[..count]);
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    Ok(())
}
