//! A batch into the database, in one transaction.
//!
//! First all at once, table by table. If a record is to blame for a refusal, the transaction begins anew, and each part of the batch that is refused is rolled back to
//! a savepoint and done in halves, until the record stands alone: so one bad record among ten thousand costs some thirty statements.

use std::sync::Arc;

use tributary_sdk::own_offsets::Entry;
use tributary_sdk::{Batch, Context, Error, Result};

use super::catalog::{self, NewColumn, Table};
use super::config::{InsertMode, SinkConfig};
use super::names::schema_and_table;
use super::offsets::advance;
use super::plan::{Deed, Planned, Tuple, Work, new_columns};
use super::records::{Op, Records};
use super::session::{Blame, Session, blame, reason, told};
use super::statements::{self, Script};
use crate::client::{Interrupts, PgError, identifier, literal};

/// Writes batches.
pub(super) struct Writer {
    pub config: SinkConfig,
    pub interrupts: Interrupts,
    context: Context,
    session: Option<Session>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The offset's epoch is another one, so nothing was written.
    pub fenced: bool,
    /// Rows that were refused, with the reason.
    pub refused: Vec<(usize, String)>,
    /// Nothing was written, because of them.
    pub nothing: bool,
    /// Nothing was written, and the same may be tried again.
    pub again: Option<Error>,
}

/// Why an attempt has come to nothing.
enum Miss {
    /// What is known of the tables is old.
    Old(PgError),
    /// Another session was in the way. What was there before the batch is as it was.
    Locked(Error),
    Error(Error),
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

const WRITING: &str = "writing to the database";

impl Writer {
    pub fn new(context: &Context, config: SinkConfig) -> Self {
        Self { config, interrupts: Interrupts::default(), context: context.clone(), session: None }
    }

    /// Writes a batch and, if there is one, the offset behind it. An error means that nothing of it was written, or that this is not known.
    pub fn write(&mut self, batch: &Batch, entry: Option<&Entry>) -> Result<Written> {
        let outcome = self.attempt(batch, entry);
        let outcome = match outcome {
            Err(Miss::Old(error)) => match self.session.as_mut().is_some_and(Session::forget_all) {
                true => self.attempt(batch, entry),
                false => Err(Miss::Old(error)),
            },
            outcome => outcome,
        };
        let error = match outcome {
            Ok(written) => return Ok(written),
            Err(Miss::Locked(error)) => return Ok(Written { again: Some(error), ..Written::default() }),
            Err(Miss::Old(error)) => told(&error, WRITING),
            Err(Miss::Error(error)) => error,
        };
        Err(self.lose(error))
    }

    /// After an error the connection is not used again.
    fn lose(&mut self, error: Error) -> Error {
        let waited = self.session.take().is_some_and(|session| session.open);
        if waited && error.is_retriable() {
            return Error::failed(format!(
                "{error}; a transaction that waited for its dead letters is lost with the connection, and its records are read again"
            ));
        }
        error
    }

    /// Commits what waits for it.
    pub fn flush(&mut self) -> Result<()> {
        let Some(session) = self.session.as_mut().filter(|session| session.open) else { return Ok(()) };
        session.open = false;
        session.stages.emptied();
        let committed = session.connection.commit();
        committed.map_err(|error| {
            self.session = None;
            Error::failed(format!(
                "committing records whose neighbours were refused: {}; they are read again",
                reason(&error)
            ))
        })
    }

    /// Rolls back a transaction that waits, if there is one; answers whether.
    pub fn abandon(&mut self) -> bool {
        let waits = self.session.as_ref().is_some_and(|session| session.open);
        if waits && let Some(mut session) = self.session.take() {
            // Said and answered, so that its locks are gone; a connection that breaks meanwhile is rolled back, too.
            let _ = session.connection.query("ROLLBACK");
            session.connection.close();
        }
        waits
    }

