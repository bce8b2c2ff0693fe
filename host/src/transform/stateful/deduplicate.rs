//! `Deduplicate`: of records with one key, the first or the last within a time.
//!
//! `keep=first` lets the first record of a key through and remembers its time; records whose times are less than `ttl.ms` away are
//! duplicates. `keep=last` holds the record with the greatest time (or `order.by`) until `ttl.ms` after the first one, and emits it then.
//! A record is late when everything that it could be compared with is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::BooleanArray;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::event_time::{BEGINNING, EventTime};
use super::held_record::{Held, Keeper, Schemas, batches};
use super::late::late_records;
use super::meta::{Meta, damaged};
use super::pick::{Pick, opened};
use super::settings::{Shared, define, number, pick};
use super::step::{Emitted, Moment, News, Stateful};
use super::stored::{self, compare, length, take};
use crate::expression::{Answer, Record};
use crate::state::{Kind, Shard, Space, Store};
use crate::transform::config::{Settings, invalid};
use crate::transform::headers::{Header, Headers, HeadersBuilder};
use crate::transform::merge::{Merged, merge};
use crate::transform::part::Part;

/// The header of duplicates, with `action=tag`.
const TAG: &str = "duplicate";
/// What an entry begins with: the layout's version.
const VERSION: u8 = 1;

/// See the module's documentation.
pub struct Deduplicate {
    shared: Shared,
    keep: Keep,
    ttl: i64,
    refresh: bool,
    tag: bool,
    meta: Meta,
    entries: Space,
    shards: BTreeMap<Shard, ShardState>,
    upstream: Arc<[String]>,
}

enum Keep {
    First,
    /// The greatest by this; `None`: by time.
    Last(Option<Pick>),
}

struct ShardState {
    time: EventTime,
    schemas: Schemas,
}

/// A record that can be looked up.
struct Row {
    at: usize,
    time: i64,
    /// Its entry's key.
    key: (usize, usize),
    order: Answer,
}

impl Deduplicate {
    /// The config definition.
    pub fn config_def() -> ConfigDef {
        let def = ConfigDef::new()
            .define(
                ConfigKey::optional("keep", Type::String, "first", Importance::High, "Which of the records with one key goes on: first (at once) or last (after ttl.ms of event time).")
                    .validator(Validator::one_of(&["first", "last"])),
            )
            .define(ConfigKey::nullable("order.by", Type::String, Importance::Medium, "With keep=last, a CEL expression: the record with the greatest value is kept, of equal ones the last to come. Without it, the one with the greatest time."))
            .define(
                ConfigKey::optional("ttl.ms", Type::Long, "86400000", Importance::High, "How long a key is remembered, in event time: of two records with one key, the later one is a duplicate if it is less than this later.")
                    .validator(Validator::at_least(1)),
            )
            .define(ConfigKey::optional("ttl.refresh", Type::Boolean, "false", Importance::Medium, "Whether a duplicate makes its key be remembered for another ttl.ms."))
            .define(
                ConfigKey::optional("action", Type::String, "drop", Importance::Medium, "What happens to duplicates, with keep=first: drop, or tag (they go on with a header named duplicate, whose value is true).")
                    .validator(Validator::one_of(&["drop", "tag"])),
            );
        define(def)
    }

    /// Takes its config.
    pub fn build(alias: &str, settings: &Settings<'_>) -> Result<Box<dyn Stateful>> {
        let order = pick(settings, "order.by")?;
        let tag = settings.text("action") == "tag";
        let keep = match (settings.text("keep"), order) {
            ("last", order) => Keep::Last(order),
            (_, None) => Keep::First,
            (_, Some(order)) => {
                let what = "it decides which record is the last: set keep=last, or leave it out";
                return Err(invalid("order.by", order.expression().text(), what));
            }
        };
        if tag && matches!(keep, Keep::Last(_)) {
            return Err(Error::failed(
                "action=tag lets every record go on at once, and keep=last none: set one of them otherwise",
            ));
        }
        let kind = if matches!(keep, Keep::First) { 1 } else { 2 };
        Ok(Box::new(Self {
            shared: Shared::new(settings)?,
            keep,
            ttl: number(settings, "ttl.ms", 1)?,
            refresh: settings.boolean("ttl.refresh")?,
            tag,
            meta: Meta::new(alias),
            entries: Space::new(alias, Kind::looked_up(kind)),
            shards: BTreeMap::new(),
            upstream: Arc::default(),
        }))
    }

