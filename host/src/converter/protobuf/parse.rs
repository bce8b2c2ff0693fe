//! Reads `.proto` text: what describes messages, and none of the rest (services, most options, extensions).

/// A file.
#[derive(Debug, Default)]
pub struct File {
    /// Whether fields without a word have presence.
    pub proto2: bool,
    /// `package`.
    pub package: String,
    /// Paths.
    pub imports: Vec<String>,
    /// At the top.
    pub messages: Vec<Message>,
    /// At the top.
    pub enums: Vec<Enum>,
}

/// A message.
#[derive(Debug, Default)]
pub struct Message {
    /// Simple name.
    pub name: String,
    /// In the order of the text, those of oneofs too.
    pub fields: Vec<Field>,
    /// Names.
    pub oneofs: Vec<String>,
    /// Inside it.
    pub messages: Vec<Message>,
    /// Inside it.
    pub enums: Vec<Enum>,
}

/// A field.
#[derive(Debug, Default)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// Its type as it is written; of a map, the type of its values.
    pub kind: String,
    /// Of a map, the type of its keys.
    pub map_key: Option<String>,
    /// The word before it.
    pub label: Option<Label>,
    /// The place of its oneof.
    pub oneof: Option<usize>,
    /// `default` of proto2.
    pub default: Option<String>,
    /// `params` of `(confluent.field_meta)`.
    pub params: Vec<(String, String)>,
}

/// The word before a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Label {
    Optional,
    Required,
    Repeated,
}

