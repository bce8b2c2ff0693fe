//! The results of one call: what the callee reports through ([`Reporter`]) and what the caller gathers with ([`Collector`]).
//!
//! Both directions use them: the worker calls a plugin, a plugin calls the worker's services.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tributary_abi as abi;

use super::{Exported, Taken, bytes, lossy, str};
use crate::batch::Batch;
use crate::errors::{Error, Result};
use crate::sink::Failures;

/// The callee's side: answers through the caller's [`abi::Call`].
#[derive(Clone, Copy)]
pub struct Reporter<'a>(&'a abi::Call);

impl<'a> Reporter<'a> {
    /// # Safety
    /// `call` is valid for `'a`, by the contract of the call under way.
    pub unsafe fn new(call: *const abi::Call) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { &*call })
    }

    /// Reports an error and answers the status to return.
    pub fn error(&self, error: &Error) -> i32 {
        let (status, message, trace) = match error {
            Error::Retriable(message) => (abi::RETRIABLE, message, ""),
            Error::Failed(message) => (abi::FAILED, message, ""),
            Error::Panicked { message, trace } => (abi::PANICKED, message, trace.as_str()),
            Error::Unsupported(message) => (abi::UNSUPPORTED, message, ""),
        };
        // SAFETY: the caller's own callback, with its own context, within its call.
        unsafe { (self.0.error)(self.0.ctx, str(message), str(trace)) };
        status
    }

    /// Hands over the call's result.
    pub fn text(&self, json: &str) {
        // SAFETY: as in `error`.
        unsafe { (self.0.text)(self.0.ctx, str(json)) }
    }

    /// Hands over a batch.
    pub fn emit(&self, batch: Batch) -> Result<()> {
        let mut exported = Exported::new(batch)?;
        // SAFETY: as in `error`; the batch is moved, and what the other side leaves is released by `exported`.
        match unsafe { (self.0.emit)(self.0.ctx, exported.as_mut_ptr()) } {
            abi::OK => Ok(()),
            _ => Err(Error::failed("the worker refused a batch as malformed")),
        }
    }

    /// Names the records that failed.
    pub fn failures(&self, failures: &Failures) {
        for failure in failures.records() {
            let (row, retriable) = (failure.row as u64, i32::from(failure.retriable));
            // SAFETY: as in `error`.
            unsafe { (self.0.fail_record)(self.0.ctx, row, retriable, str(&failure.message)) };
        }
    }
}

thread_local! {
    /// Batches that the innermost call of this thread has emitted so far.
    static EMITTED: Cell<usize> = const { Cell::new(0) };
}

/// How many batches the call that this thread is in has emitted so far: where in them a service was called.
pub fn emitted() -> usize {
    EMITTED.get()
}

/// The caller's side: gathers what a call reports.
#[derive(Default)]
pub struct Collector {
    error: Option<(String, String)>,
    text: Option<Vec<u8>>,
    batches: Vec<Batch>,
    failures: Failures,
    refused: Option<Error>,
}

impl Collector {
    /// Makes a call with a fresh collector: `run` passes the [`abi::Call`] to the other side and answers its status.
    /// The result is the status as an error, named after `what`.
    pub fn run(what: &str, run: impl FnOnce(*const abi::Call) -> i32) -> (Result<()>, Self) {
        let mut collector = Self::default();
        let call = abi::Call {
            size: size_of::<abi::Call>(),
            ctx: (&raw mut collector).cast(),
            error: on_error,
            text: on_text,
            emit: on_emit,
            fail_record: on_fail_record,
        };
        let outer = EMITTED.replace(0);
        let status = run(&raw const call);
        EMITTED.set(outer);
        let result = collector.outcome(what, status);
        (result, collector)
    }

    fn outcome(&mut self, what: &str, status: i32) -> Result<()> {
        let (message, trace) = self.error.take().unwrap_or_default();
        let message = match (message.is_empty(), status) {
            (false, _) => message,
            (true, abi::UNSUPPORTED) => format!("{what} is not implemented"),
            (true, _) => format!("{what} failed and gave no reason"),
        };
        // A panic goes first: the instance is gone. A refused batch comes next: it explains whatever the plugin made of it.
        match (status, self.refused.take()) {
            (abi::PANICKED, _) => Err(Error::Panicked { message, trace }),
            (_, Some(refused)) => Err(refused),
            (abi::OK, None) => Ok(()),
            (abi::RETRIABLE, None) => Err(Error::Retriable(message)),
            (abi::FAILED, None) => Err(Error::Failed(message)),
            (abi::UNSUPPORTED, None) => Err(Error::Unsupported(message)),
            (other, None) => Err(Error::Failed(format!("{what} answered with the unknown status {other}"))),
        }
    }

    /// The call's result, if it gave one.
    pub fn text(&self) -> Result<Option<&str>> {
        let Some(text) = &self.text else { return Ok(None) };
        let text = std::str::from_utf8(text);
        text.map(Some).map_err(|error| Error::failed(format!("the result is not UTF-8: {error}")))
    }

    /// The emitted batches.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.batches)
    }

    /// The failed records.
    pub fn take_failures(&mut self) -> Failures {
        std::mem::take(&mut self.failures)
    }
}

/// Runs a callback's body on the collector. A panic of ours must not unwind into foreign frames: it becomes a refusal.
unsafe fn with(ctx: *mut c_void, body: impl FnOnce(&mut Collector)) {
    // SAFETY: `ctx` is the collector of the call under way, on the thread that made it, and nothing else refers to it meanwhile.
    let collector = unsafe { &mut *ctx.cast::<Collector>() };
    if catch_unwind(AssertUnwindSafe(|| body(&mut *collector))).is_err() {
        collector.refused = Some(Error::failed("the result of a call could not be taken over (a panic on the way in)"));
    }
}

unsafe extern "C" fn on_error(ctx: *mut c_void, message: abi::Str, trace: abi::Str) {
    // SAFETY: the contract of the callback: our context, and strings that are readable now.
    unsafe { with(ctx, |collector| collector.error = Some((lossy(message), lossy(trace)))) }
}

unsafe extern "C" fn on_text(ctx: *mut c_void, json: abi::Str) {
    // SAFETY: as in `on_error`.
    unsafe { with(ctx, |collector| collector.text = Some(bytes(json).to_vec())) }
}

unsafe extern "C" fn on_emit(ctx: *mut c_void, batch: *mut abi::Batch) -> i32 {
    let mut status = abi::FAILED;
    // SAFETY: as in `on_error`; the batch is the ABI's, moved to us.
    unsafe {
        with(ctx, |collector| match Taken::take(batch).and_then(|taken| taken.into_batch()) {
            Ok(batch) => {
                collector.batches.push(batch);
                EMITTED.set(collector.batches.len());
                status = abi::OK;
            }
            Err(error) => collector.refused = Some(error),
        });
    }
    status
}

unsafe extern "C" fn on_fail_record(ctx: *mut c_void, row: u64, retriable: i32, message: abi::Str) {
    // SAFETY: as in `on_error`.
    unsafe {
        with(ctx, |collector| {
            let row = usize::try_from(row).unwrap_or(usize::MAX);
            match retriable {
                0 => collector.failures.fail(row, lossy(message)),
                _ => collector.failures.retry(row, lossy(message)),
            }
        });
    }
}
