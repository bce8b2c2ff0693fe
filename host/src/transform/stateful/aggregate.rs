//! `Aggregate`: results over the records of a key, in windows of event time.
//!
//! A window is one entry of the state: a byte for its version, one of flags, then what its kind needs and the aggregates. Sliding windows
//! keep an entry for each time that has records, and are put together when they close. A record is late when it would belong to nothing
//! that is open by the watermark of the records before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tributary_sdk::{Error, Result};

use super::accumulator::{Accumulator, Aggregation};
use super::aggregate_config::{AggregateConfig, Emit, config_def};
use super::event_time::{BEGINNING, EventTime};
use super::late::late_records;
use super::meta::{Meta, damaged};
use super::output::{Outcome, Shape};
use super::pick::{Pick, opened};
use super::settings::Shared;
use super::step::{Emitted, Moment, News, Stateful};
use super::stored;
use super::windows::Windows;
use crate::expression::{Answer, Record, Types};
use crate::state::{Kind, Shard, Space, Store};
use crate::transform::config::Settings;
use crate::transform::merge::Merged;
use crate::transform::part::{Opened, Part, Target};

const VERSION: u8 = 1;
/// Something changed since the last result.
const TOUCHED: u8 = 1;
/// There was a result.
const EMITTED: u8 = 2;
/// Sliding windows: the one that ends with this time has closed.
const ENDED: u8 = 4;

/// Results that are put into one batch.
const BATCH: usize = 8192;

/// See the module's documentation.
pub struct Aggregate {
    config: AggregateConfig,
    meta: Meta,
    entries: Space,
    shards: BTreeMap<Shard, ShardState>,
    upstream: Arc<[String]>,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// What is kept beside the store; all of it can be read from there, except what changed in the open layer.
struct ShardState {
    time: EventTime,
    shape: Option<Shape>,
    /// Entries that changed since the last commit, with `emit=change`.
    touched: BTreeSet<Vec<u8>>,
    /// Sessions that were emitted and have become part of another one.
    gone: BTreeSet<Vec<u8>>,
}

/// A record that counts.
struct Row {
    at: usize,
    time: i64,
    /// Its key's bytes.
    key: (usize, usize),
    values: Vec<Answer>,
}

/// Where and when something happens: in a shard, up to a watermark.
struct Place<'s> {
    store: &'s mut Store,
    shard: Shard,
    watermark: i64,
}

/// An entry, taken apart.
struct Entry {
    flags: u8,
    /// Sessions and entries without window: the latest time of a record.
    latest: i64,
    accumulators: Vec<Accumulator>,
}

impl Aggregate {
    /// The config definition.
    pub fn config_def() -> tributary_sdk::ConfigDef {
        config_def()
    }

    /// Takes its config.
    pub fn build(alias: &str, settings: &Settings<'_>) -> Result<Box<dyn Stateful>> {
        let config = AggregateConfig::new(settings)?;
        let kind = match config.windows {
            Windows::Tumbling { .. } | Windows::Hopping { .. } => Kind::looked_up(1),
            Windows::Session { .. } => Kind::scanned(2),
            Windows::Sliding { .. } => Kind::scanned(3),
            Windows::None => Kind::looked_up(4),
        };
        Ok(Box::new(Self {
            config,
            meta: Meta::new(alias),
            entries: Space::new(alias, kind),
            shards: BTreeMap::new(),
            upstream: Arc::default(),
            key: Vec::new(),
            value: Vec::new(),
        }))
    }

    fn open_shard(&mut self, store: &mut Store, shard: Shard) -> Result<()> {
        if self.shards.contains_key(&shard) {
            return Ok(());
        }
        let settings = self.config.shared.event_time;
        let time = self.meta.load_time(store, settings, &self.upstream)?;
        let shape = match self.meta.load(store, b"shape")? {
            None => None,
            Some(bytes) => Some(Shape::restore(&bytes).ok_or_else(|| damaged("the shape of its results"))?),
        };
        let state = ShardState { time, shape, touched: BTreeSet::new(), gone: BTreeSet::new() };
        self.shards.insert(shard, state);
        Ok(())
    }

