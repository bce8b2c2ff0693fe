//! Reads Avro's binary form into columns, by the schema that it was written with.

use arrow_schema::Field;

use super::options::Options;
use super::schema::{Kind, Schema};
use super::to_connect::{is_map_entry, union_names};
use crate::converter::columns::{Builder, MISMATCH, Values, decode_rows, fitting};
use crate::converter::{RowFailure, within};

/// What a place in the schema is read as.
pub enum Node {
    /// Nothing: the value is null.
    Null,
    /// One byte.
    Boolean,
    /// A variable-length number.
    Number,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// Length and bytes.
    Bytes,
    /// Length and text.
    Text,
    /// So many bytes.
    Fixed(usize),
    /// A symbol by its number.
    Enum(Vec<String>),
    /// Members in order, with their names.
    Record(Vec<(String, Node)>),
    /// Blocks of items.
    List(Box<Node>),
    /// Blocks of entries; keys and values.
    Map(Box<(Node, Node)>),
    /// A union of null, which is the branch with the number, and another.
    Optional(u64, Box<Node>),
    /// A union: by branch, its member of the struct (null has none) and its type.
    Union(Vec<(Option<usize>, Node)>),
}

impl Node {
    /// Of a schema.
    pub fn new(schema: &Schema, options: Options) -> Self {
        match &schema.kind {
            Kind::Null => Self::Null,
            Kind::Boolean => Self::Boolean,
            Kind::Int | Kind::Long => Self::Number,
            Kind::Float => Self::Float,
            Kind::Double => Self::Double,
            Kind::Bytes => Self::Bytes,
            Kind::String => Self::Text,
            Kind::Fixed(size) => Self::Fixed(*size),
            Kind::Enum(symbols) => Self::Enum(symbols.clone()),
            Kind::Array(items) => match &items.kind {
                Kind::Record(pair) if is_map_entry(items) => {
                    Self::Map(Box::new((Self::new(&pair[0].schema, options), Self::new(&pair[1].schema, options))))
                }
                _ => Self::List(Box::new(Self::new(items, options))),
            },
            Kind::Map(values) => Self::Map(Box::new((Self::Text, Self::new(values, options)))),
            Kind::Record(fields) => Self::Record(
                fields.iter().map(|field| (field.name.clone(), Self::new(&field.schema, options))).collect(),
            ),
            Kind::Union(members) => match schema.optional() {
                Some((null, inner)) => Self::Optional(null as u64, Box::new(Self::new(inner, options))),
                // The only member of a union stands for itself; its number is still there.
                None => {
                    let only = members.len() == 1;
                    let mut place = 0;
                    let branch = |(member, name): (&std::sync::Arc<Schema>, Option<String>)| {
                        let at = name.filter(|_| !only).map(|_| place);
                        place += usize::from(at.is_some());
                        (at, Self::new(member, options))
                    };
                    Self::Union(members.iter().zip(union_names(members, options)).map(branch).collect())
                }
            },
        }
    }
}

/// One value a row; `None` is a tombstone.
pub fn decode(
    node: &Node,
    field: &Field,
    rows: &[Option<&[u8]>],
) -> Result<(arrow_array::ArrayRef, Vec<RowFailure>), String> {
    decode_rows(field, rows, "Error deserializing Avro message", |builder, value| {
        read(node, builder, &mut Input { bytes: value })
    })
}

/// What is left of a value.
struct Input<'d> {
    bytes: &'d [u8],
}

const TOO_SHORT: &str = "the value ends too early; it was written with another schema, or is damaged";

impl<'d> Input<'d> {
    fn take(&mut self, length: usize) -> Result<&'d [u8], String> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(TOO_SHORT)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn unsigned(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for (at, &byte) in self.bytes.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.bytes = &self.bytes[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.bytes.len() < 10 { TOO_SHORT } else { "a number has more than 10 bytes" }.to_owned())
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn bytes(&mut self) -> Result<&'d [u8], String> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| format!("a length is {length}"))?)
    }

    /// The number of items in the next block; 0 at the end.
    fn block(&mut self) -> Result<u64, String> {
        let count = self.number()?;
        if count < 0 {
            self.number()?;
        }
        let count = count.unsigned_abs();
        // Items without any bytes exist, but not in such numbers.
        if count > (self.bytes.len() as u64).max(1 << 16) {
            return Err(format!("a block claims to have {count} items, but only {} bytes follow", self.bytes.len()));
        }
        Ok(count)
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| "text is not valid UTF-8".to_owned())
}