    fn open_shard(&mut self, store: &mut Store, shard: Shard) -> Result<()> {
        if !self.shards.contains_key(&shard) {
            let settings = self.shared.event_time;
            let time = self.meta.load_time(store, settings, &self.upstream)?;
            self.shards.insert(shard, ShardState { time, schemas: Schemas::default() });
        }
        Ok(())
    }

    fn order(&self) -> Option<&Pick> {
        match &self.keep {
            Keep::Last(order) => order.as_ref(),
            Keep::First => None,
        }
    }

    fn read(&self, part: &mut Part<'_>, refused: &mut Vec<(usize, String)>, keys: &mut Vec<u8>) -> Vec<Row> {
        let (order, picks) = (self.order(), self.place_picks());
        let count = part.rows.len();
        let records = opened(part, &picks);
        let (mut rows, mut key, mut whole) = (Vec::with_capacity(count), Vec::new(), Vec::new());
        for at in 0..count {
            let record = records.row(at);
            let mut read = || -> std::result::Result<(i64, Answer), String> {
                self.shared.key_of(&record, &mut key)?;
                let order = order.map_or(Ok(Answer::Null), |order| order.value(&record))?;
                Ok((self.shared.time_of(&record)?, order))
            };
            match read() {
                Ok((time, order)) => {
                    self.entries.plain(&key, &mut whole);
                    let from = keys.len();
                    keys.extend_from_slice(&whole);
                    rows.push(Row { at, time, key: (from, keys.len()), order });
                }
                Err(message) => refused.push((at, message)),
            }
        }
        rows
    }

    /// Whether a record is the first of its key.
    fn is_first(&self, store: &mut Store, key: &[u8], time: i64, before: i64) -> Result<bool> {
        let known = match store.get(key)? {
            None => None,
            Some(&[VERSION, ref time @ ..]) => {
                let time = time.try_into().map_err(|_| damaged("an entry that cannot be read"))?;
                Some(i64::from_le_bytes(time))
            }
            Some(_) => return Err(damaged("an entry that cannot be read")),
        };
        // What is over by the watermark is forgotten, whether it is still there or not.
        let known = known.filter(|known| known.saturating_add(self.ttl) > before);
        let duplicate = known.is_some_and(|known| time.saturating_sub(known).saturating_abs() < self.ttl);
        let remembered = match known {
            None => time,
            Some(known) if !duplicate || self.refresh => known.max(time),
            Some(_) => return Ok(false),
        };
        if known != Some(remembered) {
            let mut value = [VERSION; 9];
            value[1..].copy_from_slice(&remembered.to_le_bytes());
            store.put(key, &value, Some(self.purge_at(remembered)))?;
        }
        Ok(!duplicate)
    }

    /// When a key is forgotten. Rounded up, so that many are forgotten at once; it makes no difference to what is a duplicate.
    fn purge_at(&self, time: i64) -> i64 {
        let step = (self.ttl / 64).clamp(1, 60_000);
        let end = time.saturating_add(self.ttl);
        end.div_euclid(step).saturating_add(1).saturating_mul(step)
    }

