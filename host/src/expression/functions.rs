//! The functions of expressions: CEL's, its string and math extensions, and what they are called.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::types::{CelBool, CelString, STRING_TYPE};
use cel::common::value::CowVal;
use cel::{Env, ExecutionError, extensions};
use regex::Regex;

/// What `matches` becomes when an expression is compiled: CEL's own compiles its regular expression for each record.
pub(super) const MATCHES: &str = "@matches";

/// How many regular expressions a thread keeps compiled.
const KEPT: usize = 64;

/// The environment that all expressions share.
pub(super) static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    let added = env
        .add_extension(extensions::strings)
        .and_then(|()| env.add_extension(extensions::math))
        .and_then(|()| env.add_overload(MATCHES, "matches_kept", vec![STRING_TYPE, STRING_TYPE], matches))
        .and_then(|()| {
            env.add_member_overload(MATCHES, "member_matches_kept", STRING_TYPE, vec![STRING_TYPE], matches)
        });
    added.expect("names that the standard library does not have");
    Arc::new(env)
});

thread_local! {
    static REGEXES: RefCell<HashMap<String, Regex>> = RefCell::default();
}

fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = |at: usize| args.get(at).and_then(|arg| arg.downcast_ref::<CelString<'_>>()).map(CelString::inner);
    let (Some(text), Some(pattern)) = (text(0), text(1)) else {
        return Err(ExecutionError::function_error("matches", "it takes two strings"));
    };
    let found = REGEXES.with_borrow_mut(|kept| {
        if let Some(regex) = kept.get(pattern) {
            return Ok(regex.is_match(text));
        }
        let regex = regex(pattern).map_err(|what| ExecutionError::function_error("matches", what))?;
        if kept.len() >= KEPT {
            kept.clear();
        }
        let found = regex.is_match(text);
        kept.insert(pattern.to_owned(), regex);
        Ok(found)
    })?;
    Ok(CowVal::owned(CelBool::from(found)))
}

/// Compiles a regular expression, or says what is wrong with it in a line.
pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| {
        let what = error.to_string();
        let last = what.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("'{pattern}' is no regular expression: {last}")
    })
}

/// Whether there is a function of this name, called as `name(…)` or `x.name(…)`.
pub(super) fn exists(name: &str) -> bool {
    // Operators are functions, too.
    name.starts_with(['_', '@', '!', '-']) || NAMES.contains(&name)
}

/// All functions, sorted.
pub(super) const NAMES: &[&str] = &[
    "bool",
    "bytes",
    "charAt",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "contains",
    "format",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "hasValue",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "math.@max",
    "math.@min",
    "math.abs",
    "math.bitAnd",
    "math.bitNot",
    "math.bitOr",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "math.bitXor",
    "math.ceil",
    "math.floor",
    "math.greatest",
    "math.isFinite",
    "math.isInf",
    "math.isNaN",
    "math.least",
    "math.round",
    "math.sign",
    "math.sqrt",
    "math.trunc",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "replace",
    "reverse",
    "size",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "substring",
    "timestamp",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "value",
];
