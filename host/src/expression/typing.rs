//! The type of an expression, told from the expression and the columns it reads.
//!
//! Structured records carry a schema, and it may not depend on which values a batch happens to hold. So a field's type is found
//! without looking at a value; where that is not possible, the error asks for `string(…)`, `int(…)`, `double(…)` and the like.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::check;
use super::input::Variable;
use super::program::Expression;
use crate::converter::json::{logical, timestamp_type};

/// The schemas of a record's parts.
#[derive(Debug, Clone, Default)]
pub struct Types {
    /// Of the value; `None`: schemaless.
    pub value: Option<FieldRef>,
    /// Of the key.
    pub key: Option<FieldRef>,
}

/// `None`: null, or nothing that can be told.
type Found = Option<Field>;

impl Types {
    /// The type of an expression's answer, as an optional field without name.
    pub fn of(&self, expression: &Expression) -> Result<Field, String> {
        let mut locals = Vec::new();
        let found = self.infer(expression.root(), &mut locals);
        found.map(|field| field.with_name("").with_nullable(true)).ok_or_else(|| {
            format!(
                "the type of the expression '{}' cannot be told, and a record with a schema needs it: \
                 put string(…), int(…), double(…), bool(…) or timestamp(…) around it",
                expression.text()
            )
        })
    }

    fn infer(&self, expression: &IdedExpr, locals: &mut Vec<(String, Found)>) -> Found {
        if let Some(found) = self.path(expression, locals) {
            return Some(found);
        }
        match &expression.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Some(plain(DataType::Boolean)),
                LiteralValue::Int(_) | LiteralValue::UInt(_) => Some(plain(DataType::Int64)),
                LiteralValue::Double(_) => Some(plain(DataType::Float64)),
                LiteralValue::String(_) => Some(plain(DataType::Utf8)),
                LiteralValue::Bytes(_) => Some(plain(DataType::Binary)),
                LiteralValue::Null => None,
            },
            Expr::Ident(name) => locals.iter().rev().find(|(known, _)| known == name)?.1.clone(),
            Expr::Select(select) if select.test => Some(plain(DataType::Boolean)),
            Expr::Select(select) => member(&self.infer(&select.operand, locals)?, &select.field),
            Expr::List(list) => {
                let item = list.elements.iter().find_map(|item| self.infer(item, locals))?;
                Some(list_of(item))
            }
            Expr::Map(map) => {
                let mut fields: Vec<FieldRef> = Vec::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { return None };
                    let Expr::Literal(LiteralValue::String(name)) = &entry.key.expr else { return None };
                    let field = self.infer(&entry.value, locals)?;
                    fields.push(Arc::new(field.with_name(name.inner()).with_nullable(true)));
                }
                Some(plain(DataType::Struct(fields.into())))
            }
            Expr::Comprehension(over) => {
                let item = self.infer(&over.iter_range, locals).and_then(|range| match range.data_type() {
                    DataType::List(item) => Some(item.as_ref().clone()),
                    DataType::Map(..) | DataType::Struct(_) => Some(plain(DataType::Utf8)),
                    _ => None,
                });
                let start = self.infer(&over.accu_init, locals);
                let known = locals.len();
                locals.push((over.accu_var.clone(), start.clone()));
                locals.push((over.iter_var.clone(), item));
                let step = self.infer(&over.loop_step, locals).or(start);
                locals[known].1 = step;
                let result = self.infer(&over.result, locals);
                locals.truncate(known);
                result
            }
            Expr::Call(call) => {
                let arg = |at: usize| call.args.get(at);
                let mut of = |at: Option<&IdedExpr>| at.and_then(|arg| self.infer(arg, locals));
                Some(match call.func_name.as_str() {
                    operators::CONDITIONAL => return of(arg(1)).or_else(|| of(arg(2))),
                    operators::ADD
                    | operators::SUBSTRACT
                    | operators::MULTIPLY
                    | operators::DIVIDE
                    | operators::MODULO => arithmetic(&call.func_name, of(arg(0)), of(arg(1)))?,
                    operators::NEGATE => widened(of(arg(0))?),
                    operators::INDEX | operators::OPT_INDEX => element(&of(arg(0))?)?,
                    operators::LOGICAL_AND
                    | operators::LOGICAL_OR
                    | operators::LOGICAL_NOT
                    | operators::EQUALS
                    | operators::NOT_EQUALS
                    | operators::GREATER
                    | operators::GREATER_EQUALS
                    | operators::LESS
                    | operators::LESS_EQUALS
                    | operators::IN
                    | operators::NOT_STRICTLY_FALSE => plain(DataType::Boolean),
                    "orValue" | "or" => return of(call.target.as_deref()).or_else(|| of(arg(0))),
                    "value" | "reverse" => of(call.target.as_deref())?,
                    "of" | "ofNonZeroValue" | "dyn" => of(arg(0))?,
                    "greatest" | "least" | "@max" | "@min" | "abs" | "sign" => widened(of(arg(0))?),
                    "ceil" | "floor" | "round" | "trunc" | "sqrt" | "double" => plain(DataType::Float64),
                    "string" | "charAt" | "join" | "lowerAscii" | "upperAscii" | "replace" | "substring" | "trim"
                    | "format" | "quote" => plain(DataType::Utf8),
                    "split" => list_of(plain(DataType::Utf8)),
                    "bool"
                    | "contains"
                    | "endsWith"
                    | "startsWith"
                    | "matches"
                    | super::functions::MATCHES
                    | "hasValue"
                    | "isNaN"
                    | "isInf"
                    | "isFinite" => plain(DataType::Boolean),
                    "int" | "uint" | "size" | "indexOf" | "lastIndexOf" | "bitAnd" | "bitOr" | "bitXor" | "bitNot"
                    | "bitShiftLeft" | "bitShiftRight" => plain(DataType::Int64),
                    "bytes" => plain(DataType::Binary),
                    "timestamp" => logical::named(plain(timestamp_type()), logical::TIMESTAMP),
                    // Milliseconds.
                    "duration" => plain(DataType::Int64),
                    name if name.starts_with("get") => plain(DataType::Int64),
                    _ => return None,
                })
            }
            _ => None,
        }
    }

    /// The field that an expression like `v.a.b` names.
    fn path(&self, expression: &IdedExpr, locals: &[(String, Found)]) -> Found {
        let path = check::path(expression).filter(|path| !path.tests)?;
        if locals.iter().any(|(local, _)| local == path.root) {
            return None;
        }
        let root = match Variable::parse(path.root)? {
            Variable::Value => self.value.as_ref()?.as_ref().clone(),
            Variable::Key => self.key.as_ref()?.as_ref().clone(),
            // Headers have no types that could be told beforehand.
            Variable::Headers => return None,
            Variable::Topic => plain(DataType::Utf8),
            Variable::Timestamp => logical::named(plain(timestamp_type()), logical::TIMESTAMP),
            Variable::Partition | Variable::Offset => plain(DataType::Int64),
        };
        path.steps.iter().try_fold(root, |field, (name, _)| member(&field, name))
    }
}

