//! What both sides of the plugin boundary share: batches over the Arrow C Data Interface, and the results of a call.
//!
//! Promises: no copy of column data in either direction; every imported array is checked before anything reads it, and a
//! malformed one is refused with the column's name; each array is released exactly once, whoever fails. What it cannot
//! promise: that a buffer is as long as the array's length says (see the rules in `tributary-abi`).
//!
//! Connectors never use this module; the worker and the export shims do.

mod call;
mod check;
mod export;
mod import;

pub use call::{Collector, Reporter, emitted};
pub use export::Exported;
pub use import::Taken;

use tributary_abi as abi;

/// The bytes behind a [`abi::Str`].
///
/// # Safety
/// `str` points to `len` readable bytes that stay so and unchanged for `'a`.
pub unsafe fn bytes<'a>(str: abi::Str) -> &'a [u8] {
    if str.ptr.is_null() || str.len == 0 {
        return &[];
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { std::slice::from_raw_parts(str.ptr, str.len) }
}

/// The text behind a [`abi::Str`]; an error that names `what` when it is not UTF-8.
///
/// # Safety
/// As [`bytes`].
pub unsafe fn text<'a>(str: abi::Str, what: &str) -> crate::Result<&'a str> {
    // SAFETY: the caller's promise is the same.
    std::str::from_utf8(unsafe { bytes(str) })
        .map_err(|error| crate::Error::failed(format!("{what} is not UTF-8: {error}")))
}

/// The text behind a [`abi::Str`], with what is not UTF-8 replaced: for messages.
///
/// # Safety
/// As [`bytes`].
pub unsafe fn lossy(str: abi::Str) -> String {
    // SAFETY: the caller's promise is the same.
    String::from_utf8_lossy(unsafe { bytes(str) }).into_owned()
}

/// Borrows text for a call.
pub fn str(text: &str) -> abi::Str {
    abi::Str::new(text.as_bytes())
}
