//! What a transform keeps in a shard beside its entries: event time, and what it needs to read them.

use tributary_sdk::{Error, Result};

use super::event_time::{EventTime, EventTimeSettings};
use crate::state::{Kind, Space, StateError, Store};

const TIME: &[u8] = b"time";

/// The space of one transform.
pub(super) struct Meta(Space);

impl Meta {
    pub fn new(alias: &str) -> Self {
        Self(Space::new(alias, Kind::META))
    }

    /// What was saved under a name.
    pub fn load(&self, store: &mut Store, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut key = Vec::new();
        self.0.plain(name, &mut key);
        Ok(store.get(&key)?.map(<[u8]>::to_vec))
    }

    /// Saves it with the open transaction.
    pub fn save(&self, store: &mut Store, name: &[u8], bytes: &[u8]) -> Result<()> {
        let mut key = Vec::new();
        self.0.plain(name, &mut key);
        Ok(store.put(&key, bytes, None)?)
    }

    /// The shard's event time; `upstream`: the inputs that others read.
    pub fn load_time(&self, store: &mut Store, settings: EventTimeSettings, upstream: &[String]) -> Result<EventTime> {
        let mut time = match self.load(store, TIME)? {
            None => EventTime::new(settings),
            Some(bytes) => EventTime::restore(settings, &bytes).ok_or_else(|| damaged("its event time"))?,
        };
        time.expect(upstream);
        Ok(time)
    }

    /// Saves it, if it has changed.
    pub fn save_time(&self, store: &mut Store, time: Option<&mut EventTime>) -> Result<()> {
        match time.and_then(EventTime::to_store) {
            Some(bytes) => self.save(store, TIME, &bytes),
            None => Ok(()),
        }
    }
}

/// The error of state that cannot be read.
pub(super) fn damaged(what: &str) -> Error {
    StateError::new(format!(
        "the state of the transform has {what}, and cannot be used: it comes from another version or another config; \
         give the transform another alias to begin anew, or go back to the config that made it"
    ))
    .into()
}
