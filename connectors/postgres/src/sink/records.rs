//! A batch as rows to be: what is to be done with each record, for which table, and with which fields.

use std::collections::HashMap;
use std::sync::Arc;

use tributary_sdk::arrow::array::cast::AsArray;
use tributary_sdk::arrow::array::{Array, ArrayRef, StringArray, StructArray, make_array};
use tributary_sdk::arrow::buffer::NullBuffer;
use tributary_sdk::arrow::schema::{DataType, Field as ArrowField, FieldRef};
use tributary_sdk::{Batch, Column, Error, Form, Offsets, Result};

use super::config::{KeyMode, SinkConfig};
use super::datum::{Datum, Members, Values, unquoted};
use super::ddl::TypeSource;
use super::names::Part;
use super::text::{self, Purpose};

/// What is to be done with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Skip,
    Write,
    Delete,
    Truncate,
    /// It cannot be written, and why.
    Bad(String),
}

/// A field of the records.
#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    pub key: bool,
    pub values: Values,
    pub required: bool,
    pub type_source: TypeSource,
}

/// A batch's records.
#[derive(Debug)]
pub(super) struct Records {
    pub ops: Vec<Op>,
    /// Which of `names` each record is for.
    pub tables: Vec<u32>,
    pub names: Vec<String>,
    /// Key fields first.
    pub fields: Vec<Field>,
}

/// Rows of one form, by their fields.
struct Parts {
    fields: Vec<Field>,
    /// Of change events.
    source: Vec<Field>,
}

impl Records {
    pub fn read(batch: &Batch, config: &SinkConfig) -> Result<Self> {
        let mut ops = vec![Op::Write; batch.len()];
        let parts = values(batch, &mut ops)?;
        let tombstone = if config.deletes { Op::Delete } else { Op::Skip };
        for op in &mut ops {
            match op {
                Op::Delete => *op = tombstone.clone(),
                Op::Truncate if !config.truncates => *op = Op::Skip,
                _ => {}
            }
        }
        let (tables, names) = tables(batch, config, &parts, &mut ops)?;
        let mut fields = keys(batch, config, &parts, &mut ops)?;
        let keys = fields.len();
        for field in parts.fields {
            // A key of some of the objects may be a value of the others.
            let known = |key: &Field| key.name == field.name && !matches!(key.values, Values::Json(..));
            let known = fields[..keys].iter().any(known);
            if !known && config.takes(&batch.topic, &field.name)? {
                fields.push(field);
            }
        }
        let fields = named(fields, &mut ops);
        Ok(Self { ops, tables, names, fields })
    }

    /// Gives what the records of the table with this number have in one field of JSON objects to another, where they do not have that: it is the same, spelt
    /// otherwise.
    pub fn join(&mut self, to: usize, from: usize, number: u32) {
        if to == from {
            return;
        }
        let Values::Json(_, places) = &mut self.fields[from].values else { return };
        let mut moved = std::mem::take(places);
        if let Values::Json(_, places) = &mut self.fields[to].values {
            for row in (0..moved.len()).filter(|row| self.tables[*row] == number) {
                if places[row].is_none() {
                    places[row] = moved[row].take();
                }
            }
        }
        if let Values::Json(_, places) = &mut self.fields[from].values {
            *places = moved;
        }
    }

    /// Whether a record of the table with this number has the field.
    pub fn writes(&self, field: usize, number: u32) -> bool {
        let field = &self.fields[field];
        let touches = |op: &Op| *op == Op::Write || field.key && *op == Op::Delete;
        (0..self.ops.len()).any(|row| self.tables[row] == number && touches(&self.ops[row]) && field.values.has(row))
    }
}

/// The fields whose names a column can have. Records that have others cannot be written.
fn named(fields: Vec<Field>, ops: &mut [Op]) -> Vec<Field> {
    let (good, bad): (Vec<Field>, Vec<Field>) =
        fields.into_iter().partition(|field| !field.name.is_empty() && !field.name.contains('\0'));
    for field in bad {
        for (_, op) in ops.iter_mut().enumerate().filter(|(row, _)| field.values.has(*row)) {
            if *op == Op::Write || field.key && *op == Op::Delete {
                *op = Op::Bad("a field's name is empty or has a character of code 0, which no column has".into());
            }
        }
    }
    good
}

