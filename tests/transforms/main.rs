//! The tables of cases that the transforms are tested with, made again by the real Java classes.
//!
//! `host/src/transform/single_message/cases/*.json` say what Kafka Connect's transforms (and Debezium's ExtractNewRecordState) do. The host's
//! unit tests hold Tributary to them; this test holds them to Java: every case goes through the real class again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tributary_harness::{ClassPath, Context, Error, Result, java_with_compiler};

fn tables() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/src/transform/single_message/cases");
    let mut tables: Vec<PathBuf> = std::fs::read_dir(&folder)
        .context(format_args!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    tables.sort();
    Ok(tables)
}

#[test]
fn the_tables_say_what_java_does() -> Result<()> {
    let tables = tables()?;
    assert!(tables.len() >= 18, "only {} tables", tables.len());
    let printed = java("Cases.java", &tables)?;
    let mut lines = printed.lines().filter(|line| line.starts_with('['));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for table in &tables {
        let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(table)?).context(table.display())?;
        let made: Vec<Value> =
            serde_json::from_str(lines.next().context("java printed too few tables")?).context("java")?;
        assert_eq!(cases.len(), made.len(), "{}", table.display());
        count += cases.len();
        for (case, made) in cases.iter().zip(&made) {
            if !same(&case["out"], made) {
                let (class, config, input) = (&case["class"], &case["config"], &case["in"]);
                wrong.push(format!("{class} {config} {input}\n  table {}\n  java  {made}", case["out"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// What a program of this folder prints, with Connect's classes and Debezium's at hand.
fn java(program: &str, arguments: &[PathBuf]) -> Result<String> {
    let class_path = format!("{}:{}", ClassPath::Connect.resolve()?, ClassPath::Debezium.resolve()?);
    let output = Command::new(java_with_compiler()?.program)
        .args(["-XX:+UseSerialGC", "-cp", &class_path])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("transforms").join(program))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run java")?;
    if !output.status.success() {
        return Err(Error::new(format!("java failed: {}", String::from_utf8_lossy(&output.stderr))));
    }
    String::from_utf8(output.stdout).context("java printed no UTF-8")
}

#[test]
fn the_table_of_expressions_says_what_java_finds() -> Result<()> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../connector-sdk/src/pattern/cases.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&table)?).context("the table")?;
    let printed = java("Patterns.java", &[table])?;
    let line = printed.lines().find(|line| line.starts_with('[')).context("java printed nothing")?;
    let made: Vec<Value> = serde_json::from_str(line).context("java")?;
    assert_eq!(cases.len(), made.len());
    let differ = cases.iter().zip(&made).filter(|(case, made)| case["out"] != **made);
    let wrong: Vec<_> = differ.map(|(case, made)| format!("{case}\n  java {made}")).collect();
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

/// Numbers are equal by value, and texts up to the identity of a Java object (`Spec@1a2b3c`).
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && a.is_f64() == b.is_f64(),
        (Value::String(a), Value::String(b)) => identity(a) == identity(b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn identity(text: &str) -> &str {
    match text.rsplit_once('@') {
        Some((class, hash)) if class.starts_with("Invalid value") && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
            class
        }
        _ => text,
    }
}