fn plain(data_type: DataType) -> Field {
    Field::new("", data_type, true)
}

fn list_of(item: Field) -> Field {
    plain(DataType::List(Arc::new(item.with_name("item").with_nullable(true))))
}

fn member(field: &Field, name: &str) -> Found {
    match field.data_type() {
        DataType::Struct(fields) => Some(fields.iter().find(|field| field.name() == name)?.as_ref().clone()),
        DataType::Map(..) => element(field),
        _ => None,
    }
}

fn element(field: &Field) -> Found {
    match field.data_type() {
        DataType::List(item) => Some(item.as_ref().clone()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => Some(pair[1].as_ref().clone()),
            _ => None,
        },
        _ => None,
    }
}

/// What is computed from numbers of any width is a 64-bit one.
fn widened(field: Field) -> Field {
    match field.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => plain(DataType::Int64),
        DataType::Float32 | DataType::Float64 => plain(DataType::Float64),
        // A decimal counts as the nearest double.
        DataType::Binary if !field.metadata().is_empty() => plain(DataType::Float64),
        _ => field,
    }
}

fn arithmetic(operator: &str, left: Found, right: Found) -> Found {
    let is_time = |field: &Field| matches!(field.data_type(), DataType::Timestamp(..) | DataType::Date32);
    match (left, right) {
        // The difference of two times is a duration: milliseconds.
        (Some(left), Some(right)) if operator == operators::SUBSTRACT && is_time(&left) && is_time(&right) => {
            Some(plain(DataType::Int64))
        }
        (Some(left), Some(right)) if !is_time(&left) && is_time(&right) => Some(right),
        (Some(left), _) => Some(widened(left)),
        (None, right) => right.map(widened),
    }
}
