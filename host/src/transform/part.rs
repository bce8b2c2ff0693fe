//! Parts of a batch on their way through the chain.
//!
//! A batch enters as one part. A transform that treats some rows differently (another topic, another type, a predicate) divides
//! it; [`super::merge`] puts the rows back in their order at the end.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListArray, UInt32Array};
use tributary_sdk::{Batch, Column, Form, Offsets};

use super::json::{Json, Object};
use super::structs::Struct;
use crate::converter::canonical;
use crate::converter::json::syntax::SyntaxError;

/// The side of a record that a `$Key` or `$Value` transform works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Target {
    Key,
    Value,
}

/// Rows of one topic, one key type and one value type. Everything that transforms do not change is looked up in `base`.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// The batch that the chain was given.
    pub base: &'a Batch,
    /// Row of the base, for each row here; never decreasing.
    pub rows: Vec<u32>,
    /// Topic of every row.
    pub topic: Arc<str>,
    /// Keys.
    pub key: Side<'a>,
    /// Values.
    pub value: Side<'a>,
    /// `None`: those of the base.
    pub headers: Option<Option<ListArray>>,
    /// One a row; `None`: those of the base.
    pub timestamps: Option<Int64Array>,
    /// One a row; `None`: those of the base.
    pub partitions: Option<Int32Array>,
}

/// A row of a part: its place in the part, and its row in the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In the part.
    pub at: usize,
    /// In the base.
    pub row: u32,
}

/// What a record has beside topic, key, value and headers.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    base: &'a Batch,
    timestamps: Option<Int64Array>,
    partitions: Option<Int32Array>,
}

impl Origin<'_> {
    /// Milliseconds since the epoch.
    pub fn timestamp(&self, place: Place) -> Option<i64> {
        let (timestamps, at) = match (&self.timestamps, &self.base.timestamps) {
            (Some(own), _) => (own, place.at),
            (None, Some(base)) => (base, place.row as usize),
            _ => return None,
        };
        timestamps.is_valid(at).then(|| timestamps.value(at))
    }

    /// The partition that the record comes from (sinks) or goes to (sources).
    pub fn partition(&self, place: Place) -> Option<i32> {
        let (partitions, at) = match (&self.partitions, &self.base.partitions) {
            (Some(own), _) => (own, place.at),
            _ if self.base.partition.is_some() => return self.base.partition,
            (None, Some(base)) => (base, place.row as usize),
            _ => return None,
        };
        partitions.is_valid(at).then(|| partitions.value(at))
    }

    /// Kafka's offset, in sinks.
    pub fn offset(&self, place: Place) -> Option<i64> {
        match &self.base.offsets {
            Offsets::Sink(offsets) => Some(offsets.value(place.row as usize)),
            _ => None,
        }
    }
}

/// Keys or values of a part.
#[derive(Debug, Clone)]
pub enum Side<'a> {
    /// Those of the base's column.
    Base,
    /// Schemaless documents; `None` is null.
    Json(Vec<Option<Json<'a>>>),
    /// A column of its own, not of JSON text.
    Column(Column),
}

/// A side, ready to be looked at.
pub enum Opened<'p, 'a> {
    /// Schemaless documents.
    Json(&'p mut Vec<Option<Json<'a>>>),
    /// Any other column.
    Column(&'p mut Column),
}

/// What a transform did to a part.
#[derive(Debug, Default)]
pub struct Outcome<'a> {
    /// What goes on.
    pub parts: Vec<Part<'a>>,
    /// Rows of the base that were refused, with the reasons.
    pub failures: Vec<(u32, String)>,
    /// Number of rows dropped on purpose.
    pub dropped: usize,
}

impl<'a> Part<'a> {
    /// All rows of a batch.
    pub fn whole(base: &'a Batch) -> Self {
        let rows = (0..base.len() as u32).collect();
        let topic = base.topic.clone();
        Self {
            base,
            rows,
            topic,
            key: Side::Base,
            value: Side::Base,
            headers: None,
            timestamps: None,
            partitions: None,
        }
    }

