//! The C header is the one that the source of `tributary-abi` makes, and C and C++ compilers take it.

mod generator;
mod layout;

use std::path::Path;
use std::process::Command;

#[test]
fn the_header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = std::fs::read_to_string(root.join("abi/src/lib.rs")).unwrap();
    let made = generator::generate(&source).unwrap();
    let path = root.join("include/tributary.h");
    if std::env::var_os("TRIBUTARY_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    if made != stands {
        let line = made.lines().zip(stands.lines()).position(|(a, b)| a != b).unwrap_or(0);
        panic!(
            "{} differs from the abi crate from line {} on; to write it anew: \
             TRIBUTARY_UPDATE=1 cargo test -p tributary-abi --test c",
            path.display(),
            line + 1
        );
    }
}

#[test]
fn compilers_take_it() {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include");
    let header = include.join("tributary.h");
    for arguments in [["-std=c99", "-xc"], ["-std=c++11", "-xc++"]] {
        let output = Command::new("cc")
            .args(arguments)
            .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
            .arg(&header)
            .output()
            .expect("a C compiler is installed (the worker needs one to build)");
        // A machine may have no C++ front end; that is no fault of the header.
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if text.contains("cc1plus") {
            eprintln!("skipped for C++: {text}");
            continue;
        }
        assert!(output.status.success(), "{arguments:?}: {text}");
    }
}
