//! What signals ask of streaming, and how far that is.

use std::time::{Duration, Instant};

use tributary_sdk::{Batch, Context, Error, Result};

use super::{Stream, with_connection};
use crate::cdc::adhoc::{self, Request, Signal};
use crate::cdc::catalog::{self, CatalogTable};
use crate::cdc::pgoutput::Value;
use crate::cdc::visibility::Visibility;
use crate::config::SourceConfig;

/// How often it is said that something is paused.
const REMIND: Duration = Duration::from_secs(600);

impl Stream {
    /// Goes on with a table that is read while streaming goes on.
    pub(super) fn read_again(&mut self, context: &Context, config: &SourceConfig) -> Option<Batch> {
        if self.incremental.is_crowded() {
            let sql = "SELECT pg_catalog.pg_current_snapshot()::text";
            let seen =
                with_connection(&mut self.connection, config, &self.interrupts, |connection| connection.query(sql));
            // Without an answer they are remembered for longer.
            let text = seen.ok().and_then(|rows| rows.into_iter().flatten().flatten().next());
            self.incremental.prune(text.and_then(|text| Visibility::parse(&text)).as_ref());
        }
        self.say_paused(context);
        let reached = self.last_commit;
        let request = self.requests.first_mut().filter(|request| !request.blocking && !request.paused);
        let batch = match request.filter(|_| !self.backoff.waits()) {
            Some(request) => match self.incremental.step(context, config, &self.interrupts, request, reached) {
                Ok(batch) => {
                    self.backoff.reset();
                    batch
                }
                Err(error) => {
                    self.fail_request(context, &error);
                    None
                }
            },
            None => None,
        };
        if self.requests.first().is_some_and(|request| !request.blocking && request.next().is_none()) {
            self.requests.remove(0);
            self.incremental.forget();
            context.info("the tables that a signal asked for are read");
        }
        // A server that has nothing to send tells where it is only when it is asked.
        self.reader.ask_often(self.incremental.waits());
        batch
    }

    /// Whether there is something to do for a table that is being read while streaming goes on.
    pub fn is_reading_now(&self) -> bool {
        self.is_reading_again() && !self.backoff.waits() && !self.incremental.rests()
    }

    /// What was asked for cannot be read now. The log goes on, and it is tried again.
    pub fn fail_request(&mut self, context: &Context, error: &dyn std::fmt::Display) {
        if self.backoff.fail() {
            context.warn(format!("what a signal asked for cannot be read now: {error}; trying again, beside the log"));
        }
    }

    /// What is paused holds the server's log where nothing that is captured changes: nobody shall forget it.
    fn say_paused(&mut self, context: &Context) {
        if !self.requests.first().is_some_and(|request| request.paused) {
            self.paused = None;
        } else if self.paused.is_none_or(|said| said.elapsed() >= REMIND) {
            if self.paused.is_some() {
                context.warn(
                    "a snapshot that a signal asked for is paused by another one: while nothing changes, the server keeps its log for it; \
                     send resume-snapshot or stop-snapshot",
                );
            }
            self.paused = Some(Instant::now());
        }
    }

    /// Whether a table is being read while streaming goes on.
    pub fn is_reading_again(&self) -> bool {
        self.requests.first().is_some_and(|request| !request.blocking && !request.paused)
    }

    /// Whether snapshots were asked for that are not done.
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The snapshot that streaming has to wait for.
    pub fn blocking_request(&self) -> Option<Request> {
        let first = self.requests.first().filter(|request| request.blocking && !request.paused);
        first.filter(|_| !self.backoff.waits()).cloned()
    }

    /// How far the first request is, which was interrupted.
    pub fn set_request(&mut self, request: &Request) {
        if let Some(first) = self.requests.first_mut() {
            first.clone_from(request);
        }
    }

    /// A table of the first request cannot be read: it is given up, for one bad signal must not be the end of the task.
    pub fn refuse(&mut self, context: &Context, table: String, error: &Error) {
        context.warn(format!("{table} is not read, which a signal asked for: {error}"));
        let Some(first) = self.requests.first_mut() else { return };
        first.done.insert(table);
        if first.next().is_none() {
            self.end_request();
        }
    }

    /// The first request is done.
    pub fn end_request(&mut self) {
        self.requests.remove(0);
        self.backoff.reset();
        self.moved = true;
    }

    /// A row of the table of signals.
    pub(super) fn signal(&mut self, context: &Context, config: &SourceConfig, row: &[Value]) -> Result<()> {
        let text = |at: usize| match row.get(at) {
            Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        };
        let id = text(0);
        let not = |why: String| context.warn(format!("the signal {id} is passed over: {why}"));
        match Signal::parse(&text(1), &text(2)) {
            Err(why) => not(why),
            Ok(Signal::Log(message)) => context.info(format!("signal {id}: {message}")),
            Ok(Signal::Pause) => {
                if let Some(request) = self.requests.first_mut() {
                    request.paused = true;
                    self.incremental.forget();
                    context.info(format!("signal {id}: the snapshot is paused"));
                } else {
                    not("there is no snapshot that could be paused".into());
                }
            }
            Ok(Signal::Resume) => {
                self.requests.iter_mut().for_each(|request| request.paused = false);
                context.info(format!("signal {id}: {} snapshots go on", self.requests.len()));
            }
            Ok(Signal::Stop { tables }) => {
                for request in &mut self.requests {
                    request
                        .tables
                        .retain(|table| !tables.is_empty() && !adhoc::matches(&tables, table).unwrap_or(false));
                }
                self.requests.retain(|request| request.next().is_some());
                self.incremental.forget();
                context.info(format!("signal {id}: snapshots are stopped"));
            }
            Ok(Signal::Execute { blocking, tables, conditions }) => {
                let known = with_connection(&mut self.connection, config, &self.interrupts, |connection| {
                    catalog::captured(connection, config)
                })
                .map_err(|error| error.into_error("reading the catalogue for a signal"))?;
                match request(blocking, &tables, &conditions, &known) {
                    Ok(request) => {
                        context
                            .info(format!("signal {id}: a snapshot of {} tables is asked for", request.tables.len()));
                        self.requests.push(request);
                    }
                    Err(why) => not(why),
                }
            }
        }
        Ok(())
    }
}

/// A request for the tables that a signal names. The error says why there is none.
fn request(
    blocking: bool,
    tables: &[String],
    conditions: &[(String, String)],
    known: &[CatalogTable],
) -> std::result::Result<Request, String> {
    let mut request = Request { blocking, ..Request::default() };
    for table in known {
        let name = table.full_name();
        if !adhoc::matches(tables, &name)? {
            continue;
        }
        for (pattern, filter) in conditions {
            if adhoc::matches(std::slice::from_ref(pattern), &name)? {
                request.conditions.insert(name.clone(), filter.clone());
            }
        }
        request.tables.insert(name);
    }
    if request.tables.is_empty() {
        return Err(format!("no captured table is named {}", tables.join(", ")));
    }
    Ok(request)
}
