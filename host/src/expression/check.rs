//! What is looked at when an expression is compiled: names, functions, bounds, and which fields it reads.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use cel::common::types::CelString;

use super::functions::{self, MATCHES};
use super::input::Variable;
use super::need::Need;

/// Levels of macros in each other.
const MAX_LOOPS: usize = 2;

/// Names of types, which `type(x) == int` compares.
const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
    "google",
    "optional_type",
];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// For each variable, what is read of it.
    pub needs: Vec<(Variable, Need)>,
    /// The names that map literals have, in their order: fields of answers stand in it.
    pub literal_keys: Vec<String>,
    /// Fields and functions with the column (from 1) that they stand in.
    pub places: Vec<(String, u32)>,
    /// Whether macros stand in each other.
    pub nested_loops: bool,
    splits: bool,
}

/// Walks an expression.
pub(super) struct Check<'s> {
    source: &'s SourceInfo,
    text: &'s str,
    locals: Vec<String>,
    loops: usize,
    pub findings: Findings,
}

type Result<T> = std::result::Result<T, String>;

impl<'s> Check<'s> {
    /// Looks at a whole expression, and puts the function that keeps its regular expressions in the place of `matches`.
    pub fn run(expression: &mut IdedExpr, text: &'s str, source: &'s SourceInfo) -> Result<Findings> {
        let mut check = Self { source, text, locals: Vec::new(), loops: 0, findings: Findings::default() };
        check.visit(expression)?;
        if check.findings.nested_loops && check.findings.splits {
            return Err(
                "split may not stand in an expression that nests macros: how long it runs could not be bounded"
                    .to_owned(),
            );
        }
        Ok(check.findings)
    }

    fn column(&self, id: u64) -> u32 {
        let offset = self.source.offset_for(id).map_or(0, |(from, _)| from) as usize;
        // Columns count characters, from 1.
        self.text.char_indices().take_while(|(at, _)| *at < offset).count() as u32 + 1
    }

    fn at<T>(&self, id: u64, what: String) -> Result<T> {
        Err(format!("column {}: {what}", self.column(id)))
    }

