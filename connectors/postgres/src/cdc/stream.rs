//! Streaming: the log's messages into change events.
//!
//! Events are gathered by table, so that tables that change by turns still make batches; between the records of different topics Kafka
//! keeps no order anyway. A poll hands over what is there, at most a batch, wherever in a transaction that ends: memory does not
//! depend on the size of transactions. Only the last batch of a poll says where to resume.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::{Batch, Context, Error, Result};

use super::catalog::{self, Types};
use super::envelope::{Events, Op, Place};
use super::offsets::Offset;
use super::pgoutput::{Message, Old, Relation, Value};
use super::reader::{EPOCH_2000_US, Item, Pace, Reader};
use super::snapshot::Session;
use super::table::{Plan, PlannedColumn};
use super::visibility::Visibility;
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
    commit: u64,
    time_us: i64,
    xid: u32,
    /// Its events so far.
    events: u64,
    /// So many of them are out already.
    skip: u64,
    /// Those up to this place are out already: Debezium's count.
    out: u64,
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
    items: std::vec::IntoIter<Item>,
    open: Option<Open>,
    /// Behind the last transaction.
    last_commit: u64,
    /// What was handed over, where a transaction was partly out.
    resume: Option<Offset>,
    filters: BTreeMap<String, Visibility>,
    filters_until: u64,
    last: Option<(u64, u64, i64)>,
    /// Whether the place has moved since it was handed over.
    moved: bool,
}

/// Bytes of values that a poll hands over.
const BYTES: usize = 4 << 20;

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
        let filters = offset.filters.iter().map(|(table, seen)| Some((table.clone(), Visibility::parse(seen)?)));
        Ok(Self {
            reader: Reader::start(replication, from, safe, pace).map_err(|error| error.into_error(what))?,
            connection: Some(connection),
            interrupts,
            types,
            tables: HashMap::new(),
            dirty: Vec::new(),
            ready: Vec::new(),
            events: 0,
            items: Vec::new().into_iter(),
            open: None,
            last_commit: from,
            filters: filters
                .collect::<Option<_>>()
                .ok_or_else(|| Error::failed("the stored offset has broken filters"))?,
            filters_until: offset.filters_until.unwrap_or_default(),
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
        let filters = self.filters.iter().map(|(table, seen)| (table.clone(), seen.show())).collect();
        let filters_until = (!self.filters.is_empty()).then_some(self.filters_until);
        // As long as nothing came behind what was out, that is what is out: the offset of a heartbeat forgets none of it.
        let resume = self.resume.as_ref();
        if let Some(resume) = resume.filter(|resume| resume.is_within_of_debezium()) {
            return Offset { filters, filters_until, snapshot: None, ..resume.clone() };
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
            filters,
            filters_until,
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
        while self.events < config.batch {
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
        self.events = 0;
        let mut batches = std::mem::take(&mut self.ready);
        for relation in self.dirty.drain(..) {
            if let Some(Table::Captured(events)) = self.tables.get_mut(&relation)
                && !events.is_empty()
            {
                batches.push(events.finish());
            }
        }
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
            Message::Begin { commit, time, xid } => self.begin(commit, time, xid),
            Message::Commit { end } => {
                // What Debezium had partly out is out now as a whole.
                if self.open.take().is_some_and(|open| open.out > 0 && open.events > 0) {
                    self.resume = None;
                }
                self.last_commit = end;
                self.moved = true;
            }
            Message::Relation(relation) => self.relation(context, config, &relation)?,
            Message::Insert { relation, new } => {
                self.loosen(config, relation, &new);
                if let Some((events, place)) = self.change(config, relation, lsn, 'c') {
                    events.push(Op::Create, place, None, Some(&new))?;
                }
            }
            Message::Update { relation, old, new } => self.update(config, relation, lsn, old, &new)?,
            Message::Delete { relation, old: (kind, old) } => {
                let tombstones = config.tombstones;
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
                    if let Some((events, place)) = self.change(config, relation, lsn, 't') {
                        events.push(Op::Truncate, place, None, None)?;
                    }
                }
            }
            Message::Other => {}
        }
        Ok(())
    }

    fn begin(&mut self, commit: u64, time: i64, xid: u32) {
        let mut open = Open { commit, time_us: time + EPOCH_2000_US, xid, events: 0, skip: 0, out: 0 };
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
        if commit > self.filters_until {
            self.filters.clear();
        }
        self.open = Some(open);
    }

    /// An event's table and place, if it is to be given.
    fn change(&mut self, config: &SourceConfig, relation: u32, lsn: u64, op: char) -> Option<(&mut Events, Place)> {
        let open = self.open.as_mut()?;
        open.events += 1;
        if open.events <= open.skip {
            return None;
        }
        if lsn <= open.out {
            return None;
        }
        self.resume = None;
        let open = *open;
        self.moved = true;
        let Some(Table::Captured(events)) = self.tables.get_mut(&relation) else { return None };
        if config.skipped.contains(&op) {
            return None;
        }
        if !self.filters.is_empty()
            && self.filters.get(&events.plan.full_name()).is_some_and(|seen| seen.has_seen(open.xid))
        {
            return None;
        }
        if events.is_empty() {
            self.dirty.push(relation);
        }
        self.events += 1;
        self.last = Some((lsn, open.xid.into(), open.time_us));
        let last_commit = Some(self.last_commit);
        let place = Place { time_us: open.time_us, lsn, xid: Some(open.xid), last_commit, snapshot: "false" };
        Some((events, place))
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
        self.loosen(config, relation, new);
        if !moved {
            if let Some((events, place)) = self.change(config, relation, lsn, 'u') {
                let before = old.as_ref().filter(|(kind, _)| *kind == Old::Full).map(|(_, old)| &**old);
                events.push(Op::Update, place, before, Some(new))?;
            }
            return Ok(());
        }
        // Another key is another record: the old one goes, the new one comes.
        let Some((events, place)) = self.change(config, relation, lsn, 'u') else { return Ok(()) };
        let (kind, old) = old.unwrap_or((Old::Key, Vec::new()));
        check_key(&events.plan, kind, place)?;
        events.push(Op::Delete, place, Some(&old), None)?;
        if config.tombstones {
            events.push_tombstone(place, &old)?;
        }
        events.push(Op::Create, place, None, Some(new))
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
