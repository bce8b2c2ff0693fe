//! A connection with what is known of the database by it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tributary_sdk::{Error, Result};

use super::catalog::Table;
use super::config::SinkConfig;
use super::statements::{Script, Stages};
use crate::client::{Connection, Interrupts, PgError, PgResult, literal};

/// How long the server may leave unanswered what was sent, below of the protocol: a server that is gone says nothing.
const UNANSWERED: Duration = Duration::from_secs(60);

/// What each session sets. Notices would have to be read while rows are sent. A task that stands still in the middle of a transaction holds the locks that the
/// next owner of its partition waits for, so the server ends it after a while.
const SETTINGS: &str = "SET client_min_messages = error; SET idle_in_transaction_session_timeout = '60s'";

/// How soon the server gives up a session whose other end has gone without a word: its locks keep the next owner of its partitions waiting.
const SERVER_TIMES: &str = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '60s'";

/// Connects to the first host that answers and may be written to.
pub(super) fn connect(config: &SinkConfig, interrupts: &Interrupts) -> Result<Connection> {
    let mut last = None;
    for server in &config.servers {
        let attempt = || -> PgResult<Connection> {
            let mut connection = server.connect(interrupts)?;
            connection.set_read_timeout(config.socket_timeout)?;
            SockRef::from(connection.socket()).set_tcp_user_timeout(Some(UNANSWERED))?;
            let mut sql = SETTINGS.to_owned();
            if let Some(path) = &config.search_path {
                sql += &format!("; SELECT pg_catalog.set_config('search_path', {}, false)", literal(path));
            }
            connection.query(&sql)?;
            // A server that does not know it does without.
            if let Err(error @ PgError::Away(_)) = connection.query(SERVER_TIMES) {
                return Err(error);
            }
            if config.servers.len() > 1 {
                let rows = connection.query("SELECT pg_catalog.pg_is_in_recovery()")?;
                if rows.first().and_then(|row| row.first()).is_some_and(|cell| cell.as_deref() == Some("t")) {
                    return Err(PgError::Away(format!("{} is a standby, which cannot be written to", server.host)));
                }
            }
            Ok(connection)
        };
        match attempt() {
            Ok(connection) => return Ok(connection),
            // One that does not let us in says more than one that is away.
            Err(error) if last.as_ref().is_none_or(PgError::passes) => last = Some(error),
            Err(_) => {}
        }
    }
    let error = last.unwrap_or_else(|| PgError::Refused("there is no host".into()));
    Err(told(&error, "connecting to the database"))
}

/// See the module.
pub(super) struct Session {
    pub connection: Connection,
    tables: HashMap<String, Arc<Table>>,
    pub stages: Stages,
    /// Whether a transaction waits to be committed with the offsets.
    pub open: bool,
}

impl Session {
    pub fn connect(config: &SinkConfig, interrupts: &Interrupts) -> Result<Self> {
        let connection = connect(config, interrupts)?;
        Ok(Self { connection, tables: HashMap::new(), stages: Stages::default(), open: false })
    }

    /// A table, if it exists.
    pub fn table(&mut self, name: &str, exact: bool) -> PgResult<Option<Arc<Table>>> {
        if let Some(table) = self.tables.get(name) {
            return Ok(Some(table.clone()));
        }
        let Some(table) = Table::find(&mut self.connection, name, exact)? else { return Ok(None) };
        let table = Arc::new(table);
        self.tables.insert(name.to_owned(), table.clone());
        Ok(Some(table))
    }

    /// Whether a table is known from before; from now on it is not.
    pub fn forget(&mut self, name: &str) -> bool {
        self.tables.remove(name).is_some()
    }

    /// Forgets all tables; answers whether any was known.
    pub fn forget_all(&mut self) -> bool {
        let any = !self.tables.is_empty();
        self.tables.clear();
        any
    }

    /// Runs a script, with the staging tables that it needs. Answers how many rows its first statement touched.
    pub fn run(&mut self, before: &str, script: &Script, after: &str) -> PgResult<u64> {
        let data: Vec<&[u8]> = script.data.iter().map(Vec::as_slice).collect();
        let counts = self.connection.run(&format!("{before}{}{after}", script.sql), &data)?;
        // The first one begins the transaction.
        Ok(counts.get(1).copied().unwrap_or(0))
    }

    /// Makes the staging tables that statements need which are to run.
    pub fn make_stages(&mut self) -> PgResult<()> {
        for statement in self.stages.take_due() {
            if let Err(error) = self.connection.query(&statement) {
                self.stages.forget();
                return Err(error);
            }
        }
        Ok(())
    }
}

/// How an error of the server is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// A record's: its batch goes on without it.
    Record,
    /// What is known of the tables may be old.
    Catalogue,
    /// It passes.
    Passing,
    /// Nothing helps.
    Lasting,
}

/// What versions before 16 say of a text that is no `hstore`, under the code of an internal error.
const HSTORE: [&str; 2] = ["Syntax error near", "Unexpected end of string"];

pub(super) fn blame(error: &PgError) -> Blame {
    match error.code() {
        _ if error.passes() => Blame::Passing,
        // Cancelled by somebody; a server that has become a standby, or whose connections are being moved; rolled back where a commit was asked for.
        "57014" | "25006" | "25P03" | "40000" => Blame::Passing,
        // Data, constraints (also of views), rows that are too large, what triggers raise. 21: twice the same key, which only the database
        // knows to be the same.
        // Texts of ltree, hstore and the like: no statement has a syntax of a record's.
        "42601" => Blame::Record,
        "XX000" if matches!(error, PgError::Server { message, .. } if HSTORE.iter().any(|start| message.starts_with(start))) => {
            Blame::Record
        }
        code if ["21", "22", "23", "44", "54", "P0", "38", "39"].iter().any(|class| code.starts_with(class)) => {
            Blame::Record
        }
        "42P01" | "42703" | "42P10" | "42804" | "42704" | "42846" | "42883" | "0A000" | "428C9" | "3F000" => {
            Blame::Catalogue
        }
        _ => Blame::Lasting,
    }
}

/// The server's reason, without the detail that repeats the row, nor the value that it quotes where it is the value that is wrong.
pub(super) fn reason(error: &PgError) -> String {
    match error {
        PgError::Server { code, message, .. } if code.starts_with("22") => {
            let shown = match (message.find('"'), message.rfind('"')) {
                (Some(from), Some(to)) if from < to => format!("{}\"…\"{}", &message[..from], &message[to + 1..]),
                _ => message.clone(),
            };
            format!("{shown} (SQLSTATE {code})")
        }
        PgError::Server { code, message, .. } => format!("{message} (SQLSTATE {code})"),
        other => other.to_string(),
    }
}

/// As the worker is told, without the row either.
pub(super) fn told(error: &PgError, what: &str) -> Error {
    let message = format!("{what}: {}", reason(error));
    if blame(error) == Blame::Passing { Error::Retriable(message) } else { Error::Failed(message) }
}