    /// The records that count. Others are refused, or left out by the filter.
    fn read(&self, part: &mut Part<'_>, refused: &mut Vec<(usize, String)>, keys: &mut Vec<u8>) -> (Vec<Row>, usize) {
        let AggregateConfig { shared, aggregations, .. } = &self.config;
        let mut picks = self.place_picks();
        picks.extend(aggregations.iter().filter_map(|aggregation| aggregation.argument.as_ref()));
        let count = part.rows.len();
        let records = opened(part, &picks);
        let (mut rows, mut left_out, mut key) = (Vec::with_capacity(count), 0, Vec::new());
        for at in 0..count {
            let record = records.row(at);
            let mut read = || -> std::result::Result<Option<(i64, Vec<Answer>)>, String> {
                if !self.passes(&record)? {
                    return Ok(None);
                }
                shared.key_of(&record, &mut key)?;
                let time = shared.time_of(&record)?;
                let mut values = Vec::with_capacity(aggregations.len());
                for aggregation in aggregations {
                    let value = match &aggregation.argument {
                        Some(pick) => pick.value(&record)?,
                        None => Answer::Null,
                    };
                    aggregation.check(&value)?;
                    values.push(value);
                }
                Ok(Some((time, values)))
            };
            match read() {
                Ok(Some((time, values))) => {
                    let from = keys.len();
                    keys.extend_from_slice(&key);
                    rows.push(Row { at, time, key: (from, keys.len()), values });
                }
                Ok(None) => left_out += 1,
                Err(message) => refused.push((at, message)),
            }
        }
        (rows, left_out)
    }

    /// Adds a record; `false`: it is late.
    fn add(&mut self, place: &mut Place<'_>, key: &[u8], row: &Row, before: i64) -> Result<bool> {
        let lateness = self.config.lateness;
        let open = |end: i64| end.saturating_add(lateness) > before;
        match self.config.windows {
            windows @ (Windows::Tumbling { .. } | Windows::Hopping { .. }) => {
                let mut counted = false;
                for (start, end) in windows.of(row.time).filter(|(_, end)| open(*end)) {
                    counted = true;
                    let mut at = std::mem::take(&mut self.key);
                    self.entries.timed(key, start, &mut at);
                    let result = self.update(place, &at, row, end);
                    self.key = at;
                    result?;
                }
                Ok(counted)
            }
            Windows::Session { gap } => self.add_to_session(place, key, row, before, gap),
            Windows::Sliding { .. } => {
                if !open(row.time + 1) {
                    return Ok(false);
                }
                let mut at = std::mem::take(&mut self.key);
                self.entries.timed(key, row.time, &mut at);
                let result = self.update(place, &at, row, row.time + 1);
                self.key = at;
                result.map(|()| true)
            }
            Windows::None => {
                let mut at = std::mem::take(&mut self.key);
                self.entries.plain(key, &mut at);
                let result = self.update(place, &at, row, i64::MAX);
                self.key = at;
                result.map(|()| true)
            }
        }
    }

    /// Adds a record to the entry `at`, whose window ends at `end`.
    fn update(&mut self, place: &mut Place<'_>, at: &[u8], row: &Row, end: i64) -> Result<()> {
        let mut entry = match place.store.get(at)? {
            Some(bytes) => self.entry(bytes)?,
            None => self.new_entry(),
        };
        for ((aggregation, accumulator), value) in
            self.config.aggregations.iter().zip(&mut entry.accumulators).zip(&row.values)
        {
            aggregation.add(accumulator, value, row.time);
        }
        entry.latest = entry.latest.max(row.time);
        self.put(place, at, entry, end)
    }

