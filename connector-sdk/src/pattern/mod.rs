//! Regular expressions as configs have them: Java's.
//!
//! What can be matched in linear time is. Look-around, back references, atomic groups and possessive quantifiers are matched by
//! trying, within bounds: after [`TRIES`] tries at one place of a text, or [`PATIENCE`] in a long text, the expression is given up
//! there, and the error says so. What neither engine can do is refused when the config is read, with what it is.
//!
//! Java's syntax is put into theirs by [`java`]; `tests/transforms` holds the outcome to `java.util.regex`.

mod java;

use std::ops::Range;
use std::time::{Duration, Instant};

use fancy_regex::RegexInput;

/// How often a match may try another way.
const TRIES: usize = 1_000_000;
/// From this length on, a text is searched place by place, with an eye on the clock.
const LONG: usize = 16 * 1024;
/// How long the search of a long text may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An expression.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    engine: Engine,
    /// For texts that end a line, before whose last line terminator Java's `$` matches, too.
    before_last_line_end: Option<Box<Engine>>,
    whole: bool,
}

#[derive(Debug, Clone)]
enum Engine {
    Linear(regex::Regex),
    Trying(fancy_regex::Regex),
}

/// Where a match and its groups are in the text; the first is the whole match.
pub type Groups = Vec<Option<Range<usize>>>;

impl Pattern {
    /// Finds what the expression matches anywhere in a text, as Java's `find()`. The error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        Self::make(text, false)
    }

    /// Matches whole texts only, as Java's `matches()`.
    pub fn whole(text: &str) -> Result<Self, String> {
        // Alone it has to be an expression, too: `a)(b` is none.
        Self::make(text, false)?;
        Self::make(text, true)
    }

    fn make(text: &str, whole: bool) -> Result<Self, String> {
        let translated = java::translate(text, java::End::OfText)?;
        let framed = |expression: &str| match whole {
            true => format!("\\A(?:{expression})\\z"),
            false => expression.to_owned(),
        };
        let engine = Engine::new(&framed(&translated.expression), translated.trying)?;
        let before_last_line_end = match translated.has_end {
            true => {
                Some(Box::new(Engine::new(&framed(&java::translate(text, java::End::OfLastLine)?.expression), true)?))
            }
            false => None,
        };
        Ok(Self { text: text.to_owned(), engine, before_last_line_end, whole })
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn engine_for(&self, text: &str) -> &Engine {
        match &self.before_last_line_end {
            Some(engine) if text.ends_with(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) => engine,
            _ => &self.engine,
        }
    }

    /// Whether there is a match. The error: it was given up after too many tries.
    pub fn is_match(&self, text: &str) -> Result<bool, String> {
        match self.engine_for(text) {
            Engine::Linear(regex) => Ok(regex.is_match(text)),
            Engine::Trying(regex) => Ok(self.try_from(regex, text, 0)?.is_some()),
        }
    }

    /// The first match that begins at this byte or behind it. The error: it was given up after too many tries.
    pub fn groups_at(&self, text: &str, from: usize) -> Result<Option<Groups>, String> {
        match self.engine_for(text) {
            Engine::Linear(regex) => Ok(regex
                .captures_at(text, from)
                .map(|found| found.iter().map(|group| group.map(|group| group.range())).collect())),
            Engine::Trying(regex) => self.try_from(regex, text, from),
        }
    }

    fn try_from(&self, regex: &fancy_regex::Regex, text: &str, from: usize) -> Result<Option<Groups>, String> {
        let at = |place: usize, anchored: bool| {
            let input = RegexInput::new(text).from_pos(place).anchored(anchored);
            let found = regex.captures_input(input).map_err(|error| self.given_up(&error.to_string()))?;
            Ok::<_, String>(found.map(|found| found.iter().map(|group| group.map(|group| group.range())).collect()))
        };
        if self.whole || text.len() < LONG {
            return at(from, self.whole);
        }
        let started = Instant::now();
        let places = text[from..].char_indices().map(|(place, _)| from + place).chain([text.len()]);
        for (count, place) in places.enumerate() {
            if let Some(found) = at(place, true)? {
                return Ok(Some(found));
            }
            if count % 64 == 0 && started.elapsed() > PATIENCE {
                return Err(self.given_up(&format!("it took more than {PATIENCE:?} on a text of {} bytes", text.len())));
            }
        }
        Ok(None)
    }

    fn given_up(&self, why: &str) -> String {
        format!(
            "the regular expression {} was given up: {why}; write it so that there are fewer ways to match",
            self.text
        )
    }

    /// How many groups there are, the whole match not counted.
    pub fn group_count(&self) -> usize {
        match &self.engine {
            Engine::Linear(regex) => regex.captures_len() - 1,
            Engine::Trying(regex) => regex.captures_len() - 1,
        }
    }

    /// The number of a group by its name.
    pub fn group_named(&self, name: &str) -> Option<usize> {
        match &self.engine {
            Engine::Linear(regex) => regex.capture_names().position(|known| known == Some(name)),
            Engine::Trying(regex) => regex.capture_names().position(|known| known == Some(name)),
        }
    }
}

