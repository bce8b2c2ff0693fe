//! Workers restarted one after the other: how often each task is interrupted by it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rand::Rng;
use rand::seq::SliceRandom;

use super::world::{MS, QUIET, SECOND, World};
use super::{each_schedule, number};

/// All workers are restarted in an order that the seed decides, each gone for `away` milliseconds; the next one as soon as
/// everything runs again. How often each thing was started meanwhile.
fn roll(seed: u64, verbose: bool, away: std::ops::Range<u64>) -> BTreeMap<(String, Option<u32>), usize> {
    let mut world = World::empty(seed, verbose, true);
    for _ in 0..world.random.random_range(1..14) {
        world.change_config();
    }
    let workers = world.random.random_range(2..5);
    for _ in 0..workers {
        world.start(None);
    }
    world.run_until(20 * SECOND);
    assert_eq!(world.owners(), world.wanted(), "seed {seed}");
    let before = world.starts.clone();
    let mut order: Vec<usize> = (0..workers).collect();
    order.shuffle(&mut world.random);
    for node in order {
        world.leave(node);
        settle(&mut world, seed, |world| !world.nodes[node].alive);
        let gone = world.random.random_range(away.clone());
        world.run_until(world.now + gone * MS);
        let url = world.nodes[node].url.clone();
        world.start(Some(url));
        let back = world.nodes.len() - 1;
        let idle = before.len() < workers * 4;
        settle(&mut world, seed, |world| {
            (idle || !world.nodes[back].running.is_empty()) && world.owners() == world.wanted()
        });
        let pause = world.random.random_range(0..500);
        world.run_until(world.now + pause * MS);
    }
    let since = |(resource, starts): (&(String, Option<u32>), &usize)| {
        (resource.clone(), starts - before.get(resource).copied().unwrap_or_default())
    };
    let starts = world.starts.iter().map(since).collect();
    world.run_until(world.now + 2 * QUIET);
    world.judge();
    starts
}

fn settle(world: &mut World, seed: u64, done: impl Fn(&World) -> bool) {
    let until = world.now + 30 * SECOND;
    while !done(world) {
        assert!(world.now < until, "seed {seed}: it does not settle");
        world.run_until(world.now + 10 * MS);
    }
}

#[test]
fn a_rolling_restart_interrupts_everything_once() {
    let once = |seed, verbose| {
        let starts = roll(seed, verbose, 0..900);
        assert!(starts.values().all(|starts| *starts == 1), "seed {seed}: {starts:?}");
    };
    match number("TRIBUTARY_SEED") {
        Some(seed) => once(seed, true),
        None => each_schedule(500, |seed| once(seed, false)),
    }
}

/// Workers that are away for longer than they are waited for: what they had goes elsewhere, and comes back as far as the
/// balance wants it to; nothing else moves.
#[test]
fn a_slow_rolling_restart_moves_everything_away_and_back() {
    if let Some(seed) = number("TRIBUTARY_SEED") {
        println!("{:?}", roll(seed, true, 7_000..15_000));
        return;
    }
    let (all, things) = (AtomicUsize::new(0), AtomicUsize::new(0));
    each_schedule(300, |seed| {
        let starts = roll(seed, false, 7_000..15_000);
        all.fetch_add(starts.values().sum(), Relaxed);
        things.fetch_add(starts.len(), Relaxed);
    });
    let mean = all.into_inner() as f64 / things.into_inner() as f64;
    println!("{mean:.2} starts on the average");
    assert!(mean <= 2.0, "{mean}");
}
