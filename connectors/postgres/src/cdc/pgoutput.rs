//! The messages of `pgoutput`, the server's own output plugin, protocol version 1 with texts.

use bytes::{Buf, Bytes};

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    /// Large, and not sent because it has not changed.
    Unchanged,
    Text(Bytes),
}

/// What an old row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Old {
    /// The columns of the replica identity.
    Key,
    /// All columns.
    Full,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    pub name: String,
    pub type_oid: u32,
    pub modifier: i32,
    /// Whether it is part of the replica identity.
    pub key: bool,
}

/// A table as it was when what follows was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub columns: Vec<RelationColumn>,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Begin {
        /// Where its commit stands in the log.
        commit: u64,
        /// Microseconds from 2000.
        time: i64,
        xid: u32,
    },
    Commit {
        /// Behind it.
        end: u64,
    },
    Relation(Relation),
    Insert {
        relation: u32,
        new: Vec<Value>,
    },
    Update {
        relation: u32,
        old: Option<(Old, Vec<Value>)>,
        new: Vec<Value>,
    },
    Delete {
        relation: u32,
        old: (Old, Vec<Value>),
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// Origins, types, and what the server may add.
    Other,
}

impl Message {
    /// Takes a message apart; `None` if it is torn.
    pub fn parse(mut body: Bytes) -> Option<Self> {
        let at = &mut body;
        Some(match byte(at)? {
            b'B' => Self::Begin { commit: long(at)?, time: long(at)? as i64, xid: int(at)? },
            b'C' => {
                byte(at)?;
                long(at)?;
                Self::Commit { end: long(at)? }
            }
            b'R' => Self::Relation(relation(at)?),
            b'I' => {
                let relation = int(at)?;
                byte(at)?;
                Self::Insert { relation, new: tuple(at)? }
            }
            b'U' => {
                let relation = int(at)?;
                let old = match byte(at)? {
                    b'N' => None,
                    kind => {
                        let old = (old(kind)?, tuple(at)?);
                        byte(at)?;
                        Some(old)
                    }
                };
                Self::Update { relation, old, new: tuple(at)? }
            }
            b'D' => Self::Delete { relation: int(at)?, old: (old(byte(at)?)?, tuple(at)?) },
            b'T' => {
                let count = int(at)?;
                byte(at)?;
                Self::Truncate { relations: (0..count).map(|_| int(at)).collect::<Option<_>>()? }
            }
            _ => Self::Other,
        })
    }
}

fn old(kind: u8) -> Option<Old> {
    match kind {
        b'K' => Some(Old::Key),
        b'O' => Some(Old::Full),
        _ => None,
    }
}

fn relation(at: &mut Bytes) -> Option<Relation> {
    let (oid, schema, name) = (int(at)?, text(at)?, text(at)?);
    // The replica identity: the columns tell it, too.
    byte(at)?;
    let count = short(at)?;
    let column = |_| {
        let flags = byte(at)?;
        let (name, type_oid, modifier) = (text(at)?, int(at)?, int(at)? as i32);
        Some(RelationColumn { name, type_oid, modifier, key: flags & 1 != 0 })
    };
    let columns = (0..count).map(column).collect::<Option<_>>()?;
    // Of the server's own schema the name is empty.
    let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
    Some(Relation { oid, schema, name, columns })
}

fn tuple(at: &mut Bytes) -> Option<Vec<Value>> {
    let count = short(at)?;
    let mut values = Vec::with_capacity(count.into());
    for _ in 0..count {
        values.push(match byte(at)? {
            b'n' => Value::Null,
            b'u' => Value::Unchanged,
            b't' => {
                let length = int(at)? as usize;
                if at.len() < length {
                    return None;
                }
                Value::Text(at.split_to(length))
            }
            _ => return None,
        });
    }
    Some(values)
}

fn byte(at: &mut Bytes) -> Option<u8> {
    at.try_get_u8().ok()
}

fn short(at: &mut Bytes) -> Option<u16> {
    at.try_get_u16().ok()
}

fn int(at: &mut Bytes) -> Option<u32> {
    at.try_get_u32().ok()
}

fn long(at: &mut Bytes) -> Option<u64> {
    at.try_get_u64().ok()
}

fn text(at: &mut Bytes) -> Option<String> {
    let end = memchr::memchr(0, at)?;
    let text = String::from_utf8_lossy(&at[..end]).into_owned();
    at.advance(end + 1);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_have_old_rows_where_the_server_sends_them() {
        let text = |text: &'static str| Value::Text(Bytes::from_static(text.as_bytes()));
        let bytes = b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u";
        let update = Message::Update {
            relation: 7,
            old: Some((Old::Key, vec![text("1"), Value::Null])),
            new: vec![text("2"), Value::Unchanged],
        };
        assert_eq!(Message::parse(Bytes::from_static(bytes)), Some(update));
        for torn in 1..bytes.len() {
            assert_eq!(Message::parse(Bytes::from_static(&bytes[..torn])), None, "{torn}");
        }
        assert_eq!(Message::parse(Bytes::from_static(b"Y...")), Some(Message::Other));
    }

    #[test]
    fn relations_name_their_columns() {
        let bytes = b"R\0\0\0\x07public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\0\x19\xff\xff\xff\xff";
        let Some(Message::Relation(relation)) = Message::parse(Bytes::from_static(bytes)) else {
            panic!("no relation")
        };
        assert_eq!((&*relation.schema, &*relation.name, relation.columns.len()), ("public", "t", 2));
        assert!(relation.columns[0].key && !relation.columns[1].key);
        assert_eq!(relation.columns[1].type_oid, 25);
    }
}
