//! What signals ask of streaming, and how far that is.

use tributary_sdk::{Batch, Context, Result};

use super::{Stream, with_connection};
use crate::cdc::adhoc::{self, Request, Signal};
use crate::cdc::catalog::{self, CatalogTable};
use crate::cdc::pgoutput::Value;
use crate::config::SourceConfig;

impl Stream {
    /// Goes on with a table that is read while streaming goes on.
    pub(super) fn read_again(&mut self, context: &Context, config: &SourceConfig) -> Result<Option<Batch>> {
        let reached = self.last_commit;
        let batch = match self.requests.first_mut().filter(|request| !request.blocking && !request.paused) {
            Some(request) => self.incremental.step(context, config, &self.interrupts, request, reached)?,
            None => None,
        };
        if self.requests.first().is_some_and(|request| !request.blocking && request.next().is_none()) {
            self.requests.remove(0);
            self.incremental.forget();
            context.info("the tables that a signal asked for are read");
        }
        // A server that has nothing to send tells where it is only when it is asked.
        self.reader.ask_often(self.is_reading_again());
        Ok(batch)
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
        self.requests.first().filter(|request| request.blocking && !request.paused).cloned()
    }

    /// The first request is done.
    pub fn end_request(&mut self) {
        self.requests.remove(0);
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
                }
            }
            Ok(Signal::Resume) => self.requests.iter_mut().for_each(|request| request.paused = false),
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
        let name = format!("{}.{}", table.schema, table.name);
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