    /// Holds a record, or what is held, whichever is greater.
    fn hold(&self, store: &mut Store, key: &[u8], row: &Row, record: &[u8], before: i64) -> Result<()> {
        let order = match &self.keep {
            Keep::Last(Some(_)) => row.order.clone(),
            _ => Answer::Integer(row.time),
        };
        let mut order_bytes = Vec::new();
        stored::write(&order, &mut order_bytes);
        let mut value = vec![VERSION];
        let held = match store.get(key)? {
            Some(&[VERSION, ref rest @ ..]) => Some(held(rest).ok_or_else(|| damaged("an entry that cannot be read"))?),
            Some(_) => return Err(damaged("an entry that cannot be read")),
            None => None,
        };
        let due = match held {
            Some((due, known, held_record)) if due > before => {
                let due = if self.refresh { due.max(row.time.saturating_add(self.ttl)) } else { due };
                value.extend_from_slice(&due.to_le_bytes());
                let known = stored::read(known).ok_or_else(|| damaged("an entry that cannot be read"))?;
                if compare(&order, &known).is_lt() {
                    let mut bytes = Vec::new();
                    stored::write(&known, &mut bytes);
                    put(&mut value, &bytes, held_record);
                } else {
                    put(&mut value, &order_bytes, record);
                }
                due
            }
            _ => {
                let due = row.time.saturating_add(self.ttl);
                value.extend_from_slice(&due.to_le_bytes());
                put(&mut value, &order_bytes, record);
                due
            }
        };
        Ok(store.put(key, &value, Some(due))?)
    }

    /// Forgets what is over; with `keep=last`, takes the records that are emitted.
    fn take_due(&mut self, store: &mut Store, watermark: i64, out: &mut Vec<Held>) -> Result<()> {
        if watermark == BEGINNING || !store.has_due(&self.entries, watermark) {
            return Ok(());
        }
        loop {
            let due = store.due(&self.entries, watermark)?;
            if due.is_empty() {
                return Ok(());
            }
            for due in due {
                if matches!(self.keep, Keep::Last(_)) {
                    let record = due.payload.get(1..).and_then(held).and_then(|(_, _, record)| Held::read(record));
                    out.push(record.ok_or_else(|| damaged("a record that cannot be read"))?);
                }
                store.delete(&due.key)?;
            }
        }
    }

    fn emit(
        &mut self,
        store: &mut Store,
        shard: Shard,
        last_row: u32,
        held: &[Held],
        emitted: &mut Emitted,
    ) -> Result<()> {
        let Some(state) = self.shards.get_mut(&shard) else { return Ok(()) };
        for batch in batches(held, shard, &mut state.schemas, store, &self.meta)? {
            emitted.made(batch, last_row);
        }
        Ok(())
    }

    /// Emits what is due by the watermark.
    fn emit_due(&mut self, store: &mut Store, shard: Shard, emitted: &mut Emitted) -> Result<()> {
        let watermark = self.shards.get(&shard).map_or(BEGINNING, |state| state.time.watermark());
        let mut due = Vec::new();
        self.take_due(store, watermark, &mut due)?;
        self.emit(store, shard, 0, &due, emitted)?;
        self.save_time(store, shard)
    }

    fn save_time(&mut self, store: &mut Store, shard: Shard) -> Result<()> {
        self.meta.save_time(store, self.shards.get_mut(&shard).map(|state| &mut state.time))
    }
}

/// Time, order and record of an entry.
fn held(bytes: &[u8]) -> Option<(i64, &[u8], &[u8])> {
    let (due, mut rest) = bytes.split_first_chunk::<8>()?;
    let order = take(&mut rest)?;
    Some((i64::from_le_bytes(*due), order, rest))
}

fn put(value: &mut Vec<u8>, order: &[u8], record: &[u8]) {
    length(order.len(), value);
    value.extend_from_slice(order);
    value.extend_from_slice(record);
}

/// The part with a header on the rows that are duplicates.
fn tagged<'a>(mut part: Part<'a>, first: &[bool]) -> Part<'a> {
    if first.iter().all(|first| *first) {
        return part;
    }
    let list = part.headers();
    let known = Headers::of(list.as_ref());
    let mut headers = HeadersBuilder::new(first.len());
    for (row, first) in first.iter().enumerate() {
        known.row(row).for_each(|header| headers.push(header));
        if !first {
            headers.push(Header { key: TAG, schema: Some("boolean"), value: Some(b"true") });
        }
        headers.end_row();
    }
    part.headers = Some(headers.finish());
    part
}

