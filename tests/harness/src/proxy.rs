//! A TCP proxy on the loopback address that can be cut, slowed and mended while it runs.
//!
//! It listens from the beginning and as long as the value lives, also while nobody listens behind
//! it: then a connection is accepted and closed at once.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::{Context, Result, ports};

/// The network between a client and a server on this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: Arc<Line>,
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
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        let line = Arc::clone(line);
        thread::spawn(move || {
            let _ = pass_on(&from, &to, &line);
            // Whichever side ended, the connection is over.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream, line: &Line) -> io::Result<()> {
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
    fn a_slow_line_takes_its_time() {
        let proxy = echo();
        let mut stream = client(&proxy);
        proxy.delay(Duration::from_millis(50));
        let start = Instant::now();
        assert_eq!(&ask(&mut stream).unwrap(), b"ping");
        assert!(start.elapsed() >= Duration::from_millis(100));
    }
}