    /// Joins a record with the sessions that it touches.
    fn add_to_session(&mut self, place: &mut Place<'_>, key: &[u8], row: &Row, before: i64, gap: i64) -> Result<bool> {
        let lateness = self.config.lateness;
        let is_open = |latest: i64| latest.saturating_add(gap).saturating_add(lateness) > before;
        let (mut from, mut to) = (Vec::new(), Vec::new());
        self.entries.timed(key, i64::MIN, &mut from);
        self.entries.timed(key, row.time.saturating_add(gap - 1), &mut to);
        let mut joined = self.new_entry();
        (joined.latest, joined.flags) = (row.time, 0);
        let (mut start, mut parts) = (row.time, Vec::new());
        for (at, bytes) in place.store.scan(&from, &to)? {
            let entry = self.entry(&bytes)?;
            let first = self.entries.parts(&at)?.1.unwrap_or_default();
            if entry.latest.saturating_add(gap) > row.time && is_open(entry.latest) {
                start = start.min(first);
                parts.push((at, entry));
            }
        }
        if parts.is_empty() && !is_open(row.time) {
            return Ok(false);
        }
        let mut at = Vec::new();
        self.entries.timed(key, start, &mut at);
        for (old, entry) in parts {
            joined.latest = joined.latest.max(entry.latest);
            for ((aggregation, into), other) in
                self.config.aggregations.iter().zip(&mut joined.accumulators).zip(&entry.accumulators)
            {
                aggregation.merge(into, other);
            }
            if old == at {
                joined.flags |= entry.flags & EMITTED;
                continue;
            }
            place.store.delete(&old)?;
            if let Some(state) = self.shards.get_mut(&place.shard) {
                state.touched.remove(&old);
                if entry.flags & EMITTED != 0 {
                    state.gone.insert(old);
                }
            }
        }
        for ((aggregation, accumulator), value) in
            self.config.aggregations.iter().zip(&mut joined.accumulators).zip(&row.values)
        {
            aggregation.add(accumulator, value, row.time);
        }
        if let Some(state) = self.shards.get_mut(&place.shard) {
            // It begins where another one did before.
            if state.gone.remove(&at) {
                joined.flags |= EMITTED;
            }
        }
        let end = joined.latest.saturating_add(gap);
        self.put(place, &at, joined, end)?;
        Ok(true)
    }

    /// Writes a changed entry, and when something is to happen with it.
    fn put(&mut self, place: &mut Place<'_>, at: &[u8], mut entry: Entry, end: i64) -> Result<()> {
        entry.flags |= TOUCHED;
        if self.config.emit == Emit::Change
            && let Some(state) = self.shards.get_mut(&place.shard)
            && !state.touched.contains(at)
        {
            state.touched.insert(at.to_vec());
        }
        let due = self.due(&entry, place.watermark, end);
        self.write(place.store, at, &entry, due)
    }

    fn write(&mut self, store: &mut Store, at: &[u8], entry: &Entry, due: Option<i64>) -> Result<()> {
        self.value.clear();
        self.value.extend_from_slice(&[VERSION, entry.flags]);
        if matches!(self.config.windows, Windows::Session { .. } | Windows::None) {
            self.value.extend_from_slice(&entry.latest.to_le_bytes());
        }
        entry.accumulators.iter().for_each(|accumulator| accumulator.write(&mut self.value));
        Ok(store.put(at, &self.value, due)?)
    }

    /// When an entry is to be looked at next.
    fn due(&self, entry: &Entry, watermark: i64, end: i64) -> Option<i64> {
        let last = self.end_of_life(entry, end);
        match self.config.emit {
            Emit::Interval(interval) if entry.flags & TOUCHED != 0 => {
                let tick = watermark.div_euclid(interval).saturating_add(1).saturating_mul(interval);
                Some(last.map_or(tick, |last| last.min(tick)))
            }
            _ => last,
        }
    }