/// The fields of values, and what is to be done with the records as far as they tell.
fn values(batch: &Batch, ops: &mut [Op]) -> Result<Parts> {
    let value = &batch.value;
    let nulls = |array: &ArrayRef, ops: &mut [Op]| {
        (0..ops.len()).filter(|row| array.is_null(*row)).for_each(|row| ops[row] = Op::Delete);
    };
    nulls(value.array(), ops);
    match (value.form(), value.array().data_type()) {
        (Form::Structured, DataType::Struct(_)) => {
            let row = value.array().as_struct();
            match envelope(row) {
                Some((op, after)) => {
                    for (at, found) in ops.iter_mut().enumerate().filter(|(_, op)| **op == Op::Write) {
                        *found = match op.is_valid(at).then(|| op.value(at)) {
                            Some("d") => Op::Delete,
                            Some("t") => Op::Truncate,
                            // Logical decoding messages have no row.
                            Some("m") => Op::Skip,
                            _ if after.is_null(at) => {
                                Op::Bad("it is a change event without the new row (after)".into())
                            }
                            _ => Op::Write,
                        };
                    }
                    let source = match row.column_by_name("source").map(|source| (source, source.data_type())) {
                        Some((source, DataType::Struct(_))) => own_members(source.as_struct())?,
                        _ => Vec::new(),
                    };
                    Ok(Parts { fields: members(after)?, source })
                }
                None => Ok(Parts { fields: members(row)?, source: Vec::new() }),
            }
        }
        (Form::Json, _) => {
            let documents = value.array().as_string::<i32>();
            let mut fields = JsonFields::new(documents);
            let mut source = JsonFields::new(documents);
            for (row, op) in ops.iter_mut().enumerate().filter(|(_, op)| **op == Op::Write) {
                *op = json_row(documents.value(row), row, &mut fields, &mut source);
            }
            Ok(Parts { fields: fields.finish(), source: source.finish() })
        }
        (form, data_type) => {
            let what = match form {
                Form::Bytes => "bytes".into(),
                Form::Text => "a text".into(),
                _ => format!("of type {data_type}"),
            };
            for op in ops.iter_mut().filter(|op| **op == Op::Write) {
                *op = Op::Bad(format!(
                    "the value is {what} and has no fields: use a converter for structures, such as JsonConverter"
                ));
            }
            Ok(Parts { fields: Vec::new(), source: Vec::new() })
        }
    }
}

/// Operation and new row, if these are change events.
fn envelope(row: &StructArray) -> Option<(&StringArray, &StructArray)> {
    let (op, after) = (row.column_by_name("op")?, row.column_by_name("after")?);
    let is_event = row.column_by_name("source").is_some() || row.column_by_name("before").is_some();
    let fits = matches!((op.data_type(), after.data_type()), (DataType::Utf8, DataType::Struct(_)));
    (is_event && fits).then(|| (op.as_string::<i32>(), after.as_struct()))
}

/// The fields of a structure.
fn members(array: &StructArray) -> Result<Vec<Field>> {
    fields_of(array, array.columns())
}

fn fields_of(array: &StructArray, columns: &[ArrayRef]) -> Result<Vec<Field>> {
    let field = |(field, array): (&FieldRef, &ArrayRef)| {
        Ok(Field {
            name: field.name().clone(),
            key: false,
            values: Values::of(array, field)?,
            required: !field.is_nullable(),
            type_source: TypeSource::Schema(field.clone()),
        })
    };
    array.fields().iter().zip(columns).map(field).collect()
}

/// The same, where what is in a structure that is null must not be looked at: it is null as well.
fn own_members(array: &StructArray) -> Result<Vec<Field>> {
    let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else { return members(array) };
    let masked = |column: &ArrayRef| -> Result<ArrayRef> {
        if *column.data_type() == DataType::Null {
            return Ok(column.clone());
        }
        let nulls = NullBuffer::union(column.nulls(), Some(nulls));
        let data = column.to_data().into_builder().nulls(nulls).build();
        Ok(make_array(data.map_err(|error| Error::failed(format!("a structure cannot be read: {error}")))?))
    };
    fields_of(array, &array.columns().iter().map(masked).collect::<Result<Vec<_>>>()?)
}

