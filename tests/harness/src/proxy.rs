//! A TCP proxy on the loopback address that can be cut, slowed and mended while it runs.
//!
//! It listens from the beginning and as long as the value lives, also while nobody listens behind
//! it: then a connection is accepted and closed at once.
//!
//! It can also wait for a certain request of Kafka's protocol, and lose it or its answer together with the connection.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::{Context, Result, ports};

/// The network between a client and a server on this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: Arc<Line>,
}

/// What is lost with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The request: the server never gets it.
    Request,
    /// The answer: the server has done what it was asked for, and the client does not know.
    Answer,
}

/// State that the proxy shares with the threads of its connections.
#[derive(Debug, Default)]
struct Line {
    target: u16,
    refuses: AtomicBool,
    stalls: AtomicBool,
    closed: AtomicBool,
    delay_ms: AtomicU64,
    passed: AtomicU64,
    /// The request that is waited for, and what is lost.
    trap: Mutex<Option<(i16, Lost)>>,
    lost: AtomicU64,
    connections: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts a proxy in front of the port `target`.
    pub fn start(target: u16) -> Result<Self> {
        let port = ports::free()?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context(format_args!("cannot listen on port {port}"))?;
        let line = Arc::new(Line { target, ..Line::default() });
        let shared = Arc::clone(&line);
        thread::spawn(move || accept(&listener, &shared));
        Ok(Self { port, line })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections and refuses new ones until [`resume`](Self::resume).
    pub fn cut(&self) {
        self.line.refuses.store(true, SeqCst);
        self.line.hang_up();
    }

    /// Closes all connections; new ones work.
    pub fn reset(&self) {
        self.line.hang_up();
    }

    /// Passes nothing on until [`resume`](Self::resume), as a network that drops packets: connections stay open.
    pub fn stall(&self) {
        self.line.stalls.store(true, SeqCst);
    }

    /// Holds back every piece of data by this long, in each direction.
    pub fn delay(&self, by: Duration) {
        self.line.delay_ms.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), SeqCst);
    }

    /// The next request with this key of Kafka's protocol (`EndTxn` is 26) is lost, or its answer.
    pub fn lose(&self, api_key: i16, what: Lost) {
        *self.line.trap() = Some((api_key, what));
    }

    /// How many were lost so far.
    pub fn lost(&self) -> u64 {
        self.line.lost.load(SeqCst)
    }

    /// Undoes [`cut`](Self::cut), [`stall`](Self::stall) and [`delay`](Self::delay).
    pub fn resume(&self) {
        self.line.refuses.store(false, SeqCst);
        self.line.stalls.store(false, SeqCst);
        self.line.delay_ms.store(0, SeqCst);
    }

    /// Bytes passed on so far, both directions together.
    pub fn bytes_passed(&self) -> u64 {
        self.line.passed.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.closed.store(true, SeqCst);
        self.line.hang_up();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Line {
    fn trap(&self) -> MutexGuard<'_, Option<(i16, Lost)>> {
        self.trap.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What is to be lost of these requests.
    fn catch(&self, requests: &[i16]) -> Option<Lost> {
        let mut trap = self.trap();
        let (_, what) = (*trap).filter(|(key, _)| requests.contains(key))?;
        *trap = None;
        Some(what)
    }

    fn hang_up(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for stream in connections.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        let mut connections = self.connections.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        connections.push(stream.try_clone()?);
        Ok(())
    }
}

fn accept(listener: &TcpListener, line: &Arc<Line>) {
    for stream in listener.incoming() {
        if line.closed.load(SeqCst) {
            return;
        }
        if let Ok(stream) = stream
            && !line.refuses.load(SeqCst)
        {
            // A server that is down shows to the client as a connection closed at once.
            let _ = connect(stream, line);
        }
    }
}

fn connect(client: TcpStream, line: &Arc<Line>) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, line.target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        line.keep(stream)?;
    }
    // Whether the next answer is the lost one.
    let mute = Arc::new(AtomicBool::new(false));
    let ways = [(client.try_clone()?, server.try_clone()?, Some(Requests::default())), (server, client, None)];
    for (from, to, requests) in ways {
        let (line, mute) = (Arc::clone(line), Arc::clone(&mute));
        thread::spawn(move || {
            let _ = pass_on(&from, &to, &line, requests, &mute);
            // Whichever side ended, the connection is over.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

/// Finds requests in what a client sends.
#[derive(Default)]
struct Requests {
    /// Bytes that are left of the present one.
    left: usize,
    /// Length and key of the next one, as far as they have come.
    head: Vec<u8>,
}

impl Requests {
    /// The keys of the requests that begin in these bytes.
    fn read(&mut self, mut bytes: &[u8]) -> Vec<i16> {
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let &[a, b, c, d, e, f] = &*self.head {
                keys.push(i16::from_be_bytes([e, f]));
                self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(2);
                self.head.clear();
            }
        }
        keys
    }
}

fn pass_on(
    mut from: &TcpStream,
    mut to: &TcpStream,
    line: &Line,
    mut requests: Option<Requests>,
    mute: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        match line.delay_ms.load(SeqCst) {
            0 => {}
            delay => thread::sleep(Duration::from_millis(delay)),
        }
        while line.stalls.load(SeqCst) && !line.closed.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        let caught = requests.as_mut().map(|requests| requests.read(&buffer[..n])).and_then(|keys| line.catch(&keys));
        match caught {
            Some(Lost::Request) => {
                line.lost.fetch_add(1, SeqCst);
                return Ok(());
            }
            Some(Lost::Answer) => mute.store(true, SeqCst),
            // Answers come in the order of requests; what is under way goes with it.
            None if requests.is_none() && mute.load(SeqCst) => {
                line.lost.fetch_add(1, SeqCst);
                return Ok(());
            }
            None => {}
        }
        line.passed.fetch_add(n as u64, SeqCst);
        to.write_all(&buffer[..n])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A server that sends back what it gets, and a proxy before it.
    fn echo() -> Proxy {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in server.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        Proxy::start(port).unwrap()
    }

    fn client(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
        stream.write_all(b"ping")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).map(|()| answer)
    }

    #[test]
    fn a_cut_line_is_mended() {
        let proxy = echo();
        let mut stream = client(&proxy);
        assert_eq!(&ask(&mut stream).unwrap(), b"ping");
        proxy.cut();
        assert!(ask(&mut stream).is_err());
        assert!(ask(&mut client(&proxy)).is_err());
        proxy.resume();
        assert_eq!(&ask(&mut client(&proxy)).unwrap(), b"ping");
        assert!(proxy.bytes_passed() >= 16);
    }

    #[test]
    fn a_stalled_line_loses_nothing() {
        let proxy = echo();
        let mut stream = client(&proxy);
        proxy.stall();
        assert_eq!(ask(&mut stream).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        proxy.resume();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
    }

    #[test]
    fn requests_are_found_wherever_they_are_divided() {
        let request = |key: i16, length: usize| {
            let mut bytes = (length as u32 + 2).to_be_bytes().to_vec();
            bytes.extend(key.to_be_bytes());
            bytes.extend(vec![7; length]);
            bytes
        };
        let all = [request(18, 0), request(26, 100), request(0, 3)].concat();
        for size in 1..all.len() {
            let mut requests = Requests::default();
            let keys: Vec<i16> = all.chunks(size).flat_map(|part| requests.read(part)).collect();
            assert_eq!(keys, [18, 26, 0], "parts of {size}");
        }
    }

    #[test]
    fn a_request_or_its_answer_is_lost() {
        let proxy = echo();
        let request = |key: i16| [&6_u32.to_be_bytes()[..], &key.to_be_bytes(), b"abcd"].concat();
        let talk = |stream: &mut TcpStream, key| {
            stream.write_all(&request(key))?;
            let mut answer = [0; 10];
            stream.read_exact(&mut answer)
        };
        for what in [Lost::Request, Lost::Answer] {
            let mut stream = client(&proxy);
            proxy.lose(26, what);
            talk(&mut stream, 3).unwrap();
            assert!(talk(&mut stream, 26).is_err());
            talk(&mut client(&proxy), 26).unwrap();
        }
        assert_eq!(proxy.lost(), 2);
    }

    #[test]
    fn a_slow_line_takes_its_time() {
        let proxy = echo();
        let mut stream = client(&proxy);
        proxy.delay(Duration::from_millis(50));
        let start = Instant::now();
        assert_eq!(&ask(&mut stream).unwrap(), b"ping");
        assert!(start.elapsed() >= Duration::from_millis(100));
    }
}
