//! Reading the log: a thread that takes what the server sends and tells it what is safe, also while nobody takes what was read.
//!
//! What it has read waits in a queue that is bounded by bytes. The server is told of safe places at an interval and when it asks. One that
//! has been silent for [`SILENCE`], though it was asked to answer, is taken for gone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};

use crate::client::{Connection, Message, PgError, PgResult};

/// Seconds from 1970 to 2000, where the server's clock begins.
pub(crate) const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// A part of the log.
#[derive(Debug)]
pub(crate) enum Item {
    /// A message of the output plugin, and where it stands.
    Data { lsn: u64, data: Bytes },
    /// The server has nothing before this place.
    Alive { end: u64 },
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<Item>>,
    bytes: usize,
    ended: Option<PgError>,
    stopping: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    safe: AtomicU64,
    ask_often: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading side of a replication connection.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    socket: std::net::TcpStream,
    thread: Option<JoinHandle<()>>,
}

/// How the thread behaves.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub queue_bytes: usize,
    pub status_interval: Duration,
}

impl Reader {
    /// Takes over a connection that replicates from `start` on. `safe` is what the server may forget already, which is less where records are
    /// on their way to Kafka; 0 where nothing is known.
    pub fn start(connection: Connection, start: u64, safe: u64, pace: Pace) -> PgResult<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            safe: AtomicU64::new(safe),
            ask_often: AtomicBool::new(false),
        });
        let socket = connection.socket().try_clone()?;
        let thread = std::thread::Builder::new().name("postgres-reader".into()).spawn({
            let shared = shared.clone();
            move || {
                let now = Instant::now();
                let outcome = Loop { connection, shared: &shared, pace, received: start, told: now, heard: now }.run();
                let mut state = shared.state();
                state.ended =
                    Some(outcome.err().unwrap_or_else(|| PgError::Away("the server ended the replication".into())));
                drop(state);
                shared.changed.notify_all();
            }
        });
        Ok(Self { shared, socket, thread: Some(thread?) })
    }

    /// What was read, or nothing after a time. The error comes once everything that was read before it is taken.
    pub fn take(&self, patience: Duration) -> PgResult<Vec<Item>> {
        let mut state = self.shared.state();
        let deadline = Instant::now() + patience;
        loop {
            if let Some(chunk) = state.chunks.pop_front() {
                state.bytes -= chunk.iter().map(size).sum::<usize>();
                drop(state);
                self.shared.changed.notify_all();
                return Ok(chunk);
            }
            if let Some(error) = state.ended.take() {
                state.ended = Some(PgError::Away("the replication has ended".into()));
                return Err(error);
            }
            let now = Instant::now();
            if now >= deadline || state.stopping {
                return Ok(Vec::new());
            }
            state = self.shared.changed.wait_timeout(state, deadline - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Bytes that wait to be taken.
    pub fn queued(&self) -> usize {
        self.shared.state().bytes
    }

    /// Whether the server is asked again and again how far it is: somebody waits for a place in the log that nothing may be written behind.
    pub fn ask_often(&self, often: bool) {
        self.shared.ask_often.store(often, Ordering::Release);
    }

    /// Everything before this place need not come again.
    pub fn set_safe(&self, lsn: u64) {
        self.shared.safe.fetch_max(lsn, Ordering::AcqRel);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_all();
        // The thread may wait for the server, and says its goodbye when it does not.
        if let Some(thread) = self.thread.take() {
            let deadline = Instant::now() + Duration::from_millis(200);
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
            let _ = thread.join();
        }
    }
}

fn size(item: &Item) -> usize {
    size_of::<Item>() + if let Item::Data { data, .. } = item { data.len() } else { 0 }
}

struct Loop<'a> {
    connection: Connection,
    shared: &'a Shared,
    pace: Pace,
    received: u64,
    told: Instant,
    heard: Instant,
}

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// What a chunk holds at most, so that the queue's bound means something.
const CHUNK: usize = 1 << 20;
/// How often the thread looks up while the server sends nothing.
const LOOK_UP: Duration = Duration::from_millis(100);
/// The same where the server is asked all the time.
const OFTEN: Duration = Duration::from_millis(5);
/// The server sends each change by itself. Where so many messages come within this time, the thread sleeps as long between two reads: waking up for
/// each of them costs both sides more than everything else that is done with it. Single transactions are read at once.
const FLOOD: usize = 20;
const NAP: Duration = Duration::from_millis(1);

/// Tells whether messages come in a flood.
struct Rate {
    since: Instant,
    messages: usize,
}

impl Rate {
    fn new() -> Self {
        Self { since: Instant::now(), messages: 0 }
    }

    /// So many have come.
    fn add(&mut self, messages: usize) {
        self.messages += messages;
    }

    /// Whether it is time for a nap.
    fn is_flood(&mut self) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed < NAP {
            return false;
        }
        let flood = self.messages * NAP.as_micros() as usize >= FLOOD * elapsed.as_micros() as usize;
        *self = Self::new();
        flood
    }
}

