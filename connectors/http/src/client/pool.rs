//! Connections that are kept open between requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;

use super::url::Origin;

/// Servers close idle connections after a minute or less, mostly; a request that meets the end is in doubt.
const IDLE: Duration = Duration::from_secs(20);
/// Most connections that are kept for one server.
const MOST: usize = 256;
/// A kept connection is ready at once; one that is not is given up for a new one.
const READY: Duration = Duration::from_millis(100);

/// A connection for one request.
pub(crate) struct Lease {
    pub sender: SendRequest<Full<Bytes>>,
    /// It has served requests before.
    pub kept: bool,
    pub origin: Arc<Origin>,
}

/// An idle connection, and since when it is idle.
type Idle = (Instant, SendRequest<Full<Bytes>>);

/// Idle connections by server.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<Arc<Origin>, Vec<Idle>>>);

impl Pool {
    /// The connection used last, if one is open.
    pub async fn take(&self, origin: &Arc<Origin>) -> Option<Lease> {
        loop {
            let (since, mut sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(origin)?.pop()?;
            if since.elapsed() >= IDLE || sender.is_closed() {
                continue;
            }
            // Mostly it is, and then no timer is needed.
            if sender.is_ready() || matches!(tokio::time::timeout(READY, sender.ready()).await, Ok(Ok(()))) {
                return Some(Lease { sender, kept: true, origin: origin.clone() });
            }
        }
    }

    /// Its request was answered in full.
    pub fn put_back(&self, lease: Lease) {
        if lease.sender.is_closed() {
            return;
        }
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = idle.entry(lease.origin).or_default();
        if idle.len() < MOST {
            idle.push((Instant::now(), lease.sender));
        }
    }
}
