//! Streaming: the log's messages into change events.
//!
//! Events are gathered by table, so that tables that change by turns still make batches; between the records of different topics Kafka
//! keeps no order anyway. A poll hands over what is there, at most a batch, wherever in a transaction that ends: memory does not
//! depend on the size of transactions. Only the last batch of a poll says where to resume.

mod signals;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_sdk::{Batch, Context, Error, Result};

use super::adhoc::Request;
use super::backoff::Backoff;
use super::catalog::{self, Types};
use super::envelope::{Events, Op, Place};
use super::incremental::Incremental;
use super::offsets::Offset;
use super::pgoutput::{Message, Old, Relation, Value};
use super::reader::{EPOCH_2000_US, Item, Pace, Reader};
use super::snapshot::Session;
use super::table::{Plan, PlannedColumn};
use super::transactions::{self, Transactions};
use super::{lsn, slot, snapshot};
use crate::client::{Connection, Interrupts, PgResult};
use crate::config::SourceConfig;

/// A table in the log.
enum Table {
    Captured(Box<Events>),
    /// The filters do not let it pass.
    Ignored,
}

/// A transaction under way.
#[derive(Clone, Copy)]
struct Open {
    begun: u64,
    commit: u64,
    time_us: i64,
    xid: u32,
    /// Its events so far.
    events: u64,
    /// So many of them are out already.
    skip: u64,
    /// Those up to this place are out already: Debezium's count.
    out: u64,
    /// Whether its beginning was told.
    told: bool,
}

/// See the module.
pub(crate) struct Stream {
    reader: Reader,
    /// For the catalogue; without it, one is made when it is needed.
    connection: Option<Connection>,
    interrupts: Interrupts,
    types: Types,
    tables: HashMap<u32, Table>,
    /// Tables with events, in the order of their first ones.
    dirty: Vec<u32>,
    /// Batches of tables whose columns changed.
    ready: Vec<Batch>,
    events: usize,
    /// Whether the last poll had many events.
    busy: bool,
    /// When the last poll that had any was done.
    read: Instant,
    items: std::vec::IntoIter<Item>,
    open: Option<Open>,
    /// Everything before it is read: behind the last transaction, or what the server told since.
    last_commit: u64,
    /// Behind the last transaction that had something, if there was one.
    sequence: Option<u64>,
    /// What was handed over, where a transaction was partly out.
    resume: Option<Offset>,
    /// Where records of transactions are wanted.
    transactions: Option<Transactions>,
    /// Snapshots that were asked for, the one under way first.
    requests: Vec<Request>,
    incremental: Incremental,
    /// Of what was asked for.
    backoff: Backoff,
    /// When it was last said that what was asked for is paused.
    paused: Option<Instant>,
    /// Whether tables may be read again.
    is_signalled: bool,
    /// The table of signals, once it was seen.
    signals: Option<u32>,
    last: Option<(u64, u64, i64)>,
    /// Whether the place has moved since it was handed over.
    moved: bool,
}

/// Bytes of values that a poll hands over.
const BYTES: usize = 4 << 20;
/// A poll that had so many events is one of many: the next one waits for [`GATHER`], unless more than [`ENOUGH`] bytes are there. The server sends
/// change by change, and a batch of a few costs nearly as much as one of many. Single transactions do not wait.
const MANY: usize = 64;
const GATHER: Duration = Duration::from_millis(2);
const ENOUGH: usize = 256 << 10;
/// A poll goes through so many of the log's messages at most, and so long: most of them may be of nothing that is captured.
const MESSAGES: usize = 100_000;
const LONG: Duration = Duration::from_millis(500);
/// The least time from one poll with events to the next: a thousand single transactions a second cost less together.
const PACE: Duration = Duration::from_millis(1);

