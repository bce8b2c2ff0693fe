//! Which tables and columns are captured, and which columns are the key.

use tributary_sdk::{Error, Parsed, Pattern, Result};

/// The filters of a config.
#[derive(Clone, Debug)]
pub(crate) struct Filters {
    schemas: Lists,
    tables: Lists,
    columns: Lists,
    snapshot: Option<Vec<Pattern>>,
    keys: Vec<(Pattern, Vec<String>)>,
}

#[derive(Clone, Debug)]
struct Lists {
    include: Option<Vec<Pattern>>,
    exclude: Vec<Pattern>,
}

impl Lists {
    fn parse(values: &Parsed, what: &str) -> Result<Self> {
        let (include, exclude) = (format!("{what}.include.list"), format!("{what}.exclude.list"));
        let lists =
            Self { include: patterns(values, &include)?, exclude: patterns(values, &exclude)?.unwrap_or_default() };
        if lists.include.is_some() && !lists.exclude.is_empty() {
            return Err(Error::failed(format!("{include} and {exclude} exclude each other: set one of them")));
        }
        Ok(lists)
    }

    fn allow(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|include| any(include, name)) && !any(&self.exclude, name)
    }
}

fn any(patterns: &[Pattern], name: &str) -> bool {
    // One that was given up matches nothing: names are short.
    patterns.iter().any(|pattern| pattern.is_match(name).unwrap_or(false))
}

fn pattern(key: &str, text: &str) -> Result<Pattern> {
    // Debezium ignores case.
    Pattern::whole(&format!("(?i:{})", text.trim())).map_err(|error| Error::failed(format!("{key}: {text}: {error}")))
}

fn patterns(values: &Parsed, key: &str) -> Result<Option<Vec<Pattern>>> {
    let items = values.get::<Option<Vec<String>>>(key)?.unwrap_or_default();
    let items: Vec<&String> = items.iter().filter(|item| !item.trim().is_empty()).collect();
    if items.is_empty() {
        return Ok(None);
    }
    items.into_iter().map(|text| pattern(key, text)).collect::<Result<_>>().map(Some)
}

impl Filters {
    pub fn parse(values: &Parsed) -> Result<Self> {
        Ok(Self {
            schemas: Lists::parse(values, "schema")?,
            tables: Lists::parse(values, "table")?,
            columns: Lists::parse(values, "column")?,
            snapshot: patterns(values, "snapshot.include.collection.list")?,
            keys: keys(values.get::<Option<String>>("message.key.columns")?.as_deref().unwrap_or_default())?,
        })
    }

    /// Whether a table is captured. The server's own schemas never are.
    pub fn table(&self, schema: &str, table: &str) -> bool {
        if schema == "information_schema" || schema.starts_with("pg_") {
            return false;
        }
        self.schemas.allow(schema) && self.tables.allow(&format!("{schema}.{table}"))
    }

    /// Whether snapshots read it.
    pub fn in_snapshot(&self, schema: &str, table: &str) -> bool {
        let name = format!("{schema}.{table}");
        self.table(schema, table) && self.snapshot.as_ref().is_none_or(|patterns| any(patterns, &name))
    }

    /// Whether values have a column.
    pub fn column(&self, schema: &str, table: &str, column: &str) -> bool {
        self.columns.allow(&format!("{schema}.{table}.{column}"))
    }

    /// The columns of a table's key, where they are configured.
    pub fn key(&self, schema: &str, table: &str) -> Option<&[String]> {
        let name = format!("{schema}.{table}");
        self.keys.iter().find(|(table, _)| table.is_match(&name).unwrap_or(false)).map(|(_, columns)| &**columns)
    }
}

/// `schema.table:column,column;…`
fn keys(text: &str) -> Result<Vec<(Pattern, Vec<String>)>> {
    let each = text.split(';').map(str::trim).filter(|entry| !entry.is_empty());
    each.map(|entry| {
        let wrong = || Error::failed(format!("message.key.columns: {entry} is not <schema.table>:<column>,<column>"));
        let (table, columns) = entry.rsplit_once(':').ok_or_else(wrong)?;
        let columns: Vec<String> =
            columns.split(',').map(|column| column.trim().to_owned()).filter(|column| !column.is_empty()).collect();
        if columns.is_empty() {
            return Err(wrong());
        }
        Ok((pattern("message.key.columns", table)?, columns))
    })
    .collect()
}