/// An enum.
#[derive(Debug, Default)]
pub struct Enum {
    /// Simple name.
    pub name: String,
    /// Names and numbers.
    pub values: Vec<(String, i32)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// Reads a file. The error names what was met instead of what was expected.
pub fn parse(text: &str) -> Result<File, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let mut file = File { proto2: true, ..File::default() };
    while let Some(token) = parser.peek().cloned() {
        match token {
            Token::Sign(';') => parser.at += 1,
            Token::Word(word) => match word.as_str() {
                "syntax" | "edition" => {
                    parser.at += 1;
                    parser.sign('=')?;
                    file.proto2 = matches!(parser.next()?, Token::Text(version) if version == "proto2");
                    parser.sign(';')?;
                }
                "package" => {
                    parser.at += 1;
                    file.package = parser.word()?;
                    parser.sign(';')?;
                }
                "import" => {
                    parser.at += 1;
                    if matches!(parser.peek(), Some(Token::Word(_))) {
                        parser.at += 1;
                    }
                    match parser.next()? {
                        Token::Text(path) => file.imports.push(path),
                        other => return Err(unexpected(&other, "the path of an import")),
                    }
                    parser.sign(';')?;
                }
                "message" => file.messages.push(parser.message()?),
                "enum" => file.enums.push(parser.enumeration()?),
                _ => parser.skip_statement()?,
            },
            other => return Err(unexpected(&other, "a definition")),
        }
    }
    Ok(file)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or_else(|| "the .proto text ends too early".to_owned())
    }

    fn word(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(unexpected(&other, "a name")),
        }
    }

    fn sign(&mut self, sign: char) -> Result<(), String> {
        match self.next()? {
            Token::Sign(found) if found == sign => Ok(()),
            other => Err(unexpected(&other, &format!("{sign}"))),
        }
    }

    fn is_sign(&self, sign: char) -> bool {
        self.peek() == Some(&Token::Sign(sign))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(found)) if found == word)
    }

    /// Up to `;` or the end of a block.
    fn skip_statement(&mut self) -> Result<(), String> {
        let mut open = 0_usize;
        loop {
            match self.next()? {
                Token::Sign('{') => open += 1,
                Token::Sign('}') => {
                    open = open.saturating_sub(1);
                    if open == 0 && !self.is_sign(';') && !self.is_sign(']') {
                        return Ok(());
                    }
                }
                Token::Sign(';') if open == 0 => return Ok(()),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> Result<Message, String> {
        self.depth += 1;
        if self.depth > 100 {
            return Err("messages are nested more than 100 deep".to_owned());
        }
        self.at += 1;
        let mut message = Message { name: self.word()?, ..Message::default() };
        self.sign('{')?;
        while !self.is_sign('}') {
            let word = match self.peek() {
                Some(Token::Sign(';')) => {
                    self.at += 1;
                    continue;
                }
                Some(Token::Word(word)) => word.clone(),
                Some(other) => return Err(unexpected(other, "a field")),
                None => return Err("the .proto text ends within a message".to_owned()),
            };
            // A field's type may have the name of a keyword; then a name and = follow.
            let is_field = matches!(self.tokens.get(self.at + 2), Some(Token::Sign('=')));
            match word.as_str() {
                "message" if !is_field => message.messages.push(self.message()?),
                "enum" if !is_field => message.enums.push(self.enumeration()?),
                "oneof" if !is_field => {
                    self.at += 1;
                    let place = message.oneofs.len();
                    message.oneofs.push(self.word()?);
                    self.sign('{')?;
                    while !self.is_sign('}') {
                        if self.is_sign(';') {
                            self.at += 1;
                        } else if self.is_word("option") {
                            self.skip_statement()?;
                        } else {
                            let field = self.field()?;
                            message.fields.extend(field.map(|field| Field { oneof: Some(place), ..field }));
                        }
                    }
                    self.at += 1;
                }
                "option" | "reserved" | "extensions" | "extend" if !is_field => self.skip_statement()?,
                _ => message.fields.extend(self.field()?),
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(message)
    }

    /// A field; none for a group.
    fn field(&mut self) -> Result<Option<Field>, String> {
        let mut field = Field::default();
        let mut word = self.word()?;
        let label = match word.as_str() {
            "optional" => Some(Label::Optional),
            "required" => Some(Label::Required),
            "repeated" => Some(Label::Repeated),
            _ => None,
        };
        if label.is_some()
            && matches!(self.peek(), Some(Token::Word(_)))
            && !matches!(self.tokens.get(self.at + 1), Some(Token::Sign('=')))
        {
            field.label = label;
            word = self.word()?;
        }
        if word == "group" {
            self.skip_statement()?;
            return Ok(None);
        }
        if word == "map" && self.is_sign('<') {
            self.at += 1;
            field.map_key = Some(self.word()?);
            self.sign(',')?;
            word = self.word()?;
            self.sign('>')?;
        }
        field.kind = word;
        field.name = self.word()?;
        self.sign('=')?;
        let number = self.word()?;
        field.number =
            number.parse().map_err(|_| format!("{number} is not the number of a field, in field {}", field.name))?;
        if self.is_sign('[') {
            self.at += 1;
            self.field_options(&mut field)?;
        }
        self.sign(';')?;
        Ok(Some(field))
    }

    /// Options up to `]`.
    fn field_options(&mut self, field: &mut Field) -> Result<(), String> {
        loop {
            let mut name = String::new();
            while !self.is_sign('=') {
                match self.next()? {
                    Token::Word(word) => name.push_str(&word),
                    Token::Sign(']') => return Ok(()),
                    Token::Sign(sign) => name.push(sign),
                    Token::Text(_) => {}
                }
            }
            self.at += 1;
            if self.is_sign('{') {
                let from = self.at;
                let mut open = 0_usize;
                loop {
                    match self.next()? {
                        Token::Sign('{') => open += 1,
                        Token::Sign('}') => open -= 1,
                        _ => {}
                    }
                    if open == 0 {
                        break;
                    }
                }
                if name == "(confluent.field_meta)" {
                    field.params = params(&self.tokens[from..self.at]);
                }
            } else {
                let mut value = String::new();
                while !self.is_sign(',') && !self.is_sign(']') {
                    match self.next()? {
                        Token::Word(word) | Token::Text(word) => value.push_str(&word),
                        Token::Sign(sign) => value.push(sign),
                    }
                }
                if name == "default" {
                    field.default = Some(value);
                }
            }
            if self.is_sign(']') {
                self.at += 1;
                return Ok(());
            }
            self.sign(',')?;
        }
    }

    fn enumeration(&mut self) -> Result<Enum, String> {
        self.at += 1;
        let mut made = Enum { name: self.word()?, values: Vec::new() };
        self.sign('{')?;
        while !self.is_sign('}') {
            if self.is_sign(';') {
                self.at += 1;
                continue;
            }
            if self.is_word("option") || self.is_word("reserved") {
                self.skip_statement()?;
                continue;
            }
            let name = self.word()?;
            self.sign('=')?;
            let negative = self.is_sign('-');
            self.at += usize::from(negative);
            let digits = self.word()?;
            let number = number(&digits).ok_or_else(|| format!("{digits} is not the number of {name}"))?;
            made.values.push((name, if negative { number.wrapping_neg() } else { number }));
            self.skip_statement()?;
        }
        self.at += 1;
        Ok(made)
    }
}

fn number(digits: &str) -> Option<i32> {
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<i64>().ok()?,
    };
    Some(number as i32)
}

/// Pairs of `key: "…"` and `value: "…"`.
fn params(tokens: &[Token]) -> Vec<(String, String)> {
    let text = |at: usize| match (tokens.get(at + 1), tokens.get(at + 2)) {
        (Some(Token::Sign(':')), Some(Token::Text(text))) => Some(text.clone()),
        _ => None,
    };
    let mut found = Vec::new();
    let mut key = None;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(word) if word == "key" => key = text(at),
            Token::Word(word) if word == "value" => found.extend(key.take().zip(text(at))),
            _ => {}
        }
    }
    found
}

fn unexpected(found: &Token, wanted: &str) -> String {
    let found = match found {
        Token::Word(word) => word.clone(),
        Token::Text(text) => format!("\"{text}\""),
        Token::Sign(sign) => sign.to_string(),
    };
    format!("the .proto text has {found} where {wanted} is expected")
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            rest = rest.trim_start();
        } else if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or("a comment has no end")?;
            rest = &rest[end + 2..];
        } else if c == '"' || c == '\'' {
            let mut value = String::new();
            let mut chars = rest.char_indices().skip(1);
            let end = loop {
                match chars.next().ok_or("a text has no end")? {
                    (_, '\\') => match chars.next().ok_or("a text has no end")?.1 {
                        'n' => value.push('\n'),
                        't' => value.push('\t'),
                        'r' => value.push('\r'),
                        other => value.push(other),
                    },
                    (at, end) if end == c => break at + 1,
                    (_, other) => value.push(other),
                }
            };
            rest = &rest[end..];
            tokens.push(Token::Text(value));
        } else if c.is_alphanumeric() || c == '_' || c == '.' {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            tokens.push(Token::Sign(c));
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(tokens)
}
