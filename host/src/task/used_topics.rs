//! The topics that a task uses, as `GET /connectors/{c}/topics` shows them.
//!
//! A topic is told of when it is first used, and from time to time again while it is: the list may have been reset, and
//! then it has the topics that are used since.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delivery::TopicUsed;

/// How often a topic in use is told of again.
const AGAIN: Duration = Duration::from_secs(1);

/// The topics of one task.
pub struct UsedTopics {
    tell: TopicUsed,
    told: HashMap<Arc<str>, Instant>,
}

impl UsedTopics {
    /// None yet.
    pub fn new(tell: TopicUsed) -> Self {
        Self { tell, told: HashMap::new() }
    }

    /// Whether the topic is used for the first time.
    pub fn is_new(&self, topic: &str) -> bool {
        !self.told.contains_key(topic)
    }

    /// The task uses a topic now.
    pub fn used(&mut self, topic: &Arc<str>) {
        let now = Instant::now();
        match self.told.get_mut(topic) {
            Some(told) if now.duration_since(*told) < AGAIN => return,
            Some(told) => *told = now,
            None => _ = self.told.insert(topic.clone(), now),
        }
        (self.tell)(topic);
    }
}
