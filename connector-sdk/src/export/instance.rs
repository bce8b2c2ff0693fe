//! An instance behind its opaque pointer, and the frame around every call on it.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tributary_abi as abi;

use super::host_services::HostServices;
use super::panics;
use crate::context::Context;
use crate::errors::{Error, Result};
use crate::ffi::{Reporter, text};
use crate::source::SourcePosition;

pub(super) type Cancel = Box<dyn Fn() + Send + Sync>;
pub(super) type Acknowledge = Box<dyn Fn(&[SourcePosition]) + Send + Sync>;

/// What `instance` points to. Shared between the calling thread, `cancel` and `acknowledged`: the latter touch their own handle only.
pub(super) struct Instance<T> {
    inner: UnsafeCell<T>,
    context: Context,
    poisoned: AtomicBool,
    canceller: OnceLock<Option<Cancel>>,
    acknowledger: OnceLock<Option<Acknowledge>>,
}

/// What a call works with.
pub(super) struct Frame<'a, T> {
    pub inner: &'a mut T,
    pub context: &'a Context,
    pub reporter: Reporter<'a>,
    canceller: &'a OnceLock<Option<Cancel>>,
    acknowledger: &'a OnceLock<Option<Acknowledge>>,
}

impl<T> Frame<'_, T> {
    /// Keeps the handle that `cancel` uses from now on.
    pub fn set_canceller(&self, canceller: Option<Cancel>) {
        let _ = self.canceller.set(canceller);
    }

    /// Keeps the handle that `acknowledged` uses from now on.
    pub fn set_acknowledger(&self, acknowledger: Option<Acknowledge>) {
        let _ = self.acknowledger.set(acknowledger);
    }
}

/// [`abi::CreateFn`] for any instance with a default.
pub(super) unsafe extern "C" fn create<T: Default + 'static>(
    call: *const abi::Call,
    host: *const abi::Host,
    context: *const c_void,
    out: *mut *mut c_void,
) -> i32 {
    // SAFETY: the call is valid until this function returns.
    let reporter = unsafe { Reporter::new(call) };
    match panics::contained(T::default) {
        Ok(inner) => {
            // SAFETY: the worker's promise: the table lives as long as the process, the context until `destroy` returns.
            let services = unsafe { HostServices::new(host, context) };
            let instance = Box::new(Instance {
                inner: UnsafeCell::new(inner),
                context: Context::new(std::sync::Arc::new(services)),
                poisoned: AtomicBool::new(false),
                canceller: OnceLock::new(),
                acknowledger: OnceLock::new(),
            });
            // SAFETY: `out` is the caller's variable.
            unsafe { *out = Box::into_raw(instance).cast() };
            abi::OK
        }
        Err(error) => reporter.error(&error),
    }
}

/// [`abi::DestroyFn`].
pub(super) unsafe extern "C" fn destroy<T>(instance: *mut c_void) {
    // SAFETY: made by `create::<T>`, and the worker's promise that no call runs and none follows.
    let instance = unsafe { Box::from_raw(instance.cast::<Instance<T>>()) };
    if instance.poisoned.load(Ordering::Acquire) {
        // The worker should not have called. What the panic left half done is leaked rather than dropped.
        std::mem::forget(instance);
        return;
    }
    let context = instance.context.clone();
    // The rest of what panics in its destructor is lost.
    if let Err(panic) = panics::contained(|| drop(instance)) {
        context.error(format!("while it was destroyed, the instance {panic}"));
    }
}

/// [`abi::CancelFn`].
pub(super) unsafe extern "C" fn cancel<T>(instance: *mut c_void) {
    // SAFETY: made by `create::<T>` and not destroyed yet. Only shared references to an instance are ever made, and what
    // changes in it (`inner`) is behind a cell that this function leaves alone.
    let (canceller, context) = unsafe {
        let instance = instance.cast::<Instance<T>>();
        (&(*instance).canceller, &(*instance).context)
    };
    if let Some(Some(canceller)) = canceller.get()
        && let Err(panic) = panics::contained(canceller)
    {
        context.error(format!("while it was cancelled, the instance {panic}"));
    }
}

/// [`abi::AcknowledgedFn`].
pub(super) unsafe extern "C" fn acknowledged<T>(instance: *mut c_void, positions: abi::Str) -> i32 {
    // SAFETY: as in `cancel`; the text is borrowed for the call.
    let (acknowledger, context, poisoned, positions) = unsafe {
        let instance = instance.cast::<Instance<T>>();
        (&(*instance).acknowledger, &(*instance).context, &(*instance).poisoned, text(positions, "positions"))
    };
    let Some(Some(acknowledger)) = acknowledger.get() else { return abi::UNSUPPORTED };
    if poisoned.load(Ordering::Acquire) {
        return abi::PANICKED;
    }
    let told = panics::contained(|| -> Result<()> {
        let positions: Vec<SourcePosition> = serde_json::from_str(positions?)?;
        acknowledger(&positions);
        Ok(())
    });
    match told {
        Ok(Ok(())) => abi::OK,
        Ok(Err(error)) => {
            context.error(format!("while it was told of acknowledgements, the instance failed: {error}"));
            abi::FAILED
        }
        Err(panic) => {
            poisoned.store(true, Ordering::Release);
            context.error(format!("while it was told of acknowledgements, the instance {panic}"));
            abi::PANICKED
        }
    }
}

/// The frame around a call: errors and panics become the answer, a panic poisons the instance.
///
/// # Safety
/// `call` and `instance` (of `create::<T>`) are valid, and no other call but `cancel` and `acknowledged` runs on the instance.
pub(super) unsafe fn call<T>(
    call: *const abi::Call,
    instance: *mut c_void,
    body: impl FnOnce(Frame<'_, T>) -> Result<()>,
) -> i32 {
    // SAFETY: the caller's promise. The reference to `inner` is the only one: `cancel` and `acknowledged` do not touch it.
    let (reporter, instance) = unsafe { (Reporter::new(call), &*instance.cast::<Instance<T>>()) };
    if instance.poisoned.load(Ordering::Acquire) {
        let message = "called again after a panic".to_owned();
        return reporter.error(&Error::Panicked { message, trace: String::new() });
    }
    let result = panics::contained(|| {
        body(Frame {
            // SAFETY: as above.
            inner: unsafe { &mut *instance.inner.get() },
            context: &instance.context,
            reporter,
            canceller: &instance.canceller,
            acknowledger: &instance.acknowledger,
        })
    });
    match result {
        Ok(Ok(())) => abi::OK,
        // What a connector passes on from somewhere else is not this instance's panic.
        Ok(Err(Error::Panicked { message, .. })) => reporter.error(&Error::Failed(format!("panicked: {message}"))),
        Ok(Err(error)) => reporter.error(&error),
        Err(panic) => {
            instance.poisoned.store(true, Ordering::Release);
            reporter.error(&panic)
        }
    }
}