impl Stream {
    /// Streams on `replication`, from where `offset` says; what lies before `safe` is stored.
    pub fn start(
        config: &SourceConfig,
        mut replication: Connection,
        session: Session,
        interrupts: Interrupts,
        offset: Offset,
        safe: u64,
    ) -> Result<Self> {
        let Session { connection, types, .. } = session;
        let from = offset.resume_at();
        let what = "beginning to stream";
        slot::start(&mut replication, config, from).map_err(|error| error.into_error(what))?;
        let pace = Pace { queue_bytes: config.queue_bytes, status_interval: config.status_interval };
        Ok(Self {
            reader: Reader::start(replication, from, safe, pace).map_err(|error| error.into_error(what))?,
            connection: Some(connection),
            interrupts,
            types,
            tables: HashMap::new(),
            dirty: Vec::new(),
            ready: Vec::new(),
            events: 0,
            busy: false,
            read: Instant::now(),
            items: Vec::new().into_iter(),
            open: None,
            last_commit: from,
            sequence: offset.tx_id.map(|_| from),
            transactions: config.transaction_topic.is_some().then(Transactions::default),
            requests: offset.adhoc.clone(),
            incremental: Incremental::default(),
            backoff: Backoff::default(),
            paused: None,
            is_signalled: config.signals.is_some() || !offset.adhoc.is_empty(),
            signals: None,
            resume: Some(offset),
            last: None,
            moved: false,
        })
    }

    /// Everything before this place is safely out.
    pub fn set_safe(&self, lsn: u64) {
        self.reader.set_safe(lsn);
    }

    /// Whether the place has moved past what was handed over, with nothing to hand over for it.
    pub fn moved(&self) -> bool {
        self.moved
    }

    /// Where a task resumes that has everything up to here.
    pub fn offset(&self) -> Offset {
        let adhoc = self.requests.clone();
        // As long as nothing came behind what was out, that is what is out: the offset of a heartbeat forgets none of it.
        let resume = self.resume.as_ref();
        if let Some(resume) = resume.filter(|resume| resume.is_within_of_debezium()) {
            return Offset { adhoc, snapshot: None, ..resume.clone() };
        }
        let resume = resume.filter(|resume| resume.transaction.is_some());
        let open = self.open.filter(|open| open.events.max(open.skip) > 0);
        let (xid, time) = match (self.last, open) {
            (Some((_, xid, time)), _) => (Some(xid), Some(time)),
            (None, Some(open)) => (Some(open.xid.into()), Some(open.time_us)),
            (None, None) => (resume.and_then(|resume| resume.tx_id), resume.and_then(|resume| resume.ts_usec)),
        };
        Offset {
            lsn_commit: Some(self.last_commit),
            lsn: Some(self.last.map_or(self.last_commit, |(lsn, _, _)| lsn)),
            tx_id: xid,
            ts_usec: time,
            transaction: open.map(|open| open.commit).or(resume.and_then(|resume| resume.transaction)),
            events: open.map(|open| open.events.max(open.skip)).or(resume.and_then(|resume| resume.events)),
            adhoc,
            ..Offset::default()
        }
    }

    /// Whether no transaction is under way: the place is one between two.
    pub fn between(&self) -> bool {
        self.open.is_none()
    }

    /// What has changed: batches in order, of which the last one gets [`Self::offset`]; waits for so long if there is nothing.
    pub fn read(&mut self, context: &Context, config: &SourceConfig, patience: Duration) -> Result<Vec<Batch>> {
        let mut patience = patience;
        if self.items.len() == 0 && self.reader.queued() < ENOUGH {
            let gather = if self.busy { GATHER } else { PACE.saturating_sub(self.read.elapsed()) };
            if !gather.is_zero() {
                std::thread::sleep(gather);
            }
        }
        let (begun, mut messages) = (Instant::now(), 0_usize);
        while self.events < config.batch {
            messages += 1;
            if messages > MESSAGES || messages.is_multiple_of(1024) && begun.elapsed() >= LONG {
                break;
            }
            let Some(item) = self.items.next() else {
                let chunk = self.reader.take(patience).map_err(|error| error.into_error("reading the log"))?;
                if chunk.is_empty() {
                    break;
                }
                self.items = chunk.into_iter();
                // Once there is something, only what is there already comes with it.
                patience = Duration::ZERO;
                continue;
            };
            match item {
                Item::Data { lsn, data } => {
                    let message = Message::parse(data).ok_or_else(|| torn(lsn))?;
                    self.take(context, config, lsn, message)?;
                }
                Item::Alive { end } => {
                    // Nothing that is captured lies before it.
                    if self.open.is_none() && end > self.last_commit {
                        self.last_commit = end;
                        self.moved = true;
                    }
                }
            }
            if self.bytes() >= BYTES {
                break;
            }
        }
        self.busy = self.events >= MANY;
        if self.events > 0 {
            self.read = Instant::now();
        }
        self.events = 0;
        let mut batches = std::mem::take(&mut self.ready);
        for relation in self.dirty.drain(..) {
            if let Some(Table::Captured(events)) = self.tables.get_mut(&relation)
                && !events.is_empty()
            {
                batches.push(events.finish());
            }
        }
        let topic = config.transaction_topic.as_deref().unwrap_or_default();
        batches.extend(self.transactions.as_mut().and_then(|transactions| transactions.finish(topic)));
        batches.extend(self.read_again(context, config));
        if !batches.is_empty() {
            self.moved = false;
        }
        Ok(batches)
    }

