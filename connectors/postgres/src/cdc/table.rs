//! A table as its change events have it: columns, key, schemas.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use tributary_sdk::arrow::schema::{DataType, Field, FieldRef, Fields};
use tributary_sdk::batch::{SCHEMA_DEFAULT, SCHEMA_NAME, SCHEMA_PARAMETERS, SCHEMA_VERSION};
use tributary_sdk::{Error, Result};

use super::catalog::{CatalogTable, Types};
use super::pgoutput::{Relation, Value};
use super::values::{ColumnType, column_type};
use crate::config::SourceConfig;

/// A column that is given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedColumn {
    pub name: String,
    /// Its place in the server's rows.
    pub at: usize,
    pub column: ColumnType,
    pub required: bool,
    /// Whether it is in the replica identity: what deletions have.
    pub identity: bool,
}

/// A table's plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub schema: String,
    pub name: String,
    pub topic: Arc<str>,
    /// All columns of the server's rows, by name: what a snapshot selects.
    pub row: Vec<String>,
    /// The columns of values.
    pub values: Vec<PlannedColumn>,
    /// The columns of keys; empty where there is no key.
    pub key: Vec<PlannedColumn>,
    pub key_field: FieldRef,
    pub value_field: FieldRef,
    /// Columns that are left out since nobody knows their types.
    pub unknown: Vec<String>,
}

/// The snapshot's marks in a record's source.
const MARKS: &str = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental";

impl Plan {
    /// Of a table in the catalogue.
    pub fn of_catalog(config: &SourceConfig, types: &Types, table: &CatalogTable) -> Result<Self> {
        let columns = table.columns.iter().map(|column| Given {
            name: &column.name,
            type_oid: column.type_oid,
            modifier: column.modifier,
            required: column.not_null,
            identity: true,
        });
        Self::new(config, types, (&table.schema, &table.name), columns.collect(), &table.key)
    }

    /// Of a relation in the log. What the log does not tell (which columns are never null, and the key) comes from the catalogue, which may be
    /// newer: columns that it no longer has may be null.
    pub fn of_relation(
        config: &SourceConfig,
        types: &Types,
        relation: &Relation,
        catalog: Option<&CatalogTable>,
    ) -> Result<Self> {
        let known: HashMap<&str, bool> = catalog
            .iter()
            .flat_map(|table| table.columns.iter().map(|column| (&*column.name, column.not_null)))
            .collect();
        let columns = relation.columns.iter().map(|column| Given {
            name: &column.name,
            type_oid: column.type_oid,
            modifier: column.modifier,
            required: known.get(&*column.name).copied().unwrap_or(false),
            identity: column.key,
        });
        let has = |name: &String| relation.columns.iter().any(|column| column.name == *name);
        let key = match catalog {
            Some(table) if table.key.iter().all(has) => table.key.clone(),
            // Its key is a newer one.
            _ => relation.columns.iter().filter(|column| column.key).map(|column| column.name.clone()).collect(),
        };
        Self::new(config, types, (&relation.schema, &relation.name), columns.collect(), &key)
    }

    fn new(
        config: &SourceConfig,
        types: &Types,
        (schema, name): (&str, &str),
        columns: Vec<Given<'_>>,
        key: &[String],
    ) -> Result<Self> {
        let key = config.filters.key(schema, name).unwrap_or(key);
        if let Some(missing) = key.iter().find(|key| columns.iter().all(|column| column.name != **key)) {
            return Err(Error::failed(format!(
                "message.key.columns: {schema}.{name} has no column {missing} that is replicated"
            )));
        }
        let (mut values, mut keys, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (at, given) in columns.iter().enumerate() {
            let in_key = key.iter().any(|column| column == given.name);
            let in_value = config.filters.column(schema, name, given.name);
            if !in_key && !in_value {
                continue;
            }
            let column = column_type(types, given.type_oid, given.modifier, &config.modes)
                .map_err(|why| Error::failed(format!("column {} of {schema}.{name} {why}", given.name)))?;
            let Some(column) = column else {
                if in_key {
                    return Err(Error::failed(format!(
                        "key column {} of {schema}.{name} is of a type that is not known: choose other columns by message.key.columns, or set \
                         include.unknown.datatypes=true",
                        given.name
                    )));
                }
                unknown.push(given.name.to_owned());
                continue;
            };
            let (required, identity) = (given.required, given.identity);
            let planned = PlannedColumn { name: given.name.to_owned(), at, column, required, identity };
            if in_key {
                keys.push(planned.clone());
            }
            if in_value {
                values.push(planned);
            }
        }
        // In the key's own order.
        keys.sort_by_key(|column| key.iter().position(|name| *name == column.name));
        let topic = config.topic(schema, name);
        let (key_field, value_field) = schemas(&topic, &keys, &values);
        Ok(Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            topic: topic.into(),
            row: columns.iter().map(|column| column.name.to_owned()).collect(),
            values,
            key: keys,
            key_field,
            value_field,
            unknown,
        })
    }