/// The most columns of a table.
const MOST_COLUMNS: usize = 1600;

/// Columns of the members of JSON objects.
struct JsonFields<'a> {
    documents: &'a StringArray,
    names: HashMap<String, usize>,
    columns: Vec<(String, Vec<Option<(u32, u32)>>)>,
}

impl<'a> JsonFields<'a> {
    fn new(documents: &'a StringArray) -> Self {
        Self { documents, names: HashMap::new(), columns: Vec::new() }
    }

    /// The record cannot be written if it has members that no table has columns for, as there are too many.
    fn add(&mut self, row: usize, members: &Members<'_>) -> Op {
        let document = self.documents.value(row).as_ptr() as usize;
        for (at, (name, value)) in members.0.iter().enumerate() {
            // Objects of one topic mostly have the same members in the same order.
            let column = match self.columns.get(at) {
                Some((known, _)) if known == name => at,
                _ => match self.names.get(&**name) {
                    Some(column) => *column,
                    None if self.columns.len() >= MOST_COLUMNS => {
                        self.columns.iter_mut().for_each(|(_, places)| places[row] = None);
                        return Op::Bad(format!(
                            "its batch has more than {MOST_COLUMNS} different members, and no table so many columns"
                        ));
                    }
                    None => {
                        self.names.insert(name.to_string(), self.columns.len());
                        self.columns.push((name.to_string(), vec![None; self.documents.len()]));
                        self.columns.len() - 1
                    }
                },
            };
            let raw = value.get();
            let from = (raw.as_ptr() as usize - document) as u32;
            self.columns[column].1[row] = Some((from, from + raw.len() as u32));
        }
        Op::Write
    }

    fn finish(self) -> Vec<Field> {
        let documents = self.documents;
        let field = |(name, places): (String, Vec<Option<(u32, u32)>>)| {
            let sample = places.iter().enumerate().find_map(|(row, place)| {
                let (from, to) = (*place)?;
                let raw = &documents.value(row)[from as usize..to as usize];
                (raw != "null").then(|| raw.to_owned())
            });
            Field {
                name,
                key: false,
                values: Values::Json(documents.clone(), places),
                required: false,
                type_source: TypeSource::Json(sample),
            }
        };
        self.columns.into_iter().map(field).collect()
    }
}

fn json_row(document: &str, row: usize, fields: &mut JsonFields<'_>, source: &mut JsonFields<'_>) -> Op {
    if document == "null" {
        return Op::Delete;
    }
    let members: Members<'_> = match serde_json::from_str(document) {
        Ok(members) => members,
        Err(_) => return Op::Bad("the value is no JSON object".into()),
    };
    let find = |name: &str| members.0.iter().find(|(member, _)| member == name).map(|(_, value)| value.get());
    let (Some(op), Some(after)) = (find("op").and_then(unquoted), find("after")) else {
        return fields.add(row, &members);
    };
    if find("source").is_none() && find("before").is_none() {
        return fields.add(row, &members);
    }
    // What is inside of the document is counted from its beginning, too.
    if let Some(Ok(found)) = find("source").map(serde_json::from_str::<Members<'_>>) {
        let _ = source.add(row, &found);
    }
    match &*op {
        "d" => Op::Delete,
        "t" => Op::Truncate,
        "m" => Op::Skip,
        _ => match serde_json::from_str::<Members<'_>>(after) {
            Ok(found) => fields.add(row, &found),
            Err(_) => Op::Bad("it is a change event without the new row (after)".into()),
        },
    }
}

/// The fields of keys, or of one value whose column `primary.key.fields` names.
fn key_fields(key: &Column, config: &SinkConfig, ops: &mut [Op]) -> Result<Vec<Field>> {
    match (key.form(), key.array().data_type()) {
        (Form::Structured, DataType::Struct(_)) => own_members(key.array().as_struct()),
        (Form::Json, _) => {
            let documents = key.array().as_string::<i32>();
            let mut fields = JsonFields::new(documents);
            let (mut single, mut objects) = (vec![None; documents.len()], false);
            for row in (0..documents.len()).filter(|row| documents.is_valid(*row)) {
                let document = documents.value(row).trim();
                match serde_json::from_str::<Members<'_>>(document) {
                    Ok(members) if document.starts_with('{') => {
                        objects = true;
                        if let (bad @ Op::Bad(_), Some(op)) = (fields.add(row, &members), ops.get_mut(row)) {
                            *op = bad;
                        }
                    }
                    _ => single[row] = Some((0, documents.value(row).len() as u32)),
                }
            }
            if objects {
                return Ok(fields.finish());
            }
            let sample = single.iter().position(Option::is_some).map(|row| documents.value(row).to_owned());
            let values = Values::Json(documents.clone(), single);
            Ok(one(config, values, TypeSource::Json(sample), ops))
        }
        _ => {
            let values = Values::of(key.array(), key.field())?;
            Ok(one(config, values, TypeSource::Schema(key.field().clone()), ops))
        }
    }
}

