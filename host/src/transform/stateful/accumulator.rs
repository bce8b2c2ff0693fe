//! Aggregates: what they are, how they are written in a config, and their state as bytes.
//!
//! All can be joined, and none depends on the order in which records come (except `first`, `last` and `collect` among records of one
//! time, and the last digits of sums of fractions). Nulls are ignored by all of them, except that `count()` counts records.

use std::cmp::Ordering;

use arrow_schema::{DataType, Field};
use std::sync::Arc;

use super::distinct::Distinct;
use super::pick::Pick;
use super::quantile::{Sketch, read_length};
use super::stored::{self, compare, length, take};
use crate::expression::{Answer, Types};

/// Values that `collect` keeps, unless it says otherwise.
const COLLECTED: usize = 1000;
/// And at most.
const MAX_COLLECTED: usize = 100_000;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Function {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    First,
    Last,
    Collect(usize),
    Distinct,
    Quantile(f64),
}

/// One of `aggs`.
pub struct Aggregation {
    /// The field of the result.
    pub name: String,
    /// What.
    pub function: Function,
    /// Of what; `None`: of records.
    pub argument: Option<Pick>,
}

/// Its state for one window.
#[derive(Debug, Clone, PartialEq)]
pub enum Accumulator {
    /// `count`.
    Count(u64),
    /// `sum` and `avg`: the integers, the fractions (`None`: there were none), and how many.
    Sum { whole: i64, fractions: Option<f64>, count: u64 },
    /// `min` and `max`.
    Extreme(Option<Answer>),
    /// `first` and `last`, with its time.
    Edge(Option<(i64, Answer)>),
    /// `collect`: values as bytes, with their times.
    Collected(Vec<(i64, Vec<u8>)>),
    /// `distinct`.
    Distinct(Distinct),
    /// `quantile`.
    Sketch(Sketch),
}

/// Reads `aggs`: `n:count(),total:sum(v.amount),p95:quantile(v.ms,0.95)`.
pub fn parse(text: &str) -> Result<Vec<Aggregation>, String> {
    let mut found: Vec<Aggregation> = Vec::new();
    for item in divide(text) {
        let wrong = |what: &str| format!("'{item}' {what}");
        let (name, call) = item.split_once(':').ok_or_else(|| wrong("has to be name:function(expression)"))?;
        let (name, call) = (name.trim(), call.trim());
        if name.is_empty() {
            return Err(wrong("has no name before the colon"));
        }
        if ["key", "window_start", "window_end"].contains(&name) {
            return Err(wrong("has a name that every result has already"));
        }
        if found.iter().any(|known| known.name == name) {
            return Err(format!("{name} is there twice"));
        }
        let (function, inner) = call
            .strip_suffix(')')
            .and_then(|call| call.split_once('('))
            .ok_or_else(|| wrong("has to be name:function(expression)"))?;
        let arguments = divide(inner);
        let (expression, parameter) = match arguments[..] {
            [] => (None, None),
            [expression] => (Some(expression), None),
            [expression, parameter] => (Some(expression), Some(parameter)),
            _ => return Err(wrong("has too many arguments")),
        };
        let function = match function.trim() {
            "count" => Function::Count,
            "sum" => Function::Sum,
            "min" => Function::Min,
            "max" => Function::Max,
            "avg" => Function::Avg,
            "first" => Function::First,
            "last" => Function::Last,
            "distinct" => Function::Distinct,
            "collect" => {
                let limit = parameter.map_or(Ok(COLLECTED), str::parse).ok();
                let limit = limit.filter(|limit| (1..=MAX_COLLECTED).contains(limit));
                Function::Collect(limit.ok_or_else(|| wrong("needs a limit from 1 to 100000 as its second argument"))?)
            }
            "quantile" => {
                let q = parameter.and_then(|text| text.parse().ok()).filter(|q: &f64| (0.0..=1.0).contains(q));
                Function::Quantile(q.ok_or_else(|| wrong("needs a number from 0 to 1 as its second argument"))?)
            }
            other => {
                return Err(format!(
                    "'{item}': there is no aggregate {other}; there are count, sum, min, max, avg, first, last, collect, distinct and quantile"
                ));
            }
        };
        if parameter.is_some() && !matches!(function, Function::Collect(_) | Function::Quantile(_)) {
            return Err(wrong("has too many arguments"));
        }
        if expression.is_none() && function != Function::Count {
            return Err(wrong("needs an expression in its parentheses"));
        }
        let argument = expression.map(Pick::compile).transpose().map_err(|what| format!("'{item}': {what}"))?;
        found.push(Aggregation { name: name.to_owned(), function, argument });
    }
    if found.is_empty() {
        return Err("there is nothing to compute; write for instance n:count()".to_owned());
    }
    Ok(found)
}

