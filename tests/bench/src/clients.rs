//! Clients that keep their connections: each sends its next request when it has the answer to the last one.
//!
//! One thread plays all of them. It runs on the same cores as the server, and costs little, so that the server is what limits.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tributary_harness::{Context, Error, Result, Usage};

/// A server that answers nobody for so long is given up.
const STUCK: Duration = Duration::from_secs(20);

/// Who asks whom, and what.
pub struct Clients {
    pub address: String,
    /// Clients that ask at the same time.
    pub count: usize,
    /// A whole request.
    pub request: Vec<u8>,
    /// What the body of a right answer, which has the status 200, contains.
    pub wanted: &'static str,
}

/// What a run showed.
pub struct Sample {
    pub answers: u64,
    /// Answers a second.
    pub rate: f64,
    /// Milliseconds until half of the answers, and until 99 of 100.
    pub middle: f64,
    pub slow: f64,
    /// The server's CPU time for an answer, in microseconds.
    pub cpu: f64,
}

impl Clients {
    /// One run against the server with this process id. Each client takes its last answer, so that none is in doubt.
    pub fn run(&self, pid: u32, time: Duration) -> Result<Sample> {
        let mut poll = Poll::new()?;
        let clients = (0..self.count).map(|number| Client::connect(&self.address, number, &poll));
        let mut clients = clients.collect::<Result<Vec<_>>>()?;
        let before = Usage::of(pid)?.cpu;
        let begun = Instant::now();
        for client in &mut clients {
            client.ask(&self.request)?;
        }
        let mut open = clients.len();
        let mut took: Vec<u32> = Vec::with_capacity(1 << 20);
        let mut events = Events::with_capacity(self.count);
        while open > 0 {
            poll.poll(&mut events, Some(STUCK))?;
            if events.is_empty() {
                return Err(Error::new(format!("no answer within {} s", STUCK.as_secs())));
            }
            let over = begun.elapsed() >= time;
            for event in &events {
                let client = &mut clients[event.token().0];
                if client.read(self.wanted)? {
                    took.push(client.asked.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
                    if over {
                        open -= 1;
                    } else {
                        client.ask(&self.request)?;
                    }
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = (Usage::of(pid)?.cpu - before).as_secs_f64();
        took.sort_unstable();
        let at = |share: f64| f64::from(took[((took.len() - 1) as f64 * share) as usize]) / 1e3;
        Ok(Sample {
            answers: took.len() as u64,
            rate: took.len() as f64 / seconds,
            middle: at(0.5),
            slow: at(0.99),
            cpu: cpu * 1e6 / took.len() as f64,
        })
    }
}

/// A connection that is kept.
struct Client {
    stream: TcpStream,
    asked: Instant,
    received: Vec<u8>,
}

impl Client {
    fn connect(address: &str, number: usize, poll: &Poll) -> Result<Self> {
        let stream = std::net::TcpStream::connect(address).context(format_args!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        Ok(Self { stream, asked: Instant::now(), received: Vec::with_capacity(4096) })
    }

    fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.received.clear();
        self.asked = Instant::now();
        // A request is far smaller than the socket's buffer, which is empty.
        Ok(self.stream.write_all(request)?)
    }

    /// Reads what has come; whether the answer is whole.
    fn read(&mut self, wanted: &str) -> Result<bool> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the worker closed a connection that was to be kept".into()),
                Ok(n) => {
                    self.received.extend_from_slice(&chunk[..n]);
                    if whole(&self.received, wanted)? {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether this is a whole answer with what is wanted; an error where it is another one.
fn whole(answer: &[u8], wanted: &str) -> Result<bool> {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    let wrong = || Error::new(format!("an answer was {}", String::from_utf8_lossy(answer)));
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(wrong());
    }
    let header = |name: &str| {
        let lines = head.split(|byte| *byte == b'\n').map(|line| line.trim_ascii());
        let mut values = lines.filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        });
        values.next()
    };
    let done = match header("content-length") {
        Some(length) => {
            let length: usize =
                std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
            body.len() >= length
        }
        None => body.ends_with(b"0\r\n\r\n"),
    };
    if done && memchr::memmem::find(body, wanted.as_bytes()).is_none() {
        return Err(wrong());
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(answer: &[u8]) -> Result<bool> {
        super::whole(answer, "RUNNING")
    }

    #[test]
    fn an_answer_is_whole_when_its_length_or_its_last_chunk_says_so() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\"RUNNING\"";
        assert!(whole(text.as_bytes()).unwrap());
        assert!((0..text.len()).all(|end| !whole(&text.as_bytes()[..end]).unwrap()));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n\"RUNNING\"\r\n0\r\n\r\n";
        assert!(whole(chunked).unwrap() && !whole(&chunked[..chunked.len() - 3]).unwrap());
        assert!(whole(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").is_err());
    }
}
