//! A connector's README, held against what it describes.

use std::fs;

use tributary_sdk::ConfigDef;

/// Checks that the keys behind each `<!-- keys: NAME -->`, up to the next `##`, are those of the config definition; with
/// `UPDATE_README` set it writes them instead.
///
/// # Panics
/// If they are not, if a marker is missing, or if the file at `path` cannot be read or written.
pub fn check_keys(path: &str, definitions: impl IntoIterator<Item = (&'static str, ConfigDef)>) {
    let readme = fs::read_to_string(path).unwrap();
    let mut expected = readme.clone();
    for (name, definition) in definitions {
        let marker = format!("<!-- keys: {name} -->\n");
        let (before, rest) = expected.split_once(&marker).unwrap();
        let after = rest.find("\n## ").map_or("", |at| &rest[at..]);
        expected = format!("{before}{marker}\n{}{after}", definition.to_markdown());
    }
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(path, expected).unwrap();
    } else {
        assert!(readme == expected, "README.md has other keys than the config definitions: see the top of this test");
    }
}