    fn bytes(&self) -> usize {
        let of = |relation: &u32| match self.tables.get(relation) {
            Some(Table::Captured(events)) => events.bytes(),
            _ => 0,
        };
        self.dirty.iter().map(of).sum()
    }

    fn take(&mut self, context: &Context, config: &SourceConfig, lsn: u64, message: Message) -> Result<()> {
        match message {
            Message::Begin { commit, time, xid } => self.begin(lsn, commit, time, xid),
            Message::Commit { end } => {
                // What Debezium had partly out is out now as a whole.
                let open = self.open.take();
                if open.is_some_and(|open| open.out > 0 && open.events > 0) {
                    self.resume = None;
                }
                if let (Some(transactions), Some(open)) = (&mut self.transactions, open) {
                    let time_ms = open.time_us / 1000;
                    if !open.told {
                        transactions.begin(transactions::id(open.xid, open.begun), time_ms);
                        self.events += 1;
                    }
                    transactions.end(transactions::id(open.xid, lsn), time_ms);
                    self.events += 1;
                }
                self.last_commit = end;
                self.sequence = Some(end);
                self.moved = true;
            }
            Message::Relation(relation) => self.relation(context, config, &relation)?,
            Message::Insert { relation, new } => {
                if self.signals == Some(relation) && self.open.is_some_and(|open| open.events >= open.skip) {
                    self.signal(context, config, &new)?;
                }
                self.touch(relation, None, Some(&new));
                self.loosen(config, relation, &new);
                if let Some((events, place)) = self.change(config, relation, lsn, 'c') {
                    events.push(Op::Create, place, None, Some(&new))?;
                }
            }
            Message::Update { relation, old, new } => self.update(config, relation, lsn, old, &new)?,
            Message::Delete { relation, old: (kind, old) } => {
                let tombstones = config.tombstones;
                self.touch(relation, Some(&old), None);
                if kind == Old::Full {
                    self.loosen(config, relation, &old);
                }
                if let Some((events, place)) = self.change(config, relation, lsn, 'd') {
                    check_key(&events.plan, kind, place)?;
                    events.push(Op::Delete, place, Some(&old), None)?;
                    if tombstones && !events.plan.key.is_empty() {
                        events.push_tombstone(place, &old)?;
                    }
                }
            }
            Message::Truncate { relations } => {
                for (number, relation) in relations.into_iter().enumerate() {
                    // One event of the transaction, however many tables.
                    if number > 0
                        && let Some(open) = &mut self.open
                    {
                        open.events -= 1;
                    }
                    if let (Some(Table::Captured(events)), Some(open)) = (self.tables.get(&relation), self.open)
                        && self.is_signalled
                    {
                        self.incremental.truncate(&events.plan, open.xid);
                    }
                    if let Some((events, place)) = self.change(config, relation, lsn, 't') {
                        events.push(Op::Truncate, place, None, None)?;
                    }
                }
            }
            Message::Other => {}
        }
        Ok(())
    }

    fn begin(&mut self, begun: u64, commit: u64, time: i64, xid: u32) {
        let time_us = time + EPOCH_2000_US;
        let mut open = Open { begun, commit, time_us, xid, events: 0, skip: 0, out: 0, told: false };
        if let Some(resume) = &self.resume {
            match (resume.transaction, resume.events) {
                (Some(transaction), Some(events)) if transaction == commit => open.skip = events,
                _ => {}
            }
            // Debezium counts by places, which lie in order inside of a transaction, and in no other one.
            if !resume.is_within_of_debezium() {
                self.resume = None;
            } else if resume.tx_id.is_none_or(|id| id as u32 == xid) {
                open.out = resume.lsn_proc.unwrap_or_default();
            }
        }
        open.told = open.skip > 0 || open.out > 0;
        if let Some(transactions) = &mut self.transactions {
            transactions.restart();
        }
        self.open = Some(open);
    }

