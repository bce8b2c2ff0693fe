//! Ending what waits on a socket, from another thread.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The sockets of a task. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    over: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Interrupts {
    /// Adds a connection's socket. One that comes after [`Self::end`] is shut down at once.
    pub fn add(&self, socket: &TcpStream) -> std::io::Result<()> {
        let socket = socket.try_clone()?;
        let mut sockets = self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whose connection is gone have no peer any more.
        sockets.retain(|socket| socket.peer_addr().is_ok());
        sockets.push(socket);
        drop(sockets);
        if self.over() {
            self.end();
        }
        Ok(())
    }

    /// Shuts all sockets down, those to come included.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Release);
        for socket in self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that is closed already needs no more.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Whether [`Self::end`] was called.
    pub fn over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }
}
