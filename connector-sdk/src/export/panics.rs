//! Panics inside a call: caught, with message, place and trace.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::errors::Error;

thread_local! {
    /// Calls under way on this thread: only their panics are kept, others go to the hook that was there before.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static LAST: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Makes panics inside calls be remembered instead of printed: the worker reports them. Each library has its own copy of
/// the standard library and so its own hook; linked in, it is the worker's, and the previous hook sees all other panics.
pub(super) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.with(Cell::get) == 0 {
                return previous(info);
            }
            let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
            let message = format!("{}{}", text_of(info.payload()), place.unwrap_or_default());
            let trace = trimmed(&Backtrace::force_capture().to_string());
            LAST.with(|last| last.replace(Some((message, trace))));
        }));
    });
}

/// Runs `body`; a panic becomes [`Error::Panicked`].
pub(super) fn contained<R>(body: impl FnOnce() -> R) -> Result<R, Error> {
    install_hook();
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(body));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|payload| {
        // Nothing was remembered if somebody replaced the hook: the payload still has the message.
        let (message, trace) =
            LAST.with(RefCell::take).unwrap_or_else(|| (text_of(payload.as_ref()).to_owned(), String::new()));
        // A payload's own drop may panic, and that must not leave this function.
        std::mem::forget(payload);
        Error::Panicked { message, trace }
    })
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(a panic without a message)")
}

/// The frames between the panic machinery and the boundary: what the plugin's author wrote. The whole trace, where they
/// cannot be told apart.
fn trimmed(trace: &str) -> String {
    let mut frames: Vec<Vec<&str>> = Vec::new();
    for line in trace.lines() {
        let begins = line.trim_start().split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        match frames.last_mut() {
            Some(frame) if !begins => frame.push(line),
            _ => frames.push(vec![line]),
        }
    }
    let is_any = |frame: &[&str], names: &[&str]| frame.iter().any(|line| names.iter().any(|name| line.contains(name)));
    let machinery =
        ["/rustc/", "core::panicking", "std::panicking", "std::sys::", "rust_begin_unwind", "export/panics.rs"];
    let begin = frames.iter().position(|frame| !is_any(frame, &machinery)).unwrap_or(0);
    let caught = ["catch_unwind", "do_call<"];
    let end = frames[begin..].iter().position(|frame| is_any(frame, &caught)).map_or(frames.len(), |end| begin + end);
    // Between the author's code and the catch stand the shims.
    let shims = ["connector-sdk/src/export/", "tributary_sdk::export::", "core::ops::function::FnOnce", "call_once<"];
    let shim = frames[begin..end].iter().rposition(|frame| !is_any(frame, &shims)).map_or(end, |last| begin + last + 1);
    if shim == begin { trace.to_owned() } else { frames[begin..shim].concat().join("\n") }
}
