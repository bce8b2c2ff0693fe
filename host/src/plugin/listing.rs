//! What `tributary plugins` prints.

use std::fmt::Write;

use super::registry::Registry;

/// The known classes as a table, with kind, version and location, then what could not be used and why.
pub fn listing(registry: &Registry) -> String {
    let mut rows: Vec<[String; 4]> = registry
        .classes()
        .iter()
        .map(|class| {
            let info = class.info();
            [info.class.clone(), info.kind.as_connect().into(), info.version.clone(), info.location.to_string()]
        })
        .collect();
    rows.sort();
    rows.insert(0, ["CLASS", "TYPE", "VERSION", "LOCATION"].map(str::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (class, kind, version) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [a, b, c, d] in &rows {
        let _ = writeln!(text, "{a:class$}  {b:kind$}  {c:version$}  {d}");
    }
    if !registry.problems().is_empty() {
        text.push_str("\nNot usable:\n");
        for problem in registry.problems() {
            let _ = writeln!(text, "- {}", problem.error);
        }
    }
    text
}
