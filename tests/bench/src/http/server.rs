//! A server that answers every request with 204 and costs next to nothing: one thread for all connections.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tributary_harness::Result;

const LISTENER: Token = Token(usize::MAX);
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// What came since the last reset.
#[derive(Default)]
struct Seen {
    requests: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// Ends with the process.
pub struct Server {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    pub fn start() -> Result<Self> {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let port = listener.local_addr()?.port();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let told = seen.clone();
        std::thread::spawn(move || {
            if let Err(error) = serve(&listener, poll, &told) {
                eprintln!("the server ended: {error}");
            }
        });
        Ok(Self { port, seen })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/orders", self.port)
    }

    /// Forgets what came.
    pub fn reset(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    pub fn requests(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).requests
    }

    /// Requests a second between the first and the last one.
    pub fn rate(&self) -> f64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let time = seen.first.zip(seen.last).map_or(Duration::ZERO, |(first, last)| last - first);
        seen.requests as f64 / time.as_secs_f64()
    }
}

/// A connection, and what has come of its next requests.
struct Open {
    stream: TcpStream,
    received: Vec<u8>,
}

fn serve(listener: &TcpListener, mut poll: Poll, seen: &Mutex<Seen>) -> Result<()> {
    let mut connections: HashMap<usize, Open> = HashMap::new();
    let mut next = 0;
    let mut events = Events::with_capacity(256);
    loop {
        poll.poll(&mut events, None)?;
        let mut requests = 0;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(next), Interest::READABLE)?;
                    connections.insert(next, Open { stream, received: Vec::new() });
                    next += 1;
                }
            } else if let Some(open) = connections.get_mut(&event.token().0) {
                match open.answer() {
                    Ok(answered) => requests += answered,
                    Err(_) => _ = connections.remove(&event.token().0),
                }
            }
        }
        if requests > 0 {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            seen.requests += requests;
            seen.first.get_or_insert(now);
            seen.last = Some(now);
        }
    }
}

impl Open {
    /// Reads what has come and answers the requests that are whole. An error at the end of the connection.
    fn answer(&mut self) -> std::io::Result<u64> {
        let mut chunk = [0; 16 << 10];
        let mut answered = 0;
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answered),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(length) = whole(&self.received) {
                self.received.drain(..length);
                self.stream.write_all(ANSWER)?;
                answered += 1;
            }
        }
    }
}

/// The length of the first request, if all of it is there.
fn whole(received: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(received, b"\r\n\r\n")?;
    let lines = received[..head].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let length = lines.filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let value = line[..colon].eq_ignore_ascii_case(b"content-length").then(|| line[colon + 1..].trim_ascii())?;
        std::str::from_utf8(value).ok()?.parse::<usize>().ok()
    });
    let whole = head + 4 + length.last().unwrap_or(0);
    (received.len() >= whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_with_its_body() {
        let text = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhiGET";
        assert_eq!(whole(text), Some(text.len() - 3));
        assert!((0..text.len() - 3).all(|end| whole(&text[..end]).is_none()));
    }
}
