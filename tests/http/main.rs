//! The HTTP connectors in a whole worker: nothing is lost, whatever breaks on the way.

mod senders;
mod sink;
mod source;
mod webhook;

use std::fs;
use std::path::Path;

use serde_json::Value;
use tributary_harness::{Context, Result};

/// An example of `config/connectors`, which speaks to port 8000 of this machine, with another address in its place.
fn example(file: &str, address: &str) -> Result<(String, Value)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/connectors").join(file);
    let text = fs::read_to_string(&path).context(format_args!("cannot read {}", path.display()))?;
    let mut example: Value = serde_json::from_str(&text.replace("localhost:8000", address))?;
    let name = example["name"].as_str().unwrap_or_default().to_owned();
    Ok((name, example["config"].take()))
}