impl Loop<'_> {
    fn run(mut self) -> PgResult<()> {
        let look_up = LOOK_UP.min(self.pace.status_interval);
        self.connection.set_read_timeout(Some(look_up))?;
        let (mut often, mut rate) = (false, Rate::new());
        loop {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            if rate.is_flood() {
                std::thread::sleep(NAP);
            }
            if often != self.shared.ask_often.load(Ordering::Acquire) {
                often = !often;
                self.connection.set_read_timeout(Some(if often { OFTEN } else { look_up }))?;
            }
            if often {
                self.tell_and_ask(true)?;
            }
            let mut next = self.connection.try_read()?;
            if next.is_some() {
                self.heard = Instant::now();
            } else if self.heard.elapsed() >= SILENCE {
                return Err(PgError::Away(format!("it has been silent for {SILENCE:?}")));
            }
            while let Some(message) = next {
                match (self.item(message)?, chunk.last_mut()) {
                    // The later one says it all.
                    (Some(Item::Alive { end }), Some(Item::Alive { end: last })) => *last = end.max(*last),
                    (Some(item), _) => {
                        bytes += size(&item);
                        chunk.push(item);
                    }
                    (None, _) => {}
                }
                next = if bytes < CHUNK { self.connection.buffered() } else { None };
            }
            rate.add(chunk.len());
            if self.told.elapsed() >= self.pace.status_interval {
                self.tell()?;
            }
            if !self.push(chunk, bytes)? {
                // In order: the last thing that the server hears is what is safe.
                self.tell()?;
                self.connection.close();
                return Ok(());
            }
        }
    }

    fn item(&mut self, Message { tag, mut body }: Message) -> PgResult<Option<Item>> {
        match tag {
            b'd' => {}
            b'E' => return Err(crate::client::server_error(body)),
            b'c' => return Err(PgError::Away("the server ends the replication".into())),
            _ => return Ok(None),
        }
        let torn = || PgError::Refused("a torn replication message".into());
        match body.try_get_u8().map_err(|_| torn())? {
            b'w' if body.len() >= 24 => {
                let lsn = body.get_u64();
                // Where the log ends, and the server's clock.
                body.advance(16);
                self.received = self.received.max(lsn);
                Ok(Some(Item::Data { lsn, data: body }))
            }
            b'k' if body.len() >= 17 => {
                let end = body.get_u64();
                self.received = self.received.max(end);
                body.advance(8);
                if body.get_u8() != 0 {
                    self.tell()?;
                }
                Ok(Some(Item::Alive { end }))
            }
            _ => Err(torn()),
        }
    }

    fn tell(&mut self) -> PgResult<()> {
        self.tell_and_ask(self.heard.elapsed() >= SILENCE / 4)
    }

    fn tell_and_ask(&mut self, answer: bool) -> PgResult<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let safe = self.shared.safe.load(Ordering::Acquire);
        self.connection.send_status(self.received.max(safe), safe, now.as_micros() as i64 - EPOCH_2000_US, answer)?;
        self.told = Instant::now();
        Ok(())
    }

    /// Waits for room, and goes on telling the server meanwhile. `false`: there is to be an end.
    fn push(&mut self, chunk: Vec<Item>, bytes: usize) -> PgResult<bool> {
        let shared = self.shared;
        let mut state = shared.state();
        while state.bytes >= self.pace.queue_bytes && !state.stopping && !chunk.is_empty() {
            state =
                shared.changed.wait_timeout(state, self.pace.status_interval).unwrap_or_else(PoisonError::into_inner).0;
            if self.told.elapsed() >= self.pace.status_interval {
                drop(state);
                self.tell()?;
                state = shared.state();
            }
        }
        if state.stopping {
            return Ok(false);
        }
        let waiting = state.chunks.back_mut().and_then(|chunk| chunk.last_mut());
        if let ([Item::Alive { end }], Some(Item::Alive { end: last })) = (&*chunk, waiting) {
            *last = (*end).max(*last);
        } else if !chunk.is_empty() {
            state.bytes += bytes;
            state.chunks.push_back(chunk);
            drop(state);
            shared.changed.notify_all();
        }
        Ok(true)
    }
}
