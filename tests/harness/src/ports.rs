//! Free TCP ports on the loopback address.
//!
//! A port is given out once a process and is free when given. It lies below the range from which the
//! kernel takes ports for outgoing connections: a server that is killed and started again on such a
//! port could find it taken by any connection made meanwhile, and a client that keeps trying the
//! dead server could even connect to itself.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{Error, Result};

const FIRST: u16 = 10_000;
const LINUX_EPHEMERAL: u16 = 32_768;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that nobody listens on and that this process has not been given before.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let given = given.get_or_insert_default();
    let range = range();
    let mut random = StdRng::from_os_rng();
    // From a random place, so that test processes that start together do not meet.
    for _ in 0..10_000 {
        let port = random.random_range(range.clone());
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(Error::new(format!("no free port in {range:?}")))
}

fn range() -> Range<u16> {
    let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(LINUX_EPHEMERAL);
    // Someone may have given the kernel nearly everything; then there is no better range than this.
    if ephemeral < FIRST + 2_000 { FIRST..LINUX_EPHEMERAL } else { FIRST..ephemeral }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: HashSet<u16> = (0..200).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 200);
    }
}