    /// When an entry can change no more.
    fn end_of_life(&self, entry: &Entry, end: i64) -> Option<i64> {
        match self.config.windows {
            Windows::None => self.config.ttl.map(|ttl| entry.latest.saturating_add(ttl)),
            _ => Some(end.saturating_add(self.config.lateness)),
        }
    }

    fn new_entry(&self) -> Entry {
        let accumulators = self.config.aggregations.iter().map(Aggregation::empty).collect();
        Entry { flags: 0, latest: i64::MIN, accumulators }
    }

    fn entry(&self, bytes: &[u8]) -> Result<Entry> {
        let read = || {
            let (head, mut rest) = bytes.split_at_checked(2).filter(|(head, _)| head[0] == VERSION)?;
            let mut latest = i64::MIN;
            if matches!(self.config.windows, Windows::Session { .. } | Windows::None) {
                let (word, after) = rest.split_first_chunk::<8>()?;
                (latest, rest) = (i64::from_le_bytes(*word), after);
            }
            let accumulators: Option<Vec<Accumulator>> =
                self.config.aggregations.iter().map(|aggregation| aggregation.read(&mut rest)).collect();
            Some(Entry { flags: head[1], latest, accumulators: accumulators? }).filter(|_| rest.is_empty())
        };
        read().ok_or_else(|| damaged("a window whose aggregates are not those of the config"))
    }

    /// Takes the results that are due, and forgets what is over.
    fn take_due(&mut self, store: &mut Store, shard: Shard, watermark: i64, outcomes: &mut Vec<Outcome>) -> Result<()> {
        if watermark == BEGINNING || !store.has_due(&self.entries, watermark) {
            return Ok(());
        }
        loop {
            let due = store.due(&self.entries, watermark)?;
            if due.is_empty() {
                return Ok(());
            }
            if let Windows::Sliding { size } = self.config.windows {
                self.close_sliding(store, due, size, outcomes)?;
            } else {
                let mut place = Place { store, shard, watermark };
                for due in due {
                    self.close(&mut place, &due.key, &due.payload, outcomes)?;
                }
            }
        }
    }

    /// An entry's time has come.
    fn close(&mut self, place: &mut Place<'_>, at: &[u8], bytes: &[u8], outcomes: &mut Vec<Outcome>) -> Result<()> {
        let mut entry = self.entry(bytes)?;
        let (window, end) = self.window(at, &entry)?;
        let over = self.end_of_life(&entry, end).is_some_and(|last| last <= place.watermark);
        let touched = match self.config.emit {
            Emit::Close => true,
            Emit::Interval(_) => entry.flags & TOUCHED != 0,
            Emit::Change => self.shards.get_mut(&place.shard).is_some_and(|state| state.touched.remove(at)),
        };
        if touched {
            outcomes.push(self.outcome(at, &entry, window)?);
        }
        if over {
            return Ok(place.store.delete(at)?);
        }
        entry.flags = entry.flags & !TOUCHED | EMITTED;
        let due = self.end_of_life(&entry, end);
        self.write(place.store, at, &entry, due)
    }

    /// Start and end, and the end by which the entry lives.
    fn window(&self, at: &[u8], entry: &Entry) -> Result<(Option<(i64, i64)>, i64)> {
        let start = self.entries.parts(at)?.1.unwrap_or_default();
        let window = match self.config.windows {
            Windows::Tumbling { size } | Windows::Hopping { size, .. } => Some((start, start + size)),
            Windows::Session { gap } => Some((start, entry.latest.saturating_add(gap))),
            Windows::Sliding { .. } | Windows::None => None,
        };
        Ok((window, window.map_or(i64::MAX, |(_, end)| end)))
    }

    fn outcome(&self, at: &[u8], entry: &Entry, window: Option<(i64, i64)>) -> Result<Outcome> {
        let results = self.config.aggregations.iter().zip(&entry.accumulators);
        Ok(Outcome {
            key: self.record_key(at)?,
            window,
            values: Some(results.map(|(aggregation, accumulator)| aggregation.result(accumulator)).collect()),
            timestamp: window.map_or(entry.latest, |(_, end)| end - 1),
        })
    }

