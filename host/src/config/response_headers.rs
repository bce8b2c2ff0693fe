//! `response.http.headers.config`: headers that every answer of the REST API gets.
//!
//! Rules as Kafka Connect has them: `[action] [name]:[value]`, separated by commas, in double quotes where a rule has a comma in it.
//! `setDate` and `addDate` take milliseconds that are added to the present time.

use axum::http::{HeaderName, HeaderValue};

/// One header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRule {
    /// Replaces what is there already.
    pub replace: bool,
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: RuleValue,
}

/// A header's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleValue {
    /// As it is.
    Text(HeaderValue),
    /// The present time and so many milliseconds.
    Date(i64),
}

const FORMAT: &str = "Expected: '[action] [header name]:[header value]'";

/// Reads the rules; the error is Connect's, as far as it has one.
pub fn parse(text: &str) -> Result<Vec<HeaderRule>, String> {
    split(text).iter().filter(|rule| !rule.trim().is_empty()).map(|text| rule(text)).collect()
}

fn rule(text: &str) -> Result<HeaderRule, String> {
    let text = text.trim();
    let (action, header) = text
        .split_once(char::is_whitespace)
        .ok_or_else(|| format!("Invalid format of header config '{text}'. {FORMAT}"))?;
    let (replace, date) = match action.to_ascii_lowercase().as_str() {
        "set" => (true, false),
        "add" => (false, false),
        "setdate" => (true, true),
        "adddate" => (false, true),
        _ => {
            return Err(format!(
                "Invalid header config action: '{action}'. Expected one of [set, add, setDate, addDate]"
            ));
        }
    };
    let header = header.trim();
    let (name, value) = header.split_once(':').ok_or_else(|| {
        format!(
            "Invalid format of header name and header value pair '{header}'. Expected: '[header name]:[header value]'"
        )
    })?;
    let (name, value) = (name.trim(), value.trim());
    let invalid = || format!("Invalid header name '{name}'. The '[header name]' cannot contain whitespace");
    let parsed = HeaderName::try_from(name).map_err(|_| invalid())?;
    let value =
        if date {
            RuleValue::Date(value.parse().map_err(|_| {
                format!("Invalid header config '{text}': {action} takes a number of milliseconds, not '{value}'")
            })?)
        } else {
            RuleValue::Text(HeaderValue::try_from(value).map_err(|_| {
                format!("Invalid header config '{text}': the value has characters that no header may have")
            })?)
        };
    Ok(HeaderRule { replace, name: parsed, value })
}

/// Splits at commas outside of double quotes, and takes those away.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            c => {
                if let Some(part) = parts.last_mut() {
                    part.push(c);
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_connect_reads_them() {
        let rules = parse(
            "add X-XSS-Protection: 1; mode=block, \"set Cache-Control: no-cache, no-store\",SETDATE Expires: 31540000000 , add X-Url: http://a:1",
        )
        .unwrap();
        let shown: Vec<String> = rules
            .iter()
            .map(|rule| {
                let value = match &rule.value {
                    RuleValue::Text(value) => value.to_str().unwrap().to_owned(),
                    RuleValue::Date(ms) => format!("+{ms}"),
                };
                format!("{} {} {value}", rule.replace, rule.name)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "false x-xss-protection 1; mode=block",
                "true cache-control no-cache, no-store",
                "true expires +31540000000",
                "false x-url http://a:1",
            ]
        );
        assert_eq!(parse("  ").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("set", "Invalid format of header config 'set'"),
            ("put A:b", "Invalid header config action: 'put'"),
            ("set A", "header value pair 'A'"),
            ("set A B:c", "Invalid header name 'A B'"),
            ("set :c", "Invalid header name ''"),
            ("setDate Expires: tomorrow", "not 'tomorrow'"),
            ("set A: \u{7f}", "no header may have"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
