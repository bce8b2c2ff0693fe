//! `tributary.transforms.Filter`: keeps the records that an expression is true for, and drops the others.
//!
//! A record that the expression fails for (a field is missing, types do not match) is refused, not dropped: what could not be
//! decided is not lost silently.

use arrow_array::BooleanArray;
use tributary_sdk::{ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::SingleMessage;
use super::records::{self, Records};
use crate::expression::{Expression, Variable};
use crate::transform::config::{Settings, invalid};
use crate::transform::part::{Outcome, Part, Target};

/// See the module's documentation.
pub struct ConditionFilter {
    condition: Expression,
}

impl ConditionFilter {
    /// The config definition.
    pub fn config_def() -> ConfigDef {
        let documentation =
            "A CEL expression that is true for the records to keep: v.status == 'paid' && v.amount > 10.";
        ConfigDef::new().define(ConfigKey::required("condition", Type::String, Importance::High, documentation))
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let text = settings.text("condition");
        let condition = Expression::compile(text).map_err(|what| invalid("condition", text, what))?;
        if condition.path().is_some_and(|(variable, names)| names.is_empty() && variable != Variable::Value) {
            return Err(Error::failed("condition has to be true or false for a record"));
        }
        Ok(Box::new(Self { condition }))
    }
}

impl SingleMessage for ConditionFilter {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        records::open(&mut part, std::iter::once(&self.condition));
        let (mut keep, mut refused) = (Vec::with_capacity(part.rows.len()), Vec::new());
        {
            let records = Records::of(&part, self.condition.needs(Variable::Headers).is_some());
            for at in 0..part.rows.len() {
                match self.condition.test(&records.row(at)) {
                    Ok(answer) => keep.push(answer),
                    Err(message) => {
                        keep.push(false);
                        refused.push((at, message));
                    }
                }
            }
        }
        outcome.dropped += keep.iter().filter(|keep| !**keep).count() - refused.len();
        outcome.failures.extend(refused.into_iter().map(|(at, message)| (part.rows[at], message)));
        outcome.push(part.filter(&BooleanArray::from(keep)));
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::tests::{chain, json_batch, values};

    #[test]
    fn true_records_stay_and_undecided_ones_are_refused() {
        let mut chain = chain(&[
            ("transforms", "f"),
            ("transforms.f.type", "tributary.transforms.Filter"),
            ("transforms.f.condition", "v != null && v.n > 2 && timestamp < timestamp('2100-01-01T00:00:00Z')"),
        ]);
        let rows = [Some(r#"{"n":3}"#), Some(r#"{"n":1}"#), Some(r#"{"m":3}"#), None, Some(r#"{"n":2.5}"#)];
        let applied = chain.apply(json_batch(&rows)).unwrap();
        assert_eq!(values(&applied), [Some(r#"{"n":3}"#.to_owned()), Some(r#"{"n":2.5}"#.to_owned())]);
        assert_eq!(applied.dropped, 2);
        assert_eq!(applied.failures[0].row, 2);
        let message = &applied.failures[0].message;
        assert!(message.contains("there is no field 'n'") && message.contains("v.n > 2"), "{message}");
    }
}