    /// Ends the session; what waits is rolled back.
    pub fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.connection.close();
        }
    }

    fn attempt(&mut self, batch: &Batch, entry: Option<&Entry>) -> Result<Written, Miss> {
        if self.session.is_none() {
            self.session = Some(Session::connect(&self.config, &self.interrupts)?);
        }
        let Some(session) = &mut self.session else { return Err(Error::failed("there is no session").into()) };
        let mut records = Records::read(batch, &self.config)?;
        let works = works(session, &self.config, &self.context, &mut records)?;
        let mut written = Written::default();
        let mut ready = Vec::new();
        for (number, mut work) in works {
            work.encode(&records, number, &self.config.placeholder, &mut written.refused);
            if !work.tuples.is_empty() {
                ready.push(work);
            }
        }
        let refused = records.ops.into_iter().enumerate().filter_map(|(row, op)| match op {
            Op::Bad(why) => Some((row, why)),
            _ => None,
        });
        written.refused.extend(refused);
        let strict = entry.is_some() && !self.config.tolerant;
        if strict && !written.refused.is_empty() {
            written.nothing = true;
            return Ok(written);
        }
        if ready.is_empty() && entry.is_none() {
            return Ok(written);
        }
        let mut transaction = Transaction { session, config: &self.config, entry };
        let mut parted = false;
        match transaction.at_once(&ready) {
            Ok(fenced) => written.fenced = fenced,
            Err(error) if judged(&error, &ready) == Blame::Record && !ready.is_empty() => {
                parted = true;
                transaction.in_parts(&ready, &mut written).map_err(|error| transaction.missed(error))?;
            }
            Err(error) => return Err(Miss::of(error)),
        }
        if let Some(nothing) = transaction.stopped(strict && parted, &mut written)? {
            return Ok(nothing);
        }
        // The letters of what was refused are safe when the offsets are about to be committed, and the offset in the database must not pass them before.
        let waits = |written: &Written| entry.is_some() && !written.refused.is_empty();
        match transaction.commit(waits(&written)) {
            Ok(()) => {}
            // A deferred constraint: nothing of the transaction is there.
            Err(error) if blame(&error) == Blame::Record && !ready.is_empty() && !parted => {
                transaction.undo().map_err(Miss::of)?;
                transaction.in_parts(&ready, &mut written).map_err(|error| transaction.missed(error))?;
                if let Some(nothing) = transaction.stopped(strict, &mut written)? {
                    return Ok(nothing);
                }
                transaction.commit(waits(&written)).map_err(|error| transaction.missed(error))?;
            }
            Err(error) => return Err(transaction.missed(error)),
        }
        if session.open {
            self.context.request_commit();
        }
        Ok(written)
    }
}

/// Who is to blame where truncates are among the records: for one of a table that others refer to, the record.
fn judged(error: &PgError, works: &[Work]) -> Blame {
    let truncates = || works.iter().flat_map(|work| &work.tuples).any(|tuple| tuple.deed == Deed::Truncate);
    if error.code() == "0A000" && truncates() { Blame::Record } else { blame(error) }
}

/// Whether another session was in the way, so that the transaction can go on from where this batch began.
fn locked(error: &PgError) -> bool {
    ["40P01", "55P03"].contains(&error.code())
}

impl Miss {
    /// The transaction is rolled back to where the batch began, unless the connection is to be given up.
    fn of(error: PgError) -> Self {
        match blame(&error) {
            Blame::Catalogue => Self::Old(error),
            _ if locked(&error) => Self::Locked(told(&error, WRITING)),
            _ => Self::Error(told(&error, WRITING)),
        }
    }
}

/// Plans for the tables of the records, which are made or widened where that is wanted.
fn works(
    session: &mut Session,
    config: &SinkConfig,
    context: &Context,
    records: &mut Records,
) -> Result<Vec<(u32, Work)>, Miss> {
    let mut works = Vec::new();
    for number in 0..records.names.len() as u32 {
        let mine = |records: &Records, row: usize| {
            records.tables[row] == number && matches!(records.ops[row], Op::Write | Op::Delete | Op::Truncate)
        };
        if !(0..records.ops.len()).any(|row| mine(records, row)) {
            continue;
        }
        let name = records.names[number as usize].clone();
        let Some(mut table) = table(session, config, context, records, number)? else { continue };
        let mut again = true;
        let work = loop {
            let missing = match Work::plan(&table, records, number, config)? {
                Planned::Work(work) => break Some(work),
                Planned::Missing(missing) => missing,
                Planned::Conflict(field, other, why) => {
                    records.join(other, field, number);
                    refuse_fields(records, number, vec![field], |_| why.clone())?;
                    continue;
                }
            };
            // Somebody may have added them since.
            if again && session.forget(&name) {
                again = false;
                if let Some(found) = session.table(&name, config.exact_names).map_err(Miss::of)? {
                    table = found;
                    continue;
                }
            }
            if config.evolves {
                context.info(format!("adding columns: {}", missing.ddl));
                if let Err(error) = change(session, &missing.ddl, &table.quoted())? {
                    let why = format!("changing {} with {}: {}", table.quoted(), missing.ddl, reason(&error));
                    if !by_names(&error) {
                        return Err(failed(&error, why));
                    }
                    refuse_fields(records, number, missing.fields, |_| why.clone())?;
                    continue;
                }
                session.forget(&name);
                match session.table(&name, config.exact_names).map_err(Miss::of)? {
                    Some(found) if found.columns.len() > table.columns.len() => table = found,
                    _ => {
                        return Err(Error::failed(format!(
                            "columns of {} were added and are not there: {}",
                            table.quoted(),
                            missing.ddl
                        ))
                        .into());
                    }
                }
                continue;
            }
            refuse_fields(records, number, missing.fields, |field| {
                format!(
                    "the table {} has no column for the field {field}: run {}, set schema.evolution=basic, or leave the field out with field.exclude.list",
                    table.quoted(),
                    missing.ddl
                )
            })?;
        };
        if let Some(work) = work {
            check_keys(&work, config)?;
            works.push((number, work));
        }
    }
    Ok(works)
}

