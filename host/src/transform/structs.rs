//! Structured values, taken apart and put together.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, FieldRef};
use tributary_sdk::Column;
use tributary_sdk::batch::{SCHEMA_DEFAULT, SCHEMA_NAME, SCHEMA_OPTIONAL};

use crate::converter::json::{self, logical};

/// A column of structs, member by member.
#[derive(Debug, Clone)]
pub struct Struct {
    /// What the whole is.
    pub field: FieldRef,
    /// Name, type and schema details of each member.
    pub fields: Vec<FieldRef>,
    /// As many columns.
    pub columns: Vec<ArrayRef>,
    /// Tombstones.
    pub nulls: Option<NullBuffer>,
    /// Number of rows.
    pub rows: usize,
}

impl Struct {
    /// Takes a column apart; in other columns than structs the error is Kafka Connect's. With `replace_nulls`, members that
    /// have a default lose their nulls.
    pub fn open(column: &Column, purpose: &str, replace_nulls: bool) -> Result<Self, String> {
        if !matches!(column.field().data_type(), DataType::Struct(_)) {
            let class = java_class(column.field());
            return Err(format!("Only Struct objects supported for [{purpose}], found: {class}"));
        }
        let structs = column.array().as_struct();
        let fields: Vec<FieldRef> = structs.fields().iter().cloned().collect();
        let mut columns = structs.columns().to_vec();
        if replace_nulls {
            for (field, column) in fields.iter().zip(&mut columns) {
                if field.metadata().contains_key(SCHEMA_DEFAULT) && column.null_count() > 0 {
                    *column = fill_default(field, column)?;
                }
            }
        }
        Ok(Self {
            field: column.field().clone(),
            fields,
            columns,
            nulls: structs.nulls().cloned(),
            rows: structs.len(),
        })
    }

    /// The place of a member.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name() == name)
    }

    /// Changes a member where it stands, or adds it at the end.
    pub fn set(&mut self, field: Field, column: ArrayRef) {
        match self.position(field.name()) {
            Some(at) => (self.fields[at], self.columns[at]) = (Arc::new(field), column),
            None => {
                self.fields.push(Arc::new(field));
                self.columns.push(column);
            }
        }
    }

    /// A column of what was made of the struct: it keeps name, version, documentation and parameters, but is not optional and has
    /// no default, as when Kafka Connect's transforms build a schema.
    pub fn rebuild(self) -> Column {
        let mut field = self.field.as_ref().clone();
        let mut metadata = field.metadata().clone();
        metadata.remove(SCHEMA_OPTIONAL);
        metadata.remove(SCHEMA_DEFAULT);
        field.set_metadata(metadata);
        self.build(field)
    }

    /// A column with the schema details that the struct had.
    pub fn close(self) -> Column {
        let field = self.field.as_ref().clone();
        self.build(field)
    }

    fn build(self, field: Field) -> Column {
        let array = StructArray::try_new_with_length(self.fields.into(), self.columns, self.nulls, self.rows)
            .expect("columns that fit their fields");
        Column::new(field.with_data_type(array.data_type().clone()), Arc::new(array))
    }
}

/// A member of a struct as whole values: null where the struct is, and optional if the member was.
pub fn extract(member: &Field, column: &ArrayRef, parent: Option<&NullBuffer>) -> (FieldRef, ArrayRef) {
    let mut metadata = member.metadata().clone();
    metadata.insert(SCHEMA_OPTIONAL.to_owned(), member.is_nullable().to_string());
    let field = Field::new("", member.data_type().clone(), true).with_metadata(metadata);
    (Arc::new(field), mask(column, parent))
}

/// The column with nulls also where `parent` has them.
pub fn mask(column: &ArrayRef, parent: Option<&NullBuffer>) -> ArrayRef {
    let Some(parent) = parent else { return column.clone() };
    let nulls = NullBuffer::union(column.nulls(), Some(parent));
    let data = column.to_data().into_builder().nulls(nulls);
    arrow_array::make_array(data.build().expect("the same data with other nulls"))
}

/// Whether whole values are optional by their schema.
pub fn is_optional(field: &Field) -> bool {
    field.metadata().get(SCHEMA_OPTIONAL).is_some_and(|optional| optional == "true")
}

/// Whole values as a member of a struct.
pub fn as_member(name: &str, column: &Column) -> Field {
    let mut metadata = column.field().metadata().clone();
    let optional = metadata.remove(SCHEMA_OPTIONAL).is_some_and(|optional| optional == "true");
    Field::new(name, column.field().data_type().clone(), optional).with_metadata(metadata)
}

/// What Kafka Connect says of a second field of a name.
pub fn duplicate(name: &str) -> String {
    format!("Cannot create field because of field name duplication {name}")
}

/// The default in place of nulls.
pub fn fill_default(field: &Field, column: &ArrayRef) -> Result<ArrayRef, String> {
    let plain = Field::new(field.name(), field.data_type().clone(), true);
    let mut metadata = field.metadata().clone();
    let default = metadata.remove(SCHEMA_DEFAULT).unwrap_or_default();
    let (default, failures) =
        json::decode(&plain.with_metadata(metadata), &[Some(&default)], &json::Options::default())?;
    if let Some(failure) = failures.first() {
        return Err(format!("the default of field {} does not fit its type: {}", field.name(), failure.message));
    }
    let indices: Vec<(usize, usize)> =
        (0..column.len()).map(|row| if column.is_null(row) { (1, 0) } else { (0, row) }).collect();
    arrow_select::interleave::interleave(&[column.as_ref(), default.as_ref()], &indices).map_err(|e| e.to_string())
}

/// The Java class that Kafka Connect has for values of a type; its messages show it.
pub fn java_class(field: &Field) -> &'static str {
    let name = field.metadata().get(SCHEMA_NAME).map(String::as_str);
    match field.data_type() {
        DataType::Boolean => "java.lang.Boolean",
        DataType::Int8 => "java.lang.Byte",
        DataType::Int16 => "java.lang.Short",
        DataType::Int32 => "java.lang.Integer",
        DataType::Int64 => "java.lang.Long",
        DataType::Float32 => "java.lang.Float",
        DataType::Float64 => "java.lang.Double",
        DataType::Utf8 => "java.lang.String",
        DataType::Binary if name == Some(logical::DECIMAL) => "java.math.BigDecimal",
        DataType::Binary => "[B",
        DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(..) => "java.util.Date",
        DataType::List(_) => "java.util.ArrayList",
        DataType::Map(..) => "java.util.HashMap",
        _ => "org.apache.kafka.connect.data.Struct",
    }
}
