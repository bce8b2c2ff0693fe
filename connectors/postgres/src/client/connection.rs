//! A connection: messages, queries, COPY TO, replication.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postgres_protocol::message::frontend;

use super::tls::Stream;
use super::{PgError, PgResult};

/// What one read takes from the socket at most.
const READ: usize = 256 * 1024;
/// What one message of COPY FROM has at most.
const COPY: usize = 1 << 20;

/// A message of the server, without its length.
#[derive(Debug)]
pub(crate) struct Message {
    pub tag: u8,
    pub body: Bytes,
}

/// A row of a query: texts, or null.
pub(crate) type Row = Vec<Option<String>>;

/// See the module.
pub(crate) struct Connection {
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    scratch: Box<[u8]>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        let scratch = vec![0; READ].into_boxed_slice();
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), scratch }
    }

    /// The socket, to be shut down by others.
    pub fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Whether TLS is under it.
    pub fn secured(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// How long [`Self::read`] and [`Self::try_read`] wait; without it, for ever.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> PgResult<()> {
        Ok(self.socket().set_read_timeout(time)?)
    }

    pub(super) fn send(&mut self, fill: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> PgResult<()> {
        fill(&mut self.output).map_err(|error| PgError::Refused(format!("a message cannot be made: {error}")))?;
        self.flush()
    }

    fn flush(&mut self) -> PgResult<()> {
        self.stream.write_all(&self.output)?;
        self.stream.flush()?;
        self.output.clear();
        Ok(())
    }

    /// A message that is here already.
    pub fn buffered(&mut self) -> Option<Message> {
        let length = self.input.get(1..5)?;
        // The length counts itself, and not the tag.
        let total = 1 + u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if self.input.len() < total.max(5) {
            return None;
        }
        let mut frame = self.input.split_to(total.max(5));
        let tag = frame.get_u8();
        frame.advance(4);
        Some(Message { tag, body: frame.freeze() })
    }

    /// The next message; `None` if the time-out passes before it is here.
    pub fn try_read(&mut self) -> PgResult<Option<Message>> {
        loop {
            if let Some(message) = self.buffered() {
                return Ok(Some(message));
            }
            match self.stream.read(&mut self.scratch) {
                Ok(0) => return Err(PgError::Away("the server closed the connection".into())),
                Ok(count) => self.input.extend_from_slice(&self.scratch[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next message. An error of the server is an error here.
    pub fn read(&mut self) -> PgResult<Message> {
        let message = self.try_read()?.ok_or_else(|| PgError::Away("the server does not answer".into()))?;
        if message.tag == b'E' { Err(server_error(message.body)) } else { Ok(message) }
    }

    /// Runs statements and answers the rows of all of them. The connection can be used after a refusal.
    pub fn query(&mut self, sql: &str) -> PgResult<Vec<Row>> {
        self.send(|buffer| frontend::query(sql, buffer))?;
        let (mut rows, mut refusal) = (Vec::new(), None);
        loop {
            match self.read() {
                Ok(Message { tag: b'D', body }) => rows.push(row(body)),
                Ok(Message { tag: b'Z', .. }) => return refusal.map_or(Ok(rows), Err),
                Ok(_) => {}
                Err(error @ PgError::Server { .. }) => refusal = Some(error),
                Err(error) => return Err(refusal.unwrap_or(error)),
            }
        }
    }

    /// Commits. A transaction that had failed is rolled back by it, which the server does not call an error.
    pub fn commit(&mut self) -> PgResult<()> {
        self.send(|buffer| frontend::query("COMMIT", buffer))?;
        let (mut committed, mut refusal) = (false, None);
        loop {
            match self.read() {
                Ok(Message { tag: b'C', body }) => committed = body.starts_with(b"COMMIT"),
                Ok(Message { tag: b'Z', .. }) if refusal.is_none() && !committed => {
                    return Err(PgError::Server {
                        code: "40000".into(),
                        message: "the server rolled the transaction back instead of committing it".into(),
                        detail: String::new(),
                    });
                }
                Ok(Message { tag: b'Z', .. }) => return refusal.map_or(Ok(()), Err),
                Ok(_) => {}
                Err(error @ PgError::Server { .. }) => refusal = Some(error),
                Err(error) => return Err(refusal.unwrap_or(error)),
            }
        }
    }

    /// Runs statements; those that copy in (COPY … FROM STDIN) take `data` in turn. Answers how many rows each statement touched, 0 where it does
    /// not say. After a refusal, which is of all statements unless there is a transaction around them, the connection can be used.
    ///
    /// Nothing is read while data is sent: the session must not get notices (`client_min_messages`).
    pub fn run(&mut self, sql: &str, data: &[&[u8]]) -> PgResult<Vec<u64>> {
        self.send(|buffer| frontend::query(sql, buffer))?;
        let (mut counts, mut refusal, mut data) = (Vec::new(), None, data.iter());
        loop {
            match self.read() {
                Ok(Message { tag: b'C', body }) => counts.push(touched(&body)),
                Ok(Message { tag: b'G', .. }) => self.copy_in(data.next().copied().unwrap_or_default())?,
                Ok(Message { tag: b'Z', .. }) => return refusal.map_or(Ok(counts), Err),
                Ok(_) => {}
                Err(error @ PgError::Server { .. }) => refusal = Some(error),
                Err(error) => return Err(refusal.unwrap_or(error)),
            }
        }
    }

    fn copy_in(&mut self, data: &[u8]) -> PgResult<()> {
        for part in data.chunks(COPY) {
            self.output.put_u8(b'd');
            self.output.put_u32(4 + part.len() as u32);
            self.stream.write_all(&self.output)?;
            self.output.clear();
            self.stream.write_all(part)?;
        }
        self.send(|buffer| {
            frontend::copy_done(buffer);
            Ok(())
        })
    }

    /// Begins to copy out: [`Self::copied`] gives the lines. It is one statement, whatever is in it: that is what the extended protocol takes.
    pub fn copy_out(&mut self, sql: &str) -> PgResult<()> {
        self.send(|buffer| {
            frontend::parse("", sql, std::iter::empty(), buffer)?;
            // Bind: no portal's name, no statement's name, no formats, no parameters, no formats of results.
            buffer.put_u8(b'B');
            buffer.put_u32(4 + 2 + 3 * 2);
            buffer.put_bytes(0, 2 + 3 * 2);
            frontend::execute("", 0, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })?;
        self.await_copy(b'H')
    }

    /// The next line of what is copied out, with its end; `None` after the last one.
    pub fn copied(&mut self) -> PgResult<Option<Bytes>> {
        match self.read()? {
            Message { tag: b'd', body } => Ok(Some(body)),
            Message { tag: b'c', .. } => self.ready().map(|()| None),
            Message { tag, .. } => Err(unexpected("COPY", tag)),
        }
    }

    fn begin_copy(&mut self, sql: &str, begun: u8) -> PgResult<()> {
        self.send(|buffer| frontend::query(sql, buffer))?;
        self.await_copy(begun)
    }

    fn await_copy(&mut self, begun: u8) -> PgResult<()> {
        loop {
            match self.read() {
                Ok(Message { tag, .. }) if tag == begun => return Ok(()),
                // Notices, parameters; a statement is parsed and bound.
                Ok(Message { tag: b'N' | b'S' | b'1' | b'2', .. }) => {}
                Ok(Message { tag, .. }) => return Err(unexpected("COPY", tag)),
                Err(error) => return self.after(error),
            }
        }
    }

    /// Reads up to where the next statement may be sent.
    fn ready(&mut self) -> PgResult<()> {
        loop {
            match self.read() {
                Ok(Message { tag: b'Z', .. }) => return Ok(()),
                Ok(_) => {}
                Err(error) => return self.after(error),
            }
        }
    }

    /// After a refusal comes the end of the statement.
    fn after<T>(&mut self, error: PgError) -> PgResult<T> {
        if matches!(error, PgError::Server { .. }) {
            while let Ok(Message { tag, .. }) = self.read() {
                if tag == b'Z' {
                    break;
                }
            }
        }
        Err(error)
    }

    /// Begins to replicate; from then on the messages are `d`.
    pub fn start_replication(&mut self, command: &str) -> PgResult<()> {
        self.begin_copy(command, b'W')
    }

    /// Tells the server how far this side is: what it has received, and what is safe; it answers if asked to. `now_us` is counted from 2000.
    pub fn send_status(&mut self, received: u64, safe: u64, now_us: i64, answer: bool) -> PgResult<()> {
        self.output.put_u8(b'd');
        self.output.put_u32(4 + 1 + 8 * 4 + 1);
        self.output.put_u8(b'r');
        self.output.put_u64(received);
        self.output.put_u64(safe);
        self.output.put_u64(safe);
        self.output.put_i64(now_us);
        self.output.put_u8(answer.into());
        self.flush()
    }

    /// Says goodbye; a connection that is dropped without it is one that broke.
    pub fn close(mut self) {
        // Who is gone already does not mind.
        let _ = self.send(|buffer| {
            frontend::terminate(buffer);
            Ok(())
        });
    }
}

/// Others have the socket, too, to shut it down ([`super::Interrupts`]): letting go of it would not close it.
impl Drop for Connection {
    fn drop(&mut self) {
        // One that broke already needs no more.
        let _ = self.socket().shutdown(Shutdown::Both);
    }
}

/// Takes a text that ends with a zero.
pub(super) fn cstr(body: &mut Bytes) -> String {
    let end = memchr::memchr(0, body).unwrap_or(body.len());
    let text = String::from_utf8_lossy(&body[..end]).into_owned();
    body.advance((end + 1).min(body.len()));
    text
}

/// The number at the end of a command's tag, such as `INSERT 0 5`.
fn touched(tag: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(tag);
    text.trim_end_matches('\0').rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn row(mut body: Bytes) -> Row {
    let count = if body.len() < 2 { 0 } else { body.get_u16() };
    let mut row = Vec::with_capacity(count.into());
    for _ in 0..count {
        if body.len() < 4 {
            break;
        }
        let length = body.get_i32();
        row.push(match usize::try_from(length) {
            Ok(length) if length <= body.len() => Some(String::from_utf8_lossy(&body.split_to(length)).into_owned()),
            _ => None,
        });
    }
    row
}

pub(crate) fn server_error(mut body: Bytes) -> PgError {
    let (mut code, mut message, mut detail) = (String::new(), String::new(), String::new());
    while body.first().is_some_and(|kind| *kind != 0) {
        let kind = body.get_u8();
        let text = cstr(&mut body);
        match kind {
            b'C' => code = text,
            b'M' => message = text,
            b'D' => detail = text,
            _ => {}
        }
    }
    PgError::Server { code, message, detail }
}

fn unexpected(what: &str, tag: u8) -> PgError {
    PgError::Refused(format!("{what}: an unexpected message '{}' of the server", char::from(tag)))
}

#[cfg(test)]
mod tests {
    use tributary_harness::{Postgres, postgres};

    use super::super::{Interrupts, Settings, SslMode, Tls};

    /// The server answers COMMIT of a failed transaction with ROLLBACK, which is no error to it.
    #[test]
    fn a_commit_that_rolls_back_is_an_error() {
        let server = Postgres::shared().unwrap();
        let settings = Settings {
            host: "127.0.0.1".into(),
            port: server.port(),
            user: postgres::USER.into(),
            password: postgres::PASSWORD.into(),
            database: "postgres".into(),
            tls: Tls { mode: SslMode::Disable, root_cert: None, cert: None, key: None },
            application_name: "commit".into(),
        };
        let mut connection = settings.connect(&Interrupts::default()).unwrap();
        connection.query("BEGIN").unwrap();
        assert_eq!(connection.query("SELECT 1 / 0").unwrap_err().code(), "22012");
        assert_eq!(connection.commit().unwrap_err().code(), "40000");
        connection.query("BEGIN; SELECT 1").unwrap();
        connection.commit().unwrap();
        connection.close();
    }
}
