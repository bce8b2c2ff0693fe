//! HTTP/1.1 as it goes over the wire: a client that sends what a careful one would refuse to, and shows every header.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tributary_harness::{Context, Error, Result};

/// Longer than Connect takes to give up on a request by itself (90 s).
const TIMEOUT: Duration = Duration::from_secs(100);

/// A request; `target` goes into the request line as it is.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body; null where it is empty, a string where it is not JSON.
    pub fn body(&self) -> Value {
        match self.text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        }
    }
}

/// Sends a request to the server at `http://host:port` over a connection of its own.
pub fn send(url: &str, request: &Request) -> Result<Answer> {
    let what = || format!("{} {} at {url}", request.method, request.target);
    let host = url.strip_prefix("http://").context("only http:// is spoken here")?;
    let mut stream = TcpStream::connect(host).context(what())?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = request.body.as_deref().unwrap_or_default();
    if request.body.is_some() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).context(what())?;
    // A server that refuses a large body may close before it has read all of it.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes)
        && bytes.is_empty()
    {
        return Err(Error::new(format!("{}: {error}", what())));
    }
    parse(&bytes).context(what())
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("no end of the headers")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no status line")?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value.contains("chunked"));
    let body = if chunked { unchunked(rest)? } else { rest.to_vec() };
    Ok(Answer { status, headers, text: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunked(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").context("no chunk size")?;
        let size = std::str::from_utf8(&bytes[..end]).ok().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let size = size.context("a chunk size that is no number")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(bytes.get(end + 2..end + 2 + size).context("a chunk that is cut off")?);
        bytes = bytes.get(end + 4 + size..).context("a chunk without an end")?;
    }
}