    /// An event's table and place, if it is to be given.
    fn change(&mut self, config: &SourceConfig, relation: u32, lsn: u64, op: char) -> Option<(&mut Events, Place)> {
        let wanted = !config.skipped.contains(&op);
        self.change_of(relation, lsn, [wanted, false]).map(|(events, place, _)| (events, place))
    }

    /// The same of a change that is two records; `wanted` says which of them are.
    fn change_of(&mut self, relation: u32, lsn: u64, wanted: [bool; 2]) -> Option<(&mut Events, Place, Place)> {
        let open = self.open.as_mut()?;
        open.events += 1;
        let is_out = open.events <= open.skip || lsn <= open.out;
        if !is_out {
            self.resume = None;
            self.moved = true;
            if let Some(transactions) = self.transactions.as_mut().filter(|_| !open.told) {
                transactions.begin(transactions::id(open.xid, open.begun), open.time_us / 1000);
                self.events += 1;
            }
            open.told = true;
        }
        let open = *open;
        let Some(Table::Captured(events)) = self.tables.get_mut(&relation) else { return None };
        let mut count = |wanted: bool| {
            let transactions = self.transactions.as_mut().filter(|_| wanted)?;
            Some(transactions.count(&events.plan.full_name()))
        };
        let (order, second) = (count(wanted[0]), count(wanted[1]));
        if is_out || wanted == [false, false] {
            return None;
        }
        if events.is_empty() {
            self.dirty.push(relation);
        }
        self.events += 1;
        self.last = Some((lsn, open.xid.into(), open.time_us));
        let last_commit = self.sequence;
        let place = Place { time_us: open.time_us, lsn, xid: Some(open.xid), last_commit, snapshot: "false", order };
        Some((events, place, Place { order: second, ..place }))
    }

    /// Tells a table that is being read, or will be, of a change.
    fn touch(&mut self, relation: u32, old: Option<&[Value]>, new: Option<&[Value]>) {
        if self.is_signalled
            && let (Some(Table::Captured(events)), Some(open)) = (self.tables.get(&relation), self.open)
        {
            self.incremental.touch(&events.plan, open.xid, old, new);
        }
    }

    fn update(
        &mut self,
        config: &SourceConfig,
        relation: u32,
        lsn: u64,
        old: Option<(Old, Vec<Value>)>,
        new: &[Value],
    ) -> Result<()> {
        let moved = match (&old, self.tables.get(&relation)) {
            (Some((_, old)), Some(Table::Captured(events))) => key_differs(&events.plan.key, old, new),
            _ => false,
        };
        // What was not sent may be in the old row, of which the key alone is no row before.
        let full: Vec<Value>;
        let new = match &old {
            Some((_, old)) => {
                full = new.iter().enumerate().map(|(at, value)| known(value, old.get(at))).collect();
                &full
            }
            None => new,
        };
        if let Some((Old::Full, old)) = &old {
            self.loosen(config, relation, old);
        }
        // Also where the record's key is the same: it need not be the one that a table is read by.
        self.touch(relation, old.as_ref().map(|(_, old)| &**old), Some(new));
        self.loosen(config, relation, new);
        if !moved {
            if let Some((events, place)) = self.change(config, relation, lsn, 'u') {
                let before = old.as_ref().filter(|(kind, _)| *kind == Old::Full).map(|(_, old)| &**old);
                events.push(Op::Update, place, before, Some(new))?;
            }
            return Ok(());
        }
        // Another key is another record: the old one goes, the new one comes.
        let two = ['d', 'c'].map(|op| !config.skipped.contains(&op));
        let Some((events, place, second)) = self.change_of(relation, lsn, two) else { return Ok(()) };
        let (kind, old) = old.unwrap_or((Old::Key, Vec::new()));
        check_key(&events.plan, kind, place)?;
        if two[0] {
            events.push(Op::Delete, place, Some(&old), None)?;
            if config.tombstones {
                events.push_tombstone(place, &old)?;
            }
        }
        if two[1] {
            events.push(Op::Create, second, None, Some(new))?;
        }
        Ok(())
    }

    /// Makes columns optional that have no value in this row: a value that is not there must not become one that is.
    fn loosen(&mut self, config: &SourceConfig, relation: u32, row: &[Value]) {
        if let Some(Table::Captured(events)) = self.tables.get_mut(&relation)
            && let Some(plan) = events.plan.loosened(row)
        {
            if !events.is_empty() {
                self.ready.push(events.finish());
                self.dirty.retain(|dirty| *dirty != relation);
            }
            **events = Events::new(config, Arc::new(plan));
        }
    }