    fn record_key(&self, at: &[u8]) -> Result<Answer> {
        stored::read(self.entries.record_key(at)?).ok_or_else(|| damaged("a key that cannot be read"))
    }

    /// Times with records, in order: the windows that end with them, and those that begin behind them.
    fn close_sliding(
        &mut self,
        store: &mut Store,
        due: Vec<crate::state::Due>,
        size: i64,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        // What is put back becomes due again, perhaps before others of these.
        let until = due.last().map_or(BEGINNING, |due| due.due);
        let mut queue: BTreeMap<(i64, Vec<u8>), Vec<u8>> =
            due.into_iter().map(|due| ((due.due, due.key), due.payload)).collect();
        while let Some(((now, at), bytes)) = queue.pop_first() {
            let mut entry = self.entry(&bytes)?;
            let (record_key, time) = self.entries.parts(&at)?;
            let (record_key, time) = (record_key.to_vec(), time.unwrap_or_default());
            if entry.flags & ENDED == 0 {
                self.join(store, &record_key, (time + 1 - size, time), size, outcomes)?;
                entry.flags |= ENDED;
                let next = (time + 1).saturating_add(size).saturating_add(self.config.lateness);
                self.write(store, &at, &entry, Some(next))?;
                if next <= until {
                    queue.insert((next, at), self.value.clone());
                }
                continue;
            }
            debug_assert!(now > time);
            // The window that ends with the record at its very end is the same one.
            let mut last = Vec::new();
            self.entries.timed(&record_key, time + size, &mut last);
            if store.get(&last)?.is_none() {
                self.join(store, &record_key, (time + 1, time + size), size, outcomes)?;
            }
            store.delete(&at)?;
        }
        Ok(())
    }

    /// The window over these times, if it has records.
    fn join(
        &mut self,
        store: &mut Store,
        key: &[u8],
        times: (i64, i64),
        size: i64,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        self.entries.timed(key, times.0, &mut from);
        self.entries.timed(key, times.1, &mut to);
        let mut joined = self.new_entry();
        let found = store.scan(&from, &to)?;
        for (_, bytes) in &found {
            let entry = self.entry(bytes)?;
            for ((aggregation, into), other) in
                self.config.aggregations.iter().zip(&mut joined.accumulators).zip(&entry.accumulators)
            {
                aggregation.merge(into, other);
            }
        }
        if let Some((at, _)) = found.first() {
            outcomes.push(self.outcome(at, &joined, Some((times.0, times.0 + size)))?);
        }
        Ok(())
    }

    fn flush(&self, shard: Shard, last_row: u32, outcomes: &mut Vec<Outcome>, emitted: &mut Emitted) -> Result<()> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let shape = self.shards.get(&shard).and_then(|state| state.shape.as_ref());
        let shape = shape.ok_or_else(|| damaged("windows without the shape of their results"))?;
        emitted.made(shape.batch(shard, outcomes, &self.config.aggregations)?, last_row);
        outcomes.clear();
        Ok(())
    }

    fn save_time(&mut self, store: &mut Store, shard: Shard) -> Result<()> {
        self.meta.save_time(store, self.shards.get_mut(&shard).map(|state| &mut state.time))
    }
}

