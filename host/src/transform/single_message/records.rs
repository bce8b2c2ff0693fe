//! Rows of a part as the records that expressions see.

use arrow_array::ListArray;

use crate::expression::{Expression, Record, Source, Variable};
use crate::transform::headers::{Header, Headers};
use crate::transform::part::{Opened, Part, Place, Side, Target};

/// Opens what expressions read: keys, values, and the documents among them, each once.
pub(in crate::transform) fn open<'e>(part: &mut Part<'_>, expressions: impl Iterator<Item = &'e Expression>) {
    let (mut keys, mut values) = (None, None);
    for expression in expressions {
        keys = keys.max(expression.needs(Variable::Key).map(|need| !need.fields.is_empty()));
        values = values.max(expression.needs(Variable::Value).map(|need| !need.fields.is_empty()));
    }
    for (target, needed) in [(Target::Key, keys), (Target::Value, values)] {
        let Some(fields) = needed else { continue };
        if let (Opened::Json(documents), true) = (part.open(target), fields) {
            for document in documents.iter_mut().flatten() {
                // What is no JSON is told when it is read.
                let _ = document.object();
            }
        }
    }
}

/// The rows of a part that is [`open`].
pub(in crate::transform) struct Records<'p, 'a> {
    part: &'p Part<'a>,
    headers: Option<ListArray>,
    origin: crate::transform::part::Origin<'a>,
}

impl<'p, 'a> Records<'p, 'a> {
    pub fn of(part: &'p Part<'a>, with_headers: bool) -> Self {
        let headers = if with_headers { part.headers() } else { None };
        Self { part, headers, origin: part.origin() }
    }

    pub fn row(&self, at: usize) -> RowRecord<'_> {
        RowRecord {
            part: self.part,
            headers: Headers::of(self.headers.as_ref()),
            origin: &self.origin,
            place: Place { at, row: self.part.rows[at] },
        }
    }
}

/// One of them.
pub(in crate::transform) struct RowRecord<'r> {
    part: &'r Part<'r>,
    headers: Headers<'r>,
    origin: &'r crate::transform::part::Origin<'r>,
    place: Place,
}

impl<'r> RowRecord<'r> {
    fn source<'s>(&self, side: &'s Side<'s>) -> Source<'s> {
        match side {
            Side::Json(documents) => Source::Json(documents[self.place.at].as_ref()),
            Side::Column(column) => Source::Column(column.field(), column.array(), self.place.at),
            Side::Base => unreachable!("sides that an expression names were opened"),
        }
    }
}

impl Record for RowRecord<'_> {
    fn value(&self) -> Source<'_> {
        self.source(&self.part.value)
    }

    fn key(&self) -> Source<'_> {
        self.source(&self.part.key)
    }

    fn headers(&self) -> Box<dyn Iterator<Item = Header<'_>> + '_> {
        Box::new(self.headers.row(self.place.at))
    }

    fn topic(&self) -> &str {
        &self.part.topic
    }

    fn timestamp(&self) -> Option<i64> {
        self.origin.timestamp(self.place)
    }

    fn partition(&self) -> Option<i32> {
        self.origin.partition(self.place)
    }

    fn offset(&self) -> Option<i64> {
        self.origin.offset(self.place)
    }
}