/// At commas that stand neither in quotes nor in parentheses.
fn divide(text: &str) -> Vec<&str> {
    let (mut depth, mut quote, mut escaped, mut from) = (0_usize, None, false, 0);
    let mut found = Vec::new();
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',' | '\n') if depth == 0 => {
                found.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[from..]);
    found.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect()
}

impl Aggregation {
    /// The field of results with a schema.
    pub fn field(&self, types: &Types) -> Result<Field, String> {
        let plain = |data_type| Field::new(&self.name, data_type, true);
        let argument = |pick: &Option<Pick>| match pick {
            Some(pick) => pick.field(types),
            None => Ok(plain(DataType::Int64)),
        };
        Ok(match self.function {
            Function::Count | Function::Distinct => plain(DataType::Int64),
            Function::Avg | Function::Quantile(_) => plain(DataType::Float64),
            Function::Sum => match argument(&self.argument)?.data_type() {
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => plain(DataType::Int64),
                _ => plain(DataType::Float64),
            },
            Function::Min | Function::Max | Function::First | Function::Last => {
                argument(&self.argument)?.with_name(&self.name).with_nullable(true)
            }
            Function::Collect(_) => {
                let item = argument(&self.argument)?.with_name("item").with_nullable(true);
                plain(DataType::List(Arc::new(item)))
            }
        })
    }

    /// Whether a record's value can be added.
    pub fn check(&self, value: &Answer) -> Result<(), String> {
        let number = matches!(
            value,
            Answer::Null | Answer::Missing | Answer::Integer(_) | Answer::Unsigned(_) | Answer::Double(_)
        );
        let wants_number = matches!(self.function, Function::Sum | Function::Avg | Function::Quantile(_));
        if wants_number && !number {
            return Err(format!(
                "{} is computed from numbers, and the value is of type {}",
                self.name,
                value.type_name()
            ));
        }
        Ok(())
    }

    /// The state of no records.
    pub fn empty(&self) -> Accumulator {
        match self.function {
            Function::Count => Accumulator::Count(0),
            Function::Sum | Function::Avg => Accumulator::Sum { whole: 0, fractions: None, count: 0 },
            Function::Min | Function::Max => Accumulator::Extreme(None),
            Function::First | Function::Last => Accumulator::Edge(None),
            Function::Collect(_) => Accumulator::Collected(Vec::new()),
            Function::Distinct => Accumulator::Distinct(Distinct::default()),
            Function::Quantile(_) => Accumulator::Sketch(Sketch::default()),
        }
    }

