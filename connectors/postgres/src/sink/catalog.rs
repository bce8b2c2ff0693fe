//! Tables as the server's catalogue has them, and the statements that make them.

use std::fmt::Write as _;

use super::names::{cut, schema_and_table};
use crate::client::{Connection, PgResult, identifier, literal};

/// A table that exists.
#[derive(Debug)]
pub(super) struct Table {
    pub schema: String,
    pub name: String,
    pub columns: Vec<TableColumn>,
    /// The columns of each unique index that can tell a conflict; `None`: the server does not tell (views, foreign tables).
    uniques: Option<Vec<Vec<String>>>,
}

/// A column of it.
#[derive(Debug)]
pub(super) struct TableColumn {
    pub name: String,
    /// The type's OID; of a domain, that of what it is made of.
    pub oid: u32,
    /// The type as a cast has it, without length.
    pub cast: String,
    /// A row without it is refused.
    pub required: bool,
    pub generated: bool,
    pub identity: bool,
    pub array: bool,
    pub hstore: bool,
    /// Texts are the same only where their bytes are.
    pub exact: bool,
}

/// A column that is to be made.
#[derive(Debug, Clone)]
pub(super) struct NewColumn {
    pub name: String,
    pub type_name: String,
    pub required: bool,
}

impl Table {
    /// Quoted, with its schema.
    pub fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    /// The column of a field. Without `exact`, one that does not exist as it is stands for that in lower case.
    pub fn column(&self, field: &str, exact: bool) -> Option<usize> {
        let field = cut(field);
        let find = |name: &str| self.columns.iter().position(|column| column.name == name);
        find(field).or_else(|| if exact { None } else { find(cut(&field.to_lowercase())) })
    }

    /// Whether an index can tell a conflict on exactly these columns.
    pub fn has_unique(&self, columns: &[&str]) -> bool {
        let Some(uniques) = &self.uniques else { return true };
        uniques.iter().any(|unique| {
            unique.len() == columns.len() && columns.iter().all(|name| unique.iter().any(|column| column == name))
        })
    }

    /// The table of this name, if there is one.
    pub fn find(connection: &mut Connection, name: &str, exact: bool) -> PgResult<Option<Self>> {
        let (schema, table) = schema_and_table(name);
        let spellings = |name: &str| {
            let lower = if exact { name.to_owned() } else { name.to_lowercase() };
            format!("({}, {})", literal(cut(name)), literal(cut(&lower)))
        };
        let place = match schema {
            Some(schema) => format!("n.nspname IN {}", spellings(schema)),
            None => "pg_catalog.pg_table_is_visible(c.oid)".into(),
        };
        let rows = connection.query(&format!(
            "SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname IN {} AND {place} AND c.relkind IN ('r', 'p', 'v', 'f') AND c.relpersistence <> 't' \
             ORDER BY n.nspname = {} DESC, c.relname = {} DESC LIMIT 1",
            spellings(table),
            literal(schema.unwrap_or_default()),
            literal(cut(table)),
        ))?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let oid = text(0);
        let columns = columns(connection, &oid)?;
        let uniques = if matches!(&*text(3), "r" | "p") { Some(uniques(connection, &oid)?) } else { None };
        Ok(Some(Self { schema: text(1), name: text(2), columns, uniques }))
    }
}

fn columns(connection: &mut Connection, oid: &str) -> PgResult<Vec<TableColumn>> {
    let rows = connection.query(&format!(
        "SELECT a.attname, b.oid, pg_catalog.format_type(b.oid, -1), a.attgenerated <> '', a.attidentity <> '', b.typcategory = 'A', b.typname = 'hstore', (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '', \
         COALESCE((SELECT l.collisdeterministic FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation), true) \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         CROSS JOIN LATERAL (WITH RECURSIVE base AS (SELECT t.oid AS id, t.typbasetype AS below, t.typtype AS sort UNION ALL \
           SELECT d.oid, d.typbasetype, d.typtype FROM base JOIN pg_catalog.pg_type d ON d.oid = base.below WHERE base.sort = 'd') \
           SELECT id FROM base WHERE sort <> 'd') root JOIN pg_catalog.pg_type b ON b.oid = root.id \
         WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    ))?;
    let column = |row: Vec<Option<String>>| {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let yes = |at: usize| text(at) == "t";
        TableColumn {
            name: text(0),
            oid: text(1).parse().unwrap_or(0),
            cast: text(2),
            generated: yes(3),
            identity: yes(4),
            array: yes(5),
            hstore: yes(6),
            required: yes(7),
            exact: yes(8),
        }
    };
    Ok(rows.into_iter().map(column).collect())
}

fn uniques(connection: &mut Connection, oid: &str) -> PgResult<Vec<Vec<String>>> {
    let rows = connection.query(&format!(
        "SELECT i.indexrelid, a.attname FROM pg_catalog.pg_index i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) g(at) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[g.at] \
         WHERE i.indrelid = {oid} AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY 1"
    ))?;
    let mut indexes: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows {
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        let (Some(index), Some(column)) = (row.next(), row.next()) else { continue };
        match indexes.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => indexes.push((index, vec![column])),
        }
    }
    Ok(indexes.into_iter().map(|(_, columns)| columns).collect())
}

/// The statement that makes a table; `keys` are its primary key.
pub(super) fn create(name: &str, exact: bool, columns: &[NewColumn], keys: &[String]) -> String {
    let (schema, table) = schema_and_table(name);
    let fold = |name: &str| identifier(cut(&folded(name, exact)));
    let mut sql = String::from("CREATE TABLE IF NOT EXISTS ");
    if let Some(schema) = schema {
        let _ = write!(sql, "{}.", fold(schema));
    }
    let _ = write!(sql, "{} (", fold(table));
    for (at, column) in columns.iter().enumerate() {
        let required = if column.required { " NOT NULL" } else { "" };
        let comma = if at > 0 { ", " } else { "" };
        let _ = write!(sql, "{comma}{} {}{required}", fold(&column.name), column.type_name);
    }
    if !keys.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| fold(key)).collect();
        let _ = write!(sql, ", PRIMARY KEY ({})", keys.join(", "));
    }
    sql.push(')');
    sql
}

/// The statement that adds columns. They may be null, whatever the record's schema says: rows are there already.
pub(super) fn add(table: &Table, exact: bool, columns: &[NewColumn]) -> String {
    let column = |column: &NewColumn| {
        format!("ADD COLUMN IF NOT EXISTS {} {}", identifier(cut(&folded(&column.name, exact))), column.type_name)
    };
    let columns: Vec<String> = columns.iter().map(column).collect();
    format!("ALTER TABLE {} {}", table.quoted(), columns.join(", "))
}

/// The name under which a column that is made is found.
pub(super) fn stored(name: &str, exact: bool) -> String {
    cut(&folded(name, exact)).to_owned()
}

fn folded(name: &str, exact: bool) -> String {
    if exact { name.to_owned() } else { name.to_lowercase() }
}