    /// A table's columns, as they are from here on.
    fn relation(&mut self, context: &Context, config: &SourceConfig, relation: &Relation) -> Result<()> {
        if let Some(Table::Captured(events)) = self.tables.get_mut(&relation.oid)
            && !events.is_empty()
        {
            self.ready.push(events.finish());
            self.dirty.retain(|dirty| *dirty != relation.oid);
        }
        if config.signals.as_ref().is_some_and(|(schema, name)| (schema, name) == (&relation.schema, &relation.name)) {
            self.signals = Some(relation.oid);
        }
        if !config.filters.table(&relation.schema, &relation.name) {
            self.tables.insert(relation.oid, Table::Ignored);
            return Ok(());
        }
        let what = format!("reading the catalogue for {}.{}", relation.schema, relation.name);
        let types = &self.types;
        let unknown = relation.columns.iter().any(|column| types.get(column.type_oid).is_none());
        let oid = relation.oid;
        let (tables, types) = with_connection(&mut self.connection, config, &self.interrupts, |connection| {
            let tables = catalog::tables(connection, &format!("c.oid = {oid}"))?;
            Ok((tables, if unknown { Some(Types::read(connection)?) } else { None }))
        })
        .map_err(|error| error.into_error(&what))?;
        if let Some(types) = types {
            self.types = types;
        }
        let plan = Plan::of_relation(config, &self.types, relation, tables.first())?;
        if !plan.unknown.is_empty() {
            let (table, columns) = (plan.full_name(), plan.unknown.join(", "));
            context.warn(format!("columns of {table} are left out, since their types are not known: {columns}"));
        }
        let same = matches!(self.tables.get(&oid), Some(Table::Captured(events)) if *events.plan == plan);
        if !same {
            self.tables.insert(oid, Table::Captured(Box::new(Events::new(config, Arc::new(plan)))));
        }
        Ok(())
    }
}

/// Asks on a connection that may have broken while nobody used it: then on a new one.
fn with_connection<T>(
    connection: &mut Option<Connection>,
    config: &SourceConfig,
    interrupts: &Interrupts,
    ask: impl Fn(&mut Connection) -> PgResult<T>,
) -> PgResult<T> {
    if let Some(existing) = connection {
        match ask(existing) {
            Err(error) if error.passes() => *connection = None,
            outcome => return outcome,
        }
    }
    let mut new = config.server.connect(interrupts)?;
    snapshot::prepare(&mut new, config)?;
    let answer = ask(&mut new)?;
    *connection = Some(new);
    Ok(answer)
}

/// Whether a key changed, as far as the old row tells.
fn key_differs(key: &[PlannedColumn], old: &[Value], new: &[Value]) -> bool {
    // Columns that the old row does not have tell nothing.
    key.iter().filter(|column| column.identity).any(|column| match (old.get(column.at), new.get(column.at)) {
        (Some(Value::Text(old)), Some(Value::Text(new))) => old != new,
        (Some(Value::Null), Some(Value::Text(_))) | (Some(Value::Text(_)), Some(Value::Null)) => true,
        _ => false,
    })
}

/// Whether an old row has the whole key. What Kafka has under a key goes only by that key.
fn check_key(plan: &Plan, kind: Old, place: Place) -> Result<()> {
    match plan.key_gap().filter(|_| kind == Old::Key) {
        None => Ok(()),
        Some(column) => {
            let (table, column) = (plan.full_name(), &column.name);
            Err(Error::failed(format!(
                "a deletion or a change of the key of {table} at {} does not tell the key column {column}, which is not in the table's replica \
                 identity: ALTER TABLE {table} REPLICA IDENTITY FULL, or choose columns of the replica identity by message.key.columns",
                lsn::show(place.lsn)
            )))
        }
    }
}

/// A value, taken from the old row where the server did not send it.
fn known(value: &Value, old: Option<&Value>) -> Value {
    match (value, old) {
        (Value::Unchanged, Some(old @ Value::Text(_))) => old.clone(),
        _ => value.clone(),
    }
}

fn torn(at: u64) -> Error {
    Error::failed(format!("the server sent a message at {} that is none of pgoutput's", lsn::show(at)))
}