/// Fields that the table does not have, and is not to get. A schema's are an error of all; those of JSON objects are the fault of the records that have them.
fn refuse_fields(records: &mut Records, number: u32, fields: Vec<usize>, why: impl Fn(&str) -> String) -> Result<()> {
    for at in fields {
        let field = &records.fields[at];
        let why = why(&field.name);
        let json = matches!(field.values, super::datum::Values::Json(..));
        for (row, op) in records.ops.iter_mut().enumerate() {
            let mine = records.tables[row] == number && matches!(op, Op::Write | Op::Delete) && field.values.has(row);
            if mine && (*op == Op::Write || field.key) {
                if !json {
                    return Err(Error::failed(why));
                }
                *op = Op::Bad(why.clone());
            }
        }
    }
    Ok(())
}

/// The table; `None` where it does not exist and nothing is to be written to it.
fn table(
    session: &mut Session,
    config: &SinkConfig,
    context: &Context,
    records: &mut Records,
    number: u32,
) -> Result<Option<Arc<Table>>, Miss> {
    let name = records.names[number as usize].clone();
    if let Some(table) = session.table(&name, config.exact_names).map_err(Miss::of)? {
        let holds_offsets = config
            .offsets
            .as_deref()
            .map(schema_and_table)
            .is_some_and(|(schema, name)| table.name == name && schema.is_none_or(|schema| table.schema == schema));
        if holds_offsets {
            let why = format!("the table {} holds offsets, and no records", table.quoted());
            return refuse_table(records, number, config, &why).map_err(Miss::Error);
        }
        return Ok(Some(table));
    }
    if !(0..records.ops.len()).any(|row| records.tables[row] == number && records.ops[row] == Op::Write) {
        return Ok(None);
    }
    let fields =
        || records.fields.iter().enumerate().filter(|(at, _)| records.writes(*at, number)).map(|(_, field)| field);
    let columns: Vec<NewColumn> = new_columns(fields(), config.exact_names);
    let keys: Vec<String> = fields().filter(|field| field.key).map(|field| field.name.clone()).collect();
    let ddl = catalog::create(&name, config.exact_names, &columns, &keys);
    if !config.evolves {
        let (schema, shown) = schema_and_table(&name);
        let schema = schema.map_or_else(String::new, |schema| identifier(schema) + ".");
        let why =
            format!("the table {schema}{} does not exist: run {ddl}, or set schema.evolution=basic", identifier(shown));
        return refuse_table(records, number, config, &why).map_err(Miss::Error);
    }
    context.info(format!("making a table: {ddl}"));
    if let Err(error) = change(session, &ddl, &name)? {
        let why = format!("changing {name} with {ddl}: {}", reason(&error));
        if !by_names(&error) {
            return Err(failed(&error, why));
        }
        return refuse_table(records, number, config, &why).map_err(Miss::Error);
    }
    match session.table(&name, config.exact_names).map_err(Miss::of)? {
        Some(table) => Ok(Some(table)),
        None => Err(Error::failed(format!(
            "the table {name} was made and is not found: is its schema in the search_path? {ddl}"
        ))
        .into()),
    }
}

/// A table that cannot be written to; where records have named it, it is their fault.
fn refuse_table(records: &mut Records, number: u32, config: &SinkConfig, why: &str) -> Result<Option<Arc<Table>>> {
    if config.table.by_topic() {
        return Err(Error::failed(why));
    }
    for (op, _) in records.ops.iter_mut().zip(&records.tables).filter(|(_, table)| **table == number) {
        if matches!(op, Op::Write | Op::Delete | Op::Truncate) {
            *op = Op::Bad(why.to_owned());
        }
    }
    Ok(None)
}

