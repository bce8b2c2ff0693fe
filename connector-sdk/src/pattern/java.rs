//! Java's syntax of regular expressions, put into that of the engines here.
//!
//! Most is the same. What is not: `\d`, `\w` and `\s` are ASCII, `.` matches no line terminator of any kind, `$` also matches before
//! the last one; quoting with `\Q…\E`; names of classes; what `-`, `~` and `:` mean in a class; quantifiers behind look-around.

/// What `$` is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// For texts that do not end with a line terminator.
    OfText,
    /// For all texts.
    OfLastLine,
}

/// An expression in the other syntax.
#[derive(Debug)]
pub struct Translated {
    pub expression: String,
    /// Whether there is a `$` or `\Z` that cares for [`End`].
    pub has_end: bool,
    /// Whether there are possessive quantifiers, which only the trying engine knows.
    pub trying: bool,
}

const LINE_ENDS: &str = r"\n\r\x{85}\x{2028}\x{2029}";
const VERTICAL: &str = r"\n\x0B\f\r\x{85}\x{2028}\x{2029}";
const HORIZONTAL: &str = r"\x20\t\x{A0}\x{1680}\x{180e}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}";
const SPACE: &str = r"\x20\t\n\x0B\f\r";
const LAST_LINE_END: &str = r"(?=(?:\r\n|[\n\r\x{85}\x{2028}\x{2029}])?\z)";

/// Names behind `\p`, and the others' for them.
const CLASSES: [(&str, &str); 26] = [
    ("Lower", "[:lower:]"),
    ("Upper", "[:upper:]"),
    ("ASCII", "[:ascii:]"),
    ("Alpha", "[:alpha:]"),
    ("Digit", "[:digit:]"),
    ("Alnum", "[:alnum:]"),
    ("Punct", "[:punct:]"),
    ("Graph", "[:graph:]"),
    ("Print", "[:print:]"),
    ("Blank", "[:blank:]"),
    ("Cntrl", "[:cntrl:]"),
    ("XDigit", "[:xdigit:]"),
    ("Space", "[:space:]"),
    ("javaLowerCase", r"\p{Lowercase}"),
    ("javaUpperCase", r"\p{Uppercase}"),
    ("javaWhitespace", r"\p{White_Space}"),
    ("javaLetter", r"\p{L}"),
    ("javaDigit", r"\p{Nd}"),
    ("javaLetterOrDigit", r"\p{L}\p{Nd}"),
    ("javaAlphabetic", r"\p{Alphabetic}"),
    ("IsPunctuation", r"\p{P}"),
    ("IsDigit", r"\p{Nd}"),
    ("IsLetter", r"\p{L}"),
    ("IsControl", r"\p{Cc}"),
    ("IsTitlecase", r"\p{Lt}"),
    ("IsAssigned", r"\P{Cn}"),
];

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    dot_all: bool,
    unix_lines: bool,
    unicode_classes: bool,
    multiline: bool,
    comments: bool,
}

/// A group that is open.
struct Group {
    /// The flags outside.
    flags: Flags,
    /// Where it begins in what was written.
    begins: usize,
    look_around: bool,
}

/// What stands before a quantifier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// An item, or nothing.
    Other,
    /// A look-around that begins there, which the engines do not repeat.
    LookAround(usize),
    Quantifier,
}

struct Translator<'a> {
    text: &'a str,
    rest: &'a str,
    out: String,
    flags: Flags,
    groups: Vec<Group>,
    before: Before,
    end: End,
    has_end: bool,
    trying: bool,
    /// Capturing groups so far.
    capturing: usize,
    names: Vec<&'a str>,
}

/// Puts an expression into the other syntax. What is wrong with it is found by the engine, but for what it would read as something else.
pub fn translate(text: &str, end: End) -> Result<Translated, String> {
    let mut translator = Translator {
        text,
        rest: text,
        out: String::with_capacity(text.len() + 16),
        flags: Flags::default(),
        groups: Vec::new(),
        before: Before::Other,
        end,
        has_end: false,
        trying: false,
        capturing: 0,
        names: Vec::new(),
    };
    while let Some(c) = translator.next() {
        translator.item(c)?;
    }
    let Translator { out, has_end, trying, .. } = translator;
    Ok(Translated { expression: out, has_end, trying })
}

