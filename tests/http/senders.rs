//! Senders of webhooks: each has lines of its own and sends each until it is answered with 200.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tributary_harness::{Lines, Result, wait};

const SENDERS: u32 = 6;

pub struct Senders {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Lines>>,
}

impl Senders {
    /// They begin.
    pub fn start(port: u16) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let sender = |source: u32| {
            let (stop, answered) = (stop.clone(), answered.clone());
            thread::spawn(move || {
                let mut stream = None;
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    let line = Lines::new(0).of_source(source).with_numbers(number..number + 1);
                    let body = line.iter().next().unwrap_or_default();
                    // Also after the end has come: a line that was begun is seen through.
                    while send(&mut stream, port, &body) != 200 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                    number += 1;
                }
                Lines::new(number).of_source(source)
            })
        };
        let threads = (0..SENDERS).map(sender).collect();
        Self { stop, answered, threads }
    }

    /// Waits until so many more lines are answered with 200.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.answered.load(Ordering::SeqCst) + more;
        wait::until("answers", wait::PATIENCE, || Ok((self.answered.load(Ordering::SeqCst) >= goal).then_some(())))
    }

    /// They end; what was answered with 200.
    pub fn finish(self) -> Result<Vec<Lines>> {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.threads.into_iter().map(|sender| sender.join().map_err(|_| "a sender panicked".into()));
        sent.collect()
    }
}

/// Sends a body and answers with the status; 0 where there is no answer.
fn send(stream: &mut Option<TcpStream>, port: u16, body: &[u8]) -> u16 {
    let mut exchange = || -> std::io::Result<u16> {
        let connection = match stream {
            Some(open) => open,
            None => stream.insert(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?),
        };
        connection.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = format!("POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"}") {
            connection.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        let status = String::from_utf8_lossy(&answer).split_whitespace().nth(1).map(str::parse);
        Ok(status.and_then(std::result::Result::ok).unwrap_or(0))
    };
    let status = exchange().unwrap_or(0);
    if status != 200 {
        *stream = None;
    }
    status
}
