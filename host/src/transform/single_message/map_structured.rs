//! `Map` for structured values: columns in, columns out, with the types that [`Types`] tells.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, FieldRef};
use tributary_sdk::Column;
use tributary_sdk::batch::SCHEMA_OPTIONAL;

use super::map::{Map, PURPOSE, Refused, each};
use crate::converter::json::{self, Options};
use crate::expression::{Answer, Expression, Types, Variable};
use crate::transform::field_path::FieldPath;
use crate::transform::part::{Opened, Part, Side, Target};
use crate::transform::structs::{Struct, extract, mask};

type Result<T> = std::result::Result<T, String>;

impl Map {
    /// The new values. The error is of all rows that have one.
    pub(super) fn value_column(&self, part: &mut Part<'_>, refused: &mut Refused) -> Result<Column> {
        let Opened::Column(old) = part.open(Target::Value) else { unreachable!("a column") };
        let old = old.clone();
        let fields: Vec<(&FieldPath, FieldRef, ArrayRef)> = self
            .fields
            .iter()
            .map(|(path, expression)| {
                let column = self.computed(part, expression, old.array().nulls(), refused)?;
                Ok((path, column.field().clone(), column.array().clone()))
            })
            .collect::<Result<_>>()?;
        let whole = match &self.value {
            Some(expression) => self.computed(part, expression, None, refused)?,
            None => old,
        };
        if fields.is_empty() && self.remove.is_empty() {
            return Ok(whole);
        }
        let mut structs = Struct::open(&whole, PURPOSE, false)?;
        for path in &self.remove {
            remove(&mut structs, &path.names().collect::<Vec<_>>())?;
        }
        for (path, field, array) in fields {
            let mut metadata = field.metadata().clone();
            metadata.remove(SCHEMA_OPTIONAL);
            let field = Field::new("", field.data_type().clone(), true).with_metadata(metadata);
            set(&mut structs, &path.names().collect::<Vec<_>>(), field, array, refused)?;
        }
        Ok(structs.rebuild())
    }

    /// An expression's value as a column of its own.
    pub(super) fn computed_column(
        &self,
        part: &Part<'_>,
        expression: &Expression,
        refused: &mut Refused,
    ) -> Result<Column> {
        self.computed(part, expression, None, refused)
    }

    /// Where `dead` has nulls, nothing is computed: a tombstone has no fields.
    fn computed(
        &self,
        part: &Part<'_>,
        expression: &Expression,
        dead: Option<&NullBuffer>,
        refused: &mut Refused,
    ) -> Result<Column> {
        let side = |side: &Side<'_>, base: Option<&Column>| match side {
            Side::Column(column) => Some(column.field().clone()),
            Side::Json(_) => None,
            Side::Base => base.map(|column| column.field().clone()),
        };
        let types =
            Types { value: side(&part.value, Some(&part.base.value)), key: side(&part.key, part.base.key.as_ref()) };
        if let Some(column) = selected(part, expression) {
            return Ok(column);
        }
        let mut field = types.of(expression)?;
        let mut metadata = field.metadata().clone();
        metadata.insert(SCHEMA_OPTIONAL.to_owned(), "true".to_owned());
        field.set_metadata(metadata);
        let mut at = 0;
        let payloads = each(part, expression, refused, |record| {
            let row = at;
            at += 1;
            if dead.is_some_and(|nulls| nulls.is_null(row)) {
                return Ok(None);
            }
            match expression.evaluate(record)? {
                // A null as a whole value is a tombstone.
                Answer::Null | Answer::Missing => Ok(None),
                answer => {
                    answer.to_payload(&field).map(Some).map_err(|what| format!("{what}, in '{}'", expression.text()))
                }
            }
        });
        let rows: Vec<Option<&str>> =
            payloads.iter().map(|text| text.as_ref().and_then(|text| text.as_deref())).collect();
        let (array, failures) = json::decode(&field, &rows, &Options::default())?;
        refused.extend(failures.into_iter().map(|failure| (failure.row, failure.message)));
        Ok(Column::new(Arc::new(field), array))
    }
}