    /// Timestamp, partition and offset of the rows.
    pub fn origin(&self) -> Origin<'a> {
        Origin { base: self.base, timestamps: self.timestamps.clone(), partitions: self.partitions.clone() }
    }

    /// The rows with their places.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.rows.iter().enumerate().map(|(at, &row)| Place { at, row })
    }

    /// Whether the record is one that was read from Kafka.
    pub fn is_sink(&self) -> bool {
        matches!(self.base.offsets, Offsets::Sink(_)) || self.base.partition.is_some()
    }

    /// The keys or values, opened: base rows become documents or a column of their own.
    pub fn open(&mut self, target: Target) -> Opened<'_, 'a> {
        let (side, base) = match target {
            Target::Key => (&mut self.key, self.base.key.as_ref()),
            Target::Value => (&mut self.value, Some(&self.base.value)),
        };
        if matches!(side, Side::Base) {
            *side = match base {
                None => Side::Json(vec![None; self.rows.len()]),
                Some(column) => match (column.form(), column.as_text()) {
                    (Form::Json, Some(texts)) => {
                        let document = |&row: &u32| {
                            let row = row as usize;
                            texts.is_valid(row).then(|| Json::text(texts.value(row)))
                        };
                        Side::Json(self.rows.iter().map(document).collect())
                    }
                    _ => {
                        let column = Column::new(column.field().clone(), take(column.array(), &self.rows));
                        // Types that Connect does not have stay as they are, for transforms that do not look at them.
                        Side::Column(canonical(&column).unwrap_or(column))
                    }
                },
            };
        }
        match side {
            Side::Json(documents) => Opened::Json(documents),
            Side::Column(column) => Opened::Column(column),
            Side::Base => unreachable!("opened above"),
        }
    }

    /// Which rows have a null on this side.
    pub fn is_null(&self, target: Target) -> BooleanArray {
        let (side, base) = match target {
            Target::Key => (&self.key, self.base.key.as_ref()),
            Target::Value => (&self.value, Some(&self.base.value)),
        };
        match (side, base) {
            (Side::Base, None) => vec![true; self.rows.len()].into(),
            (Side::Base, Some(column)) => {
                self.rows.iter().map(|&row| Some(column.array().is_null(row as usize))).collect()
            }
            (Side::Json(documents), _) => documents.iter().map(|document| Some(document.is_none())).collect(),
            (Side::Column(column), _) => (0..column.len()).map(|row| Some(column.array().is_null(row))).collect(),
        }
    }

    /// The side's content replaced.
    pub fn set(&mut self, target: Target, side: Side<'a>) {
        match target {
            Target::Key => self.key = side,
            Target::Value => self.value = side,
        }
    }

    /// The base's column, while nothing has looked at this side.
    pub fn untouched(&self, target: Target) -> Option<&'a Column> {
        match (target, &self.key, &self.value) {
            (Target::Key, Side::Base, _) => self.base.key.as_ref(),
            (Target::Value, _, Side::Base) => Some(&self.base.value),
            _ => None,
        }
    }

    /// The rows at these places, which may repeat but not decrease. The value is left for the caller to set.
    pub fn repeat(self, places: &[usize]) -> Self {
        let indices = UInt32Array::from_iter_values(places.iter().map(|&place| place as u32));
        let taken = |array: &ArrayRef| arrow_select::take::take(array, &indices, None).expect("places in the array");
        let key = match self.key {
            Side::Base => Side::Base,
            Side::Json(documents) => Side::Json(places.iter().map(|&place| documents[place].clone()).collect()),
            Side::Column(column) => Side::Column(Column::new(column.field().clone(), taken(column.array()))),
        };
        let headers = self
            .headers
            .map(|headers| headers.map(|headers| taken(&(Arc::new(headers) as ArrayRef)).as_list().clone()));
        let rows = places.iter().map(|&place| self.rows[place]).collect();
        let timestamps = self.timestamps.map(|own| taken(&(Arc::new(own) as ArrayRef)).as_primitive().clone());
        let partitions = self.partitions.map(|own| taken(&(Arc::new(own) as ArrayRef)).as_primitive().clone());
        Self { base: self.base, rows, topic: self.topic, key, value: Side::Base, headers, timestamps, partitions }
    }

    /// Headers of these rows.
    pub fn headers(&self) -> Option<ListArray> {
        match &self.headers {
            Some(headers) => headers.clone(),
            None => self.base.headers.as_ref().map(|headers| {
                let taken = take(&(Arc::new(headers.clone()) as ArrayRef), &self.rows);
                taken.as_any().downcast_ref::<ListArray>().expect("taking keeps the type").clone()
            }),
        }
    }

    /// The rows that `keep` is true for.
    pub fn filter(self, keep: &BooleanArray) -> Self {
        if keep.true_count() == self.rows.len() {
            return self;
        }
        let filter_side = |side: Side<'a>| match side {
            Side::Base => Side::Base,
            Side::Json(documents) => {
                Side::Json(documents.into_iter().zip(keep.values()).filter_map(|(d, keep)| keep.then_some(d)).collect())
            }
            Side::Column(column) => Side::Column(Column::new(column.field().clone(), filter(column.array(), keep))),
        };
        let headers = self.headers.map(|headers| {
            headers.map(|headers| {
                let kept = filter(&(Arc::new(headers) as ArrayRef), keep);
                kept.as_any().downcast_ref::<ListArray>().expect("filtering keeps the type").clone()
            })
        });
        Self {
            base: self.base,
            rows: self.rows.into_iter().zip(keep.values()).filter_map(|(row, keep)| keep.then_some(row)).collect(),
            topic: self.topic,
            key: filter_side(self.key),
            value: filter_side(self.value),
            headers,
            timestamps: self.timestamps.map(|own| filter(&(Arc::new(own) as ArrayRef), keep).as_primitive().clone()),
            partitions: self.partitions.map(|own| filter(&(Arc::new(own) as ArrayRef), keep).as_primitive().clone()),
        }
    }

    /// Divides the rows into those that `mask` is true for, and the others.
    pub fn divide(self, mask: &BooleanArray) -> (Option<Self>, Option<Self>) {
        match mask.true_count() {
            0 => (None, Some(self)),
            all if all == self.rows.len() => (Some(self), None),
            _ => {
                let others: BooleanArray = mask.values().iter().map(|keep| Some(!keep)).collect();
                (Some(self.clone().filter(mask)), Some(self.filter(&others)))
            }
        }
    }

    /// Goes on as one part for each topic, which are given a row each.
    pub fn route(self, topics: &[Arc<str>], outcome: &mut Outcome<'a>) {
        let mut rest = Some((self, topics.to_vec()));
        while let Some((part, topics)) = rest.take() {
            let Some(topic) = topics.first().cloned() else { return };
            let mask: BooleanArray = topics.iter().map(|known| Some(*known == topic)).collect();
            let (mine, others) = part.divide(&mask);
            if let Some(mut mine) = mine {
                mine.topic = topic.clone();
                outcome.push(mine);
            }
            rest = others.map(|part| (part, topics.into_iter().filter(|known| *known != topic).collect()));
        }
    }

    /// Whether the side is schemaless; opens it.
    pub fn is_json(&mut self, target: Target) -> bool {
        matches!(self.open(target), Opened::Json(_))
    }

    /// Calls `edit` with each row and its document; rows that it refuses leave the part. A side that is not schemaless
    /// stays as it is.
    pub fn edit_json(
        mut self,
        target: Target,
        outcome: &mut Outcome<'a>,
        mut edit: impl FnMut(Place, &mut Option<Json<'a>>) -> Result<(), String>,
    ) -> Self {
        self.open(target);
        let side = match target {
            Target::Key => &mut self.key,
            Target::Value => &mut self.value,
        };
        let Side::Json(documents) = side else { return self };
        let mut refused = Vec::new();
        for (i, document) in documents.iter_mut().enumerate() {
            if let Err(message) = edit(Place { at: i, row: self.rows[i] }, document) {
                refused.push((i, message));
            }
        }
        self.refuse(refused, outcome)
    }

    /// Takes a column of structs apart, lets `edit` change it, and puts it back. What `edit` refuses leaves the part; an error is of
    /// all rows that are not null. A side that is schemaless stays as it is.
    pub fn edit_struct(
        mut self,
        target: Target,
        purpose: &str,
        replace_nulls: bool,
        outcome: &mut Outcome<'a>,
        edit: impl FnOnce(&Self, Struct, &mut Vec<(usize, String)>) -> Result<Column, String>,
    ) {
        let Opened::Column(column) = self.open(target) else { return outcome.push(self) };
        let column = column.clone();
        let mut refused = Vec::new();
        let edited = Struct::open(&column, purpose, replace_nulls).and_then(|open| edit(&self, open, &mut refused));
        match edited {
            Ok(column) => {
                self.set(target, Side::Column(column));
                refused.sort_by_key(|&(i, _)| i);
                refused.dedup_by_key(|&mut (i, _)| i);
                let part = self.refuse(refused, outcome);
                outcome.push(part);
            }
            Err(message) => self.refuse_all(target, &message, outcome),
        }
    }

    /// Rows that are null on this side are refused in the words that Kafka Connect has for them.
    pub fn refuse_nulls(self, target: Target, purpose: &str, outcome: &mut Outcome<'a>) -> Self {
        let nulls = self.is_null(target);
        let message = || not_a_map("null", purpose);
        let refused = (0..self.rows.len()).filter(|&i| nulls.value(i)).map(|i| (i, message())).collect();
        self.refuse(refused, outcome)
    }

    /// Takes rows (by their place in the part, increasing) out as failures.
    pub fn refuse(self, refused: Vec<(usize, String)>, outcome: &mut Outcome<'a>) -> Self {
        if refused.is_empty() {
            return self;
        }
        let mut keep = vec![true; self.rows.len()];
        for (i, message) in refused {
            keep[i] = false;
            outcome.failures.push((self.rows[i], message));
        }
        self.filter(&keep.into())
    }

    /// Refuses all rows that are not null on this side; the null ones go on.
    pub fn refuse_all(self, target: Target, message: &str, outcome: &mut Outcome<'a>) {
        let nulls = self.is_null(target);
        let refused = (0..self.rows.len()).filter(|&i| !nulls.value(i)).map(|i| (i, message.to_owned())).collect();
        let rest = self.refuse(refused, outcome);
        outcome.push(rest);
    }
}