    fn visit(&mut self, expression: &mut IdedExpr) -> Result<()> {
        if self.note_path(expression, true) {
            return Ok(());
        }
        let id = expression.id;
        match &mut expression.expr {
            Expr::Ident(name) => {
                let name = name.trim_start_matches('.').to_owned();
                if self.locals.contains(&name) || TYPES.contains(&name.as_str()) {
                    return Ok(());
                }
                let message =
                    format!("there is no '{name}'; a record has v, k, h, topic, timestamp, partition and offset");
                self.at(id, message)
            }
            Expr::Select(select) => {
                let column = self.column(id);
                self.findings.places.push((select.field.clone(), column));
                self.visit(&mut select.operand)
            }
            Expr::Call(call) => {
                let namespace = call.target.as_ref().and_then(|target| match &target.expr {
                    Expr::Ident(name) if matches!(name.as_str(), "math" | "optional" | "strings") => Some(name.clone()),
                    _ => None,
                });
                let full = match &namespace {
                    Some(namespace) => format!("{namespace}.{}", call.func_name),
                    None => call.func_name.clone(),
                };
                if !functions::exists(&full) {
                    let named = functions::NAMES.iter().find(|known| known.eq_ignore_ascii_case(&full));
                    let hint = named.map_or_else(String::new, |known| format!("; did you mean {known}?"));
                    return self.at(id, format!("there is no function '{full}'{hint}"));
                }
                let column = self.column(id);
                self.findings.places.push((call.func_name.clone(), column));
                if full == "matches" {
                    if let Some(Expr::Literal(LiteralValue::String(pattern))) = call.args.last().map(|arg| &arg.expr)
                        && let Err(what) = functions::regex(pattern.inner())
                    {
                        return self.at(id, what);
                    }
                    call.func_name = MATCHES.to_owned();
                }
                self.findings.splits |= full == "split";
                if namespace.is_none()
                    && let Some(target) = &mut call.target
                {
                    self.visit(target)?;
                }
                call.args.iter_mut().try_for_each(|arg| self.visit(arg))
            }
            Expr::List(list) => list.elements.iter_mut().try_for_each(|item| self.visit(item)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    let EntryExpr::MapEntry(entry) = &mut entry.expr else { continue };
                    if let Expr::Literal(LiteralValue::String(key)) = &entry.key.expr {
                        self.findings.literal_keys.push(key.inner().to_owned());
                    }
                    self.visit(&mut entry.key)?;
                    self.visit(&mut entry.value)?;
                }
                Ok(())
            }
            Expr::Comprehension(over) => {
                self.visit(&mut over.iter_range)?;
                self.loops += 1;
                if self.loops > MAX_LOOPS {
                    return self.at(id, format!("macros may stand in each other in {MAX_LOOPS} levels only"));
                }
                self.findings.nested_loops |= self.loops == 2;
                let known = self.locals.len();
                self.locals.push(over.accu_var.clone());
                self.visit(&mut over.accu_init)?;
                self.locals.push(over.iter_var.clone());
                self.locals.extend(over.iter_var2.clone());
                self.visit(&mut over.loop_cond)?;
                self.visit(&mut over.loop_step)?;
                self.visit(&mut over.result)?;
                self.locals.truncate(known);
                self.loops -= 1;
                Ok(())
            }
            Expr::Struct(made) => {
                let message = format!("there is no message type '{}'; write a map: {{'name': value}}", made.type_name);
                self.at(id, message)
            }
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    /// Notes `v.a.b`, `has(v.a)`, `v.?a` and `v['a']`; false when the expression is something else.
    fn note_path(&mut self, expression: &IdedExpr, whole: bool) -> bool {
        let Some(path) = path(expression) else { return false };
        if self.locals.iter().any(|local| local == path.root) {
            return false;
        }
        let Some(variable) = Variable::parse(path.root) else { return false };
        let mut places = Vec::new();
        for (name, id) in &path.steps {
            places.push(((*name).to_owned(), self.column(*id)));
        }
        self.findings.places.extend(places);
        let names: Vec<&str> = path.steps.iter().map(|(name, _)| *name).collect();
        let needs = &mut self.findings.needs;
        let at = needs.iter().position(|(known, _)| *known == variable).unwrap_or_else(|| {
            needs.push((variable, Need::default()));
            needs.len() - 1
        });
        needs[at].1.note(&names, whole && !path.tests);
        true
    }
}

/// Names from a variable down to a field.
pub(super) struct Path<'e> {
    pub root: &'e str,
    /// Each with the id of its node.
    pub steps: Vec<(&'e str, u64)>,
    /// It is only asked whether the last is there.
    pub tests: bool,
    /// Each step has to be there.
    pub strict: bool,
}

/// An expression that only selects fields.
pub(super) fn path(expression: &IdedExpr) -> Option<Path<'_>> {
    let literal = |arg: &'_ IdedExpr| matches!(&arg.expr, Expr::Literal(LiteralValue::String(_)));
    let mut steps = Vec::new();
    let mut current = expression;
    let (mut tests, mut strict) = (false, true);
    loop {
        match &current.expr {
            Expr::Ident(name) => {
                steps.reverse();
                return Some(Path { root: name.trim_start_matches('.'), steps, tests, strict });
            }
            Expr::Select(select) => {
                // Only the outermost can be a test.
                tests |= select.test;
                steps.push((select.field.as_str(), current.id));
                current = &select.operand;
            }
            Expr::Call(call)
                if call.args.len() == 2
                    && matches!(
                        call.func_name.as_str(),
                        operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT
                    )
                    && literal(&call.args[1]) =>
            {
                strict &= call.func_name == operators::INDEX;
                let Expr::Literal(LiteralValue::String(name)) = &call.args[1].expr else { return None };
                steps.push((CelString::inner(name), call.args[1].id));
                current = &call.args[0];
            }
            _ => return None,
        }
    }
}