impl<'a> Translator<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn takes(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn item(&mut self, c: char) -> Result<(), String> {
        let before = std::mem::replace(&mut self.before, Before::Other);
        match c {
            '\\' => self.escaped(false)?,
            '[' => {
                self.out.push('[');
                self.class()?;
            }
            '(' => self.open()?,
            ')' => {
                if let Some(group) = self.groups.pop() {
                    self.flags = group.flags;
                    if group.look_around {
                        self.before = Before::LookAround(group.begins);
                    }
                }
                self.out.push(')');
            }
            '*' | '+' | '?' => self.quantifier(before, c, &c.to_string())?,
            '{' => {
                let counts = self.rest.split_once('}').filter(|(counts, _)| are_counts(counts) && !self.out.is_empty());
                let Some((counts, behind)) = counts else { return Err(self.at("illegal repetition")) };
                self.rest = behind;
                self.quantifier(before, '{', &format!("{{{counts}}}"))?;
            }
            '.' if self.flags.dot_all || self.flags.unix_lines => self.out.push('.'),
            '.' => self.out.push_str(&format!("[^{LINE_ENDS}]")),
            '$' if !self.flags.multiline => self.end(),
            '$' | '^' => {
                self.before = Before::LookAround(self.out.len());
                self.out.push(c);
            }
            '#' if self.flags.comments => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            }
            c if self.flags.comments && c.is_ascii_whitespace() => self.before = before,
            c => self.out.push(c),
        }
        Ok(())
    }

    fn at(&self, what: &str) -> String {
        format!("{what} near index {}", self.text.chars().count() - self.rest.chars().count() - 1)
    }

    fn end(&mut self) {
        self.has_end = true;
        self.before = Before::LookAround(self.out.len());
        self.out.push_str(match self.end {
            End::OfText => r"\z",
            End::OfLastLine => LAST_LINE_END,
        });
    }

    fn quantifier(&mut self, before: Before, c: char, text: &str) -> Result<(), String> {
        if before == Before::Quantifier {
            return Err(self.at(&format!("dangling meta character '{c}'")));
        }
        self.before = Before::Quantifier;
        let lazy = self.takes("?");
        let possessive = !lazy && self.takes("+");
        if let Before::LookAround(begins) = before {
            // Once is as good as often, and perhaps is perhaps.
            if matches!(c, '*' | '?') || text.starts_with("{0") {
                self.out.insert_str(begins, "(?:");
                self.out.push_str("|)");
            }
            return Ok(());
        }
        self.out.push_str(text);
        if lazy {
            self.out.push('?');
        } else if possessive {
            self.trying = true;
            self.out.push('+');
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), String> {
        let begins = self.out.len();
        let outside = self.flags;
        let look_around = ["?=", "?!", "?<=", "?<!"].iter().any(|kind| self.rest.starts_with(kind));
        self.out.push('(');
        if look_around || self.rest.starts_with("?>") {
        } else if let Some(name) = self.rest.strip_prefix("?<") {
            let name = name.split('>').next().unwrap_or_default();
            if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(|c| c.is_ascii_alphanumeric())
            {
                return Err(
                    self.at("a name of a capturing group is letters and digits, the first a letter, and ends with '>'")
                );
            }
            if self.names.contains(&name) {
                return Err(self.at(&format!("named capturing group {name} is already defined")));
            }
            self.names.push(name);
            self.capturing += 1;
        } else if !self.rest.starts_with('?') {
            self.capturing += 1;
        } else if let Some(flags) = self.rest.strip_prefix('?')
            && let Some(close) = flags.find([':', ')'])
            && flags[..close].chars().all(|c| "idmsuxU-".contains(c))
        {
            let (mut on, mut kept) = (true, String::new());
            for flag in flags[..close].chars() {
                match flag {
                    '-' => on = false,
                    's' => self.flags.dot_all = on,
                    'd' => self.flags.unix_lines = on,
                    'U' => self.flags.unicode_classes = on,
                    'm' => self.flags.multiline = on,
                    'x' => self.flags.comments = on,
                    _ => {}
                }
                // Comments are left out here; the others have no such lines, and `U` is something else there.
                if !matches!(flag, 'd' | 'U' | 'x') {
                    kept.push(flag);
                }
            }
            let kept = kept.trim_end_matches('-');
            let alone = flags[close..].starts_with(')');
            self.rest = &flags[close + 1..];
            match (alone, kept.is_empty()) {
                // For the rest of the group around.
                (true, true) => self.out.truncate(begins),
                (true, false) => self.out.push_str(&format!("?{kept})")),
                (false, _) => self.out.push_str(&format!("?{kept}:")),
            }
            if alone {
                return Ok(());
            }
        } else {
            return Err(self.at("unknown group"));
        }
        self.groups.push(Group { flags: outside, begins, look_around });
        Ok(())
    }

    /// What follows a `[`, with what is nested.
    fn class(&mut self) -> Result<(), String> {
        if self.takes("^") {
            self.out.push('^');
        }
        let mut first = true;
        while let Some(c) = self.next() {
            match c {
                ']' if first => self.out.push_str("\\]"),
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' => {
                    self.out.push('[');
                    self.class()?;
                }
                '\\' => self.escaped(true)?,
                '&' if self.takes("&") => self.out.push_str("&&"),
                // `--` and `~~` would be differences of sets, `[:x:]` a class by name.
                '-' if first || self.out.ends_with("&&") || self.rest.starts_with(']') => self.out.push_str("\\-"),
                '-' => {
                    self.out.push('-');
                    if self.takes("-") {
                        self.out.push_str("\\-");
                    }
                }
                '~' | ':' | '&' | '#' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c if self.flags.comments && c.is_ascii_whitespace() => continue,
                c => self.out.push(c),
            }
            first = false;
        }
        Ok(())
    }

    /// What follows a backslash.
    fn escaped(&mut self, in_class: bool) -> Result<(), String> {
        let Some(c) = self.next() else {
            self.out.push('\\');
            return Ok(());
        };
        let class = |out: &mut String, negated: bool, content: &str| match (negated, in_class) {
            (false, true) => out.push_str(content),
            (false, false) => out.push_str(&format!("[{content}]")),
            (true, _) => out.push_str(&format!("[^{content}]")),
        };
        match c {
            'Q' => {
                let end = self.rest.find("\\E");
                self.out.push_str(&literal(&self.rest[..end.unwrap_or(self.rest.len())]));
                self.rest = end.map_or("", |end| &self.rest[end + 2..]);
            }
            'E' => {}
            'd' | 'D' | 'w' | 'W' | 's' | 'S' if self.flags.unicode_classes => {
                self.out.push('\\');
                self.out.push(c);
            }
            'd' | 'D' => class(&mut self.out, c == 'D', "0-9"),
            'w' | 'W' => class(&mut self.out, c == 'W', "a-zA-Z_0-9"),
            's' | 'S' => class(&mut self.out, c == 'S', SPACE),
            'h' | 'H' => class(&mut self.out, c == 'H', HORIZONTAL),
            'v' | 'V' => class(&mut self.out, c == 'V', VERTICAL),
            'R' if !in_class => self.out.push_str(&format!("(?:\\r\\n|[{VERTICAL}])")),
            'Z' if !in_class => self.end(),
            'e' => self.out.push_str("\\x1B"),
            'c' => {
                let letter = self.next().ok_or("illegal control escape sequence")?;
                self.code(u32::from(letter) ^ 64);
            }
            '0' => {
                let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| ('0'..='7').contains(&c)).len();
                let most = if self.rest.starts_with(['0', '1', '2', '3']) { 3 } else { 2 };
                let digits = digits.min(most);
                let code = u32::from_str_radix(&self.rest[..digits], 8).map_err(|_| "illegal octal escape sequence")?;
                self.rest = &self.rest[digits..];
                self.code(code);
            }
            'u' => {
                let mut code = self.four_digits()?;
                if (0xD800..0xDC00).contains(&code) && self.takes("\\u") {
                    code = 0x10000 + ((code - 0xD800) << 10) + (self.four_digits()?.saturating_sub(0xDC00) & 0x3FF);
                }
                self.code(code);
            }
            'p' | 'P' => self.property(c == 'P', in_class)?,
            'k' => {
                self.trying = true;
                self.out.push_str("\\k");
            }
            '1'..='9' if !in_class => {
                let mut number = c as usize - '0' as usize;
                // More digits belong to it as long as there is such a group.
                while let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(10))
                    && number * 10 + digit as usize <= self.capturing
                {
                    number = number * 10 + digit as usize;
                    self.next();
                }
                self.out.push_str(&format!("(?:\\{number})"));
            }
            'A' | 'B' | 'b' | 'G' | 'z' if !in_class => {
                self.before = Before::LookAround(self.out.len());
                self.out.push('\\');
                self.out.push(c);
            }
            'x' if self.rest.starts_with('{') => {
                let end = self.rest.find('}').map_or(self.rest.len(), |end| end + 1);
                self.out.push_str("\\x");
                self.out.push_str(&self.rest[..end]);
                self.rest = &self.rest[end..];
            }
            'a' | 'f' | 'n' | 'r' | 't' | 'x' => {
                self.out.push('\\');
                self.out.push(c);
            }
            c if c.is_ascii_alphanumeric() => return Err(self.at("illegal or unsupported escape sequence")),
            c => self.out.push_str(&literal(c.encode_utf8(&mut [0; 4]))),
        }
        Ok(())
    }

    fn code(&mut self, code: u32) {
        self.out.push_str(&format!("\\x{{{code:x}}}"));
    }

    fn four_digits(&mut self) -> Result<u32, String> {
        let digits = self.rest.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = digits.ok_or("illegal Unicode escape sequence")?;
        self.rest = &self.rest[4..];
        Ok(code)
    }

    fn property(&mut self, negated: bool, in_class: bool) -> Result<(), String> {
        let escape = if negated { "\\P" } else { "\\p" };
        let named = self.rest.strip_prefix('{').and_then(|name| name.split_once('}'));
        let Some((name, behind)) = named else {
            self.out.push_str(escape);
            return Ok(());
        };
        self.rest = behind;
        match CLASSES.iter().find(|(java, _)| *java == name) {
            Some((_, content)) if negated => self.out.push_str(&format!("[^{content}]")),
            Some((_, content)) if in_class => self.out.push_str(content),
            Some((_, content)) => self.out.push_str(&format!("[{content}]")),
            None if name.starts_with("In") || name.starts_with("bl") || name.starts_with("java") => {
                return Err(format!(
                    "{escape}{{{name}}} is not known here; write the range of characters, as in [\\u0370-\\u03FF]"
                ));
            }
            None => {
                let name = name.strip_prefix("Is").unwrap_or(name);
                self.out.push_str(&format!("{escape}{{{name}}}"));
            }
        }
        Ok(())
    }
}

/// `n`, `n,` or `n,m`.
fn are_counts(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    match text.split_once(',') {
        None => number(text),
        Some((least, most)) => number(least) && (most.is_empty() || number(most)),
    }
}

/// Text that stands for itself, in and outside of classes.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        match c {
            c if c.is_ascii_whitespace() => out.push_str(&format!("\\x{{{:x}}}", u32::from(c))),
            c if c.is_ascii_alphanumeric() || matches!(c, '<' | '>' | '_') || !c.is_ascii() => out.push(c),
            c => {
                out.push('\\');
                out.push(c);
            }
        }
    }
    out
}
