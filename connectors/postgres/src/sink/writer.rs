//! A batch into the database, in one transaction.
//!
//! First all at once. If a record is to blame for a refusal, the transaction begins anew, and each part of the batch that is refused is rolled back to
//! a savepoint and done in halves, until the record stands alone: so one bad record among ten thousand costs some thirty statements.

use std::sync::Arc;

use tributary_sdk::own_offsets::Entry;
use tributary_sdk::{Batch, Context, Error, Result};

use super::catalog::{self, NewColumn, Table};
use super::config::{InsertMode, SinkConfig};
use super::names::schema_and_table;
use super::offsets::advance;
use super::plan::{Tuple, Work, new_column};
use super::records::{Op, Records};
use super::session::{Blame, Session, blame, reason, told};
use super::statements::{self, Script};
use crate::client::{Interrupts, PgError, identifier};

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
}

/// Why an attempt has come to nothing.
enum Miss {
    /// What is known of the tables is old.
    Old(PgError),
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
        let committed = session.connection.query("COMMIT").map(drop);
        committed.map_err(|error| {
            self.session = None;
            Error::failed(format!(
                "committing records whose neighbours were refused: {}; they are read again",
                reason(&error)
            ))
        })
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
        match transaction.at_once(&ready) {
            Ok(fenced) => written.fenced = fenced,
            Err(error) if blame(&error) == Blame::Record && !ready.is_empty() => {
                transaction.in_parts(&ready, &mut written).map_err(Miss::of)?;
                if strict && !written.refused.is_empty() {
                    transaction.undo().map_err(Miss::of)?;
                    written.nothing = true;
                    return Ok(written);
                }
            }
            Err(error) => return Err(Miss::of(error)),
        }
        if written.fenced {
            transaction.undo().map_err(Miss::of)?;
            return Ok(written);
        }
        // The letters of what was refused are safe when the offsets are about to be committed, and the offset in the database must not pass them before.
        let waits = entry.is_some() && !written.refused.is_empty();
        match transaction.commit(waits) {
            Ok(()) => {}
            // A deferred constraint: nothing of the transaction is there.
            Err(error) if blame(&error) == Blame::Record && !ready.is_empty() && written.refused.is_empty() => {
                transaction.in_parts(&ready, &mut written).map_err(Miss::of)?;
                if written.fenced || strict && !written.refused.is_empty() {
                    transaction.undo().map_err(Miss::of)?;
                    written.nothing = !written.fenced;
                    return Ok(written);
                }
                let waits = entry.is_some() && !written.refused.is_empty();
                transaction.commit(waits).map_err(Miss::of)?;
            }
            Err(error) => return Err(Miss::of(error)),
        }
        if session.open {
            self.context.request_commit();
        }
        Ok(written)
    }
}

impl Miss {
    fn of(error: PgError) -> Self {
        if blame(&error) == Blame::Catalogue { Self::Old(error) } else { Self::Error(told(&error, WRITING)) }
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
                Ok(work) => break Some(work),
                Err(missing) => missing,
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
                change(session, &missing.ddl, &table.quoted())?;
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
            refuse_fields(records, number, &table, missing.fields, &missing.ddl)?;
        };
        if let Some(work) = work {
            check_keys(&work, config)?;
            works.push((number, work));
        }
    }
    Ok(works)
}

/// Fields that the table does not have, and is not to get. A schema's are an error of all; those of JSON objects are the fault of the records that have them.
fn refuse_fields(records: &mut Records, number: u32, table: &Table, fields: Vec<usize>, ddl: &str) -> Result<()> {
    for at in fields {
        let field = &records.fields[at];
        let why = format!(
            "the table {} has no column for the field {}: run {ddl}, set schema.evolution=basic, or leave the field out with field.exclude.list",
            table.quoted(),
            field.name
        );
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
    let columns: Vec<NewColumn> = fields().filter_map(new_column).collect();
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
    change(session, &ddl, &name)?;
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

/// Runs DDL. Tasks that want the same at the same time wait for each other.
fn change(session: &mut Session, ddl: &str, what: &str) -> Result<()> {
    let (begin, end) = if session.open { ("SAVEPOINT ddl", "RELEASE SAVEPOINT ddl") } else { ("BEGIN", "COMMIT") };
    let sql = format!("{begin}; SELECT pg_catalog.pg_advisory_xact_lock(7305816); {ddl}; {end}");
    session.connection.query(&sql).map(drop).map_err(|error| told(&error, &format!("changing {what} with {ddl}")))
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

    /// Everything; answers whether the offset was refused. After an error that is a record's, the transaction is rolled back.
    fn at_once(&mut self, works: &[Work]) -> Result<bool, PgError> {
        let mut script = Script::default();
        for work in works {
            statements::write(&mut script, &mut self.session.stages, self.config, work, &work.tuples);
        }
        self.session.make_stages()?;
        let beginning = self.beginning();
        match self.session.run(&beginning, &script, "") {
            Ok(moved) => Ok(self.entry.is_some() && moved == 0),
            Err(error) => {
                if blame(&error) == Blame::Record || blame(&error) == Blame::Catalogue {
                    self.undo()?;
                }
                Err(error)
            }
        }
    }

    /// The same without what is refused.
    fn in_parts(&mut self, works: &[Work], written: &mut Written) -> Result<(), PgError> {
        let beginning = self.beginning();
        let moved = self.session.run(&beginning, &Script::default(), "SET CONSTRAINTS ALL IMMEDIATE")?;
        if self.entry.is_some() && moved == 0 {
            written.fenced = true;
            return Ok(());
        }
        for work in works {
            // The whole of a single table has been tried.
            self.part(work, &work.tuples, works.len() > 1, written)?;
        }
        Ok(())
    }

    fn part(&mut self, work: &Work, tuples: &[Tuple], whole: bool, written: &mut Written) -> Result<(), PgError> {
        if whole || tuples.len() == 1 {
            let mut script = Script::default();
            statements::write(&mut script, &mut self.session.stages, self.config, work, tuples);
            let error = match self.session.run("SAVEPOINT part;", &script, "RELEASE SAVEPOINT part") {
                Ok(_) => return Ok(()),
                Err(error) if blame(&error) == Blame::Record => error,
                Err(error) => return Err(error),
            };
            self.session.connection.query("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")?;
            if let [tuple] = tuples {
                written.refused.push((tuple.row, reason(&error)));
                return Ok(());
            }
        }
        let (first, second) = tuples.split_at(tuples.len() / 2);
        self.part(work, first, true, written)?;
        self.part(work, second, true, written)
    }

    fn undo(&mut self) -> Result<(), PgError> {
        let sql = if self.session.open { "ROLLBACK TO SAVEPOINT batch; RELEASE SAVEPOINT batch" } else { "ROLLBACK" };
        if !self.session.open {
            self.session.stages.emptied();
        }
        self.session.connection.query(sql).map(drop)
    }

    /// Commits it, or leaves it to the next flush where it `waits` for it.
    fn commit(&mut self, waits: bool) -> Result<(), PgError> {
        if self.session.open {
            return self.session.connection.query("RELEASE SAVEPOINT batch").map(drop);
        }
        if waits {
            self.session.open = true;
            return Ok(());
        }
        self.session.connection.query("COMMIT")?;
        self.session.stages.emptied();
        self.session.stages.tidy();
        Ok(())
    }
}
