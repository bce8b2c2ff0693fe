//! `sasl.jaas.config`, as Java users write it: `package.Module required name="value" other='value' third=word;`.

use std::collections::BTreeMap;

/// A login module with its options.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Jaas {
    /// The class's simple name, such as `ScramLoginModule`.
    pub(crate) module: String,
    /// Its options.
    pub(crate) options: BTreeMap<String, String>,
}

/// Options are secrets.
impl std::fmt::Debug for Jaas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jaas({}, {:?})", self.module, self.options.keys())
    }
}

impl Jaas {
    /// Reads the text. The error says what is wrong without showing it: it has passwords.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut words = Words(text.chars().peekable());
        let module = words.next()?.ok_or("it is empty: write a login module, required, and its options")?;
        let flag = words.next()?.unwrap_or_default();
        if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_ascii_lowercase().as_str()) {
            return Err("the module's name is to be followed by `required`".to_owned());
        }
        let mut options = BTreeMap::new();
        while let Some(name) = words.next()? {
            if name == ";" {
                // Nothing but an end may follow.
                return match words.next()? {
                    None => Ok(Self { module: simple(&module), options }),
                    Some(_) => Err("one login module is allowed, and something follows its `;`".to_owned()),
                };
            }
            match words.next()?.as_deref() {
                Some("=") => {}
                _ => return Err(format!("option {name} has no value: write {name}=\"…\"")),
            }
            let value = words.next()?.filter(|value| value != ";");
            let value = value.ok_or_else(|| format!("option {name} has no value: write {name}=\"…\""))?;
            options.insert(name, value.strip_prefix(QUOTED).map_or_else(|| value.clone(), str::to_owned));
        }
        Err("it does not end with `;`".to_owned())
    }

    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

fn simple(class: &str) -> String {
    class.rsplit(['.', '$']).next().unwrap_or(class).to_owned()
}

/// Marks a quoted word, so that a quoted `;` or `=` is none.
const QUOTED: char = '\u{1}';

struct Words<'a>(std::iter::Peekable<std::str::Chars<'a>>);

impl Words<'_> {
    fn next(&mut self) -> Result<Option<String>, String> {
        while self.0.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = self.0.next() else { return Ok(None) };
        match first {
            ';' | '=' => Ok(Some(first.to_string())),
            '"' | '\'' => self.quoted(first).map(Some),
            _ => {
                let mut word = String::from(first);
                while let Some(c) = self.0.next_if(|c| !c.is_whitespace() && !matches!(c, ';' | '=' | '"' | '\'')) {
                    word.push(c);
                }
                // Base64 in an unquoted value ends with `=`; a name is followed by one and by something else.
                Ok(Some(word))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut word = String::from(QUOTED);
        while let Some(c) = self.0.next() {
            match c {
                '\\' => match self.0.next() {
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some(other) => word.push(other),
                    None => break,
                },
                c if c == quote => return Ok(word),
                c => word.push(c),
            }
        }
        Err(format!("a quoted value is not closed with {quote}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_java_users_write_is_read() {
        let jaas = Jaas::parse(
            "org.apache.kafka.common.security.scram.ScramLoginModule required\n  username=\"a\\\"b\" password='p; w=' tokenauth=true;",
        )
        .unwrap();
        assert_eq!(jaas.module, "ScramLoginModule");
        assert_eq!(jaas.option("username"), Some("a\"b"));
        assert_eq!(jaas.option("password"), Some("p; w="));
        assert_eq!(jaas.option("tokenauth"), Some("true"));
        assert!(Jaas::parse("x.OAuthBearerLoginModule required ;").unwrap().options.is_empty());
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (text, part) in [
            ("", "empty"),
            ("Module username=\"u\";", "required"),
            ("Module required username=\"u\"", "does not end"),
            ("Module required password=\"s3cret;", "not closed"),
            ("Module required password \"s3cret\";", "option password has no value"),
            ("Module required a=;", "option a has no value"),
            ("A required; B required;", "something follows"),
        ] {
            let error = Jaas::parse(text).unwrap_err();
            assert!(error.contains(part) && !error.contains("s3cret"), "{text}: {error}");
        }
        let jaas = Jaas::parse("M required password=\"s3cret\";").unwrap();
        assert!(!format!("{jaas:?}").contains("s3cret"));
    }
}
