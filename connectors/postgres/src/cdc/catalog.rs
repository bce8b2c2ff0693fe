//! What the server's catalogue says of tables and types.

use std::collections::HashMap;

use crate::client::{Connection, PgError, PgResult, literal};
use crate::config::SourceConfig;

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Another type with rules.
    Domain {
        base: u32,
        modifier: i32,
    },
    Enum(Vec<String>),
    Array {
        item: u32,
        delimiter: u8,
    },
    /// Ranges and multiranges.
    Range,
    Other,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeInfo {
    pub name: String,
    pub sort: Sort,
}

/// The database's types, by OID.
#[derive(Clone, Debug, Default)]
pub(crate) struct Types(HashMap<u32, TypeInfo>);

impl Types {
    pub fn get(&self, oid: u32) -> Option<&TypeInfo> {
        self.0.get(&oid)
    }

    /// Reads them all: a few hundred rows.
    pub fn read(connection: &mut Connection) -> PgResult<Self> {
        let mut labels: HashMap<u32, Vec<String>> = HashMap::new();
        for row in
            connection.query("SELECT enumtypid::int8, enumlabel FROM pg_catalog.pg_enum ORDER BY 1, enumsortorder")?
        {
            let [oid, label] = fields(row)?;
            labels.entry(number(&oid)?).or_default().push(label);
        }
        // Row types of tables are no columns' types that could be shown.
        let sql = "SELECT t.oid::int8, t.typname, t.typtype, t.typbasetype::int8, t.typtypmod, \
                   CASE WHEN t.typelem <> 0 AND t.typlen = -1 AND t.typsubscript = 'array_subscript_handler'::regproc \
                        THEN t.typelem::int8 ELSE 0 END, \
                   COALESCE((SELECT e.typdelim FROM pg_catalog.pg_type e WHERE e.oid = t.typelem), ',') \
                   FROM pg_catalog.pg_type t WHERE t.typtype <> 'c'";
        // typsubscript is new in 14.
        let older = sql.replace(" AND t.typsubscript = 'array_subscript_handler'::regproc", "");
        let rows = match connection.query(sql) {
            Err(error) if error.code() == "42703" => connection.query(&older)?,
            rows => rows?,
        };
        let mut types = HashMap::with_capacity(rows.len());
        for row in rows {
            let [oid, name, kind, base, modifier, item, delimiter] = fields(row)?;
            let (oid, item): (u32, u32) = (number(&oid)?, number(&item)?);
            let sort = match &*kind {
                "d" => Sort::Domain { base: number(&base)?, modifier: number(&modifier)? },
                "e" => Sort::Enum(labels.remove(&oid).unwrap_or_default()),
                "r" | "m" => Sort::Range,
                _ if item != 0 => Sort::Array { item, delimiter: delimiter.bytes().next().unwrap_or(b',') },
                _ => Sort::Other,
            };
            types.insert(oid, TypeInfo { name, sort });
        }
        Ok(Self(types))
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogColumn {
    pub name: String,
    pub type_oid: u32,
    pub modifier: i32,
    pub not_null: bool,
}

/// A table, with the columns that are replicated: generated ones are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogTable {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub columns: Vec<CatalogColumn>,
    /// Names of the primary key's columns, or of a unique index without nulls; empty where there is neither.
    pub key: Vec<String>,
    /// Whether it is a partition of another table.
    pub partition: bool,
    /// Whether it is partitioned itself.
    pub partitioned: bool,
}

impl CatalogTable {
    /// `schema.table`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Reads tables; `condition` is about `n` (pg_namespace) and `c` (pg_class).
pub(crate) fn tables(connection: &mut Connection, condition: &str) -> PgResult<Vec<CatalogTable>> {
    // An index may include columns behind those of its key.
    let sql = format!(
        "SELECT c.oid::int8, n.nspname, c.relname, c.relispartition::int4, (c.relkind = 'p')::int4, \
                a.attname, a.atttypid::int8, a.atttypmod, (a.attnotnull OR t.typnotnull)::int4, \
                COALESCE(array_position(i.indkey, a.attnum), -1) \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         LEFT JOIN LATERAL (SELECT k.indkey FROM pg_catalog.pg_index x \
             CROSS JOIN LATERAL (SELECT (x.indkey::int2[])[0:x.indnkeyatts - 1] AS indkey) k WHERE x.indrelid = c.oid AND x.indisvalid \
             AND (x.indisprimary OR (x.indisunique AND x.indpred IS NULL AND x.indexprs IS NULL AND NOT EXISTS \
                 (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (k.indkey) AND NOT a.attnotnull))) \
             ORDER BY x.indisprimary DESC, x.indisreplident DESC, x.indexrelid LIMIT 1) i ON true \
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND ({condition}) \
         ORDER BY n.nspname, c.relname, c.oid, a.attnum"
    );
    let mut tables: Vec<CatalogTable> = Vec::new();
    let mut keys: Vec<(i64, String)> = Vec::new();
    let finish = |tables: &mut Vec<CatalogTable>, keys: &mut Vec<(i64, String)>| {
        keys.sort();
        if let Some(table) = tables.last_mut() {
            table.key = keys.drain(..).map(|(_, name)| name).collect();
        }
    };
    for row in connection.query(&sql)? {
        let [oid, schema, name, partition, partitioned, column, type_oid, modifier, not_null, key] = fields(row)?;
        let oid = number(&oid)?;
        if tables.last().is_none_or(|table| table.oid != oid) {
            finish(&mut tables, &mut keys);
            let (partition, partitioned) = (partition == "1", partitioned == "1");
            tables.push(CatalogTable {
                oid,
                schema,
                name,
                columns: Vec::new(),
                key: Vec::new(),
                partition,
                partitioned,
            });
        }
        let key: i64 = number(&key)?;
        if key >= 0 {
            keys.push((key, column.clone()));
        }
        if let Some(table) = tables.last_mut() {
            let (type_oid, modifier) = (number(&type_oid)?, number(&modifier)?);
            table.columns.push(CatalogColumn { name: column, type_oid, modifier, not_null: not_null == "1" });
        }
    }
    finish(&mut tables, &mut keys);
    Ok(tables)
}

/// The columns of the index that is the table's replica identity, in its order; none where it is another one.
pub(crate) fn identity_index(connection: &mut Connection, oid: u32) -> PgResult<Vec<String>> {
    let sql = format!(
        "SELECT a.attname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_index x ON x.indrelid = c.oid AND x.indisreplident AND x.indisvalid \
         CROSS JOIN LATERAL pg_catalog.unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum \
         WHERE c.oid = {oid} AND c.relreplident = 'i' ORDER BY k.place"
    );
    connection.query(&sql)?.into_iter().map(|row| fields(row).map(|[name]| name)).collect()
}

/// The tables that are captured. Changes of partitions are changes of either the partitions or the partitioned table.
pub(crate) fn captured(connection: &mut Connection, config: &SourceConfig) -> PgResult<Vec<CatalogTable>> {
    let tables = tables(connection, "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'")?;
    let root = config.via_partition_root;
    let captured = |table: &CatalogTable| {
        let level = if root { !table.partition } else { !table.partitioned };
        level && config.filters.table(&table.schema, &table.name)
    };
    Ok(tables.into_iter().filter(captured).collect())
}

/// The tables of a publication, as schema and name.
pub(crate) fn published(connection: &mut Connection, publication: &str) -> PgResult<Vec<(String, String)>> {
    let sql = format!(
        "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = {} ORDER BY 1, 2",
        literal(publication)
    );
    let pair = |row| fields(row).map(|[schema, table]| (schema, table));
    connection.query(&sql)?.into_iter().map(pair).collect()
}

/// The fields of a row that has no nulls.
pub(crate) fn fields<const N: usize>(row: Vec<Option<String>>) -> PgResult<[String; N]> {
    let row: Option<Vec<String>> = row.into_iter().collect();
    row.and_then(|row| row.try_into().ok())
        .ok_or_else(|| PgError::Refused("the catalogue answers with other columns than were asked for".into()))
}

/// A number in a row.
pub(crate) fn number<T: std::str::FromStr>(text: &str) -> PgResult<T> {
    text.parse().map_err(|_| PgError::Refused(format!("the catalogue answers {text} where a number is due")))
}
