//! Which fields of a record an expression reads.

use std::collections::BTreeMap;

/// A tree of names below a variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// The value is used as it is: everything below is needed.
    pub whole: bool,
    /// Otherwise, these fields; none: only whether it is there.
    pub fields: BTreeMap<String, Need>,
}

impl Need {
    /// Of a value that is used as it is.
    pub const WHOLE: &'static Need = &Need { whole: true, fields: BTreeMap::new() };

    /// What is needed of a field; `None`: nothing.
    pub fn of(&self, name: &str) -> Option<&Need> {
        if self.whole { Some(Self::WHOLE) } else { self.fields.get(name) }
    }

    /// Notes a path; with `whole`, of the value at its end.
    pub(super) fn note(&mut self, path: &[&str], whole: bool) {
        match path.split_first() {
            _ if self.whole => {}
            None => {
                if whole {
                    *self = Self::WHOLE.clone();
                }
            }
            Some((first, rest)) => self.fields.entry((*first).to_owned()).or_default().note(rest, whole),
        }
    }
}
