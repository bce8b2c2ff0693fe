//! How quickly a worker answers GET status to clients that keep their connections.
//!
//! One thread plays all clients: each sends its next request when it has the answer to the last one. It
//! is the same for both workers, on the same two cores as they are, and costs little, so that the worker is what limits.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::json;
use tributary_harness::{Context, Error, KafkaBroker, Result, Usage};

use crate::contender::Contender;
use crate::measure::Spread;
use crate::plan::Plan;
use crate::workers::Worker;

/// Clients that ask at the same time.
pub const CLIENTS: usize = 16;
/// How long they ask in one run.
const RUN: Duration = Duration::from_secs(5);
/// How long they ask before it counts: a JVM takes its time to become quick.
const WARM_UP: Duration = Duration::from_secs(15);
/// A worker that answers nobody for so long is given up.
const STUCK: Duration = Duration::from_secs(20);
const CONNECTOR: &str = "asked-about";

/// All runs of one worker.
pub struct Answers {
    pub contender: Contender,
    /// Answers a second.
    pub rate: Spread,
    /// Milliseconds until half of the answers, and until 99 of 100.
    pub middle: Spread,
    pub slow: Spread,
    /// The worker's CPU time for an answer, in microseconds.
    pub cpu: Spread,
    pub failure: Option<String>,
}

/// Asks both workers by turns.
pub fn measure(broker: &KafkaBroker, plan: &Plan, runs: usize) -> Result<Vec<Answers>> {
    let asked = [Contender::Connect, Contender::Tributary].into_iter().filter(|contender| plan.rest(*contender));
    let mut workers = Vec::new();
    for contender in asked {
        eprintln!("rest/{}", contender.key());
        let answers = Answers {
            contender,
            rate: Spread::default(),
            middle: Spread::default(),
            slow: Spread::default(),
            cpu: Spread::default(),
            failure: None,
        };
        workers.push((prepare(contender, broker)?, answers));
    }
    // Run 0 warms up and is not counted.
    for run in 0..=runs {
        for (worker, answers) in workers.iter_mut().filter(|(_, answers)| answers.failure.is_none()) {
            match ask(worker, if run == 0 { WARM_UP } else { RUN }) {
                Ok(sample) => {
                    eprintln!("run {run} rest/{}: {:.0} answers/s", answers.contender.key(), sample.rate);
                    if run > 0 {
                        answers.rate.add(sample.rate);
                        answers.middle.add(sample.middle);
                        answers.slow.add(sample.slow);
                        answers.cpu.add(sample.cpu);
                    }
                }
                Err(error) => answers.failure = Some(error.to_string()),
            }
        }
    }
    Ok(workers.into_iter().map(|(_, answers)| answers).collect())
}

fn prepare(contender: Contender, broker: &KafkaBroker) -> Result<Worker> {
    let worker = Worker::start(contender, broker)?;
    let topic = "asked-about";
    if broker.record_count(topic).is_err() {
        broker.create_topic(topic, 1, &[])?;
    }
    let config = json!({
        "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
        "topics": topic,
        "file": "/dev/null",
        "tasks.max": "1",
    });
    worker.rest().put_connector(CONNECTOR, &config)?;
    worker.rest().wait_running(CONNECTOR)?;
    Ok(worker)
}

struct Sample {
    rate: f64,
    middle: f64,
    slow: f64,
    cpu: f64,
}

/// One run.
fn ask(worker: &Worker, time: Duration) -> Result<Sample> {
    let address = worker.rest().base().trim_start_matches("http://").to_owned();
    let request = format!("GET /connectors/{CONNECTOR}/status HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\n\r\n");
    let mut poll = Poll::new()?;
    let mut clients =
        (0..CLIENTS).map(|number| Client::connect(&address, number, &poll)).collect::<Result<Vec<_>>>()?;
    let before = Usage::of(worker.pid()?)?.cpu;
    let begun = Instant::now();
    for client in &mut clients {
        client.ask(request.as_bytes())?;
    }
    let mut took: Vec<u32> = Vec::with_capacity(1 << 20);
    let mut events = Events::with_capacity(CLIENTS);
    while begun.elapsed() < time {
        poll.poll(&mut events, Some(STUCK))?;
        if events.is_empty() {
            return Err(Error::new(format!("no answer within {} s", STUCK.as_secs())));
        }
        for event in &events {
            let client = &mut clients[event.token().0];
            if client.read()? {
                took.push(client.asked.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
                client.ask(request.as_bytes())?;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = (Usage::of(worker.pid()?)?.cpu - before).as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| f64::from(took[((took.len() - 1) as f64 * share) as usize]) / 1e3;
    if took.is_empty() {
        return Err(Error::new("no answer"));
    }
    Ok(Sample {
        rate: took.len() as f64 / seconds,
        middle: at(0.5),
        slow: at(0.99),
        cpu: cpu * 1e6 / took.len() as f64,
    })
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
    fn read(&mut self) -> Result<bool> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the worker closed a connection that was to be kept".into()),
                Ok(n) => {
                    self.received.extend_from_slice(&chunk[..n]);
                    if whole(&self.received)? {
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

/// Whether this is a whole answer with the status of a running task; an error where it is another one.
fn whole(answer: &[u8]) -> Result<bool> {
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
    if done && memchr::memmem::find(body, b"RUNNING").is_none() {
        return Err(wrong());
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

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
