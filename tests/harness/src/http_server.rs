//! An HTTP/1.1 server that does what a test says, also what no server should: be slow, reset, break off, be away.
//!
//! Each request is recorded before it is answered, so that a test can tell what arrived from what was answered.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{Context, Result, ports};

/// A request as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// The connection that it came over, from 1.
    pub connection: u64,
    /// `GET`, say.
    pub method: String,
    /// As it stands in the request: path and query, or a whole URL before a proxy.
    pub target: String,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// As long as Content-Length says.
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// The first header of a name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A parameter of the query, as it stands there.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// What the server does.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers.
    Answer {
        /// The status.
        status: u16,
        /// Beside Content-Length.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The same, after a while.
    Slow(Duration, Box<Reply>),
    /// Says how long the body is, sends a half of it and closes.
    HalfBody(u16, Vec<u8>),
    /// Closes with a reset, without a word.
    Reset,
    /// Closes in order, without a word.
    Close,
    /// Writes these bytes and closes.
    Raw(Vec<u8>),
}

impl Reply {
    /// A status with a text.
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }

    /// 200 with JSON.
    pub fn json(body: impl fmt::Display) -> Self {
        Self::status(200, body.to_string()).with("Content-Type", "application/json")
    }

    /// The same with a header, where it is an answer.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

type Handler = Arc<dyn Fn(&HttpRequest) -> Reply + Send + Sync>;

/// A server on the loopback address that lives as long as this value.
pub struct HttpServer {
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

struct Shared {
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    handler: Mutex<Handler>,
    requests: Mutex<Vec<HttpRequest>>,
    connections: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
    stop: AtomicBool,
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer").field("port", &self.shared.port).finish()
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpServer {
    /// Starts a server on a free port.
    pub fn start(handler: impl Fn(&HttpRequest) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::start_with(None, handler)
    }

    /// Starts one with TLS.
    pub fn start_with(
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&HttpRequest) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            port: ports::free()?,
            tls,
            handler: Mutex::new(Arc::new(handler)),
            requests: Mutex::default(),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut server = Self { shared, accepting: None };
        server.come_back()?;
        Ok(server)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// `http://127.0.0.1:…`, or `https://localhost:…`, with this behind it.
    pub fn url(&self, path: &str) -> String {
        match self.shared.tls {
            None => format!("http://127.0.0.1:{}{path}", self.shared.port),
            Some(_) => format!("https://localhost:{}{path}", self.shared.port),
        }
    }

    /// From now on requests are answered so.
    pub fn answer(&self, handler: impl Fn(&HttpRequest) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.handler) = Arc::new(handler);
    }

    /// What came so far, answered or not.
    pub fn requests(&self) -> Vec<HttpRequest> {
        lock(&self.shared.requests).clone()
    }

    /// What came so far, forgotten here.
    pub fn take_requests(&self) -> Vec<HttpRequest> {
        std::mem::take(&mut lock(&self.shared.requests))
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Closes the port and all connections.
    pub fn go_away(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.shared.port));
        let _ = accepting.join();
        for (_, connection) in lock(&self.shared.open).drain() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Listens again, on the same port.
    pub fn come_back(&mut self) -> Result<()> {
        if self.accepting.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.shared.port))
            .context(format_args!("cannot listen on port {}", self.shared.port))?;
        self.shared.stop.store(false, Ordering::SeqCst);
        let shared = self.shared.clone();
        self.accepting = Some(thread::spawn(move || accept(&listener, &shared)));
        Ok(())
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.go_away();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let Ok(kept) = stream.try_clone() else { continue };
        lock(&shared.open).insert(number, kept);
        let shared = shared.clone();
        thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            let served = match shared.tls.clone().map(ServerConnection::new) {
                None => serve(&stream, &stream, number, &shared),
                Some(Ok(tls)) => match stream.try_clone() {
                    Ok(inner) => serve(&stream, StreamOwned::new(tls, inner), number, &shared),
                    Err(error) => Err(error),
                },
                Some(Err(_)) => Ok(()),
            };
            lock(&shared.open).remove(&number);
            // Who is to see a reset must not see an orderly end before it.
            if served.is_ok() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
}

/// Answers one connection's requests until it ends.
fn serve(tcp: &TcpStream, stream: impl Read + Write, number: u64, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream, number)? {
        lock(&shared.requests).push(request.clone());
        let handler = lock(&shared.handler).clone();
        let mut reply = handler(&request);
        while let Reply::Slow(time, then) = reply {
            thread::sleep(time);
            reply = *then;
        }
        let out = stream.get_mut();
        match reply {
            Reply::Answer { status, headers, body } => {
                let mut head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                let no_body = request.method == "HEAD" || status == 304 || status == 204;
                let mut bytes = (head + "\r\n").into_bytes();
                if !no_body {
                    bytes.extend_from_slice(&body);
                }
                out.write_all(&bytes)?;
                out.flush()?;
            }
            Reply::HalfBody(status, body) => {
                write!(out, "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n\r\n", body.len())?;
                out.write_all(&body[..body.len() / 2])?;
                return out.flush();
            }
            Reply::Raw(bytes) => {
                out.write_all(&bytes)?;
                return out.flush();
            }
            Reply::Reset => {
                reset(tcp)?;
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            Reply::Close | Reply::Slow(..) => return Ok(()),
        }
    }
    Ok(())
}

/// Closing without waiting for what is not sent is what resets.
fn reset(tcp: &TcpStream) -> std::io::Result<()> {
    let linger = rustix::net::sockopt::set_socket_linger(tcp, Some(Duration::ZERO));
    linger.map_err(std::io::Error::from)
}

fn read(stream: &mut impl BufRead, connection: u64) -> std::io::Result<Option<HttpRequest>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = HttpRequest { connection, method, target, ..HttpRequest::default() };
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    stream.read_exact(&mut request.body)?;
    Ok(Some(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_records_goes_away_and_comes_back() {
        let mut server = HttpServer::start(|request| Reply::status(200, request.text())).unwrap();
        let ask = |server: &HttpServer| -> std::io::Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))?;
            stream.write_all(b"POST /x?a=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        assert!(ask(&server).unwrap().ends_with("\r\n\r\nhi"));
        assert_eq!(server.requests()[0].query("a"), Some("1"));
        server.go_away();
        assert!(ask(&server).is_err());
        server.come_back().unwrap();
        assert!(ask(&server).unwrap().ends_with("\r\n\r\nhi"));
        server.answer(|_| Reply::Reset);
        assert!(ask(&server).is_err());
        assert_eq!((server.requests().len(), server.connections()), (3, 3));
    }
}