    /// The plan for a row with null, or with a value that was not sent, where the catalogue has no nulls: the catalogue is newer than the log, or
    /// the type has nothing that could stand for the value. `None` where the row fits.
    pub fn loosened(&self, row: &[Value]) -> Option<Self> {
        let misfits = |column: &PlannedColumn| {
            column.required
                && match row.get(column.at) {
                    Some(Value::Null) | None => true,
                    Some(Value::Unchanged) => !column.column.has_placeholder(),
                    Some(Value::Text(_)) => false,
                }
        };
        if !self.values.iter().chain(&self.key).any(misfits) {
            return None;
        }
        let mut plan = self.clone();
        for column in plan.values.iter_mut().chain(&mut plan.key) {
            column.required &= !misfits(column);
        }
        (plan.key_field, plan.value_field) = schemas(&plan.topic, &plan.key, &plan.values);
        Some(plan)
    }

    /// A key column that an old row does not have, if there is one.
    pub fn key_gap(&self) -> Option<&PlannedColumn> {
        self.key.iter().find(|column| !column.identity)
    }

    /// `schema.table`, as filters and messages have it.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Of keys and of values.
fn schemas(topic: &str, key: &[PlannedColumn], values: &[PlannedColumn]) -> (FieldRef, FieldRef) {
    let fields = |columns: &[PlannedColumn]| -> Fields {
        columns.iter().map(|column| column.column.field(&column.name, !column.required)).collect()
    };
    let key = named("", DataType::Struct(fields(key)), true, &format!("{topic}.Key"), None);
    (key, envelope(topic, fields(values)))
}

struct Given<'a> {
    name: &'a str,
    type_oid: u32,
    modifier: i32,
    required: bool,
    identity: bool,
}

pub(super) fn named(name: &str, data_type: DataType, nullable: bool, schema: &str, version: Option<&str>) -> FieldRef {
    let mut metadata = HashMap::from([(SCHEMA_NAME.to_owned(), schema.to_owned())]);
    metadata.extend(version.map(|version| (SCHEMA_VERSION.to_owned(), version.to_owned())));
    Arc::new(Field::new(name, data_type, nullable).with_metadata(metadata))
}

/// Debezium's envelope of a row.
fn envelope(topic: &str, row: Fields) -> FieldRef {
    let side = |name| named(name, DataType::Struct(row.clone()), true, &format!("{topic}.Value"), None);
    let fields: Vec<FieldRef> = vec![
        side("before"),
        side("after"),
        named("source", DataType::Struct(source_fields()), false, "io.debezium.connector.postgresql.Source", Some("1")),
        named("transaction", DataType::Struct(transaction_fields()), true, "event.block", Some("1")),
        Arc::new(Field::new("op", DataType::Utf8, false)),
        Arc::new(Field::new("ts_ms", DataType::Int64, true)),
        Arc::new(Field::new("ts_us", DataType::Int64, true)),
        Arc::new(Field::new("ts_ns", DataType::Int64, true)),
    ];
    named("", DataType::Struct(fields.into()), true, &format!("{topic}.Envelope"), Some("2"))
}

pub(super) fn source_fields() -> Fields {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let long = |name, nullable| Field::new(name, DataType::Int64, nullable);
    let snapshot = HashMap::from([
        (SCHEMA_NAME.to_owned(), "io.debezium.data.Enum".to_owned()),
        (SCHEMA_VERSION.to_owned(), "1".to_owned()),
        (SCHEMA_PARAMETERS.to_owned(), json!({ "allowed": MARKS }).to_string()),
        (SCHEMA_DEFAULT.to_owned(), "\"false\"".to_owned()),
    ]);
    vec![
        text("version", false),
        text("connector", false),
        text("name", false),
        long("ts_ms", false),
        text("snapshot", true).with_metadata(snapshot),
        text("db", false),
        text("sequence", true),
        long("ts_us", true),
        long("ts_ns", true),
        text("schema", false),
        text("table", false),
        long("txId", true),
        long("lsn", true),
        long("xmin", true),
    ]
    .into()
}

pub(super) fn transaction_fields() -> Fields {
    let long = |name| Field::new(name, DataType::Int64, false);
    vec![Field::new("id", DataType::Utf8, false), long("total_order"), long("data_collection_order")].into()
}