/// Appends one value. After an error the builder has to be padded.
fn read(node: &Node, builder: &mut Builder, input: &mut Input<'_>) -> Result<(), String> {
    match (node, &mut builder.values) {
        (Node::Optional(null, inner), _) => {
            return match input.unsigned()? {
                branch if branch == null << 1 => {
                    builder.append_null();
                    Ok(())
                }
                0 | 2 => read(inner, builder, input),
                branch => Err(no_branch(branch)),
            };
        }
        (Node::Null, _) => builder.append_null(),
        (Node::Number, Values::Int64(values)) => values.append_value(input.number()?),
        (Node::Number, Values::Int32(values)) => values.append_value(fitting(input.number()?)?),
        (Node::Text, Values::Text(values)) => values.append_value(text(input.bytes()?)?),
        (Node::Double, Values::Float64(values)) => {
            values.append_value(f64::from_le_bytes(input.take(8)?.try_into().map_err(|_| TOO_SHORT)?));
        }
        (Node::Float, Values::Float32(values)) => {
            values.append_value(f32::from_le_bytes(input.take(4)?.try_into().map_err(|_| TOO_SHORT)?));
        }
        (Node::Boolean, Values::Boolean(values)) => match input.take(1)? {
            [0] => values.append_value(false),
            [1] => values.append_value(true),
            _ => return Err("a boolean is neither 0 nor 1".to_owned()),
        },
        (Node::Number, Values::Timestamp(values)) => values.append_value(input.number()?),
        (Node::Number, Values::Date(values)) => values.append_value(fitting(input.number()?)?),
        (Node::Number, Values::Time(values)) => values.append_value(fitting(input.number()?)?),
        (Node::Number, Values::Int8(values)) => values.append_value(fitting(input.number()?)?),
        (Node::Number, Values::Int16(values)) => values.append_value(fitting(input.number()?)?),
        (Node::Bytes, Values::Bytes(values)) => values.append_value(input.bytes()?),
        (Node::Fixed(size), Values::Bytes(values)) => values.append_value(input.take(*size)?),
        (Node::Enum(symbols), Values::Text(values)) => {
            let number = input.number()?;
            let symbol = usize::try_from(number).ok().and_then(|number| symbols.get(number));
            values.append_value(symbol.ok_or_else(|| format!("an enum has no symbol with the number {number}"))?);
        }
        (Node::Record(nodes), Values::Struct(structs)) => {
            for ((name, node), member) in nodes.iter().zip(&mut structs.members) {
                read(node, member, input).map_err(|error| within(name, error))?;
            }
            structs.end();
        }
        (Node::List(node), Values::List(list)) => {
            loop {
                let count = input.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    read(node, &mut list.items, input)?;
                }
            }
            list.end();
        }
        (Node::Map(nodes), Values::Map(map)) => {
            loop {
                let count = input.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    read(&nodes.0, &mut map.keys, input)?;
                    read(&nodes.1, &mut map.values, input)?;
                }
            }
            map.end();
        }
        (Node::Union(branches), values) => {
            let number = input.number()?;
            let branch = usize::try_from(number).ok().and_then(|number| branches.get(number));
            let (place, node) = branch.ok_or_else(|| no_branch((number << 1) as u64))?;
            match (place, values) {
                (None, _) => return read(node, builder, input),
                (Some(place), Values::Struct(structs)) => {
                    for (at, member) in structs.members.iter_mut().enumerate() {
                        if at == *place {
                            read(node, member, input)?;
                        } else {
                            member.append_null();
                        }
                    }
                    structs.end();
                }
                _ => return Err("a union is not read into a struct".to_owned()),
            }
        }
        _ => return Err(MISMATCH.to_owned()),
    }
    Ok(())
}

fn no_branch(number: u64) -> String {
    format!("a union has no branch with the number {}", number >> 1)
}
