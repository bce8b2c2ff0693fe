//! The process's own `poll`, because librdkafka waits busily.
//!
//! While records of an idempotent producer are on their way, librdkafka (2.12) sends no further request to their partition. If another batch is ready
//! meanwhile, the thread of that broker asks its socket without any patience, again and again, until the response is there. That costs a whole core, which
//! the broker may need for the response. So a thread that has asked in vain twice waits for up to a millisecond at each further call: what it waits for, its
//! socket or the pipe that wakes it, ends that at once. All other calls of `poll`, by whomever, are the system's.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;

/// Calls in vain before one waits.
const IN_VAIN: u32 = 2;
const WAIT_NS: libc::c_long = 1_000_000;

thread_local! {
    static IS_BROKER: Cell<Option<bool>> = const { Cell::new(None) };
    static VAIN: Cell<u32> = const { Cell::new(0) };
}

/// Makes sure that this `poll` is linked in wherever a client is made.
pub(super) fn link() {
    std::hint::black_box(poll as unsafe extern "C" fn(*mut libc::pollfd, libc::nfds_t, c_int) -> c_int);
}

/// Whether librdkafka runs this thread for a broker: they have names.
fn is_broker() -> bool {
    if let Some(known) = IS_BROKER.get() {
        return known;
    }
    let mut name = [0 as c_char; 16];
    // SAFETY: the call writes at most 16 bytes, of which the last one is zero.
    let is = unsafe {
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) == 0
            && CStr::from_ptr(name.as_ptr()).to_bytes().starts_with(b"rdk:broker")
    };
    // The name comes soon after the thread's beginning, and stays.
    if is {
        IS_BROKER.set(Some(true));
    }
    is
}

/// See the module.
///
/// # Safety
/// As of the system's: `fds` points to `count` descriptions.
#[unsafe(no_mangle)]
unsafe extern "C" fn poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout_ms: c_int) -> c_int {
    let patience = match timeout_ms {
        0 if VAIN.get() >= IN_VAIN && is_broker() => libc::timespec { tv_sec: 0, tv_nsec: WAIT_NS },
        _ => libc::timespec {
            tv_sec: libc::time_t::from(timeout_ms.max(0) / 1000),
            tv_nsec: libc::c_long::from(timeout_ms.max(0) % 1000) * 1_000_000,
        },
    };
    let patience = if timeout_ms < 0 { ptr::null() } else { &raw const patience };
    // SAFETY: the caller's promise; the time lives until the call returns; without a mask no signal is blocked or let through.
    let events = unsafe { libc::ppoll(fds, count, patience, ptr::null()) };
    VAIN.set(if timeout_ms == 0 && events == 0 { VAIN.get().saturating_add(1) } else { 0 });
    events
}