    /// Adds a record's value, which was checked. Without argument, the value is not looked at.
    pub fn add(&self, accumulator: &mut Accumulator, value: &Answer, time: i64) {
        if self.argument.is_some() && matches!(value, Answer::Null | Answer::Missing) {
            return;
        }
        match accumulator {
            Accumulator::Count(count) => *count += 1,
            Accumulator::Sum { whole, fractions, count } => {
                *count += 1;
                match value {
                    Answer::Integer(number) => match whole.checked_add(*number) {
                        Some(sum) => *whole = sum,
                        // Beyond 64 bits it goes on as a double.
                        None => *fractions.get_or_insert(0.0) += *number as f64,
                    },
                    value => *fractions.get_or_insert(0.0) += number(value),
                }
            }
            Accumulator::Extreme(extreme) => {
                if self.is_better(value, extreme.as_ref()) {
                    *extreme = Some(value.clone());
                }
            }
            Accumulator::Edge(edge) => {
                if self.is_nearer(time, edge.as_ref().map(|(time, _)| *time)) {
                    *edge = Some((time, value.clone()));
                }
            }
            Accumulator::Collected(values) => {
                let mut bytes = Vec::new();
                stored::write(value, &mut bytes);
                self.collect(values, time, bytes);
            }
            Accumulator::Distinct(set) => {
                let mut bytes = Vec::new();
                stored::write(value, &mut bytes);
                set.add(&bytes);
            }
            Accumulator::Sketch(sketch) => sketch.add(number(value)),
        }
    }

    /// Adds what another state has, whose records came later where times are equal.
    pub fn merge(&self, into: &mut Accumulator, other: &Accumulator) {
        match (into, other) {
            (Accumulator::Count(a), Accumulator::Count(b)) => *a += b,
            (
                Accumulator::Sum { whole, fractions, count },
                Accumulator::Sum { whole: other_whole, fractions: other_fractions, count: other_count },
            ) => {
                match whole.checked_add(*other_whole) {
                    Some(sum) => *whole = sum,
                    None => *fractions.get_or_insert(0.0) += *other_whole as f64,
                }
                if let Some(other) = other_fractions {
                    *fractions.get_or_insert(0.0) += other;
                }
                *count += other_count;
            }
            (Accumulator::Extreme(a), Accumulator::Extreme(Some(b))) if self.is_better(b, a.as_ref()) => {
                *a = Some(b.clone());
            }
            (Accumulator::Edge(a), Accumulator::Edge(Some((time, value))))
                if self.is_nearer(*time, a.as_ref().map(|(time, _)| *time)) =>
            {
                *a = Some((*time, value.clone()));
            }
            (Accumulator::Collected(a), Accumulator::Collected(b)) => {
                b.iter().for_each(|(time, bytes)| self.collect(a, *time, bytes.clone()));
            }
            (Accumulator::Distinct(a), Accumulator::Distinct(b)) => a.merge(b),
            (Accumulator::Sketch(a), Accumulator::Sketch(b)) => a.merge(b),
            _ => {}
        }
    }

    fn is_better(&self, value: &Answer, than: Option<&Answer>) -> bool {
        let wanted = if self.function == Function::Min { Ordering::Less } else { Ordering::Greater };
        than.is_none_or(|than| compare(value, than) == wanted)
    }

    /// Of one time, the first to come is the first, and the last the last.
    fn is_nearer(&self, time: i64, than: Option<i64>) -> bool {
        than.is_none_or(|than| if self.function == Function::First { time < than } else { time >= than })
    }

    fn collect(&self, values: &mut Vec<(i64, Vec<u8>)>, time: i64, bytes: Vec<u8>) {
        let Function::Collect(limit) = self.function else { return };
        let at = values.partition_point(|(known, _)| *known <= time);
        if at < limit {
            values.insert(at, (time, bytes));
            values.truncate(limit);
        }
    }

    /// The result.
    pub fn result(&self, accumulator: &Accumulator) -> Answer {
        match accumulator {
            Accumulator::Count(count) => Answer::Integer(*count as i64),
            Accumulator::Sum { count: 0, .. } => Answer::Null,
            Accumulator::Sum { whole, fractions, count } if self.function == Function::Avg => {
                Answer::Double((*whole as f64 + fractions.unwrap_or(0.0)) / *count as f64)
            }
            Accumulator::Sum { whole, fractions, .. } => match fractions {
                None => Answer::Integer(*whole),
                Some(fractions) => Answer::Double(*whole as f64 + fractions),
            },
            Accumulator::Extreme(value) => value.clone().unwrap_or(Answer::Null),
            Accumulator::Edge(edge) => edge.as_ref().map_or(Answer::Null, |(_, value)| value.clone()),
            Accumulator::Collected(values) => {
                Answer::List(values.iter().map(|(_, bytes)| stored::read(bytes).unwrap_or(Answer::Null)).collect())
            }
            Accumulator::Distinct(set) => Answer::Integer(set.count() as i64),
            Accumulator::Sketch(sketch) => match self.function {
                Function::Quantile(q) => sketch.quantile(q).map_or(Answer::Null, Answer::Double),
                _ => Answer::Null,
            },
        }
    }