fn one(config: &SinkConfig, values: Values, type_source: TypeSource, ops: &mut [Op]) -> Vec<Field> {
    let [name] = &config.key_fields[..] else {
        let why = "the record's key is a single value: primary.key.fields has to name the column that it goes to";
        ops.iter_mut().filter(|op| matches!(op, Op::Write | Op::Delete)).for_each(|op| *op = Op::Bad(why.into()));
        return Vec::new();
    };
    vec![Field { name: name.clone(), key: true, values, required: true, type_source }]
}

fn keys(batch: &Batch, config: &SinkConfig, parts: &Parts, ops: &mut [Op]) -> Result<Vec<Field>> {
    let key = |mut field: Field| {
        field.key = true;
        field.required = true;
        field
    };
    let refuse = |ops: &mut [Op], why: &str| {
        ops.iter_mut().filter(|op| matches!(op, Op::Write | Op::Delete)).for_each(|op| *op = Op::Bad(why.to_owned()));
    };
    let found = match config.key_mode {
        KeyMode::None => return Ok(Vec::new()),
        KeyMode::Kafka => {
            let fixed = |name: &String, values, type_name| Field {
                name: name.clone(),
                key: true,
                values,
                required: true,
                type_source: TypeSource::Fixed(type_name),
            };
            let offsets = match &batch.offsets {
                Offsets::Sink(offsets) => Values::Int64(offsets.clone()),
                _ => {
                    refuse(ops, "the record has no offset, which primary.key.mode=kafka needs");
                    Values::Nothing
                }
            };
            let names = &config.key_fields;
            return Ok(vec![
                fixed(&names[0], Values::Constant(batch.topic.to_string()), "text"),
                fixed(&names[1], Values::ConstantInt(i64::from(batch.partition.unwrap_or(0))), "integer"),
                fixed(&names[2], offsets, "bigint"),
            ]);
        }
        KeyMode::Key => match &batch.key {
            Some(column) => key_fields(column, config, ops)?,
            None => {
                refuse(ops, "the record has no key, which primary.key.mode=record_key needs");
                return Ok(Vec::new());
            }
        },
        KeyMode::Value => parts.fields.iter().map(copy).collect(),
        KeyMode::Header => header_fields(batch, config, ops),
    };
    if config.key_fields.is_empty() {
        if found.is_empty() {
            refuse(ops, "the record has no fields that its primary key could be made of");
        }
        return Ok(found.into_iter().map(key).collect());
    }
    let mut chosen = Vec::new();
    for name in &config.key_fields {
        match found.iter().find(|field| field.name == *name) {
            Some(field) => chosen.push(key(copy(field))),
            None => {
                refuse(ops, &format!("the record has no field {name}, which primary.key.fields names"));
                return Ok(Vec::new());
            }
        }
    }
    Ok(chosen)
}

fn copy(field: &Field) -> Field {
    let Field { name, key, values, required, type_source } = field;
    Field {
        name: name.clone(),
        key: *key,
        values: values.clone(),
        required: *required,
        type_source: type_source.clone(),
    }
}

