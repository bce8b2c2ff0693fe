//! The replication slot and the publication: made, checked, dropped.

use std::collections::BTreeSet;

use tributary_sdk::{Error, Result};

use super::catalog::{self, CatalogTable, fields};
use super::lsn;
use crate::client::{Connection, PgResult, identifier, literal};
use crate::config::{Autocreate, SourceConfig};

/// A slot as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// What lies before this place in the log will not come again.
    pub confirmed: u64,
}

/// A slot that was just made.
#[derive(Clone, Debug)]
pub(crate) struct NewSlot {
    /// What committed before this place is in the snapshot; what commits behind it will be streamed.
    pub consistent: u64,
    /// The snapshot's name, as long as the connection is not used.
    pub snapshot: String,
}

/// The slot, if it exists.
pub(crate) fn find(connection: &mut Connection, config: &SourceConfig) -> Result<Option<Slot>> {
    let sql = format!(
        "SELECT COALESCE(plugin, ''), COALESCE(database, ''), COALESCE(confirmed_flush_lsn, '0/0')::text, \
         COALESCE(wal_status, '') FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
        literal(&config.slot)
    );
    let rows = connection.query(&sql).map_err(|error| error.into_error("looking for the replication slot"))?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let [plugin, database, confirmed, status] =
        fields(row).map_err(|error| error.into_error("looking for the replication slot"))?;
    let name = &config.slot;
    if plugin != "pgoutput" || database != config.server.database {
        return Err(Error::failed(format!(
            "the replication slot {name} is not one of this connector: it is for plugin '{plugin}' and database '{database}', and \
             should be for pgoutput and {}: choose another slot.name",
            config.server.database
        )));
    }
    if status == "lost" {
        return Err(Error::failed(format!(
            "the replication slot {name} has lost its place, since the server removed the log that it needs: drop the slot, reset the \
             connector's offsets, and take a snapshot"
        )));
    }
    Ok(Some(Slot { confirmed: lsn::parse(&confirmed).unwrap_or_default() }))
}

/// Makes the slot on a replication connection, with a snapshot that is what lies before it.
pub(crate) fn create(connection: &mut Connection, config: &SourceConfig) -> Result<NewSlot> {
    let what = "making the replication slot";
    let sql = format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT", identifier(&config.slot));
    let row = connection.query(&sql).map_err(|error| error.into_error(what))?.into_iter().next().unwrap_or_default();
    let [_, consistent, snapshot, _] = fields(row).map_err(|error| error.into_error(what))?;
    let consistent =
        lsn::parse(&consistent).ok_or_else(|| Error::failed(format!("{what}: {consistent} is no place")))?;
    Ok(NewSlot { consistent, snapshot })
}

/// Drops the slot, if it exists and nobody uses it.
pub(crate) fn drop_slot(connection: &mut Connection, slot: &str) -> PgResult<()> {
    let sql = format!(
        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
        literal(slot)
    );
    connection.query(&sql).map(drop)
}

/// Begins to stream.
pub(crate) fn start(connection: &mut Connection, config: &SourceConfig, from: u64) -> PgResult<()> {
    // Names of publications are identifiers in a text.
    let publication = literal(&identifier(&config.publication));
    connection.start_replication(&format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {publication})",
        identifier(&config.slot),
        lsn::show(from)
    ))
}

/// What keeps signals from coming, if there is something: the text says what to do.
pub(crate) fn signals_gap(connection: &mut Connection, config: &SourceConfig) -> PgResult<Option<String>> {
    let Some((schema, table)) = &config.signals else { return Ok(None) };
    let name = format!("{}.{}", identifier(schema), identifier(table));
    let exists = format!("SELECT pg_catalog.to_regclass({})::text", literal(&name));
    if connection.query(&exists)?.into_iter().flatten().flatten().next().is_none() {
        return Ok(Some(format!(
            "signal.data.collection: there is no table {name}, so no signal can come: CREATE TABLE {name} (id varchar(42) PRIMARY KEY, \
             type varchar(32) NOT NULL, data varchar(2048)), and have it in the publication {}",
            config.publication
        )));
    }
    let published = catalog::published(connection, &config.publication)?;
    let is_in = published.iter().any(|(its_schema, its_name)| (its_schema, its_name) == (schema, table));
    Ok((!is_in).then(|| {
        format!(
            "signal.data.collection: {name} is not in the publication, so no signal can come: ALTER PUBLICATION {} ADD TABLE {name}",
            identifier(&config.publication)
        )
    }))
}

/// Makes the publication, or checks it, or adds the tables that are missing, as configured. `tables` are those that are captured.
pub(crate) fn publish(connection: &mut Connection, config: &SourceConfig, tables: &[CatalogTable]) -> Result<()> {
    let name = &config.publication;
    let exists = format!("SELECT puballtables::int4 FROM pg_catalog.pg_publication WHERE pubname = {}", literal(name));
    let found = connection.query(&exists).map_err(|error| error.into_error("looking for the publication"))?;
    // Signals come in the log, too.
    let wanted: BTreeSet<(String, String)> =
        tables.iter().map(|table| (table.schema.clone(), table.name.clone())).chain(config.signals.clone()).collect();
    let list = || {
        let each: Vec<String> =
            wanted.iter().map(|(schema, table)| format!("{}.{}", identifier(schema), identifier(table))).collect();
        each.join(", ")
    };
    let sql = match (found.first(), config.autocreate) {
        (Some(row), Autocreate::Filtered) if row.first().is_some_and(|all| all.as_deref() == Some("0")) => {
            let has: BTreeSet<_> = catalog::published(connection, name)
                .map_err(|error| error.into_error("reading the publication"))?
                .into_iter()
                .collect();
            if wanted.is_subset(&has) {
                return Ok(());
            }
            format!("ALTER PUBLICATION {} SET TABLE {}", identifier(name), list())
        }
        (Some(_), _) => return Ok(()),
        (None, Autocreate::Disabled) => {
            return Err(Error::failed(format!(
                "there is no publication {name}, and publication.autocreate.mode=disabled: CREATE PUBLICATION {} FOR …, or let it be made",
                identifier(name)
            )));
        }
        (None, mode) => {
            let of = match mode {
                Autocreate::AllTables => " FOR ALL TABLES".to_owned(),
                Autocreate::Filtered if wanted.is_empty() => {
                    return Err(Error::failed(
                        "no table passes the filters, so no publication can be made: look at table.include.list and its companions",
                    ));
                }
                Autocreate::Filtered => format!(" FOR TABLE {}", list()),
                _ => String::new(),
            };
            let with = if config.via_partition_root { " WITH (publish_via_partition_root = true)" } else { "" };
            format!("CREATE PUBLICATION {}{of}{with}", identifier(name))
        }
    };
    match connection.query(&sql) {
        Err(error) if error.code() == "42710" => Ok(()),
        Err(error) => Err(error.into_error(&format!(
            "making the publication {name} (the role needs the right to; or have it made and set publication.autocreate.mode=disabled)"
        ))),
        Ok(_) => Ok(()),
    }
}
