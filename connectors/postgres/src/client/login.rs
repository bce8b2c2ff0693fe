//! Connecting and logging in.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};

use super::connection::{Connection, Message, cstr};
use super::tls::{Stream, Tls};
use super::{Interrupts, PgError, PgResult, SslMode};

/// How long connecting and each answer of the login may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the server is, and who we are.
#[derive(Clone)]
pub(crate) struct Settings {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub tls: Tls,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
}

/// The password is not shown.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// Output and time-outs that do not depend on the settings of server, database or role.
const OUTPUT: [(&str, &str); 8] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    // Snapshots take their time, and wait for Kafka inside of a transaction.
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

impl Settings {
    /// An ordinary connection.
    pub fn connect(&self, interrupts: &Interrupts) -> PgResult<Connection> {
        self.open(interrupts, false)
    }

    /// One that replicates.
    pub fn connect_replication(&self, interrupts: &Interrupts) -> PgResult<Connection> {
        self.open(interrupts, true)
    }

    fn open(&self, interrupts: &Interrupts, replication: bool) -> PgResult<Connection> {
        let socket = self.reach()?;
        interrupts.add(&socket)?;
        // A server that vanishes in the middle of an answer says nothing more: somebody has to ask.
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
        SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut connection = Connection::new(self.secured(socket)?);
        let mut parameters =
            vec![("user", &*self.user), ("database", &*self.database), ("application_name", &*self.application_name)];
        parameters.extend(OUTPUT);
        if replication {
            parameters.push(("replication", "database"));
        }
        connection.send(|buffer| frontend::startup_message(parameters, buffer))?;
        self.log_in(&mut connection)?;
        connection.set_read_timeout(None)?;
        Ok(connection)
    }

    fn reach(&self) -> PgResult<TcpStream> {
        let place = format!("{}:{}", self.host, self.port);
        let away = |error: std::io::Error| PgError::Away(format!("{place}: {error}"));
        let mut last = PgError::Away(format!("{place}: the name has no address"));
        for address in (&*self.host, self.port).to_socket_addrs().map_err(away)? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = away(error),
            }
        }
        Err(last)
    }

    /// Asks for TLS where that is wanted.
    fn secured(&self, socket: TcpStream) -> PgResult<Stream> {
        use std::io::{Read, Write};
        if self.tls.mode == SslMode::Disable {
            return Ok(Stream::Plain(socket));
        }
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        (&socket).write_all(&request)?;
        let mut answer = [0];
        (&socket).read_exact(&mut answer)?;
        match answer {
            [b'S'] => Ok(Stream::Tls(Box::new(self.tls.connect(&self.host, socket)?))),
            _ if self.tls.mode == SslMode::Prefer => Ok(Stream::Plain(socket)),
            _ => Err(PgError::Refused(format!("{} has no TLS, which sslmode asks for", self.host))),
        }
    }

    fn log_in(&self, connection: &mut Connection) -> PgResult<()> {
        let mut scram: Option<sasl::ScramSha256> = None;
        loop {
            let Message { tag, mut body } = connection.read()?;
            match tag {
                b'R' => {}
                b'Z' => return Ok(()),
                // Parameters, the key for cancelling, notices.
                b'S' | b'K' | b'N' => continue,
                _ => return Err(unexpected(tag)),
            }
            if body.len() < 4 {
                return Err(unexpected(tag));
            }
            match body.get_i32() {
                0 => {}
                3 if !connection.secured() => {
                    return Err(PgError::Refused(
                        "the server asks for the password in the clear, and there is no TLS: set sslmode=require, or let the server use scram-sha-256".into(),
                    ));
                }
                3 => connection.send(|buffer| frontend::password_message(self.password.as_bytes(), buffer))?,
                5 if body.len() >= 4 => {
                    let salt = [body[0], body[1], body[2], body[3]];
                    let hash = md5_hash(self.user.as_bytes(), self.password.as_bytes(), salt);
                    connection.send(|buffer| frontend::password_message(hash.as_bytes(), buffer))?;
                }
                10 => {
                    let mut offered = Vec::new();
                    while body.first().is_some_and(|byte| *byte != 0) {
                        offered.push(cstr(&mut body));
                    }
                    if !offered.iter().any(|name| name == sasl::SCRAM_SHA_256) {
                        return Err(PgError::Refused(format!("the server wants to be logged into by {offered:?}")));
                    }
                    let client = sasl::ScramSha256::new(self.password.as_bytes(), sasl::ChannelBinding::unsupported());
                    connection.send(|buffer| {
                        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, client.message(), buffer)
                    })?;
                    scram = Some(client);
                }
                11 => {
                    let client = scram.as_mut().ok_or_else(|| unexpected(tag))?;
                    client.update(&body).map_err(refused)?;
                    connection.send(|buffer| frontend::sasl_response(client.message(), buffer))?;
                }
                12 => scram.as_mut().ok_or_else(|| unexpected(tag))?.finish(&body).map_err(refused)?,
                other => {
                    return Err(PgError::Refused(format!(
                        "the server asks for authentication {other}, which is not known here: use scram-sha-256"
                    )));
                }
            }
        }
    }
}

fn refused(error: std::io::Error) -> PgError {
    PgError::Refused(format!("logging in: {error}"))
}

fn unexpected(tag: u8) -> PgError {
    PgError::Refused(format!("logging in: an unexpected message '{}'", char::from(tag)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_password_is_not_sent_in_the_clear() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = Settings {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            user: "u".into(),
            password: "secret".into(),
            database: "d".into(),
            tls: Tls { mode: SslMode::Disable, root_cert: None, cert: None, key: None },
            application_name: "a".into(),
        };
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            socket.read_exact(&mut length).unwrap();
            let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
            socket.read_exact(&mut startup).unwrap();
            // Asks for the password as it is.
            socket.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).unwrap();
            rest
        });
        let error = settings.connect(&Interrupts::default()).unwrap_err();
        assert!(matches!(&error, PgError::Refused(message) if message.contains("in the clear")), "{error}");
        assert!(server.join().unwrap().is_empty());
    }
}