impl Engine {
    fn new(expression: &str, trying: bool) -> Result<Self, String> {
        let linear = match trying {
            // The linear one reads possessive quantifiers, but as something else.
            true => None,
            false => Some(regex::Regex::new(expression)),
        };
        if let Some(Ok(regex)) = linear {
            return Ok(Self::Linear(regex));
        }
        let mut builder = fancy_regex::RegexBuilder::new(expression);
        match (builder.backtrack_limit(TRIES).build(), linear) {
            (Ok(regex), _) => Ok(Self::Trying(regex)),
            (Err(_), Some(Err(linear))) if !is_unsupported(&linear) => Err(last_line(&linear.to_string())),
            (Err(error), _) => Err(error.to_string()),
        }
    }
}

/// Whether the linear engine knows what was meant, and only cannot do it.
fn is_unsupported(error: &regex::Error) -> bool {
    error.to_string().contains("not supported")
}

/// The last line says what is wrong; the ones before draw where.
fn last_line(error: &str) -> String {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javas_expressions_match_as_in_java() {
        for (pattern, yes, no) in [
            (r"(?!internal\.).*", "orders", "internal.orders"),
            (r"(\w+)-\1", "ab-ab", "ab-ac"),
            (r"(?<=x)?(?:a++)b", "aab", "aa"),
            (r"(?:a(?!c))+(?=b){2}b", "aab", "acb"),
            (r"\Qa.b\E\d", "a.b1", "axb1"),
            (r"[\p{Alpha}_]+", "a_B", "a1"),
            (r"\P{Digit}+", "ab", "a1"),
            (r"\p{Lu}\p{IsAlphabetic}*", "Éa", "éa"),
            (r"a|ab", "ab", "abc"),
            // Greedy for ever: nothing is given back.
            (r"a++b", "aab", "aa"),
            (r"\d+", "12", "١٢"),
            (r"\w+", "az_9", "é"),
            (r"(?U)\w+", "é", "-"),
            (r"a\sb", "a b", "a\u{2003}b"),
            (r".", "x", "\r"),
            (r"(?s).", "\r", ""),
            (r"\<b\>", "<b>", "b"),
            (r"[a\-+--/~~]+", "-,/a~", "b"),
            (r"[[:alpha:]]+", "hap:", "b"),
            (r"[a-z&&[^aeiou]]+", "xyz", "xaz"),
            (r"[]a^]+", "a]^", "b"),
            (r"\u0041\x42\0103\cD", "ABC\u{4}", "ABCD"),
            (r"(?x) a b # comment", "ab", "a b"),
            (r"(?>a|ab)c", "ac", "abc"),
            (r"\h\R\v", "\t\r\n\n", "a\n\n"),
        ] {
            let whole = Pattern::whole(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!((whole.is_match(yes), whole.is_match(no)), (Ok(true), Ok(false)), "{pattern}");
        }
        assert_eq!(Pattern::whole("a++a").unwrap().is_match("aa"), Ok(false));
    }

    #[test]
    fn what_is_no_expression_is_told() {
        for (wrong, told) in [
            ("(", "unclosed group"),
            ("a)(b", "unopened group"),
            ("[", "unclosed character class"),
            (r"(?<n>a)\k<m>", "Invalid back reference"),
            ("a**", "dangling meta character '*'"),
            (r"\p{InGreek}", "InGreek"),
            (r"a\y", "illegal or unsupported escape sequence near index 2"),
            (r"(?<n>a", "unclosed group"),
            (r"a{x}", "illegal repetition near index 1"),
            (r"(?<n>a)(?<n>b)", "group n is already defined"),
            (r"(?R)", "unknown group"),
            (r"(?<=a+", "Opening parenthesis"),
        ] {
            let error = Pattern::whole(wrong).expect_err(wrong);
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_end_may_be_before_the_last_line_end() {
        let pattern = Pattern::new(r"\d$").unwrap();
        for (text, found) in [("a1", Some(1..2)), ("a1\n", Some(1..2)), ("a1\r\n", Some(1..2)), ("a1\n\n", None)] {
            let groups = pattern.groups_at(text, 0).unwrap();
            assert_eq!(groups.and_then(|groups| groups[0].clone()), found, "{text:?}");
        }
        assert_eq!(Pattern::whole("a$").unwrap().is_match("a\n"), Ok(false));
        assert_eq!(Pattern::whole("a$\n").unwrap().is_match("a\n"), Ok(true));
    }

    /// Each line was printed by `java.util.regex`, see `tests/transforms/Patterns.java`.
    #[test]
    fn the_table_of_cases_is_as_in_java() {
        let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("cases.json")).unwrap();
        let mut wrong = Vec::new();
        for case in &cases {
            let (expression, text) = (case["pattern"].as_str().unwrap(), case["text"].as_str().unwrap());
            let got = found(expression, text);
            let expected = case.get("ours").unwrap_or(&case["out"]);
            if got != *expected {
                wrong.push(format!("{expression} {text:?}\n  expected {expected}\n  got      {got}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }

    fn found(expression: &str, text: &str) -> serde_json::Value {
        let (Ok(find), Ok(whole)) = (Pattern::new(expression), Pattern::whole(expression)) else {
            return "error".into();
        };
        let (mut all, mut from) = (Vec::new(), 0);
        while let Some(groups) = find.groups_at(text, from).unwrap() {
            all.push(groups.iter().map(|group| group.clone().map(|group| &text[group])).collect::<Vec<_>>());
            let place = groups[0].clone().unwrap();
            from = match (place.is_empty(), text[place.end..].chars().next()) {
                (false, _) => place.end,
                (true, Some(c)) => place.end + c.len_utf8(),
                (true, None) => break,
            };
        }
        serde_json::json!({"matches": whole.is_match(text).unwrap(), "found": all})
    }

    #[test]
    fn groups_have_names_and_places() {
        for pattern in ["(?<a>x)(y)?", "(?<a>x)(y)?(?!z)"] {
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!((pattern.group_count(), pattern.group_named("a"), pattern.group_named("b")), (2, Some(1), None));
            assert_eq!(pattern.groups_at("xx", 1).unwrap().unwrap(), [Some(1..2), Some(1..2), None]);
        }
    }

    #[test]
    fn long_texts_are_searched_place_by_place() {
        let text = "é".repeat(LONG) + "xy";
        let pattern = Pattern::new("(?<=é)x(?!z)(y)").unwrap();
        let end = text.len();
        assert_eq!(pattern.groups_at(&text, 0).unwrap().unwrap(), [Some(end - 2..end), Some(end - 1..end)]);
        assert_eq!(pattern.groups_at(&text, end - 1), Ok(None));
    }

    #[test]
    fn what_would_try_for_ever_is_given_up() {
        let text = "a".repeat(60) + "!";
        for pattern in [r"^(a|aa)+\1$", r"^(?:(a)|(?=a)a)*\1b$"] {
            let pattern = Pattern::new(pattern).unwrap();
            assert!(pattern.is_match(&text).unwrap_err().contains("was given up"));
            let error = pattern.groups_at(&text, 0).unwrap_err();
            assert!(error.contains(pattern.as_str()) && error.contains("Max limit for backtracking"), "{error}");
        }
    }
}
