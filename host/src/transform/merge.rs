//! Puts the parts of a batch back together: rows in their order, as few batches as types and topics allow.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, ListArray};
use tributary_sdk::{Batch, Column, Form, Offsets};

use super::part::{Part, Side, take};
use crate::converter::utf8::TextBuilder;

/// A batch that a chain makes, and where its rows come from.
pub struct Merged {
    /// The batch.
    pub batch: Batch,
    /// For each row, its row in the base.
    pub rows: Vec<u32>,
}

/// Parts whose rows may stand in one batch are woven together; the others alternate, so that the order of the rows is kept.
pub fn merge(mut parts: Vec<Part<'_>>) -> Vec<Merged> {
    if parts.len() == 1 {
        return parts.pop().map(close).into_iter().collect();
    }
    let parts = weave(parts);
    if parts.len() == 1 {
        return parts.into_iter().map(close).collect();
    }
    // Runs of consecutive rows of one part.
    let mut order: Vec<(u32, usize, usize)> = Vec::new();
    for (p, part) in parts.iter().enumerate() {
        order.extend(part.rows.iter().enumerate().map(|(i, &row)| (row, p, i)));
    }
    order.sort();
    let closed: Vec<Merged> = parts.into_iter().map(close).collect();
    let mut merged = Vec::new();
    let mut at = 0;
    while at < order.len() {
        let (_, part, from) = order[at];
        let mut length = 1;
        while at + length < order.len() && order[at + length].1 == part {
            length += 1;
        }
        let whole = &closed[part];
        merged.push(Merged { batch: whole.batch.slice(from, length), rows: whole.rows[from..from + length].to_vec() });
        at += length;
    }
    merged
}

/// Joins parts of the same topic and types.
fn weave(parts: Vec<Part<'_>>) -> Vec<Part<'_>> {
    let mut joined: Vec<Part<'_>> = Vec::new();
    for part in parts {
        match joined.iter_mut().find(|known| fits(known, &part)) {
            Some(known) => join(known, part),
            None => joined.push(part),
        }
    }
    joined
}

fn fits(a: &Part<'_>, b: &Part<'_>) -> bool {
    let same = |a: &Side<'_>, b: &Side<'_>, base: Option<&Column>| match (a, b) {
        (Side::Base, Side::Base) | (Side::Json(_), Side::Json(_)) => true,
        (Side::Column(a), Side::Column(b)) => a.field() == b.field(),
        (Side::Base, Side::Json(_)) | (Side::Json(_), Side::Base) => base.is_none_or(|base| base.form() == Form::Json),
        (Side::Base, Side::Column(column)) | (Side::Column(column), Side::Base) => {
            base.is_some_and(|base| base.field() == column.field())
        }
        _ => false,
    };
    a.topic == b.topic && same(&a.key, &b.key, a.base.key.as_ref()) && same(&a.value, &b.value, Some(&a.base.value))
}

fn join<'a>(known: &mut Part<'a>, mut other: Part<'a>) {
    use super::part::{Opened, Target};
    // Where each row of the joined part comes from, in order.
    let mut order: Vec<(u32, usize, usize)> = known.rows.iter().enumerate().map(|(i, &row)| (row, 0, i)).collect();
    order.extend(other.rows.iter().enumerate().map(|(i, &row)| (row, 1, i)));
    order.sort();
    let indices: Vec<(usize, usize)> = order.iter().map(|&(_, side, i)| (side, i)).collect();
    let interleave = |a: &ArrayRef, b: &ArrayRef| {
        arrow_select::interleave::interleave(&[a.as_ref(), b.as_ref()], &indices).expect("arrays of one type")
    };
    if known.headers.is_some() || other.headers.is_some() {
        let headers = match (known.headers(), other.headers()) {
            (None, None) => None,
            (a, b) => {
                let array = |headers: Option<ListArray>, rows: usize| -> ArrayRef {
                    Arc::new(headers.unwrap_or_else(|| super::part::no_headers(rows)))
                };
                let woven = interleave(&array(a, known.rows.len()), &array(b, other.rows.len()));
                woven.as_any().downcast_ref::<ListArray>().cloned()
            }
        };
        known.headers = Some(headers);
    }
    if known.timestamps.is_some() || other.timestamps.is_some() {
        let (a, b) = (timestamps(known), timestamps(&other));
        known.timestamps = Some(interleave(&a, &b).as_primitive().clone());
    }
    if known.partitions.is_some() || other.partitions.is_some() {
        let (a, b) = (partitions(known), partitions(&other));
        known.partitions = Some(interleave(&a, &b).as_primitive().clone());
    }
    for target in [Target::Key, Target::Value] {
        let both_base = match target {
            Target::Key => matches!((&known.key, &other.key), (Side::Base, Side::Base)),
            Target::Value => matches!((&known.value, &other.value), (Side::Base, Side::Base)),
        };
        if both_base {
            continue;
        }
        let side = match (known.open(target), other.open(target)) {
            (Opened::Json(a), Opened::Json(b)) => {
                let document = |&(side, i): &(usize, usize)| if side == 0 { a[i].take() } else { b[i].take() };
                Side::Json(indices.iter().map(document).collect())
            }
            (Opened::Column(a), Opened::Column(b)) => {
                Side::Column(Column::new(a.field().clone(), interleave(a.array(), b.array())))
            }
            _ => unreachable!("parts that fit are of one form"),
        };
        known.set(target, side);
    }
    known.rows = order.into_iter().map(|(row, ..)| row).collect();
}