impl Stateful for Aggregate {
    fn apply(
        &mut self,
        store: &mut Store,
        shard: Shard,
        input: Merged,
        at: Moment<'_>,
        emitted: &mut Emitted,
    ) -> Result<()> {
        self.open_shard(store, shard)?;
        store.maintain();
        let Merged { batch, rows: origins } = input;
        let last_row = origins.last().copied().unwrap_or_default();
        let mut part = Part::whole(&batch);
        let types = types(&mut part);
        let topic = self.config.topic.clone().unwrap_or_else(|| batch.topic.clone());
        let shape = Shape::of(topic, types.as_ref(), &self.config.shared.key, &self.config.aggregations);
        let shape = match shape {
            Ok(shape) => shape,
            Err(message) => {
                emitted.refused.extend(origins.iter().map(|row| (*row, message.clone())));
                return Ok(());
            }
        };
        let (mut refused, mut keys) = (Vec::new(), Vec::new());
        let (rows, left_out) = self.read(&mut part, &mut refused, &mut keys);
        emitted.dropped += left_out;
        if let Some(state) = self.shards.get_mut(&shard)
            && state.shape.as_ref() != Some(&shape)
            && !rows.is_empty()
        {
            self.meta.save(store, b"shape", &shape.to_store().map_err(Error::failed)?)?;
            state.shape = Some(shape);
        }
        self.load(store, &rows, &keys)?;
        let input = match self.shards.get_mut(&shard) {
            Some(state) => {
                let input = state.time.input(at.upstream.unwrap_or(&batch.topic));
                state.time.hear(input, at.now_ms);
                input
            }
            None => 0,
        };
        let (mut late, mut outcomes) = (Vec::new(), Vec::new());
        for row in &rows {
            let Some(state) = self.shards.get_mut(&shard) else { break };
            let before = state.time.watermark();
            let watermark = state.time.observe(input, row.time);
            let mut place = Place { store, shard, watermark };
            if !self.add(&mut place, &keys[row.key.0..row.key.1], row, before)? {
                late.push(row.at);
            }
            // At once, so that it makes no difference where batches end.
            if watermark > before {
                self.take_due(store, shard, watermark, &mut outcomes)?;
            }
            if outcomes.len() >= BATCH {
                self.flush(shard, last_row, &mut outcomes, emitted)?;
            }
        }
        emitted.late += late.len() as u64;
        late_records(&self.config.shared.late, &batch, &origins, &late, &mut refused, emitted);
        emitted.refused.extend(refused.into_iter().map(|(at, message)| (origins[at], message)));
        self.flush(shard, last_row, &mut outcomes, emitted)?;
        self.save_time(store, shard)
    }

    fn advance(&mut self, store: &mut Store, shard: Shard, at: Moment<'_>, emitted: &mut Emitted) -> Result<()> {
        self.open_shard(store, shard)?;
        store.maintain();
        let Some(state) = self.shards.get_mut(&shard) else { return Ok(()) };
        state.time.tick(at.now_ms, at.reading);
        self.emit_due(store, shard, emitted)
    }

    fn before_commit(&mut self, store: &mut Store, shard: Shard, emitted: &mut Emitted) -> Result<()> {
        let Some(state) = self.shards.get_mut(&shard) else { return Ok(()) };
        let (touched, gone) = (std::mem::take(&mut state.touched), std::mem::take(&mut state.gone));
        let mut outcomes = Vec::new();
        for at in gone {
            let start = self.entries.parts(&at)?.1.unwrap_or_default();
            let window = Some((start, start));
            outcomes.push(Outcome { key: self.record_key(&at)?, window, values: None, timestamp: start });
        }
        for at in touched {
            let Some(bytes) = store.get(&at)? else { continue };
            let mut entry = self.entry(bytes)?;
            let (window, end) = self.window(&at, &entry)?;
            outcomes.push(self.outcome(&at, &entry, window)?);
            if entry.flags != EMITTED {
                entry.flags = EMITTED;
                let due = self.end_of_life(&entry, end);
                self.write(store, &at, &entry, due)?;
            }
            if outcomes.len() >= BATCH {
                self.flush(shard, 0, &mut outcomes, emitted)?;
            }
        }
        self.flush(shard, 0, &mut outcomes, emitted)
    }

    fn forget(&mut self, shard: Shard) {
        self.shards.remove(&shard);
    }

    fn max_bytes(&self) -> usize {
        self.config.shared.max_bytes
    }

    fn shared(&self) -> &Shared {
        &self.config.shared
    }

