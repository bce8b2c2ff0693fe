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

/// The frames between the panic machinery and the boundary: what the plugin's author wrote.
fn trimmed(trace: &str) -> String {
    let lines: Vec<&str> = trace.lines().collect();
    let is_frame = |line: &str| line.trim_start().split_once(": ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
    let machinery = |line: &str| {
        ["core::panicking::", "rust_begin_unwind", "__rustc::rust_begin_unwind", "std::panicking::"]
            .iter()
            .any(|name| line.contains(name))
    };
    let from = lines.iter().rposition(|line| is_frame(line) && machinery(line) && !line.contains("::try"));
    let mut start = from.map_or(0, |at| at + 1);
    while start < lines.len() && !is_frame(lines[start]) {
        start += 1;
    }
    let length = lines[start..].iter().position(|line| is_frame(line) && line.contains("export::panics::contained"));
    let kept = &lines[start..length.map_or(lines.len(), |length| start + length)];
    if kept.is_empty() { trace.to_owned() } else { kept.join("\n") }
}