/// Runs DDL. Tasks that want the same at the same time wait for each other, though not for ever: so do readers of the table behind them.
fn change(session: &mut Session, ddl: &str, what: &str) -> Result<Result<(), PgError>, Miss> {
    let lock = format!(
        "SET LOCAL lock_timeout = '10s'; SELECT pg_catalog.pg_advisory_xact_lock(7305816, pg_catalog.hashtext({})); {ddl}",
        literal(what)
    );
    let sql = match session.open {
        true => format!("SAVEPOINT ddl; {lock}; SET LOCAL lock_timeout TO DEFAULT; RELEASE SAVEPOINT ddl"),
        false => format!("BEGIN; {lock}; COMMIT"),
    };
    let Err(error) = session.connection.query(&sql) else { return Ok(Ok(())) };
    let told_error = told(&error, &format!("changing {what} with {ddl}"));
    if let PgError::Server { .. } = error {
        let undo = if session.open { "ROLLBACK TO SAVEPOINT ddl; RELEASE SAVEPOINT ddl" } else { "ROLLBACK" };
        session.connection.query(undo).map_err(|_| Miss::Error(told_error.clone()))?;
        if locked(&error) {
            return Err(Miss::Locked(told_error));
        }
        return Ok(Err(error));
    }
    Err(Miss::Error(told_error))
}

/// Whether DDL is refused for the names in it, or how many there are: those that records chose are their fault.
fn by_names(error: &PgError) -> bool {
    ["3F", "22", "54", "42601", "42602", "42611", "42622", "42701", "42P07"]
        .iter()
        .any(|code| error.code().starts_with(code))
}

fn failed(error: &PgError, why: String) -> Miss {
    Miss::Error(if blame(error) == Blame::Passing { Error::Retriable(why) } else { Error::Failed(why) })
}

/// Upserts need an index that tells a conflict.
fn check_keys(work: &Work, config: &SinkConfig) -> Result<()> {
    if config.insert_mode != InsertMode::Upsert {
        return Ok(());
    }
    let keys: Vec<&str> =
        work.columns[..work.keys].iter().map(|column| &*work.table.columns[column.target].name).collect();
    if keys.is_empty() || work.table.has_unique(&keys) {
        return Ok(());
    }
    let quoted: Vec<String> = keys.iter().map(|key| identifier(key)).collect();
    let table = work.table.quoted();
    Err(Error::failed(format!(
        "{table} has no primary key or unique index on {list}, which insert.mode=upsert needs: run ALTER TABLE {table} ADD PRIMARY KEY ({list})",
        list = quoted.join(", ")
    )))
}

/// A batch's transaction, or its part of one that is open.
struct Transaction<'a> {
    session: &'a mut Session,
    config: &'a SinkConfig,
    entry: Option<&'a Entry>,
}