/// Takes a member out, if it is there.
fn remove(structs: &mut Struct, path: &[&str]) -> Result<()> {
    let Some((name, rest)) = path.split_first() else { return Ok(()) };
    let Some(at) = structs.position(name) else { return Ok(()) };
    if rest.is_empty() {
        structs.fields.remove(at);
        structs.columns.remove(at);
        return Ok(());
    }
    // What has no fields has none to take out.
    let Ok(mut inner) = inside(structs, at, rest) else { return Ok(()) };
    remove(&mut inner, rest)?;
    put_back(structs, at, inner);
    Ok(())
}

/// Sets a member; structs on the way that are missing or null are made, where there is a value to set.
fn set(structs: &mut Struct, path: &[&str], field: Field, array: ArrayRef, refused: &mut Refused) -> Result<()> {
    let Some((name, rest)) = path.split_first() else { return Ok(()) };
    if rest.is_empty() {
        structs.set(field.with_name(*name), array);
        return Ok(());
    }
    let at = structs.position(name).unwrap_or_else(|| {
        let none = StructArray::new_empty_fields(structs.rows, Some(NullBuffer::new_null(structs.rows)));
        structs.set(Field::new(*name, none.data_type().clone(), true), Arc::new(none));
        structs.fields.len() - 1
    });
    let mut inner = inside(structs, at, rest)?;
    if let Some(nulls) = inner.nulls.take() {
        // Where it was null, its other members are, too: that they may be is a condition.
        let required = inner.fields.iter().find(|field| !field.is_nullable() && field.name() != rest[0]).cloned();
        let alive = |row: usize| {
            let wanted = nulls.is_null(row) && array.is_valid(row);
            match &required {
                Some(required) if wanted => {
                    let message = format!(
                        "the field {name} is null, and cannot be made: it has to have a field {}",
                        required.name()
                    );
                    refused.push((row, message));
                    false
                }
                _ => wanted || nulls.is_valid(row),
            }
        };
        let made: NullBuffer = (0..structs.rows).map(alive).collect::<Vec<_>>().into();
        for (field, column) in inner.fields.iter().zip(&mut inner.columns) {
            if field.is_nullable() {
                *column = mask(column, Some(&nulls));
            }
        }
        inner.nulls = Some(made);
    }
    set(&mut inner, rest, field, array, refused)?;
    put_back(structs, at, inner);
    Ok(())
}

/// A member that is a struct.
fn inside(structs: &Struct, at: usize, rest: &[&str]) -> Result<Struct> {
    let field = &structs.fields[at];
    if !matches!(field.data_type(), DataType::Struct(_)) {
        let kind = json::type_name(field.data_type());
        return Err(format!("the field {} is {kind}, which has no field {}", field.name(), rest[0]));
    }
    Struct::open(&Column::new(field.clone(), structs.columns[at].clone()), PURPOSE, false)
}

/// The member as it has become.
fn put_back(structs: &mut Struct, at: usize, inner: Struct) {
    let column = inner.close();
    (structs.fields[at], structs.columns[at]) = (column.field().clone(), column.array().clone());
}

/// The column that an expression like `v.a.b` names, as it is.
fn selected(part: &Part<'_>, expression: &Expression) -> Option<Column> {
    let (variable, names) = expression.path()?;
    let side = match variable {
        Variable::Value => &part.value,
        Variable::Key => &part.key,
        _ => return None,
    };
    let Side::Column(column) = side else { return None };
    let (mut field, mut array, mut nulls) = (column.field().clone(), column.array().clone(), None);
    for (step, name) in names.iter().enumerate() {
        let DataType::Struct(fields) = field.data_type() else { return None };
        let at = fields.iter().position(|field| field.name() == name)?;
        // A null along the way is an error that the expression has to report.
        if step > 0 && array.null_count() > 0 {
            return None;
        }
        nulls = NullBuffer::union(nulls.as_ref(), array.nulls());
        let structs = array.as_struct();
        (field, array) = (fields[at].clone(), structs.column(at).clone());
    }
    if names.is_empty() {
        return Some(column.clone());
    }
    let (field, array) = extract(&field, &array, nulls.as_ref());
    Some(Column::new(field, array))
}
