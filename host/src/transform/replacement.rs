//! Replacement texts in Java's syntax: `$1`, `${name}`, and a backslash before a character that stands for itself.

use tributary_sdk::Pattern;
use tributary_sdk::pattern::Groups;

/// A parsed replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Replacement {
    /// Parses a replacement for an expression; the error is Java's message.
    pub fn new(text: &str, regex: &Pattern) -> Result<Self, String> {
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
                        let group = regex.group_named(&name);
                        parts.push(Part::Group(group.ok_or_else(|| format!("No group with name {{{name}}}"))?));
                    }
                    Some(c) => {
                        let mut group = c.to_digit(10).ok_or("Illegal group reference")? as usize;
                        let groups = regex.group_count();
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

    /// Appends the replacement for a match in a text.
    fn expand(&self, text: &str, groups: &Groups, out: &mut String) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(group) => {
                    let found = groups.get(*group).cloned().flatten();
                    out.push_str(found.and_then(|found| text.get(found)).unwrap_or_default());
                }
            }
        }
    }

    /// `text` with every match replaced; `None` when there is none. The error: the expression was given up.
    pub fn replace_all(&self, regex: &Pattern, text: &str) -> Result<Option<String>, String> {
        let mut out: Option<String> = None;
        let (mut copied, mut from) = (0, 0);
        while let Some(groups) = regex.groups_at(text, from)? {
            let Some(found) = groups.first().cloned().flatten() else { break };
            let out = out.get_or_insert_with(|| String::with_capacity(text.len() + 16));
            out.push_str(&text[copied..found.start]);
            self.expand(text, &groups, out);
            copied = found.end;
            // As in Java, an empty match may follow another at once, but not itself.
            from = match found.is_empty() {
                false => found.end,
                true => match text[found.end..].chars().next() {
                    Some(c) => found.end + c.len_utf8(),
                    None => break,
                },
            };
        }
        Ok(out.map(|mut out| {
            out.push_str(&text[copied..]);
            out
        }))
    }

    /// `text` with the first match replaced. The error: the expression was given up.
    pub fn replace_first(&self, regex: &Pattern, text: &str) -> Result<String, String> {
        let groups = regex.groups_at(text, 0)?;
        let Some((found, groups)) = groups.and_then(|groups| Some((groups.first().cloned().flatten()?, groups))) else {
            return Ok(text.to_owned());
        };
        let mut out = String::with_capacity(text.len() + 16);
        out.push_str(&text[..found.start]);
        self.expand(text, &groups, &mut out);
        out.push_str(&text[found.end..]);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_escapes() {
        let regex = Pattern::new("(?<a>x+)-(y)?").unwrap();
        let replaced = |text: &str| Replacement::new(text, &regex).and_then(|r| r.replace_first(&regex, "<xx-y>"));
        assert_eq!(replaced("$1$2").unwrap(), "<xxy>");
        assert_eq!(replaced("${a}_$11\\$").unwrap(), "<xx_xx1$>");
        assert_eq!(replaced("$0").unwrap(), "<xx-y>");
        assert_eq!(replaced("$3").unwrap_err(), "No group 3");
        assert_eq!(replaced("$x").unwrap_err(), "Illegal group reference");
        assert_eq!(replaced("${b}").unwrap_err(), "No group with name {b}");
    }

    #[test]
    fn all_matches_as_in_java() {
        let all = |pattern: &str, text: &str, with: &str| {
            let regex = Pattern::new(pattern).unwrap();
            Replacement::new(with, &regex).unwrap().replace_all(&regex, text).unwrap()
        };
        assert_eq!(all("x*", "xab", "-").as_deref(), Some("--a-b-"));
        assert_eq!(all("b", "abcb", "$0$0").as_deref(), Some("abbcbb"));
        assert_eq!(all("x", "abc", "-"), None);
        assert_eq!(all(r"(?<=\d)(?=(\d{3})+$)", "1234567", ",").as_deref(), Some("1,234,567"));
        assert_eq!(all(r"(.)\1", "aabbc", "<$1>").as_deref(), Some("<a><b>c"));
    }
}
