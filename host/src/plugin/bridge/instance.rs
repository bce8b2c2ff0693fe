//! What all handles share: the instance pointer, its ticket, and the rule that a panicked instance is left alone.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tributary_abi as abi;
use tributary_sdk::ffi::{Collector, str};
use tributary_sdk::{Error, Result, Services};

use super::host_table::host_table;
use super::tickets::Ticket;
use crate::plugin::handle::{Acknowledger, Canceller};

/// The pointer as `cancel` and `acknowledged` may use it: `None` once it must not be touched any more.
type Alive = Arc<RwLock<Option<Pointer>>>;

#[derive(Clone, Copy)]
struct Pointer(*mut c_void);

// SAFETY: the ABI lets `cancel` and `acknowledged` come from any thread, and calls from whichever one thread has the handle.
unsafe impl Send for Pointer {}
// SAFETY: as above; the pointer itself is never written through here.
unsafe impl Sync for Pointer {}

/// An instance of a plugin's class.
pub(super) struct Instance {
    /// Class and part, for messages: `com.example.TicksSource task`.
    what: String,
    pointer: Pointer,
    alive: Alive,
    /// Also set by what runs beside the calls.
    panicked: Arc<AtomicBool>,
    /// `None` while the handle is dropped after a panic: then it stays issued for ever.
    ticket: Option<Ticket>,
    cancel: Option<abi::CancelFn>,
    destroy: abi::DestroyFn,
}

impl Instance {
    pub fn create(
        what: String,
        create: abi::CreateFn,
        cancel: Option<abi::CancelFn>,
        destroy: abi::DestroyFn,
        services: Arc<dyn Services>,
    ) -> Result<Self> {
        let ticket = Ticket::issue(services);
        let mut pointer = std::ptr::null_mut();
        let (result, _) = Collector::run(&format!("creating {what}"), |call| {
            // SAFETY: `create` comes from a table that the loader checked; the arguments are valid for the call, the table
            // for ever, the ticket until this handle is gone.
            unsafe { create(call, host_table(), ticket.as_context(), &raw mut pointer) }
        });
        if let Err(error) = result {
            if matches!(error, Error::Panicked { .. }) {
                // A thread that it started may be about.
                std::mem::forget(ticket);
            }
            return Err(error);
        }
        let pointer = Pointer(pointer);
        let alive = Arc::new(RwLock::new(Some(pointer)));
        Ok(Self { what, pointer, alive, panicked: Arc::default(), ticket: Some(ticket), cancel, destroy })
    }

    /// Class and part, for messages.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Makes one call.
    pub fn call(
        &mut self,
        name: &str,
        run: impl FnOnce(*const abi::Call, *mut c_void) -> i32,
    ) -> (Result<()>, Collector) {
        let what = format!("{name} of {}", self.what);
        if self.panicked.load(Ordering::Acquire) {
            let error = Error::failed(format!("{what} was not called: the instance panicked before"));
            return (Err(error), Collector::default());
        }
        let (result, collector) = Collector::run(&what, |call| run(call, self.pointer.0));
        if matches!(result, Err(Error::Panicked { .. })) {
            self.panicked.store(true, Ordering::Release);
            *self.alive.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        (result, collector)
    }

    /// A call that only succeeds or fails.
    pub fn plain(&mut self, name: &str, run: impl FnOnce(*const abi::Call, *mut c_void) -> i32) -> Result<()> {
        self.call(name, run).0
    }

    /// A call whose result is JSON; `None` when it gave none.
    pub fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &str,
        run: impl FnOnce(*const abi::Call, *mut c_void) -> i32,
    ) -> Result<Option<T>> {
        let (result, collector) = self.call(name, run);
        result?;
        let Some(text) = collector.text()? else { return Ok(None) };
        let parsed = serde_json::from_str(text);
        parsed.map(Some).map_err(|error| {
            Error::failed(format!("{name} of {} answered with what is not the JSON asked for: {error}", self.what))
        })
    }

    /// See [`Canceller`].
    pub fn canceller(&self) -> Canceller {
        let Some(cancel) = self.cancel else { return Arc::new(|| ()) };
        let (alive, panicked) = (self.alive.clone(), self.panicked.clone());
        // One at a time: plugins need not expect two cancels at once.
        let one = Mutex::new(());
        Arc::new(move || {
            let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(pointer) = *alive.read().unwrap_or_else(PoisonError::into_inner)
                && !panicked.load(Ordering::Acquire)
            {
                // SAFETY: the instance is alive while the lock is held, and `cancel` may come from any thread.
                unsafe { cancel(pointer.0) };
            }
        })
    }

    /// See [`Acknowledger`].
    pub fn acknowledger(&self, acknowledged: abi::AcknowledgedFn) -> Acknowledger {
        let (alive, panicked) = (self.alive.clone(), self.panicked.clone());
        let one = Mutex::new(());
        Arc::new(move |positions| {
            let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
            let alive = alive.read().unwrap_or_else(PoisonError::into_inner);
            let Some(pointer) = alive.filter(|_| !panicked.load(Ordering::Acquire)) else { return false };
            let json = serde_json::to_string(positions).expect("positions are JSON");
            // SAFETY: the instance is alive while the lock is held, `acknowledged` may come from any thread, and the text is
            // borrowed for the call.
            match unsafe { acknowledged(pointer.0, str(&json)) } {
                abi::UNSUPPORTED => false,
                abi::PANICKED => {
                    // The next call fails, and with it the task.
                    panicked.store(true, Ordering::Release);
                    false
                }
                _ => true,
            }
        })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // After this no canceller or acknowledger touches the instance; one that runs now is waited for.
        *self.alive.write().unwrap_or_else(PoisonError::into_inner) = None;
        if self.panicked.load(Ordering::Acquire) {
            std::mem::forget(self.ticket.take());
            return;
        }
        // SAFETY: made by the same table, no call runs (we own the handle), none follows.
        unsafe { (self.destroy)(self.pointer.0) };
    }
}
