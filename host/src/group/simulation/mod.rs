//! Thousands of seeded schedules of joins, leaves, crashes, pauses, lost and repeated messages, coordinator changes and
//! config changes, over members that are real and a coordinator that is modelled. The model is judged by a real one
//! (`against_kafka`): seeded requests to both get the same answers. The same members run against a real broker in `tests/group`.
//!
//! Checked all the time: nothing is started on a worker while another one that runs it may still write. Checked in the end:
//! everything runs exactly once, evenly, and nothing moves any more.
//!
//! `TRIBUTARY_SEED=n` repeats one schedule, `TRIBUTARY_SCHEDULES=n` runs so many.

mod against_kafka;
mod coordinator;
mod rolling;
mod world;

use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.trim().parse().expect("a number"))
}

#[test]
fn everything_runs_exactly_once_whatever_happens() {
    if let Some(seed) = number("TRIBUTARY_SEED") {
        println!("TRIBUTARY_SEED={seed}");
        return World::new(seed, true).run();
    }
    each_schedule(1_000, |seed| World::new(seed, false).run());
}

/// Runs so many schedules, or what `TRIBUTARY_SCHEDULES` says.
fn each_schedule(schedules: u64, schedule: impl Fn(u64) + Sync + std::panic::RefUnwindSafe) {
    let schedules = number("TRIBUTARY_SCHEDULES").unwrap_or(schedules);
    // Other ones each time, but for a few that are always there.
    let first = u64::from(std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_nanos()));
    let next = std::sync::atomic::AtomicU64::new(0);
    let run = || {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= schedules {
                return;
            }
            let seed = if number < schedules / 4 { number } else { first + number };
            let outcome = std::panic::catch_unwind(|| schedule(seed));
            if let Err(panic) = outcome {
                eprintln!("repeat with TRIBUTARY_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(run);
        }
    });
}
