//! Tickets: how plugins name the services of their instance.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, RwLock};

use tributary_sdk::Services;

static ISSUED: LazyLock<RwLock<HashMap<usize, Arc<dyn Services>>>> = LazyLock::new(RwLock::default);
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// Keeps services reachable for plugins until it is dropped.
pub(super) struct Ticket(usize);

impl Ticket {
    pub fn issue(services: Arc<dyn Services>) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        ISSUED.write().expect("nothing panics under this lock").insert(number, services);
        Self(number)
    }

    /// What crosses the boundary: a number in a pointer's clothes. Nobody dereferences it.
    pub fn as_context(&self) -> *const c_void {
        std::ptr::without_provenance(self.0)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let services = ISSUED.write().expect("nothing panics under this lock").remove(&self.0);
        // Outside of the lock: the services' own drop may do anything.
        drop(services);
    }
}

/// The services behind a ticket; `None` once its instance is gone.
pub(super) fn services(context: *const c_void) -> Option<Arc<dyn Services>> {
    ISSUED.read().expect("nothing panics under this lock").get(&context.addr()).cloned()
}
