//! What `*.plugin.version` may say: Maven's version ranges, as in Kafka Connect.
//!
//! `1.2` is exactly that version, `[1.0,2.0)` a range, `(,1.0],[1.2,)` several; `latest` is the newest.
//! A text that is none of these fails in Maven's own words.

use std::cmp::Ordering;

use super::version;

/// Versions that are asked for; without parts: every version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    lower: Option<String>,
    lower_included: bool,
    upper: Option<String>,
    upper_included: bool,
}

impl VersionRange {
    /// Reads a `plugin.version`; `None` where it asks for the newest.
    pub fn parse(text: Option<&str>) -> Result<Option<Self>, String> {
        let Some(text) = text.filter(|text| *text != "latest") else { return Ok(None) };
        let text = text.trim();
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while rest.starts_with(['[', '(']) {
            let Some(end) = rest.find([')', ']']) else { return Err(format!("Unbounded range: {text}")) };
            let part = Part::parse(&rest[..=end])?;
            if let Some(last) = parts.last()
                && !last.upper.as_deref().is_some_and(|upper| {
                    part.lower.as_deref().is_some_and(|lower| version::compare(lower, upper) != Ordering::Less)
                })
            {
                return Err(format!("Ranges overlap: {text}"));
            }
            parts.push(part);
            rest = rest[end + 1..].trim();
            rest = rest.strip_prefix(',').map_or(rest, str::trim);
        }
        match (rest.is_empty(), parts.is_empty()) {
            (false, false) => Err(format!("Only fully-qualified sets allowed in multiple set scenario: {text}")),
            // A bare version is that version and no other.
            (_, true) => Ok(Some(Self(vec![Part::parse(&format!("[{text}]"))?]))),
            (true, false) => Ok(Some(Self(parts))),
        }
    }

    /// Whether a version is asked for.
    pub fn contains(&self, version: &str) -> bool {
        self.0.iter().any(|part| part.contains(version))
    }
}

/// Fails in Connect's words where none of the versions that are there is asked for.
pub fn check_version(class: &str, asked: Option<&str>, there: &[&str]) -> Result<(), String> {
    match VersionRange::parse(asked)? {
        Some(range) if !there.iter().any(|version| range.contains(version)) => Err(range.no_version(class, there)),
        _ => Ok(()),
    }
}

impl VersionRange {
    /// Connect's message about versions that are not there.
    pub fn no_version(&self, class: &str, there: &[&str]) -> String {
        let mut there = there.to_vec();
        there.sort_by(|a, b| version::compare(a, b));
        there.dedup();
        let there = there.join(", ");
        format!("Plugin {class} not found that matches the version range {self}, available versions: [{there}]")
    }
}

impl std::fmt::Display for VersionRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let (open, close) =
                (if part.lower_included { '[' } else { '(' }, if part.upper_included { ']' } else { ')' });
            let bound = |bound: &Option<String>| bound.clone().unwrap_or_default();
            write!(f, "{comma}{open}{},{}{close}", bound(&part.lower), bound(&part.upper))?;
        }
        Ok(())
    }
}

impl Part {
    /// `[1,2)` and the like, brackets included.
    fn parse(text: &str) -> Result<Self, String> {
        let (lower_included, upper_included) = (text.starts_with('['), text.ends_with(']'));
        let inner = text[1..text.len() - 1].trim();
        let Some((lower, upper)) = inner.split_once(',') else {
            if !lower_included || !upper_included {
                return Err(format!("Single version must be surrounded by []: {text}"));
            }
            let only = Some(inner.to_owned());
            return Ok(Self { lower: only.clone(), lower_included, upper: only, upper_included });
        };
        let (lower, upper) = (lower.trim(), upper.trim());
        let bound = |bound: &str| (!bound.is_empty()).then(|| bound.to_owned());
        if !lower.is_empty() && !upper.is_empty() {
            match version::compare(upper, lower) {
                Ordering::Less => return Err(format!("Range defies version ordering: {text}")),
                Ordering::Equal if !lower_included || !upper_included => {
                    return Err(format!("Range cannot have identical boundaries: {text}"));
                }
                _ => {}
            }
        }
        Ok(Self { lower: bound(lower), lower_included, upper: bound(upper), upper_included })
    }

    fn contains(&self, version: &str) -> bool {
        let above = self.lower.as_deref().is_none_or(|lower| match version::compare(version, lower) {
            Ordering::Equal => self.lower_included,
            order => order == Ordering::Greater,
        });
        let below = self.upper.as_deref().is_none_or(|upper| match version::compare(version, upper) {
            Ordering::Equal => self.upper_included,
            order => order == Ordering::Less,
        });
        above && below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> VersionRange {
        VersionRange::parse(Some(text)).unwrap().unwrap()
    }

    #[test]
    fn ranges_are_mavens() {
        for (text, inside, outside) in [
            ("1.2", "1.2", "1.2.1"),
            ("[1.0,2.0)", "1.0", "2.0"),
            ("(1.0,2.0]", "2.0", "1.0"),
            ("[0,)", "17", "0-rc"),
            ("(,1.0],[1.2,)", "1.3", "1.1"),
            (" [1.0] ", "1.0", "1.1"),
        ] {
            assert!(range(text).contains(inside) && !range(text).contains(outside), "{text}");
        }
        assert_eq!(range("99").to_string(), "[99,99]");
        assert_eq!(range("[0,99)").to_string(), "[0,99)");
        assert_eq!(range("").to_string(), "[,]");
        assert_eq!(VersionRange::parse(None), Ok(None));
        assert_eq!(VersionRange::parse(Some("latest")), Ok(None));
    }

    #[test]
    fn errors_are_mavens() {
        for (text, error) in [
            ("[1.0", "Unbounded range: [1.0"),
            ("[2,1]", "Range defies version ordering: [2,1]"),
            ("(1)", "Single version must be surrounded by []: (1)"),
            ("[1,2],3", "Only fully-qualified sets allowed in multiple set scenario: [1,2],3"),
            ("[1,3],[2,4]", "Ranges overlap: [1,3],[2,4]"),
        ] {
            assert_eq!(VersionRange::parse(Some(text)), Err(error.to_owned()), "{text}");
        }
    }
}
