//! The reference of the transforms in the guide: made from the config definitions, and its examples built.
//!
//! `UPDATE_DOCS=1 cargo test -p tributary --lib transform::reference` writes it anew.

use std::fmt::Write as _;

use tributary_sdk::config_def::DefaultValue;

use super::registry::class_infos;
use super::tests::chain;
use crate::converter::{ClassInfo, ClassKind};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide/transforms.md");
const BEGIN: &str = "<!-- Made from the config definitions; see host/src/transform/reference.rs -->\n";

fn reference() -> String {
    let mut text = String::new();
    for (kind, title) in [(ClassKind::Transformation, "Transforms"), (ClassKind::Predicate, "Predicates")] {
        let _ = writeln!(text, "## {title}: all keys\n");
        let mut infos: Vec<ClassInfo> = class_infos().into_iter().filter(|info| info.kind == kind).collect();
        infos.sort_by_key(|info| info.class.rsplit('.').next());
        for info in infos.iter().filter(|info| !info.class.ends_with("$Key")) {
            let both = info.class.strip_suffix("$Value");
            let name = both.unwrap_or(info.class);
            let title = name.rsplit('.').next().unwrap_or(name);
            let title = if name == "tributary.transforms.Filter" { "Filter by expression" } else { title };
            let _ = writeln!(text, "### {title}\n");
            match both {
                Some(name) => writeln!(text, "`{name}$Key`, `{name}$Value`\n"),
                None => writeln!(text, "`{name}`\n"),
            }
            .expect("writing to a string does not fail");
            let def = (info.config_def)();
            if def.keys.is_empty() {
                text.push_str("No keys.\n\n");
                continue;
            }
            text.push_str("| Key | Type | Default | |\n|---|---|---|---|\n");
            for key in &def.keys {
                let default = match &key.default {
                    DefaultValue::Required => "required".to_owned(),
                    DefaultValue::Value(value) if !value.is_empty() => format!("`{value}`"),
                    _ => "none".to_owned(),
                };
                let documentation = key.documentation.replace('|', "\\|").replace('\n', " ");
                let kind = format!("{:?}", key.kind).to_lowercase();
                let _ = writeln!(text, "| `{}` | {kind} | {default} | {documentation} |", key.name);
            }
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[test]
fn the_guide_has_all_keys() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (written, made) = page.split_once(BEGIN).expect("the marker of the made part");
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, format!("{written}{BEGIN}{expected}")).unwrap();
    } else {
        assert!(
            made == expected,
            "docs/guide/transforms.md is not what the config definitions say; run with UPDATE_DOCS=1"
        );
    }
}

#[test]
fn the_examples_of_the_guide_can_be_built() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let examples: Vec<&str> =
        page.split("```properties\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 8, "only {} examples", examples.len());
    for example in examples {
        let pairs: Vec<(&str, &str)> = example.lines().filter_map(|line| line.split_once('=')).collect();
        assert!(!chain(&pairs).is_empty(), "{example}");
    }
}
