//! The function table of a transform.

use std::ffi::c_void;
use std::marker::PhantomData;

use tributary_abi as abi;

use super::instance::{call, create, destroy};
use crate::config::Config;
use crate::ffi::{Taken, text};
use crate::sink::Failures;
use crate::source::Output;
use crate::transform::Transform;

/// The table of a transform.
pub(super) fn table<T: Transform>() -> &'static abi::TransformVtable {
    &Table::<T>::TABLE
}

struct Table<T>(PhantomData<T>);

impl<T: Transform> Table<T> {
    const TABLE: abi::TransformVtable = abi::TransformVtable {
        size: size_of::<abi::TransformVtable>(),
        create: create::<T>,
        configure: configure::<T>,
        apply: apply::<T>,
        on_watermark: Some(on_watermark::<T>),
        destroy: destroy::<T>,
    };
}

// SAFETY of every block below: as in `connector`.

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn configure<T: Transform>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let config = Config::from_json(text(json, "a config")?)?;
            frame.inner.configure(frame.context, &config)
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn apply<T: Transform>(c: *const abi::Call, instance: *mut c_void, batch: *mut abi::Batch) -> i32 {
    unsafe {
        // Taken before anything can fail: it is ours whatever the answer.
        let taken = Taken::take(batch);
        call::<T>(c, instance, |frame| {
            let reporter = frame.reporter;
            let mut failures = Failures::default();
            let mut emit = |batch| reporter.emit(batch);
            frame.inner.apply(taken?.into_batch()?, &mut Output::new(&mut emit), &mut failures)?;
            reporter.failures(&failures);
            Ok(())
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
unsafe extern "C" fn on_watermark<T: Transform>(c: *const abi::Call, instance: *mut c_void, json: abi::Str) -> i32 {
    unsafe {
        call::<T>(c, instance, |frame| {
            let watermark_ms: i64 = serde_json::from_str(text(json, "a watermark")?)?;
            let reporter = frame.reporter;
            frame.inner.on_watermark(watermark_ms, &mut Output::new(&mut |batch| reporter.emit(batch)))
        })
    }
}