/// Headers as columns: of their first value in each record.
fn header_fields(batch: &Batch, config: &SinkConfig, ops: &mut [Op]) -> Vec<Field> {
    let mut names = config.key_fields.clone();
    let mut columns: HashMap<String, Vec<Option<String>>> = HashMap::new();
    for row in batch.rows() {
        for (name, value) in row.headers() {
            if config.key_fields.is_empty() && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
            let column = columns.entry(name.to_owned()).or_insert_with(|| vec![None; batch.len()]);
            if column[row.index()].is_none() {
                match value.map(std::str::from_utf8) {
                    Some(Err(_)) => {
                        let op = &mut ops[row.index()];
                        if matches!(op, Op::Write | Op::Delete)
                            && (config.key_fields.is_empty() || names.iter().any(|known| known == name))
                        {
                            *op = Op::Bad(format!("the header {name} is no text in UTF-8, which a key is made of"));
                        }
                    }
                    Some(Ok(text)) => column[row.index()] = Some(text.to_owned()),
                    None => {}
                }
            }
        }
    }
    let field = |name: String| {
        let values = columns.remove(&name).unwrap_or_else(|| vec![None; batch.len()]);
        let values = Values::Str(values.into_iter().collect::<StringArray>());
        let field = Arc::new(ArrowField::new(&name, DataType::Utf8, true));
        Field { name, key: true, values, required: true, type_source: TypeSource::Schema(field) }
    };
    names.into_iter().map(field).collect()
}

const NO_NAME: &str = "its parts make no name of a table: one of them is empty, or has control characters";

/// Whether it can be the name of a table, with or without a schema.
fn is_name(name: &str) -> bool {
    name.split('.').all(|part| !part.trim().is_empty()) && !name.chars().any(char::is_control)
}

/// For each record its table.
fn tables(batch: &Batch, config: &SinkConfig, parts: &Parts, ops: &mut [Op]) -> Result<(Vec<u32>, Vec<String>)> {
    let template = &config.table;
    if template.by_topic() {
        let name = template.fill(&batch.topic, |_| Err(String::new())).unwrap_or_default();
        return Ok((vec![0; batch.len()], vec![name]));
    }
    let needs = |wanted: fn(&Part) -> bool| template.0.iter().any(wanted);
    let keys = match &batch.key {
        Some(key)
            if needs(|part| matches!(part, Part::Key(_)))
                && matches!((key.form(), key.array().data_type()), (Form::Json, _) | (_, DataType::Struct(_))) =>
        {
            key_fields(key, config, &mut [])?
        }
        _ => Vec::new(),
    };
    let mut names: Vec<String> = Vec::new();
    let mut known: HashMap<String, u32> = HashMap::new();
    let mut tables = vec![0; batch.len()];
    for row in batch.rows() {
        let at = row.index();
        if !matches!(ops[at], Op::Write | Op::Delete | Op::Truncate) {
            continue;
        }
        let name = template.fill(&batch.topic, |part| {
            let (fields, name, what) = match part {
                Part::Source(name) => (&parts.source, name, "source"),
                Part::Value(name) => (&parts.fields, name, "value"),
                Part::Key(name) => (&keys, name, "key"),
                Part::Header(name) => {
                    let value = row.headers().find(|(key, _)| key == name).and_then(|(_, value)| value);
                    let value = value.filter(|value| !value.is_empty());
                    let Some(bytes) = value else {
                        return Err(format!("the record has no header {name}, which the name of its table is made of"));
                    };
                    let wrong =
                        |_| format!("the header {name} is no text in UTF-8, which the name of its table is made of");
                    return std::str::from_utf8(bytes).map(str::to_owned).map_err(wrong);
                }
                Part::Fixed(_) | Part::Topic => return Ok(String::new()),
            };
            let found = fields.iter().find(|field| field.name == *name).map(|field| field.values.get(at));
            let mut shown = String::new();
            match found {
                Some(Datum::Null) | None => {}
                Some(datum) => text::write(&mut shown, &datum, Purpose::Plain)?,
            }
            if shown.is_empty() {
                return Err(format!("the record's {what} has no field {name}, which the name of its table is made of"));
            }
            Ok(shown)
        });
        match name.and_then(|name| if is_name(&name) { Ok(name) } else { Err(NO_NAME.into()) }) {
            Ok(name) => {
                tables[at] = *known.entry(name.clone()).or_insert_with(|| {
                    names.push(name);
                    names.len() as u32 - 1
                });
            }
            // A tombstone has nothing that tells its table; the event before it does the deleting.
            Err(_) if ops[at] == Op::Delete && row.value().is_null() => ops[at] = Op::Skip,
            Err(why) => ops[at] = Op::Bad(why),
        }
    }
    Ok((tables, names))
}
