//! The function table of a source task.

use std::ffi::c_void;
use std::marker::PhantomData;

use tributary_abi as abi;

use super::instance::{acknowledged, call, cancel, create, destroy};
use crate::config::Config;
use crate::ffi::text;
use crate::source::{Output, SourcePosition, SourceTask};

pub(super) struct Table<T>(PhantomData<T>);

impl<T: SourceTask> Table<T> {
    pub const REF: &'static abi::SourceTaskVtable = &Self::TABLE;
    const TABLE: abi::SourceTaskVtable = abi::SourceTaskVtable {
        size: size_of::<abi::SourceTaskVtable>(),
        create: create::<T>,
        start: start::<T>,
        poll: poll::<T>,
        commit: Some(commit::<T>),
        stop: stop::<T>,
        cancel: Some(cancel::<T>),
        destroy: destroy::<T>,
        acknowledged: Some(acknowledged::<T>),
    };
}

// SAFETY of every block below: as in `connector`.

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn start<T: SourceTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let config = Config::from_json(text(json, "a config")?)?;
            frame.inner.start(frame.context, &config)?;
            frame.set_canceller(frame.inner.canceller());
            frame.set_acknowledger(frame.inner.acknowledger());
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn poll<T: SourceTask>(c: *const abi::Call, instance: *mut c_void) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let reporter = frame.reporter;
            frame.inner.poll(&mut Output::new(&mut |batch| reporter.emit(batch)))
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn commit<T: SourceTask>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let positions: Vec<SourcePosition> = serde_json::from_str(text(json, "offsets")?)?;
            frame.inner.commit(&positions)
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn stop<T: SourceTask>(c: *const abi::Call, instance: *mut c_void) -> i32 {
    unsafe { call::<T>(c, instance, |frame| frame.inner.stop()) }
}
