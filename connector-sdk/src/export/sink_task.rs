//! The function table of a sink task.

use std::ffi::c_void;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tributary_abi as abi;

use super::instance::{Frame, call, cancel, create, destroy};
use crate::config::Config;
use crate::errors::Result;
use crate::ffi::{Taken, text};
use crate::sink::{Failures, SinkTask};

pub(super) struct Table<T>(PhantomData<T>);

impl<T: SinkTask> Table<T> {
    pub const REF: &'static abi::SinkTaskVtable = &Self::TABLE;
    const TABLE: abi::SinkTaskVtable = abi::SinkTaskVtable {
        size: size_of::<abi::SinkTaskVtable>(),
        create: create::<T>,
        start: start::<T>,
        open: open::<T>,
        put: put::<T>,
        flush: flush::<T>,
        pre_commit: Some(pre_commit::<T>),
        close: close::<T>,
        stop: stop::<T>,
        cancel: Some(cancel::<T>),
        destroy: destroy::<T>,
        recover: Some(recover::<T>),
        prepare: Some(prepare::<T>),
        commit_prepared: Some(commit_prepared::<T>),
        abort_prepared: Some(abort_prepared::<T>),
    };
}

/// # Safety
/// `json` is readable.
unsafe fn parsed<D: DeserializeOwned>(json: abi::Str) -> Result<D> {
    // SAFETY: the caller's promise.
    Ok(serde_json::from_str(unsafe { text(json, "a list of partitions") }?)?)
}

fn answer<T>(frame: &Frame<'_, T>, value: &impl Serialize) -> Result<()> {
    frame.reporter.text(&serde_json::to_string(value)?);
    Ok(())
}

// SAFETY of every block below: as in `connector`.

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn start<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let config = Config::from_json(text(json, "a config")?)?;
            frame.inner.start(frame.context, &config)?;
            frame.set_canceller(frame.inner.canceller());
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn open<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let elsewhere = frame.inner.open(&parsed::<Vec<_>>(json)?)?;
            answer(&frame, &elsewhere)
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn put<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, batch: *mut abi::Batch) -> i32 {
    unsafe {
        // Taken before anything can fail: it is ours whatever the answer.
        let taken = Taken::take(batch);
        call::<T>(c, instance, |frame| {
            let mut failures = Failures::default();
            frame.inner.put(taken?.into_batch()?, &mut failures)?;
            frame.reporter.failures(&failures);
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn flush<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe { call::<T>(c, instance, |frame| frame.inner.flush(&parsed::<Vec<_>>(json)?)) }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn pre_commit<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let offsets = frame.inner.pre_commit(&parsed::<Vec<_>>(json)?)?;
            answer(&frame, &offsets)
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn close<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe { call::<T>(c, instance, |frame| frame.inner.close(&parsed::<Vec<_>>(json)?)) }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn stop<T: SinkTask>(c: *const abi::Call, instance: *mut c_void) -> i32 {
    unsafe { call::<T>(c, instance, |frame| frame.inner.stop()) }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn recover<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe { call::<T>(c, instance, |frame| frame.inner.recover(&parsed::<Vec<_>>(json)?)) }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn prepare<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let prepared = frame.inner.prepare(&parsed::<Vec<_>>(json)?)?;
            answer(&frame, &prepared)
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn commit_prepared<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe { call::<T>(c, instance, |frame| frame.inner.commit_prepared(&parsed::<Vec<_>>(json)?)) }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn abort_prepared<T: SinkTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe { call::<T>(c, instance, |frame| frame.inner.abort_prepared(&parsed::<Vec<_>>(json)?)) }
}
