//! Who takes alerts: a server that is busy, or breaks off, now and then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tributary_harness::{Error, HttpRequest, HttpServer, Reply, Result};

pub struct Alerts {
    server: HttpServer,
    taken: Arc<Mutex<Vec<HttpRequest>>>,
}

impl Alerts {
    pub fn start() -> Result<Self> {
        let taken: Arc<Mutex<Vec<HttpRequest>>> = Arc::default();
        let (count, takes) = (AtomicUsize::new(0), taken.clone());
        let server = HttpServer::start(move |request| {
            let number = count.fetch_add(1, Ordering::SeqCst) % 12;
            if number == 3 {
                return Reply::status(503, "busy");
            }
            takes.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
            // Sometimes the answer is lost: it comes again.
            if number == 8 { Reply::Reset } else { Reply::status(204, "") }
        })?;
        Ok(Self { server, taken })
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// How often each alert was taken, by its idempotency key. An error where the key is not that of what the alert says.
    pub fn taken(&self) -> Result<BTreeMap<String, usize>> {
        let mut alerts = BTreeMap::new();
        for request in self.taken.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *alerts.entry(key(request)?).or_default() += 1;
        }
        Ok(alerts)
    }
}

fn key(request: &HttpRequest) -> Result<String> {
    let body: Value = serde_json::from_str(&request.text()).unwrap_or_default();
    let key = request.header("idempotency-key").unwrap_or_default().to_owned();
    if key == format!("order-{}", body["order"]) && body["customer"].is_string() && body["amount_cents"].is_u64() {
        return Ok(key);
    }
    Err(Error::new(format!("an alert had the key {key:?} and the body {}", request.text())))
}
