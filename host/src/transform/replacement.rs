//! Replacement texts in Java's syntax: `$1`, `${name}`, and a backslash before a character that stands for itself.

use regex::{Captures, Regex};

/// A parsed replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
    Named(String),
}

impl Replacement {
    /// Parses a replacement for an expression; the error is Java's message.
    pub fn new(text: &str, regex: &Regex) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = text.chars().peekable();
        let push = |parts: &mut Vec<Part>, c: char| match parts.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => parts.push(Part::Text(c.to_string())),
        };
        while let Some(c) = chars.next() {
            match c {
                '\\' => push(&mut parts, chars.next().ok_or("character to be escaped is missing")?),
                '$' => match chars.next() {
                    None => return Err("Illegal group reference: group index is missing".to_owned()),
                    Some('{') => {
                        let mut name = String::new();
                        loop {
                            match chars.next() {
                                Some('}') => break,
                                Some(c) => name.push(c),
                                None => return Err("named capturing group is missing trailing '}'".to_owned()),
                            }
                        }
                        if !regex.capture_names().flatten().any(|known| known == name) {
                            return Err(format!("No group with name {{{name}}}"));
                        }
                        parts.push(Part::Named(name));
                    }
                    Some(c) => {
                        let mut group = c.to_digit(10).ok_or("Illegal group reference")? as usize;
                        let groups = regex.captures_len() - 1;
                        if group > groups {
                            return Err(format!("No group {group}"));
                        }
                        // More digits belong to the number as long as there is such a group.
                        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                            let longer = group * 10 + digit as usize;
                            if longer > groups {
                                break;
                            }
                            group = longer;
                            chars.next();
                        }
                        parts.push(Part::Group(group));
                    }
                },
                c => push(&mut parts, c),
            }
        }
        Ok(Self(parts))
    }

    /// Appends the replacement for a match.
    pub fn expand(&self, captures: &Captures<'_>, out: &mut String) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(group) => out.push_str(captures.get(*group).map_or("", |found| found.as_str())),
                Part::Named(name) => out.push_str(captures.name(name).map_or("", |found| found.as_str())),
            }
        }
    }

    /// `text` with every match replaced; `None` when there is none.
    pub fn replace_all(&self, regex: &Regex, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut from = 0;
        for captures in regex.captures_iter(text) {
            let found = captures.get(0).expect("the whole match");
            out.push_str(&text[from..found.start()]);
            self.expand(&captures, &mut out);
            from = found.end();
        }
        if from == 0 && out.is_empty() && !regex.is_match(text) {
            return None;
        }
        out.push_str(&text[from..]);
        Some(out)
    }

    /// `text` with the first match replaced.
    pub fn replace_first(&self, regex: &Regex, text: &str) -> String {
        let Some(captures) = regex.captures(text) else { return text.to_owned() };
        let found = captures.get(0).expect("the whole match");
        let mut out = String::with_capacity(text.len() + 16);
        out.push_str(&text[..found.start()]);
        self.expand(&captures, &mut out);
        out.push_str(&text[found.end()..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_escapes() {
        let regex = Regex::new("(?P<a>x+)-(y)?").unwrap();
        let replaced = |text: &str| Replacement::new(text, &regex).map(|r| r.replace_first(&regex, "<xx-y>"));
        assert_eq!(replaced("$1$2").unwrap(), "<xxy>");
        assert_eq!(replaced("${a}_$11\\$").unwrap(), "<xx_xx1$>");
        assert_eq!(replaced("$0").unwrap(), "<xx-y>");
        assert_eq!(replaced("$3").unwrap_err(), "No group 3");
        assert_eq!(replaced("$x").unwrap_err(), "Illegal group reference");
        assert_eq!(replaced("${b}").unwrap_err(), "No group with name {b}");
    }
}
