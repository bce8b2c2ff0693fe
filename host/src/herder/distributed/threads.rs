//! Threads for what waits: one each, and one that keeps an order.

use std::sync::mpsc::{Sender, channel};

use super::ports::Jobs;

/// Stopping and small requests need little.
const STACK: usize = 512 << 10;

/// Real threads.
pub struct Threads {
    queue: Sender<Box<dyn FnOnce() + Send>>,
}

impl Threads {
    /// Starts the thread that keeps the order; it ends with this value.
    pub fn start() -> std::io::Result<Self> {
        let (queue, work) = channel::<Box<dyn FnOnce() + Send>>();
        std::thread::Builder::new().name("herder-configs".to_owned()).spawn(move || {
            for job in work {
                job();
            }
        })?;
        Ok(Self { queue })
    }
}

impl Jobs for Threads {
    fn run(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> bool {
        let spawned = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work);
        spawned.map_err(|error| tracing::error!("cannot start the thread {name}: {error}")).is_ok()
    }

    fn queue(&self, work: Box<dyn FnOnce() + Send>) {
        // The thread ends only with this value.
        let _ = self.queue.send(work);
    }
}
