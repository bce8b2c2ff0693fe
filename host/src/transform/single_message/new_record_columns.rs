//! The structured half of [`super::ExtractNewRecordState`]: columns of states, whatever the rows.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, StringArray};
use arrow_schema::{DataType, Field, FieldRef};
use tributary_sdk::Column;
use tributary_sdk::batch::SCHEMA_NAME;

use super::new_record_state::{DELETED, Edited, ExtractNewRecordState};
use crate::converter::HeaderText;
use crate::transform::headers::{Header, Headers, HeadersBuilder};
use crate::transform::part::{Opened, Outcome, Part, Side, Target};
use crate::transform::structs::{Struct, extract, mask};

impl ExtractNewRecordState {
    pub(super) fn apply_columns<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let Opened::Column(column) = part.open(Target::Value) else { return outcome.push(part) };
        let is_envelope = column.field().metadata().get(SCHEMA_NAME).is_some_and(|name| name.ends_with(".Envelope"));
        let column = column.clone();
        let opened = match Struct::open(&column, "change events", false) {
            Ok(structs) if is_envelope => structs,
            _ => return self.let_pass(part, &column, outcome),
        };
        let state = |name: &str| {
            opened
                .position(name)
                .map(|at| (opened.fields[at].clone(), mask(&opened.columns[at], opened.nulls.as_ref())))
        };
        let (Some(after), Some(before)) = (state("after"), state("before")) else {
            return self.let_pass(part, &column, outcome);
        };
        if !self.headers.is_empty() {
            match self.add_headers(&part, &opened) {
                Ok(headers) => part.headers = Some(headers.finish()),
                Err(message) => return part.refuse_all(Target::Value, &message, outcome),
            }
        }
        let rows = 0..part.rows.len();
        let is_tombstone = |row: usize| opened.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let is_delete = |row: usize| !is_tombstone(row) && after.1.is_null(row) && before.1.is_valid(row);
        let keep: Vec<bool> = rows
            .clone()
            .map(|row| match (is_tombstone(row), is_delete(row)) {
                (true, _) => self.deletes.keeps_tombstones(),
                (_, true) => !self.deletes.drops_deletions(),
                _ => after.1.is_valid(row),
            })
            .collect();
        let mut routes = vec![None; part.rows.len()];
        if let Some((name, _)) = &self.route_by {
            for row in rows.clone().filter(|&row| !is_tombstone(row)) {
                let state = if is_delete(row) { &before } else { &after };
                routes[row] = route_of(state, name, row);
            }
        }
        let rewritten: BooleanArray = rows.map(|row| Some(self.rewrites() && is_delete(row))).collect();
        let others: BooleanArray = rewritten.values().iter().map(|rewritten| Some(!rewritten)).collect();
        // Deletions that keep their old state, and the rest: two columns, woven together again at the end.
        for (mask, (field, states), deleted) in [(others, after, "false"), (rewritten, before, "true")] {
            let built = self.build_state(&opened, &field, &states, deleted);
            let mine = |values: &[bool]| {
                values.iter().zip(mask.values()).filter(|(_, mine)| *mine).map(|(v, _)| *v).collect::<Vec<_>>()
            };
            let keep = mine(&keep);
            let routes: Vec<_> =
                routes.iter().zip(mask.values()).filter(|(_, mine)| *mine).map(|(route, _)| route.clone()).collect();
            match built {
                Ok(column) => {
                    outcome.dropped += keep.iter().filter(|&&keep| !keep).count();
                    let mut whole = part.clone();
                    whole.set(Target::Value, Side::Column(column));
                    if let (Some(part), _) = whole.divide(&mask) {
                        self.finish(part, &keep, &routes, outcome);
                    }
                }
                Err(message) => {
                    if let (Some(part), _) = part.clone().divide(&mask) {
                        part.refuse_all(Target::Value, &message, outcome);
                    }
                }
            }
        }
    }

    /// A column that holds no change events: only its tombstones are looked at.
    fn let_pass<'a>(&'a self, mut part: Part<'a>, column: &Column, outcome: &mut Outcome<'a>) {
        if column.array().null_count() == 0 {
            return outcome.push(part);
        }
        if !self.headers.is_empty() {
            let known = part.headers();
            let known = Headers::of(known.as_ref());
            let mut headers = HeadersBuilder::new(part.rows.len());
            for row in 0..part.rows.len() {
                known.row(row).for_each(|header| headers.push(header));
                if column.array().is_null(row) {
                    self.push_tombstone_header(&mut headers);
                }
                headers.end_row();
            }
            part.headers = Some(headers.finish());
        }
        let stays = self.deletes.keeps_tombstones();
        let keep: Vec<bool> = (0..part.rows.len()).map(|row| stays || column.array().is_valid(row)).collect();
        let routes = vec![None; keep.len()];
        outcome.dropped += keep.iter().filter(|&&keep| !keep).count();
        self.finish(part, &keep, &routes, outcome);
    }

    /// The new (or old) states of all rows, with what is added to them.
    fn build_state(&self, event: &Struct, field: &Field, states: &ArrayRef, deleted: &str) -> Edited<Column> {
        let (whole, states) = extract(field, states, None);
        let column = Column::new(whole, states);
        if !matches!(field.data_type(), DataType::Struct(_)) {
            return Ok(column);
        }
        let mut structs = Struct::open(&column, "change events", self.rewrites() && self.replace_nulls)?;
        if self.rewrites() {
            let flags: StringArray = std::iter::repeat_n(Some(deleted), structs.rows).collect();
            structs.set(Field::new(DELETED, DataType::Utf8, true), Arc::new(flags));
        }
        for reference in &self.fields {
            if let Some((field, column)) = reference.of_struct(event) {
                structs.set(field.with_name(&reference.name), column);
            }
        }
        Ok(structs.rebuild())
    }

    fn add_headers(&self, part: &Part<'_>, event: &Struct) -> Edited<HeadersBuilder> {
        let known = part.headers();
        let known = Headers::of(known.as_ref());
        let found: Vec<(&str, Field, ArrayRef)> = self
            .headers
            .iter()
            .filter_map(|reference| reference.of_struct(event).map(|(field, column)| (&*reference.name, field, column)))
            .collect();
        let mut writers = Vec::with_capacity(found.len());
        for (name, field, column) in &found {
            writers.push((*name, column, HeaderText::new(field, column)?));
        }
        let mut headers = HeadersBuilder::new(event.rows);
        let mut text = Vec::new();
        for row in 0..event.rows {
            known.row(row).for_each(|header| headers.push(header));
            if event.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                self.push_tombstone_header(&mut headers);
                headers.end_row();
                continue;
            }
            for (key, column, writer) in &writers {
                text.clear();
                let valid = column.is_valid(row);
                if valid {
                    writer.write(row, &mut text)?;
                }
                headers.push(Header { key, schema: Some(writer.schema()), value: valid.then_some(&text) });
            }
            headers.end_row();
        }
        Ok(headers)
    }
}

/// The topic that a row's state names.
fn route_of((field, states): &(FieldRef, ArrayRef), name: &str, row: usize) -> Option<String> {
    let DataType::Struct(fields) = field.data_type() else { return None };
    let (at, field) = fields.find(name)?;
    if states.is_null(row) || *field.data_type() != DataType::Utf8 {
        return None;
    }
    let topics = states.as_struct().column(at).as_string::<i32>();
    (topics.is_valid(row) && !topics.value(row).trim().is_empty()).then(|| topics.value(row).to_owned())
}
