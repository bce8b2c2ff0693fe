//! Answers into records, and where the next page is. Values are kept as they are written: no number changes its digits.

use std::borrow::Cow;
use std::collections::HashMap;

use hyper::header::LINK;
use ring::digest;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::Answer;

/// What a page holds.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// The records, a JSON text each.
    pub records: Vec<&'a str>,
    body: &'a RawValue,
}

impl<'a> Page<'a> {
    /// Finds the records of an answer; the error says what is wrong with it.
    pub fn read(answer: &'a Answer, pointer: &str) -> Result<Self, String> {
        let kind = answer
            .headers
            .get(hyper::header::CONTENT_TYPE)
            .map_or("none", |kind| kind.to_str().unwrap_or("unreadable"));
        let body: &RawValue = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("the answer is no JSON (Content-Type {kind}): {error}"))?;
        let found =
            find(body, pointer).ok_or_else(|| format!("the answer has nothing at records.pointer={pointer}"))?;
        let text = found.get().trim();
        let records = match text.as_bytes().first() {
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
                items.into_iter().map(RawValue::get).collect()
            }
            _ if text == "null" => Vec::new(),
            _ => vec![text],
        };
        Ok(Self { records, body })
    }

    /// A text or number somewhere in the answer; null and the empty text are none.
    pub fn word(&self, pointer: &str) -> Option<String> {
        word(self.body, pointer)
    }
}

/// A text or number within a JSON text.
pub(super) fn word_of(text: &str, pointer: &str) -> Option<String> {
    word(serde_json::from_str(text).ok()?, pointer)
}

fn word(value: &RawValue, pointer: &str) -> Option<String> {
    let text = find(value, pointer)?.get();
    let word = match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok()?,
        b'{' | b'[' => return None,
        _ => text.to_owned(),
    };
    (!word.is_empty() && text != "null" && text != "false").then_some(word)
}

/// RFC 6901, on text.
fn find<'a>(value: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let Some(rest) = pointer.strip_prefix('/') else { return pointer.is_empty().then_some(value) };
    rest.split('/').try_fold(value, |value, step| {
        let step = step.replace("~1", "/").replace("~0", "~");
        if value.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            return items.get(step.parse::<usize>().ok()?).copied();
        }
        let members: Members<'_> = serde_json::from_str(value.get()).ok()?;
        members.0.get(step.as_str()).copied()
    })
}

#[derive(Deserialize)]
struct Members<'a>(#[serde(borrow)] HashMap<Cow<'a, str>, &'a RawValue>);

/// Where `rel="next"` leads.
pub(super) fn next_link(answer: &Answer) -> Option<String> {
    let links = answer.headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok());
    links.flat_map(entries).find_map(|entry| {
        let (target, parameters) = entry.trim().strip_prefix('<')?.split_once('>')?;
        let relation = |parameter: &str| {
            let (name, value) = parameter.trim().split_once('=')?;
            name.trim().eq_ignore_ascii_case("rel").then(|| value.trim().trim_matches('"').to_owned())
        };
        let next = parameters
            .split(';')
            .filter_map(relation)
            .any(|relations| relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next")));
        next.then(|| target.trim().to_owned())
    })
}

/// The links of a header: commas part them, and may stand in the targets.
fn entries(header: &str) -> Vec<&str> {
    let mut entries = Vec::new();
    let (mut start, mut inside, mut quoted) = (0, false, false);
    for (at, byte) in header.bytes().enumerate() {
        match byte {
            b'<' if !quoted => inside = true,
            b'>' if !quoted => inside = false,
            b'"' if !inside => quoted = !quoted,
            b',' if !inside && !quoted => {
                entries.push(&header[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries.push(&header[start..]);
    entries
}

/// What a record is told again by.
pub(super) fn digest(record: &str) -> String {
    let digest = digest::digest(&digest::SHA256, record.as_bytes());
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    fn answer(body: &str, link: Option<&str>) -> Answer {
        let headers = link.map(|link| (LINK, link.parse().unwrap()));
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter(headers),
            body: body.to_owned().into(),
            whole: true,
            broken: None,
        }
    }

    #[test]
    fn records_are_found_and_kept_as_they_are() {
        let got = answer(
            r#" {"data":{"a/b":[{"n":1.10}, 12345678901234567890123]}, "next":"c", "more":false, "p":7} "#,
            None,
        );
        let page = Page::read(&got, "/data/a~1b").unwrap();
        assert_eq!(page.records, [r#"{"n":1.10}"#, "12345678901234567890123"]);
        let words = ["/next", "/more", "/p", "/none", "/data", "/data/a~1b/1"].map(|pointer| page.word(pointer));
        assert_eq!(
            words,
            [Some("c".into()), None, Some("7".into()), None, None, Some("12345678901234567890123".into())]
        );
        assert!(Page::read(&got, "/nothing").unwrap_err().contains("records.pointer=/nothing"));
        assert_eq!(Page::read(&answer("null", None), "").unwrap().records.len(), 0);
        assert_eq!(Page::read(&answer(r#"{"a":1}"#, None), "").unwrap().records, [r#"{"a":1}"#]);
        assert!(Page::read(&answer("<html>", None), "").unwrap_err().contains("no JSON (Content-Type none)"));
    }

    #[test]
    fn links_lead_on() {
        for (header, expected) in [
            (r#"<https://h/x?a=1,2>; rel="prev", </x?page=3>; title="a, b"; rel="next last""#, Some("/x?page=3")),
            ("<u>; rel=next", Some("u")),
            (r#"<u>; rel="nextish""#, None),
            ("garbage", None),
        ] {
            assert_eq!(next_link(&answer("", Some(header))).as_deref(), expected, "{header}");
        }
    }
}
