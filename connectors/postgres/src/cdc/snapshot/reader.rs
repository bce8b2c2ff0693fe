//! Threads that read parts of tables, each on a connection of its own with the same snapshot.
//!
//! COPY is read as it comes, row by row and never whole; what is read ahead is bounded by a few batches a thread.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tributary_sdk::{Batch, Error, Result};

use super::chunks::Chunk;
use super::{WHAT, copy};
use crate::cdc::envelope::{Events, Op, Place};
use crate::cdc::table::Plan;
use crate::client::{Connection, PgError};
use crate::config::SourceConfig;

/// Batches that wait for each thread.
const AHEAD: usize = 3;
/// What a batch holds at most, in bytes of values.
const BYTES: usize = 2 << 20;

/// Something that was read.
pub(super) struct Part {
    /// The number of its table.
    pub table: usize,
    pub pages: Option<(u64, u64)>,
    /// `None`: the part has no (more) rows.
    pub batch: Option<Batch>,
    /// Whether it is the end of the part.
    pub ended: bool,
}

/// Why reading failed.
pub(super) struct Failure {
    pub error: Error,
    /// The table that would fail the next time, too: the server refuses the statement, or a value cannot be given.
    pub lasts: Option<usize>,
}

/// The threads. They end when this is dropped.
pub(super) struct Readers {
    parts: Option<Receiver<Result<Part, Failure>>>,
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share.
struct Work {
    chunks: Mutex<VecDeque<Chunk>>,
    plans: Vec<Arc<Plan>>,
    config: Arc<SourceConfig>,
    place: Place,
}

impl Readers {
    /// Reads parts in their order, with as many threads as there are connections. Each is in a transaction with the snapshot and with locks of its
    /// own on all tables, and ends it when no part is left.
    pub fn start(
        connections: Vec<Connection>,
        chunks: Vec<Chunk>,
        plans: Vec<Arc<Plan>>,
        config: &Arc<SourceConfig>,
        place: Place,
    ) -> Result<Self> {
        let (sender, parts) = sync_channel(AHEAD * connections.len());
        let work = Arc::new(Work { chunks: Mutex::new(chunks.into()), plans, config: config.clone(), place });
        let mut this = Self { parts: Some(parts), sockets: Vec::new(), threads: Vec::new() };
        for connection in connections {
            let failed = |error: std::io::Error| Error::retriable(format!("{WHAT}: {error}"));
            this.sockets.push(connection.socket().try_clone().map_err(failed)?);
            let (work, sender) = (work.clone(), sender.clone());
            let thread = std::thread::Builder::new().name("postgres-snapshot".into());
            let run = move || {
                if let Err(error) = read(connection, &work, &sender) {
                    // Where nobody listens, nobody needs it.
                    let _ = sender.send(Err(error));
                }
            };
            this.threads.push(thread.spawn(run).map_err(failed)?);
        }
        Ok(this)
    }

    /// What was read next; `None` if there is nothing within this time. An error once all is read that was to be read.
    pub fn next(&self, patience: Duration) -> Result<Option<Part>, Failure> {
        match self.parts.as_ref().map(|parts| parts.recv_timeout(patience)) {
            Some(Ok(part)) => part.map(Some),
            Some(Err(RecvTimeoutError::Timeout)) => Ok(None),
            _ => {
                let error = Error::retriable(format!("{WHAT}: its threads have ended"));
                Err(Failure { error, lasts: None })
            }
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.parts = None;
        for socket in &self.sockets {
            // One that is closed already needs no more.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn read(mut connection: Connection, work: &Work, sender: &SyncSender<Result<Part, Failure>>) -> Result<(), Failure> {
    let next_chunk = || work.chunks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut values = Vec::new();
    while let Some(Chunk { table, sql, pages }) = next_chunk() {
        let refused = |error: PgError| {
            let lasts = error.is_of_statement().then_some(table);
            Failure { lasts, error: error.into_error(WHAT) }
        };
        connection.copy_out(&sql).map_err(refused)?;
        let mut events = Events::new(&work.config, work.plans[table].clone());
        let mut next = connection.copied().map_err(refused)?;
        loop {
            while events.len() < work.config.batch && events.bytes() < BYTES {
                let Some(line) = next.take() else { break };
                copy::row(&line, &mut values);
                let pushed = events.push(Op::Read, work.place, None, Some(&values));
                pushed.map_err(|error| Failure { error, lasts: Some(table) })?;
                next = connection.copied().map_err(refused)?;
            }
            let ended = next.is_none();
            let batch = (!events.is_empty()).then(|| events.finish());
            if sender.send(Ok(Part { table, pages, batch, ended })).is_err() {
                return Ok(());
            }
            if ended {
                break;
            }
        }
    }
    // Lets go of the tables: nobody could change their columns meanwhile.
    connection.query("COMMIT").map_err(|error| Failure { error: error.into_error(WHAT), lasts: None })?;
    connection.close();
    Ok(())
}
