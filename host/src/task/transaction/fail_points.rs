//! Places at which tests let the worker die, as kill -9 would, or stand still.
//!
//! `TRIBUTARY_TEST_FAIL_POINT=<place>:<count>` ends the process, without any farewell, when it passes the place for the
//! `count`th time; `<place>:<count>:<millis>` holds the passing thread for so long instead. Places are `before-<step>` and
//! `after-<step>` of the commit loop; `@<file>` takes the rest from a file. Without the variable, passing costs a look at an
//! empty option.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct FailPoint {
    place: String,
    count: u64,
    hold: Option<Duration>,
    passed: AtomicU64,
}

static FAIL_POINT: LazyLock<Option<FailPoint>> = LazyLock::new(|| {
    let text = std::env::var("TRIBUTARY_TEST_FAIL_POINT").ok()?;
    let text = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).ok().filter(|text| !text.trim().is_empty())?,
        None => text,
    };
    let mut parts = text.trim().split(':');
    let point = FailPoint {
        place: parts.next()?.to_owned(),
        count: parts.next().unwrap_or("1").parse().ok()?,
        hold: parts.next().and_then(|millis| millis.parse().ok()).map(Duration::from_millis),
        passed: AtomicU64::new(0),
    };
    tracing::warn!("this worker is to fail at {text}: TRIBUTARY_TEST_FAIL_POINT is set");
    Some(point)
});

/// The commit loop is at this place.
#[inline]
pub fn pass(side: &str, step: &str) {
    if let Some(point) = &*FAIL_POINT {
        point.pass(side, step);
    }
}

impl FailPoint {
    #[cold]
    fn pass(&self, side: &str, step: &str) {
        if self.place.split_once('-') != Some((side, step)) {
            return;
        }
        if self.passed.fetch_add(1, Ordering::AcqRel) + 1 != self.count {
            return;
        }
        match self.hold {
            Some(time) => std::thread::sleep(time),
            None => std::process::abort(),
        }
    }
}