fn timestamps(part: &Part<'_>) -> ArrayRef {
    let origin = part.origin();
    Arc::new(part.places().map(|place| origin.timestamp(place)).collect::<Int64Array>())
}

fn partitions(part: &Part<'_>) -> ArrayRef {
    let origin = part.origin();
    Arc::new(part.places().map(|place| origin.partition(place)).collect::<Int32Array>())
}

/// A part as a batch.
fn close(part: Part<'_>) -> Merged {
    let base = part.base;
    let headers = part.headers();
    let Part { rows, topic, key, value, timestamps, partitions, .. } = part;
    let of_base = |array: &ArrayRef| take(array, &rows);
    let side = |side: Side<'_>, base: Option<&Column>| match side {
        Side::Base => base.map(|column| Column::new(column.field().clone(), of_base(column.array()))),
        Side::Column(column) => Some(column),
        Side::Json(documents) if base.is_none() && documents.iter().all(Option::is_none) => None,
        Side::Json(documents) => {
            let bytes = base.map_or(0, |column| column.array().get_array_memory_size());
            let mut out = TextBuilder::with_capacity(documents.len(), bytes + documents.len() * 64);
            for document in &documents {
                match document {
                    Some(document) => {
                        document.write(out.buffer());
                        out.end_row();
                    }
                    None => out.push_null(),
                }
            }
            Some(Column::json(out.finish()))
        }
    };
    let key = side(key, base.key.as_ref());
    let value = side(value, Some(&base.value)).expect("there are values");
    macro_rules! taken {
        ($array:expr) => {{
            let array: ArrayRef = Arc::new($array.clone());
            of_base(&array).as_any().downcast_ref().cloned().expect("taking keeps the type")
        }};
    }
    let batch = Batch {
        topic,
        source_partition: base.source_partition.clone(),
        partition: base.partition,
        key,
        value,
        headers,
        timestamps: timestamps.or_else(|| base.timestamps.as_ref().map(|array| taken!(array))),
        partitions: partitions.or_else(|| base.partitions.as_ref().map(|array| taken!(array))),
        offsets: match &base.offsets {
            Offsets::None => Offsets::None,
            Offsets::Source(array) => Offsets::Source(taken!(array)),
            Offsets::Sink(array) => Offsets::Sink(taken!(array)),
        },
        // Nothing is transformed behind an outbox.
        origin: None,
    };
    Merged { batch, rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BooleanArray, StringArray};
    use proptest::prelude::*;

    use crate::transform::json::Json;
    use crate::transform::part::{Opened, Target};

    /// What happens to the rows that a mask picks.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Route,
        Drop,
        Rewrite,
        Retype,
    }

    fn steps() -> impl Strategy<Value = Vec<(Step, Vec<bool>)>> {
        let step = prop_oneof![Just(Step::Route), Just(Step::Drop), Just(Step::Rewrite), Just(Step::Retype)];
        prop::collection::vec((step, prop::collection::vec(any::<bool>(), 12)), 0..5)
    }

    /// Divides every part by the mask, and changes the rows that it picks.
    fn apply<'a>(parts: Vec<Part<'a>>, step: Step, picked: &[bool]) -> Vec<Part<'a>> {
        let mut next = Vec::new();
        for part in parts {
            let mask: BooleanArray = part.rows.iter().map(|&row| Some(picked[row as usize])).collect();
            let (mine, others) = part.divide(&mask);
            next.extend(others);
            let Some(mut mine) = mine else { continue };
            match step {
                Step::Route => mine.topic = format!("{}x", mine.topic).into(),
                Step::Drop => continue,
                Step::Rewrite => {
                    if let Opened::Json(documents) = mine.open(Target::Value) {
                        for document in documents.iter_mut().flatten() {
                            *document = Json::string(&document.to_string());
                        }
                    }
                }
                Step::Retype => {
                    let rows = mine.rows.iter().map(|&row| i64::from(row));
                    let numbers = Arc::new(Int64Array::from_iter_values(rows));
                    let field = arrow_schema::Field::new("", numbers.data_type().clone(), true);
                    mine.value = Side::Column(Column::new(field, numbers));
                }
            }
            next.push(mine);
        }
        next
    }

    /// The same for one row: topic, and value as text.
    fn naive(row: usize, steps: &[(Step, Vec<bool>)]) -> Option<(String, String)> {
        let (mut topic, mut value, mut typed) = ("t".to_owned(), row.to_string(), false);
        for (step, _) in steps.iter().filter(|(_, picked)| picked[row]) {
            match step {
                Step::Route => topic.push('x'),
                Step::Drop => return None,
                Step::Rewrite if typed => {}
                Step::Rewrite => value = crate::converter::json::text::string(&value),
                Step::Retype => (value, typed) = (row.to_string(), true),
            }
        }
        Some((topic, value))
    }

    fn text(batch: &Batch, row: usize) -> String {
        match batch.value.as_text() {
            Some(texts) => texts.value(row).to_owned(),
            None => batch.value.array().as_any().downcast_ref::<Int64Array>().unwrap().value(row).to_string(),
        }
    }

    proptest! {
        #[test]
        fn rows_keep_their_order_and_offsets(steps in steps()) {
            let rows: Vec<String> = (0..12).map(|row| row.to_string()).collect();
            let mut base = Batch::new("t", Column::json(StringArray::from(rows)));
            base.offsets = Offsets::Sink(Int64Array::from_iter_values(100..112));
            let parts = steps.iter().fold(vec![Part::whole(&base)], |parts, (step, picked)| apply(parts, *step, picked));
            let mut got = Vec::new();
            for Merged { batch, rows } in merge(parts) {
                prop_assert_eq!(batch.len(), rows.len());
                let Offsets::Sink(offsets) = &batch.offsets else { panic!("a sink batch") };
                for (i, &row) in rows.iter().enumerate() {
                    prop_assert_eq!(offsets.value(i), 100 + i64::from(row));
                    got.push((row as usize, batch.topic.to_string(), text(&batch, i)));
                }
            }
            let expected: Vec<_> = (0..12)
                .filter_map(|row| naive(row, &steps).map(|(topic, value)| (row, topic, value)))
                .collect();
            prop_assert_eq!(got, expected);
        }
    }
}
