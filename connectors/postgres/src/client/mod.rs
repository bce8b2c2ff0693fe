//! A client of PostgreSQL's own protocol, as much of it as the connectors need: queries as text, COPY TO, replication.
//!
//! One thread has a connection, and every call waits. [`Interrupts`] ends what waits from another thread: it shuts the sockets down. Nothing
//! reconnects by itself: an error means that the connection is of no more use, except where the server refused a statement.
//!
//! tokio-postgres, the usual crate, knows no replication connections, and pgwire-replication makes no slots and exports no snapshots; what
//! both have of logging in comes from `postgres-protocol`.

mod connection;
mod error;
mod interrupts;
mod login;
mod sql;
mod tls;

pub(crate) use connection::{Connection, Message, server_error};
pub(crate) use error::{PgError, PgResult};
pub(crate) use interrupts::Interrupts;
pub(crate) use login::Settings;
pub(crate) use sql::{identifier, literal};
pub(crate) use tls::{SslMode, Tls};