impl Stateful for Deduplicate {
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
        let (mut refused, mut keys) = (Vec::new(), Vec::new());
        let rows = {
            let mut part = Part::whole(&batch);
            self.read(&mut part, &mut refused, &mut keys)
        };
        store.load(rows.iter().map(|row| &keys[row.key.0..row.key.1]))?;
        let Some(state) = self.shards.get_mut(&shard) else { return Ok(()) };
        let input = state.time.input(at.upstream.unwrap_or(&batch.topic));
        state.time.hear(input, at.now_ms);
        let keeper = match self.keep {
            Keep::Last(_) => Some(Keeper::new(&batch, &mut state.schemas, store, &self.meta)?),
            Keep::First => None,
        };
        let (mut late, mut due, mut record) = (Vec::new(), Vec::new(), Vec::new());
        let (mut keep, mut first) = (vec![false; batch.len()], vec![true; batch.len()]);
        for row in &rows {
            let Some(state) = self.shards.get_mut(&shard) else { break };
            let before = state.time.watermark();
            let watermark = state.time.observe(input, row.time);
            let key = &keys[row.key.0..row.key.1];
            if row.time.saturating_add(self.ttl) <= before {
                late.push(row.at);
            } else if let Some(keeper) = &keeper {
                record.clear();
                match keeper.write(row.at, &mut record) {
                    Ok(()) => self.hold(store, key, row, &record, before)?,
                    Err(message) => refused.push((row.at, message)),
                }
                // At once, so that it makes no difference where batches end.
                if watermark > before {
                    self.take_due(store, watermark, &mut due)?;
                }
            } else {
                first[row.at] = self.is_first(store, key, row.time, before)?;
                keep[row.at] = first[row.at] || self.tag;
                emitted.dropped += usize::from(!keep[row.at]);
            }
        }
        emitted.late += late.len() as u64;
        late_records(&self.shared.late, &batch, &origins, &late, &mut refused, emitted);
        emitted.refused.extend(refused.into_iter().map(|(at, message)| (origins[at], message)));
        if keeper.is_some() {
            self.emit(store, shard, last_row, &due, emitted)?;
        } else {
            let watermark = self.shards.get(&shard).map_or(BEGINNING, |state| state.time.watermark());
            self.take_due(store, watermark, &mut due)?;
            let mut part = Part::whole(&batch);
            if self.tag {
                part = tagged(part, &first);
            }
            let part = part.filter(&BooleanArray::from(keep));
            if !part.rows.is_empty() {
                emitted.next.extend(merge(vec![part]).into_iter().map(|merged| {
                    let rows = merged.rows.iter().map(|&row| origins[row as usize]).collect();
                    Merged { rows, ..merged }
                }));
            }
        }
        self.save_time(store, shard)
    }

    fn advance(&mut self, store: &mut Store, shard: Shard, at: Moment<'_>, emitted: &mut Emitted) -> Result<()> {
        self.open_shard(store, shard)?;
        store.maintain();
        let Some(state) = self.shards.get_mut(&shard) else { return Ok(()) };
        state.time.tick(at.now_ms, at.reading);
        self.emit_due(store, shard, emitted)
    }

    fn before_commit(&mut self, _store: &mut Store, _shard: Shard, _emitted: &mut Emitted) -> Result<()> {
        Ok(())
    }

    fn forget(&mut self, shard: Shard) {
        self.shards.remove(&shard);
    }

    fn max_bytes(&self) -> usize {
        self.shared.max_bytes
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn place_picks(&self) -> Vec<&Pick> {
        [Some(&self.shared.key), self.shared.time.as_ref(), self.order()].into_iter().flatten().collect()
    }

    fn place(&self, record: &dyn Record, key: &mut Vec<u8>) -> std::result::Result<Option<i64>, String> {
        self.shared.key_of(record, key)?;
        // What cannot be compared is refused, too.
        if let Some(order) = self.order() {
            order.value(record)?;
        }
        self.shared.time_of(record).map(Some)
    }

    fn makes_records(&self) -> bool {
        matches!(self.keep, Keep::Last(_))
    }

    fn depends_on_time(&self) -> bool {
        true
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