    /// Takes a state off bytes; `None` for bytes of something else.
    pub fn read(&self, rest: &mut &[u8]) -> Option<Accumulator> {
        let word = |rest: &mut &[u8]| {
            let (word, after) = rest.split_first_chunk::<8>()?;
            *rest = after;
            Some(u64::from_le_bytes(*word))
        };
        Some(match self.function {
            Function::Count => Accumulator::Count(word(rest)?),
            Function::Sum | Function::Avg => {
                let (count, whole, fractions) = (word(rest)?, word(rest)? as i64, f64::from_bits(word(rest)?));
                let (fraction, after) = rest.split_first()?;
                *rest = after;
                Accumulator::Sum { whole, fractions: (*fraction == 1).then_some(fractions), count }
            }
            Function::Min | Function::Max => match take(rest)? {
                [] => Accumulator::Extreme(None),
                bytes => Accumulator::Extreme(Some(stored::read(bytes)?)),
            },
            Function::First | Function::Last => match take(rest)? {
                [] => Accumulator::Edge(None),
                bytes => Accumulator::Edge(Some((word(rest)? as i64, stored::read(bytes)?))),
            },
            Function::Collect(_) => {
                let count = read_length(rest)?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push((word(rest)? as i64, take(rest)?.to_vec()));
                }
                Accumulator::Collected(values)
            }
            Function::Distinct => Accumulator::Distinct(Distinct::read(rest)?),
            Function::Quantile(_) => Accumulator::Sketch(Sketch::read(rest)?),
        })
    }
}

fn number(value: &Answer) -> f64 {
    match value {
        Answer::Integer(number) => *number as f64,
        Answer::Unsigned(number) => *number as f64,
        Answer::Double(number) => *number,
        _ => f64::NAN,
    }
}

impl Accumulator {
    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Count(count) => out.extend_from_slice(&count.to_le_bytes()),
            Self::Sum { whole, fractions, count } => {
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(&whole.to_le_bytes());
                out.extend_from_slice(&fractions.unwrap_or(0.0).to_bits().to_le_bytes());
                out.push(u8::from(fractions.is_some()));
            }
            Self::Extreme(None) | Self::Edge(None) => length(0, out),
            Self::Extreme(Some(value)) => write_value(value, out),
            Self::Edge(Some((time, value))) => {
                write_value(value, out);
                out.extend_from_slice(&time.to_le_bytes());
            }
            Self::Collected(values) => {
                length(values.len(), out);
                for (time, bytes) in values {
                    out.extend_from_slice(&time.to_le_bytes());
                    length(bytes.len(), out);
                    out.extend_from_slice(bytes);
                }
            }
            Self::Distinct(set) => set.write(out),
            Self::Sketch(sketch) => sketch.write(out),
        }
    }
}