    fn place_picks(&self) -> Vec<&Pick> {
        let AggregateConfig { shared, filter, .. } = &self.config;
        [Some(&shared.key), shared.time.as_ref(), filter.as_ref()].into_iter().flatten().collect()
    }

    fn place(&self, record: &dyn Record, key: &mut Vec<u8>) -> std::result::Result<Option<i64>, String> {
        if !self.passes(record)? {
            return Ok(None);
        }
        self.config.shared.key_of(record, key)?;
        self.config.shared.time_of(record).map(Some)
    }

    fn makes_records(&self) -> bool {
        true
    }

    fn depends_on_time(&self) -> bool {
        self.config.windows != Windows::None || self.config.ttl.is_some()
    }

    fn expect(&mut self, upstream: Arc<[String]>) {
        self.upstream = upstream;
        // What is open has read its inputs from the state.
        self.shards.clear();
    }

    fn hear(
        &mut self,
        store: &mut Store,
        shard: Shard,
        news: &News,
        at: Moment<'_>,
        emitted: &mut Emitted,
    ) -> Result<()> {
        self.open_shard(store, shard)?;
        store.maintain();
        let Some(state) = self.shards.get_mut(&shard) else { return Ok(()) };
        state.time.told(&news.upstream, news.latest, news.idle, at.now_ms);
        self.emit_due(store, shard, emitted)
    }
}

impl Aggregate {
    /// Emits what is due by the watermark.
    fn emit_due(&mut self, store: &mut Store, shard: Shard, emitted: &mut Emitted) -> Result<()> {
        let watermark = self.shards.get(&shard).map_or(BEGINNING, |state| state.time.watermark());
        let mut outcomes = Vec::new();
        self.take_due(store, shard, watermark, &mut outcomes)?;
        self.flush(shard, 0, &mut outcomes, emitted)?;
        self.save_time(store, shard)
    }

    /// Whether the filter lets a record through.
    fn passes(&self, record: &dyn Record) -> std::result::Result<bool, String> {
        let Some(filter) = &self.config.filter else { return Ok(true) };
        match filter.value(record)? {
            Answer::Boolean(answer) => Ok(answer),
            other => {
                let (text, name) = (filter.expression().text(), other.type_name());
                Err(format!("the expression '{text}' gave {name} where true or false is wanted"))
            }
        }
    }

    /// Brings the entries of a batch into memory at once. Sessions are scanned one by one.
    fn load(&mut self, store: &mut Store, rows: &[Row], keys: &[u8]) -> Result<()> {
        if !store.is_cold() {
            return Ok(());
        }
        let (mut bytes, mut ends, mut at) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let key = &keys[row.key.0..row.key.1];
            let mut note = |at: &Vec<u8>| {
                bytes.extend_from_slice(at);
                ends.push(bytes.len());
            };
            match self.config.windows {
                windows @ (Windows::Tumbling { .. } | Windows::Hopping { .. }) => {
                    for (start, _) in windows.of(row.time) {
                        self.entries.timed(key, start, &mut at);
                        note(&at);
                    }
                }
                Windows::Sliding { .. } => {
                    self.entries.timed(key, row.time, &mut at);
                    note(&at);
                }
                Windows::None => {
                    self.entries.plain(key, &mut at);
                    note(&at);
                }
                Windows::Session { .. } => {}
            }
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        Ok(store.load(starts.zip(&ends).map(|(from, to)| &bytes[from..*to]))?)
    }
}

/// The schemas of a part; `None`: its values are schemaless.
fn types(part: &mut Part<'_>) -> Option<Types> {
    let value = match part.open(Target::Value) {
        Opened::Json(_) => return None,
        Opened::Column(column) => column.field().clone(),
    };
    let key = match part.open(Target::Key) {
        Opened::Json(_) => None,
        Opened::Column(column) => Some(column.field().clone()),
    };
    Some(Types { value: Some(value), key })
}
