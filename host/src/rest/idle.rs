//! Connections that nobody uses are closed.
//!
//! A connection on which there is no request for [`PATIENCE`] is closed, as Kafka Connect's server does, and so is one whose request's head
//! has not come in whole by then, however often a little more of it comes. A request that is being worked on has all the time that its
//! own deadlines leave it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a connection may be without a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known of a connection's requests. Clones are of the same connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    open: AtomicUsize,
    ended: AtomicU64,
}

/// A request that is worked on, until it is dropped.
pub(super) struct Working(Activity);

impl Activity {
    /// A request has come.
    pub fn begin(&self) -> Working {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        Working(self.clone())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::AcqRel);
        self.0.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection that fails when it was without a request for too long.
pub(super) struct Watched<C> {
    connection: C,
    activity: Activity,
    patience: Duration,
    /// By when a request has to be there.
    deadline: Instant,
    /// Looks at the deadline now and then; it is moved less often than the deadline.
    alarm: Pin<Box<Sleep>>,
    ended: u64,
    /// Whether some of a head has come.
    begun: bool,
}

impl<C> Watched<C> {
    /// Begins to wait for the first request.
    pub fn new(connection: C, activity: Activity) -> Self {
        Self::with_patience(connection, activity, PATIENCE)
    }

    fn with_patience(connection: C, activity: Activity, patience: Duration) -> Self {
        let (deadline, alarm) = (Instant::now() + patience, Box::pin(sleep(patience)));
        Self { connection, activity, patience, deadline, alarm, ended: 0, begun: false }
    }

    /// Whether the time is over; wakes the reader when it will be.
    fn is_late(&mut self, context: &mut Context<'_>, more: bool) -> bool {
        if self.activity.0.open.load(Ordering::Acquire) > 0 {
            return false;
        }
        let ended = self.activity.0.ended.load(Ordering::Acquire);
        if ended != self.ended {
            (self.ended, self.begun) = (ended, false);
            self.deadline = Instant::now() + self.patience;
        }
        if more && !self.begun {
            self.begun = true;
            self.deadline = Instant::now() + self.patience;
        }
        while self.alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.deadline {
                return true;
            }
            self.alarm.as_mut().reset(self.deadline);
        }
        false
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Watched<C> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.connection).poll_read(context, buffer);
        let more = buffer.filled().len() > before;
        // What ends the connection anyway needs no other end.
        if matches!(&read, Poll::Ready(answer) if answer.is_err() || !more) {
            return read;
        }
        if this.is_late(context, more) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "there was no request for too long")));
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Watched<C> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.connection).poll_write(context, bytes);
        this.wrote(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.connection).poll_write_vectored(context, slices);
        this.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(context)
    }
}

impl<C> Watched<C> {
    /// Who takes a long answer slowly is there.
    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(bytes)) if *bytes > 0) {
            self.deadline = Instant::now() + self.patience;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn heads_that_trickle_and_silence_end_requests_do_not() {
        // Silence.
        let (_client, server) = duplex(64);
        let started = Instant::now();
        let mut watched = Watched::with_patience(server, Activity::default(), PATIENCE);
        let error = watched.read_u8().await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed() >= PATIENCE), (io::ErrorKind::TimedOut, true));

        // A little now and then.
        let (mut client, server) = duplex(64);
        tokio::spawn(async move {
            while client.write_u8(b'x').await.is_ok() {
                sleep(PATIENCE / 3).await;
            }
        });
        let mut watched = Watched::with_patience(server, Activity::default(), PATIENCE);
        let mut came = 0;
        while watched.read_u8().await.is_ok() {
            came += 1;
        }
        assert!((1..10).contains(&came), "{came}");

        // A request that takes long; behind it, the time begins anew.
        let (mut client, server) = duplex(64);
        let activity = Activity::default();
        let mut watched = Watched::with_patience(server, activity.clone(), PATIENCE);
        client.write_u8(b'x').await.unwrap();
        watched.read_u8().await.unwrap();
        let working = activity.begin();
        let waited = tokio::time::timeout(PATIENCE * 5, watched.read_u8()).await;
        assert!(waited.is_err(), "{waited:?}");
        drop(working);
        let ended = Instant::now();
        assert!(watched.read_u8().await.is_err());
        assert!(ended.elapsed() >= PATIENCE);
    }
}