impl Transaction<'_> {
    /// What begins it: the offset comes first, so that a task that is not the partition's any more waits for the one that is, and then writes nothing.
    fn beginning(&self) -> String {
        let begin = if self.session.open { "SAVEPOINT batch;" } else { "BEGIN;" };
        let advance = self.entry.zip(self.config.offsets.as_deref()).map(|(entry, table)| advance(table, entry) + ";");
        format!("{begin}{}", advance.unwrap_or_default())
    }

    /// Everything; answers whether the offset was refused. After an error of the server, the transaction is rolled back.
    fn at_once(&mut self, works: &[Work]) -> Result<bool, PgError> {
        let mut script = Script::default();
        for work in works {
            self.session.stages.prepare(work);
            statements::write(&mut script, &mut self.session.stages, self.config, work, &work.tuples);
        }
        self.session.make_stages()?;
        let beginning = self.beginning();
        match self.session.run(&beginning, &script, "") {
            Ok(moved) => Ok(self.entry.is_some() && moved == 0),
            Err(error) => {
                self.undo_after(&error)?;
                Err(error)
            }
        }
    }

    /// The same without what is refused, in halves, and those by table, in the order of the records.
    fn in_parts(&mut self, works: &[Work], written: &mut Written) -> Result<(), PgError> {
        let beginning = self.beginning();
        let moved = self.session.run(&beginning, &Script::default(), "")?;
        if self.entry.is_some() && moved == 0 {
            written.fenced = true;
            return Ok(());
        }
        let each = |(at, work): (usize, &Work)| work.tuples.iter().map(move |tuple| (at, *tuple)).collect::<Vec<_>>();
        let mut items: Vec<Item> = works.iter().enumerate().flat_map(each).collect();
        items.sort_by_key(|(_, tuple)| tuple.row);
        let mut refused = Vec::new();
        // The whole has been tried.
        let (first, second) = items.split_at(items.len() / 2);
        for half in [first, second].into_iter().filter(|half| !half.is_empty()) {
            self.part(works, half, &mut refused)?;
        }
        let written_some = refused.len() < items.len();
        for (item, error) in refused {
            // It may need what came behind it, unless that says something newer of the same row.
            let again = written_some && ["23", "P0"].iter().any(|class| error.code().starts_with(class));
            if again && !followed(works, &items, &item) {
                let mut still = Vec::new();
                self.part(works, &[item], &mut still)?;
                written.refused.extend(still.iter().map(|((_, tuple), error)| (tuple.row, reason(error))));
            } else {
                written.refused.push((item.1.row, reason(&error)));
            }
        }
        Ok(())
    }

    fn part(&mut self, works: &[Work], items: &[Item], refused: &mut Vec<(Item, PgError)>) -> Result<(), PgError> {
        let mut script = Script::default();
        let mut tables: Vec<usize> = Vec::new();
        for (at, _) in items {
            if !tables.contains(at) {
                tables.push(*at);
            }
        }
        for at in tables {
            let tuples: Vec<Tuple> = items.iter().filter(|item| item.0 == at).map(|item| item.1).collect();
            statements::write(&mut script, &mut self.session.stages, self.config, &works[at], &tuples);
        }
        let error = match self.session.run("SAVEPOINT part;", &script, &format!("{CHECK}RELEASE SAVEPOINT part")) {
            Ok(_) => return Ok(()),
            Err(error) if judged(&error, works) == Blame::Record => error,
            Err(error) => return Err(error),
        };
        self.session.connection.query("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")?;
        if let [item] = items {
            refused.push((*item, error));
            return Ok(());
        }
        let (first, second) = items.split_at(items.len() / 2);
        self.part(works, first, refused)?;
        self.part(works, second, refused)
    }

    /// Ends a transaction that is not to be committed; answers what to tell of it.
    fn stopped(&mut self, strict: bool, written: &mut Written) -> Result<Option<Written>, Miss> {
        let nothing = strict && !written.refused.is_empty();
        if !written.fenced && !nothing {
            return Ok(None);
        }
        self.undo().map_err(Miss::of)?;
        written.nothing = !written.fenced;
        Ok(Some(std::mem::take(written)))
    }

    /// What is to be done after an error of which no record is to blame.
    fn missed(&mut self, error: PgError) -> Miss {
        match self.undo_after(&error) {
            Ok(()) => Miss::of(error),
            Err(lost) => Miss::Error(told(&lost, WRITING)),
        }
    }

    /// A connection over which an error came can go on being used, unless the error is that it is gone.
    fn undo_after(&mut self, error: &PgError) -> Result<(), PgError> {
        match error {
            PgError::Server { .. } if matches!(blame(error), Blame::Record | Blame::Catalogue) || locked(error) => {
                self.undo()
            }
            _ => Ok(()),
        }
    }

    fn undo(&mut self) -> Result<(), PgError> {
        let sql = if self.session.open { "ROLLBACK TO SAVEPOINT batch; RELEASE SAVEPOINT batch" } else { "ROLLBACK" };
        if !self.session.open {
            self.session.stages.emptied();
        }
        self.session.connection.query(sql).map(drop)
    }

    /// Commits it, or leaves it to the next flush where it `waits` for it. What is left must be sure to be committed then.
    fn commit(&mut self, waits: bool) -> Result<(), PgError> {
        if self.session.open {
            return self.session.connection.query(&format!("{CHECK}RELEASE SAVEPOINT batch")).map(drop);
        }
        if waits {
            self.session.connection.query(CHECK)?;
            self.session.open = true;
            return Ok(());
        }
        self.session.connection.commit()?;
        self.session.stages.emptied();
        self.session.stages.tidy();
        Ok(())
    }
}

/// A record of the work with this number.
type Item = (usize, Tuple);

/// Checks what was deferred, and defers what comes.
const CHECK: &str = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;";

/// Whether a record is followed by one that says something of the same row, as far as bytes tell.
fn followed(works: &[Work], items: &[Item], item: &Item) -> bool {
    let work = &works[item.0];
    let mut behind = items.iter().filter(|(at, tuple)| *at == item.0 && tuple.row > item.1.row);
    let same = |tuple: &Tuple| {
        tuple.deed == Deed::Truncate || work.keys > 0 && (!work.tells_keys() || work.key(tuple) == work.key(&item.1))
    };
    behind.any(|(_, tuple)| same(tuple))
}
