//! A task's state, entry by entry or as serde types.
//!
//! Writes become durable together with the next commit of offsets; a read sees the task's own writes at once. For many keys
//! use [`Services::state_get_many`](crate::Services::state_get_many) and `state_put_many`: one crossing each.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::errors::{Error, Result};

/// The state of one shard; from [`Context::state`].
#[derive(Clone, Copy)]
pub struct State<'a> {
    context: &'a Context,
    shard: &'a str,
}

impl<'a> State<'a> {
    pub(crate) fn new(context: &'a Context, shard: &'a str) -> Self {
        Self { context, shard }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.context.state_get_many(self.shard, &[key])?.pop().flatten())
    }

    /// Sets a key.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.context.state_put_many(self.shard, &[(key, Some(value))])
    }

    /// Removes a key.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.context.state_put_many(self.shard, &[(key, None)])
    }

    /// The value of a key that [`Self::put_as`] set.
    pub fn get_as<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        serde_json::from_slice(&value).map(Some).map_err(|error| {
            let key = String::from_utf8_lossy(key);
            Error::failed(format!("the state of key {key} in shard {} is not what was asked for: {error}", self.shard))
        })
    }

    /// Sets a key to a serde type, as JSON.
    pub fn put_as(&self, key: &[u8], value: &impl Serialize) -> Result<()> {
        self.put(key, &serde_json::to_vec(value)?)
    }

    /// The entries whose key begins with `prefix`, in byte order, until `entry` answers `false`.
    pub fn scan(&self, prefix: &[u8], mut entry: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        self.context.state_scan(self.shard, prefix, prefix, &mut entry)
    }
}