fn write_value(value: &Answer, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    stored::write(value, &mut bytes);
    length(bytes.len(), out);
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &str = "n:count(),c:count(v.a),s:sum(v.a),mi:min(v.a),ma:max(v.a),a:avg(v.a),f:first(v.a),l:last(v.a),\
        co:collect(v.a, 3),d:distinct(v.a),q:quantile(v.a, 0.5)";

    fn values() -> impl Strategy<Value = Vec<(i64, Option<i64>)>> {
        prop::collection::vec((0..1000_i64, prop::option::of(-50..50_i64)), 0..12).prop_map(|mut values| {
            // One record a time, or the order matters.
            values.sort();
            values.dedup_by_key(|(time, _)| *time);
            values
        })
    }

    fn accumulate(aggregation: &Aggregation, values: &[(i64, Option<i64>)]) -> Accumulator {
        let mut accumulator = aggregation.empty();
        for (time, value) in values {
            aggregation.add(&mut accumulator, &value.map_or(Answer::Null, Answer::Integer), *time);
        }
        accumulator
    }

    proptest! {
        #[test]
        fn states_are_stored_and_joined(values in values(), seed in any::<u64>()) {
            for aggregation in parse(ALL).unwrap() {
                let whole = accumulate(&aggregation, &values);
                let mut bytes = Vec::new();
                whole.write(&mut bytes);
                let mut rest = &bytes[..];
                prop_assert_eq!(aggregation.read(&mut rest), Some(whole.clone()));
                prop_assert!(rest.is_empty());
                let side = |value: &&(i64, Option<i64>)| (seed >> (value.0 % 64)) & 1 == 1;
                let (left, right): (Vec<_>, Vec<_>) = values.iter().partition(side);
                let mut joined = accumulate(&aggregation, &left);
                aggregation.merge(&mut joined, &accumulate(&aggregation, &right));
                prop_assert_eq!(joined, whole, "{}", aggregation.name);
            }
        }

        #[test]
        fn other_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for aggregation in parse(ALL).unwrap() {
                let _ = aggregation.read(&mut &bytes[..]);
            }
        }
    }

    #[test]
    fn results_are_what_their_names_say() {
        let values = [(30, Some(5)), (10, Some(1)), (20, None), (40, Some(2)), (15, Some(5))];
        let results: Vec<(String, String)> = parse(ALL)
            .unwrap()
            .iter()
            .map(|aggregation| {
                let accumulator = accumulate(aggregation, &values);
                (aggregation.name.clone(), aggregation.result(&accumulator).to_json().to_string())
            })
            .collect();
        let expected = [
            ("n", "5"),
            ("c", "4"),
            ("s", "13"),
            ("mi", "1"),
            ("ma", "5"),
            ("a", "3.25"),
            ("f", "1"),
            ("l", "2"),
            ("co", "[1,5,5]"),
            ("d", "3"),
        ];
        for ((name, result), (expected_name, expected)) in results.iter().zip(expected) {
            assert_eq!((name.as_str(), result.as_str()), (expected_name, expected));
        }
        let nothing = parse("s:sum(v.a),a:avg(v.a),q:quantile(v.a,0.5),f:first(v.a),c:collect(v.a)").unwrap();
        let nothing: Vec<String> = nothing.iter().map(|of| of.result(&of.empty()).to_json().to_string()).collect();
        assert_eq!(nothing, ["null", "null", "null", "null", "[]"]);
    }

    #[test]
    fn sums_beyond_64_bits_are_doubles() {
        let sum = &parse("s:sum(v.a)").unwrap()[0];
        let mut accumulator = sum.empty();
        sum.add(&mut accumulator, &Answer::Integer(i64::MAX), 0);
        assert_eq!(sum.result(&accumulator), Answer::Integer(i64::MAX));
        sum.add(&mut accumulator, &Answer::Integer(1), 0);
        assert_eq!(sum.result(&accumulator), Answer::Double(9_223_372_036_854_775_808.0));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("", "nothing to compute"),
            ("count()", "name:function(expression)"),
            ("n:count", "name:function(expression)"),
            (":count()", "no name"),
            ("key:count()", "every result has already"),
            ("n:count(),n:count()", "twice"),
            ("n:median(v.a)", "there is no aggregate median"),
            ("n:sum()", "needs an expression"),
            ("n:sum(v.a, 2)", "too many arguments"),
            ("n:quantile(v.a)", "0 to 1"),
            ("n:quantile(v.a,95)", "0 to 1"),
            ("n:collect(v.a,0)", "limit"),
            ("n:sum(v.)", "column"),
        ] {
            let error = parse(text).err().unwrap();
            assert!(error.contains(message), "{text}: {error}");
        }
        assert_eq!(parse("a:sum(v.x ? 1 : [2,3][0]), b:count(v['a,b'])").unwrap().len(), 2);
    }
}
