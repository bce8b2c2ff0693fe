//! A compiled expression.

use cel::common::ast::IdedExpr;
use cel::{Context, ExecutionError, Value};

use super::answer::Answer;
use super::check::{self, Check, Findings};
use super::functions::ENV;
use super::input::{self, Record, Variable};
use super::need::Need;

/// Bytes of text.
const MAX_LENGTH: usize = 8192;
/// Parentheses, calls and the like in each other.
const MAX_DEPTH: u16 = 64;

/// An expression, compiled. It is evaluated from one thread at a time.
#[derive(Debug)]
pub struct Expression {
    text: String,
    root: IdedExpr,
    findings: Findings,
}

impl Expression {
    /// Compiles; the error names the expression, the column and what is wrong.
    pub fn compile(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = |what: String| format!("the expression '{}' is wrong: {what}", shortened(text));
        if text.is_empty() {
            return Err("the expression is empty".to_owned());
        }
        if text.len() > MAX_LENGTH {
            return Err(wrong(format!("it has {} bytes; {MAX_LENGTH} are allowed", text.len())));
        }
        let parser = ENV.parser().max_recursion_depth(MAX_DEPTH).enable_ident_escape_syntax(true);
        let (mut root, source) = parser.parse_with_source_info(text).map_err(|errors| {
            let first = errors.errors.first();
            let (place, what) = first.map_or((String::new(), "it cannot be read".to_owned()), |error| {
                let (line, column) = error.pos;
                let line = if line > 1 { format!("line {line}, ") } else { String::new() };
                (format!("{line}column {}: ", column.max(1)), error.msg.clone())
            });
            wrong(format!("{place}{what}"))
        })?;
        let findings = Check::run(&mut root, text, &source).map_err(wrong)?;
        Ok(Self { text: text.to_owned(), root, findings })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it reads of a variable; `None`: it does not name it.
    pub fn needs(&self, variable: Variable) -> Option<&Need> {
        self.findings.needs.iter().find(|(known, _)| *known == variable).map(|(_, need)| need)
    }

    /// If it only selects a field (`v.a.b`): the variable and the names. The value can then be taken as it is.
    pub fn path(&self) -> Option<(Variable, Vec<&str>)> {
        let path = check::path(&self.root).filter(|path| path.strict && !path.tests)?;
        Some((Variable::parse(path.root)?, path.steps.into_iter().map(|(name, _)| name).collect()))
    }

    /// The value for a record. The error names the expression and, where it can be told, the column.
    pub fn evaluate(&self, record: &dyn Record) -> Result<Answer, String> {
        let failed = |what: String| format!("the expression '{}' failed: {what}", shortened(&self.text));
        let mut context = Context::with_env(ENV.clone());
        for (variable, need) in &self.findings.needs {
            let [first, others @ ..] = variable.names() else { continue };
            let value = input::variable(record, *variable, need, self.findings.nested_loops).map_err(failed)?;
            for name in others.iter().filter(|name| self.text.contains(*name)) {
                context.add_variable_as_val(*name, value.clone());
            }
            context.add_variable_as_val(*first, value);
        }
        let value = Value::resolve_val(&self.root, &context).map_err(|error| failed(self.explain(&error)))?;
        Answer::of(value.as_ref(), &self.findings.literal_keys).map_err(failed)
    }

    /// The value, which has to be true or false.
    pub fn test(&self, record: &dyn Record) -> Result<bool, String> {
        match self.evaluate(record)? {
            Answer::Boolean(answer) => Ok(answer),
            other => Err(format!(
                "the expression '{}' gave {} where true or false is wanted",
                shortened(&self.text),
                other.type_name()
            )),
        }
    }

    pub(super) fn root(&self) -> &IdedExpr {
        &self.root
    }

    fn explain(&self, error: &ExecutionError) -> String {
        let (name, what) = match error {
            ExecutionError::NoSuchKey(name) => {
                let what = format!(
                    "there is no field '{name}'; has() asks whether there is, .? takes one that may be missing"
                );
                (Some(name.as_str()), what)
            }
            ExecutionError::NoSuchOverload(overload) => {
                let operator = overload.function().trim_matches(['_', '@']);
                let types = overload.argument_types().join(", ");
                (Some(overload.function()), format!("{operator} does not take ({types})"))
            }
            ExecutionError::DivisionByZero(_) => (Some("_/_"), "division by zero".to_owned()),
            ExecutionError::RemainderByZero(_) => (Some("_%_"), "remainder of a division by zero".to_owned()),
            ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
                let name = match *operator {
                    "add" => "_+_",
                    "sub" => "_-_",
                    "mul" => "_*_",
                    "div" => "_/_",
                    _ => "_%_",
                };
                let what = format!("{operator} does not take ({}, {})", left.type_of(), right.type_of());
                (Some(name), what)
            }
            ExecutionError::Overflow(operator, ..) => (None, format!("the result of {operator} is too large")),
            ExecutionError::FunctionError { function, message } => (Some(function.as_str()), message.clone()),
            other => (None, other.to_string()),
        };
        // Of several of one name, which it was cannot be told.
        let mut places = self.findings.places.iter().filter(|(known, _)| Some(known.as_str()) == name);
        match (places.next(), places.next()) {
            (Some((_, column)), None) => format!("column {column}: {what}"),
            _ => what,
        }
    }
}

/// Long expressions are cut in messages.
fn shortened(text: &str) -> std::borrow::Cow<'_, str> {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]).into(),
        None => text.into(),
    }
}
