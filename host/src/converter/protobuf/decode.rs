//! Reads Protobuf's wire format into columns.
//!
//! The fields of a message may come in any order and several times: they are sorted first, then each column gets its value.

use std::collections::HashMap;

use arrow_schema::Field as ArrowField;

use super::descriptor::{Field, Kind, Message};
use super::options::Options;
use super::to_connect::{Member, Special, members, special, wrapped};
use super::wire::{self, Raw};
use crate::converter::columns::{Builder, MISMATCH, Values, decode_rows, fitting};
use crate::converter::{RowFailure, within};

/// How a message is read.
pub struct MessageNode {
    /// A field's slot by its number.
    slots: HashMap<u32, usize>,
    members: Vec<MemberNode>,
}

enum MemberNode {
    Field(FieldNode),
    /// The slots of its fields.
    Oneof(Vec<FieldNode>),
}

struct FieldNode {
    name: String,
    slot: usize,
    shape: Shape,
    presence: bool,
    value: Node,
    /// What it is where it is not there.
    default: Option<Raw<'static>>,
    default_text: Option<String>,
}

enum Shape {
    One,
    List,
    /// The type of the keys.
    Map(Box<Node>),
}

enum Node {
    Number(Number),
    Text,
    Bytes,
    /// Names by number.
    Enum(HashMap<i32, String>),
    Message(Box<MessageNode>),
    Special(Special),
    /// The type inside a wrapper.
    Wrapped(Box<Node>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    Double,
    Float,
    Signed,
    Unsigned32,
    Zigzag,
    Fixed32,
    Sfixed32,
    Fixed64,
    Bool,
}

impl MessageNode {
    /// Of a message.
    pub fn new(message: &Message, options: Options) -> Self {
        let mut slots = HashMap::new();
        let mut node = |field: &Field| {
            let slot = slots.len();
            slots.insert(field.number, slot);
            FieldNode::new(field, slot, options)
        };
        let members = members(message, options)
            .into_iter()
            .map(|member| match member {
                Member::Field(field) => MemberNode::Field(node(field)),
                Member::Oneof(_, _, fields) => MemberNode::Oneof(fields.into_iter().map(&mut node).collect()),
            })
            .collect();
        Self { slots, members }
    }
}

impl FieldNode {
    fn new(field: &Field, slot: usize, options: Options) -> Self {
        let shape = match &field.map_key {
            Some(key) => Shape::Map(Box::new(Node::new(key, options))),
            None if field.repeated => Shape::List,
            None => Shape::One,
        };
        let value = Node::new(&field.kind, options);
        let default = field.default.as_deref().and_then(|text| match (&field.kind, text) {
            (Kind::Bool, text) => Some(Raw::Varint(u64::from(text == "true"))),
            (Kind::Double, text) => Some(Raw::Eight(text.parse::<f64>().ok()?.to_bits())),
            (Kind::Float, text) => Some(Raw::Four(text.parse::<f32>().ok()?.to_bits())),
            (Kind::Enum(found), text) => {
                let number = found.values.iter().find(|(name, _)| name == text)?.1;
                Some(Raw::Varint(number as i64 as u64))
            }
            (Kind::Text | Kind::Bytes | Kind::Message(_), _) => None,
            (Kind::Sint32 | Kind::Sint64, text) => Some(Raw::Varint(wire::zigzag(text.parse().ok()?))),
            (Kind::Fixed32 | Kind::Sfixed32, text) => Some(Raw::Four(text.parse::<i64>().ok()? as u32)),
            (Kind::Fixed64 | Kind::Sfixed64, text) => Some(Raw::Eight(text.parse::<i64>().ok()? as u64)),
            (_, text) => Some(Raw::Varint(text.parse::<i64>().ok()? as u64)),
        });
        Self {
            name: field.name.clone(),
            slot,
            shape,
            // A field of proto2 has presence without a word, too; with the key off, only that of proto3 counts.
            presence: field.presence
                && (field.oneof.is_some() || !options.struct_for_nulls)
                && (options.optional_for_proto2 || !field.proto2 || matches!(field.kind, Kind::Message(_))),
            value,
            default,
            default_text: field.default.clone(),
        }
    }
}

impl Node {
    fn new(kind: &Kind, options: Options) -> Self {
        Self::Number(match kind {
            Kind::Double => Number::Double,
            Kind::Float => Number::Float,
            Kind::Int32 | Kind::Int64 | Kind::Uint64 => Number::Signed,
            Kind::Uint32 => Number::Unsigned32,
            Kind::Sint32 | Kind::Sint64 => Number::Zigzag,
            Kind::Fixed32 => Number::Fixed32,
            Kind::Sfixed32 => Number::Sfixed32,
            Kind::Fixed64 | Kind::Sfixed64 => Number::Fixed64,
            Kind::Bool => Number::Bool,
            Kind::Text => return Self::Text,
            Kind::Bytes => return Self::Bytes,
            Kind::Enum(_) if options.int_for_enums => Number::Signed,
            Kind::Enum(found) => {
                return Self::Enum(found.values.iter().rev().map(|(name, number)| (*number, name.clone())).collect());
            }
            Kind::Message(message) => {
                return match (special(message), wrapped(message).filter(|_| options.wrapper_for_nullables)) {
                    (Some(special), _) => Self::Special(special),
                    (None, Some(inner)) => Self::Wrapped(Box::new(Self::new(&inner.kind, options))),
                    (None, None) => Self::Message(Box::new(MessageNode::new(message, options))),
                };
            }
        })
    }
}

/// What was found of a field.
#[derive(Clone)]
enum Slot<'d> {
    None,
    One(Raw<'d>),
    Many(Vec<Raw<'d>>),
}

/// One value a row; `None` is a tombstone.
pub fn decode(
    node: &MessageNode,
    field: &ArrowField,
    rows: &[Option<&[u8]>],
) -> Result<(arrow_array::ArrayRef, Vec<RowFailure>), String> {
    decode_rows(field, rows, "Error deserializing Protobuf message", |builder, value| {
        read_message(node, builder, value)
    })
}

fn read_message(node: &MessageNode, builder: &mut Builder, mut input: &[u8]) -> Result<(), String> {
    let Values::Struct(structs) = &mut builder.values else { return Err(MISMATCH.to_owned()) };
    let mut slots = vec![Slot::None; node.slots.len()];
    while !input.is_empty() {
        let (number, raw) = wire::field(&mut input)?;
        let Some((raw, &slot)) = raw.zip(node.slots.get(&number)) else { continue };
        let slot = &mut slots[slot];
        match slot {
            Slot::None => *slot = Slot::One(raw),
            Slot::One(first) => *slot = Slot::Many(vec![*first, raw]),
            Slot::Many(all) => all.push(raw),
        }
    }
    for (member, builder) in node.members.iter().zip(&mut structs.members) {
        match member {
            MemberNode::Field(field) => read_field(field, builder, &slots[field.slot])?,
            MemberNode::Oneof(fields) => {
                let Values::Struct(union) = &mut builder.values else { return Err(MISMATCH.to_owned()) };
                // Of several that were written, the last counts; which that is, numbers alone do not tell: take the first there.
                let Some(chosen) = fields.iter().position(|field| !matches!(slots[field.slot], Slot::None)) else {
                    builder.append_null();
                    continue;
                };
                for (at, (field, member)) in fields.iter().zip(&mut union.members).enumerate() {
                    if at == chosen {
                        read_field(field, member, &slots[field.slot])?;
                    } else {
                        member.append_null();
                    }
                }
                union.end();
            }
        }
    }
    structs.end();
    Ok(())
}

fn read_field(field: &FieldNode, builder: &mut Builder, slot: &Slot<'_>) -> Result<(), String> {
    let all = match slot {
        Slot::None => &[][..],
        Slot::One(raw) => std::slice::from_ref(raw),
        Slot::Many(all) => all,
    };
    let read = match &field.shape {
        Shape::One => read_one(field, builder, all),
        Shape::List => read_list(&field.value, builder, all),
        Shape::Map(key) => read_map(key, &field.value, builder, all),
    };
    read.map_err(|error| within(&field.name, error))
}

fn read_one(field: &FieldNode, builder: &mut Builder, all: &[Raw<'_>]) -> Result<(), String> {
    match all {
        [] if field.presence && builder.nullable() => builder.append_null(),
        [] => match (&field.default, &mut builder.values) {
            (Some(default), _) => return read_value(&field.value, builder, *default),
            (None, Values::Text(values)) => match &field.value {
                Node::Enum(names) => values.append_value(names.get(&0).map_or("", String::as_str)),
                _ => values.append_value(field.default_text.as_deref().unwrap_or_default()),
            },
            (None, _) if matches!(field.value, Node::Message(_) | Node::Special(_)) => {
                return read_value(&field.value, builder, Raw::Bytes(&[]));
            }
            (None, _) => append_default(builder),
        },
        // Parts of one message that was written in pieces belong together.
        [_, .., _] if matches!(field.value, Node::Message(_) | Node::Special(_) | Node::Wrapped(_)) => {
            let parts = all.iter().filter_map(|raw| match raw {
                Raw::Bytes(bytes) => Some(*bytes),
                _ => None,
            });
            let whole = parts.collect::<Vec<_>>().concat();
            return read_value(&field.value, builder, Raw::Bytes(&whole));
        }
        [.., last] => return read_value(&field.value, builder, *last),
    }
    Ok(())
}

/// The value of a field without presence that was not written.
fn append_default(builder: &mut Builder) {
    match &mut builder.values {
        Values::Boolean(values) => values.append_value(false),
        Values::Int8(values) => values.append_value(0),
        Values::Int16(values) => values.append_value(0),
        Values::Int32(values) => values.append_value(0),
        Values::Int64(values) => values.append_value(0),
        Values::Float32(values) => values.append_value(0.0),
        Values::Float64(values) => values.append_value(0.0),
        Values::Text(values) => values.append_value(""),
        Values::Bytes(values) => values.append_value([]),
        _ => builder.append_null(),
    }
}

fn read_list(node: &Node, builder: &mut Builder, all: &[Raw<'_>]) -> Result<(), String> {
    let Values::List(list) = &mut builder.values else { return Err(MISMATCH.to_owned()) };
    for raw in all {
        match (node, raw) {
            (Node::Number(kind), Raw::Bytes(packed)) => read_packed(node, *kind, &mut list.items, packed)?,
            (Node::Enum(_), Raw::Bytes(packed)) => read_packed(node, Number::Signed, &mut list.items, packed)?,
            _ => read_value(node, &mut list.items, *raw)?,
        }
    }
    list.end();
    Ok(())
}

fn read_packed(node: &Node, kind: Number, items: &mut Builder, mut packed: &[u8]) -> Result<(), String> {
    while !packed.is_empty() {
        let raw = match kind {
            Number::Double | Number::Fixed64 => Raw::Eight(wire::eight(&mut packed)?),
            Number::Float | Number::Fixed32 | Number::Sfixed32 => Raw::Four(wire::four(&mut packed)?),
            _ => Raw::Varint(wire::varint(&mut packed)?),
        };
        read_value(node, items, raw)?;
    }
    Ok(())
}

fn read_map(key: &Node, value: &Node, builder: &mut Builder, all: &[Raw<'_>]) -> Result<(), String> {
    let Values::Map(map) = &mut builder.values else { return Err(MISMATCH.to_owned()) };
    for raw in all {
        let Raw::Bytes(mut entry) = *raw else { return Err("an entry of a map is no message".to_owned()) };
        let (mut key_raw, mut value_raw) = (None, None);
        while !entry.is_empty() {
            match wire::field(&mut entry)? {
                (1, raw) => key_raw = raw,
                (2, raw) => value_raw = raw,
                _ => {}
            }
        }
        match key_raw {
            Some(raw) => read_value(key, &mut map.keys, raw)?,
            None => append_default(&mut map.keys),
        }
        match (value_raw, value) {
            (Some(raw), _) => read_value(value, &mut map.values, raw)?,
            (None, Node::Message(_) | Node::Special(_) | Node::Wrapped(_)) => {
                read_value(value, &mut map.values, Raw::Bytes(&[]))?;
            }
            (None, Node::Enum(_)) => read_value(value, &mut map.values, Raw::Varint(0))?,
            (None, _) => append_default(&mut map.values),
        }
    }
    map.end();
    Ok(())
}

fn wrong_wire_type() -> String {
    "a value has another wire type than its field; it was written with another schema".to_owned()
}

fn read_value(node: &Node, builder: &mut Builder, raw: Raw<'_>) -> Result<(), String> {
    match (node, raw) {
        (Node::Number(kind), _) => read_number(*kind, builder, raw)?,
        (Node::Text, Raw::Bytes(bytes)) => {
            let text = simdutf8::basic::from_utf8(bytes).map_err(|_| "text is not valid UTF-8".to_owned())?;
            let Values::Text(values) = &mut builder.values else { return Err(MISMATCH.to_owned()) };
            values.append_value(text);
        }
        (Node::Bytes, Raw::Bytes(bytes)) => {
            let Values::Bytes(values) = &mut builder.values else { return Err(MISMATCH.to_owned()) };
            values.append_value(bytes);
        }
        (Node::Enum(names), Raw::Varint(number)) => {
            let number = number as i32;
            let Values::Text(values) = &mut builder.values else { return Err(MISMATCH.to_owned()) };
            match names.get(&number) {
                Some(name) => values.append_value(name),
                // A symbol that the schema does not have yet.
                None => values.append_value(format!("UNKNOWN_ENUM_VALUE_{number}")),
            }
        }
        (Node::Message(message), Raw::Bytes(bytes)) => read_message(message, builder, bytes)?,
        (Node::Special(special), Raw::Bytes(bytes)) => read_special(*special, builder, bytes)?,
        (Node::Wrapped(inner), Raw::Bytes(mut bytes)) => {
            let mut found = None;
            while !bytes.is_empty() {
                if let (1, raw) = wire::field(&mut bytes)? {
                    found = raw;
                }
            }
            match found {
                Some(raw) => read_value(inner, builder, raw)?,
                None => append_default(builder),
            }
        }
        _ => return Err(wrong_wire_type()),
    }
    Ok(())
}

fn read_number(kind: Number, builder: &mut Builder, raw: Raw<'_>) -> Result<(), String> {
    match (kind, raw, &mut builder.values) {
        (Number::Double, Raw::Eight(bits), Values::Float64(values)) => values.append_value(f64::from_bits(bits)),
        (Number::Float, Raw::Four(bits), Values::Float32(values)) => values.append_value(f32::from_bits(bits)),
        (Number::Bool, Raw::Varint(value), Values::Boolean(values)) => values.append_value(value != 0),
        (_, raw, values) => {
            let value = match (kind, raw) {
                (Number::Signed, Raw::Varint(value)) => value as i64,
                (Number::Unsigned32, Raw::Varint(value)) => i64::from(value as u32),
                (Number::Zigzag, Raw::Varint(value)) => wire::unzigzag(value),
                (Number::Fixed32, Raw::Four(value)) => i64::from(value),
                (Number::Sfixed32, Raw::Four(value)) => i64::from(value as i32),
                (Number::Fixed64, Raw::Eight(value)) => value as i64,
                _ => return Err(wrong_wire_type()),
            };
            match values {
                // As every implementation of Protobuf does, the lower bits are taken.
                Values::Int32(values) => values.append_value(value as i32),
                Values::Int64(values) => values.append_value(value),
                Values::Int16(values) => values.append_value(fitting(value)?),
                Values::Int8(values) => values.append_value(fitting(value)?),
                _ => return Err(MISMATCH.to_owned()),
            }
        }
    }
    Ok(())
}

fn read_special(special: Special, builder: &mut Builder, mut bytes: &[u8]) -> Result<(), String> {
    let mut numbers = [0_i64; 5];
    let mut unscaled: &[u8] = &[];
    while !bytes.is_empty() {
        match wire::field(&mut bytes)? {
            (number @ 1..=4, Some(Raw::Varint(value))) => numbers[number as usize] = value as i64,
            (1, Some(Raw::Bytes(value))) => unscaled = value,
            _ => {}
        }
    }
    let [_, first, second, third, fourth] = numbers;
    match (special, &mut builder.values) {
        (Special::Timestamp, Values::Timestamp(values)) => {
            let ms = first.checked_mul(1000).and_then(|ms| ms.checked_add(second.div_euclid(1_000_000)));
            values.append_value(ms.ok_or("a timestamp is out of range")?);
        }
        (Special::Time, Values::Time(values)) => {
            let seconds = first.saturating_mul(3600).saturating_add(second.saturating_mul(60)).saturating_add(third);
            values.append_value(fitting(seconds.saturating_mul(1000).saturating_add(fourth / 1_000_000))?);
        }
        (Special::Date, Values::Date(values)) => {
            let date = i32::try_from(first).ok().zip(u32::try_from(second).ok()).zip(u32::try_from(third).ok());
            let date = date.and_then(|((year, month), day)| chrono::NaiveDate::from_ymd_opt(year, month, day));
            let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1);
            let days = date.zip(epoch).map(|(date, epoch)| (date - epoch).num_days());
            values.append_value(fitting(days.ok_or_else(|| format!("{first}-{second}-{third} is not a day"))?)?);
        }
        (Special::Decimal, Values::Bytes(values)) => {
            values.append_value(if unscaled.is_empty() { &[0] } else { unscaled })
        }
        _ => return Err(MISMATCH.to_owned()),
    }
    Ok(())
}