impl<'a> Outcome<'a> {
    /// A part goes on; empty ones are forgotten.
    pub fn push(&mut self, part: Part<'a>) {
        if !part.rows.is_empty() {
            self.parts.push(part);
        }
    }
}

/// Opens a document as an object, or says what Kafka Connect says when it is none.
pub fn require_map<'d, 'a>(document: &'d mut Option<Json<'a>>, purpose: &str) -> Result<&'d mut Object<'a>, String> {
    let Some(document) = document else { return Err(not_a_map("null", purpose)) };
    let class = document.java_class();
    match document.object() {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(not_a_map(class, purpose)),
        Err(error) => Err(not_json(error)),
    }
}

fn not_a_map(class: &str, purpose: &str) -> String {
    format!("Only Map objects supported in absence of schema for [{purpose}], found: {class}")
}

/// Of text that should have been checked before.
pub fn not_json(error: SyntaxError) -> String {
    format!("the value is not valid JSON: {error}; the connector or transform that made it is wrong")
}

/// Rows of an array; a slice where they are consecutive.
pub fn take(array: &ArrayRef, rows: &[u32]) -> ArrayRef {
    match (rows.first(), rows.last()) {
        (Some(&first), Some(&last)) if (last - first) as usize + 1 == rows.len() && is_run(rows) => {
            array.slice(first as usize, rows.len())
        }
        _ => {
            let rows = UInt32Array::from(rows.to_vec());
            arrow_select::take::take(array, &rows, None).expect("rows of the array")
        }
    }
}

fn is_run(rows: &[u32]) -> bool {
    rows.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

fn filter(array: &ArrayRef, keep: &BooleanArray) -> ArrayRef {
    arrow_select::filter::filter(array, keep).expect("a mask of the array's length")
}

/// Empty header lists.
pub fn no_headers(rows: usize) -> ListArray {
    use arrow_buffer::OffsetBuffer;
    let arrow_schema::DataType::List(item) = Batch::headers_type() else { unreachable!("headers are lists") };
    let none = arrow_array::new_empty_array(item.data_type());
    ListArray::new(item, OffsetBuffer::from_lengths(std::iter::repeat_n(0, rows)), none, None)
}
