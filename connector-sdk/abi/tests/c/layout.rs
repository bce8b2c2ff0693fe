//! Size, alignment and offsets of every struct: pinned in `layout.txt`, and the same for Rust and for C.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use tributary_abi::*;

macro_rules! layout {
    ($($name:ident: $($field:ident)+;)+) => {{
        let mut text = String::new();
        $(
            let _ = writeln!(text, "{} size {} align {}", stringify!($name), size_of::<$name>(), align_of::<$name>());
            $(let _ = writeln!(text, "  {} {}", stringify!($field), std::mem::offset_of!($name, $field));)+
        )+
        text
    }};
}

fn in_rust() -> String {
    layout! {
        Str: ptr len;
        ArrowSchema: format name metadata flags n_children children dictionary release private_data;
        ArrowArray: length null_count offset n_buffers n_children buffers children dictionary release private_data;
        Batch: size topic source_partition partition reserved schema array origin_topic origin_partition origin_reserved;
        Call: size ctx error text emit fail_record;
        StateWrite: key value remove reserved;
        Host: size abi_minor reserved log_enabled log metric cancelled wait now_ms offsets pause resume request_commit
            request_reconfiguration end_transaction state_get_many state_put_many state_scan produce;
        Plugin: size abi_major abi_minor contains_panics reserved name version classes class_count;
        Class: size kind reserved name config_def vtable aliases documentation;
        ConnectorVtable: size create validate start task_configs stop cancel destroy alter_offsets exactly_once_support
            transaction_boundaries task;
        SourceTaskVtable: size create start poll commit stop cancel destroy acknowledged;
        SinkTaskVtable: size create start open put flush pre_commit close stop cancel destroy recover prepare commit_prepared
            abort_prepared;
        TransformVtable: size create configure apply on_watermark destroy;
    }
}

/// Layouts may grow at the end within a major version, and change in no other way.
#[test]
#[cfg(target_pointer_width = "64")]
fn layouts_are_pinned() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/layout.txt");
    let made = in_rust();
    if std::env::var_os("TRIBUTARY_UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        made, pinned,
        "a layout changed: raise ABI_MAJOR, or ABI_MINOR for appended fields, then TRIBUTARY_UPDATE=1 writes layout.txt"
    );
}

/// The C program is made from the source, so that a field which the list above lacks is found, too.
#[test]
fn c_sees_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let mut program = "#include <stdio.h>\n#include \"tributary.h\"\nint main(void) {\n".to_owned();
    for (rust, c, fields) in super::generator::fields(&source).unwrap() {
        let _ = writeln!(
            program,
            "{{ struct a {{ char c; {c} t; }}; printf(\"{rust} size %zu align %zu\\n\", sizeof({c}), offsetof(struct a, t)); }}"
        );
        for field in fields {
            let _ = writeln!(program, "printf(\"  {field} %zu\\n\", offsetof({c}, {field}));");
        }
    }
    program.push_str("return 0; }\n");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (file, binary) = (directory.join("layout.c"), directory.join("layout"));
    std::fs::write(&file, program).unwrap();
    let output =
        Command::new("cc").arg("-I").arg(root.join("../include")).arg("-o").arg(&binary).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(&binary).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), in_rust());
}
