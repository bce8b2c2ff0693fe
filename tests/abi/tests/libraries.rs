//! Plugin libraries: found by their manifests without being executed, verified, opened on first use; each way in which
//! one can be unfit has an error of its own that says what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tributary::plugin::{Location, MANIFEST_FILE, PluginError, Registry, listing, write_manifest};
use tributary_abi_tests::Recorder;
use tributary_abi_tests::libraries::{built, compiled, copied, installed, scanned};
use tributary_sdk::{Batch, Config, Form};

const TICKS: &str = "com.example.TicksSourceConnector";

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn edit(library: &Path, from: &str, to: &str) {
    let path = library.with_file_name(MANIFEST_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text} does not contain {from}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[track_caller]
fn only_problem(registry: &Registry) -> PluginError {
    assert_eq!(registry.problems().len(), 1, "{:?}", registry.problems());
    registry.problems()[0].error.clone()
}

#[track_caller]
fn load_error(registry: &Registry, class: &str) -> PluginError {
    assert_eq!(registry.problems(), []);
    registry.connector(class, None).or_else(|_| registry.transform(class, None)).unwrap().load().unwrap_err()
}

#[test]
fn a_rust_plugin_runs_from_its_library() {
    let root = directory();
    let library = installed(&built("first"), root.path(), "first");
    let registry = scanned(root.path());
    assert_eq!(registry.problems(), []);
    let class = registry.connector("TicksSource", None).unwrap();
    let info = class.info();
    assert_eq!((info.class.as_str(), info.version.as_str(), info.plugin.as_str()), (TICKS, "1.0.0", "first"));
    assert_eq!(info.location, Location::Library(library));
    assert_eq!(info.config_def.keys[0].name, "topic");

    let services = Arc::new(Recorder::default());
    let config = Config::from_iter([("topic", "ticks")]);
    let mut connector = class.connector(services.clone()).unwrap();
    connector.start(&config).unwrap();
    let configs = connector.task_configs(4).unwrap();
    connector.stop().unwrap();
    let mut task = class.source_task(services).unwrap();
    task.start(&configs[0]).unwrap();
    let mut batches: Vec<Batch> = Vec::new();
    task.poll(&mut batches).unwrap();
    // Kept beyond the task: the arrays belong to the library, which stays open.
    task.stop().unwrap();
    drop(task);
    assert_eq!(batches[0].value.form(), Form::Json);
    assert_eq!(batches[0].rows().next().unwrap().value().as_str(), Some("{\"number\":0,\"at_ms\":1000}"));
    assert_eq!(batches[0].resume_point(), Some("{\"next\":1}"));
}

#[test]
fn scanning_executes_nothing() {
    let root = directory();
    let library = installed(&built("first"), root.path(), "first");
    // What is no library at all would fail at once if anybody opened it.
    std::fs::write(&library, "not a library").unwrap();
    let registry = scanned(root.path());
    assert_eq!(registry.problems(), []);
    assert!(registry.connector(TICKS, None).is_ok());
    assert!(!root.path().join("work").exists(), "a library was copied before its first use");
}

#[test]
fn a_changed_library_is_not_opened() {
    let root = directory();
    let library = installed(&built("first"), root.path(), "first");
    let mut bytes = std::fs::read(&library).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&library, bytes).unwrap();
    let error = load_error(&scanned(root.path()), TICKS);
    assert!(matches!(&error, PluginError::WrongDigest { expected, found, .. } if expected != found), "{error}");
    assert!(error.to_string().contains("was changed or damaged, and is not opened"), "{error}");
}

#[test]
fn a_library_replaced_under_a_running_worker_changes_nothing() {
    let root = directory();
    let library = installed(&built("first"), root.path(), "first");
    let registry = scanned(root.path());
    let class = registry.connector(TICKS, None).unwrap();
    class.load().unwrap();
    std::fs::write(&library, "something else").unwrap();
    assert!(class.source_task(Arc::new(Recorder::default())).is_ok());
    // Another worker finds the verified copy, and one that somebody changed is made anew.
    assert!(scanned(root.path()).connector(TICKS, None).unwrap().load().is_ok());
    let copies: Vec<PathBuf> = walk(&root.path().join("work"));
    assert_eq!(copies.len(), 1, "{copies:?}");
    std::fs::remove_file(&copies[0]).unwrap();
    std::fs::write(&copies[0], "planted").unwrap();
    let error = load_error(&scanned(root.path()), TICKS);
    assert!(matches!(error, PluginError::WrongDigest { .. }), "{error}");
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_library_without_a_manifest_is_reported() {
    let root = directory();
    let library = copied(&built("first"), root.path(), "first");
    let error = only_problem(&scanned(root.path()));
    assert_eq!(error, PluginError::NoManifest { library: library.clone() });
    let command = format!("`tributary plugins manifest {}`", library.display());
    assert!(error.to_string().contains(&command), "{error}");
    assert!(
        scanned(root.path()).connector(TICKS, None).unwrap_err().to_string().contains("has no plugin.toml beside it")
    );
}

#[test]
fn bad_manifests_are_reported_and_the_rest_works() {
    let root = directory();
    installed(&built("hostile"), root.path(), "good");
    for (name, from, to, expected) in [
        ("syntax", "name =", "name", "TOML parse error"),
        ("typo", "sha256 =", "sha265 =", "unknown field `sha265`"),
        ("digest", "sha256 = \"", "sha256 = \"x", "sha256 must be 64 hexadecimal digits"),
        ("path", "library = \"", "library = \"../", "library must be the name of a file beside the manifest"),
        ("kind", "kind = \"source\"", "kind = \"sauce\"", "unknown variant `sauce`"),
        ("missing", "library = \"lib", "library = \"nolib", "is not there"),
        ("definition", "config-def = '", "config-def = '[", "its config definition is malformed"),
        ("empty", "version = \"1.0.0\"", "version = \"\"", "version is empty"),
    ] {
        let library = installed(&built("first"), root.path(), name);
        edit(&library, from, to);
        let registry = scanned(root.path());
        let error = only_problem(&registry).to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.contains(&format!("{name}/{MANIFEST_FILE}")), "{name}: {error}");
        assert!(registry.connector("HostileSink", None).is_ok());
        std::fs::remove_dir_all(root.path().join(name)).unwrap();
    }
    let registry = Registry::new().scan(&[root.path().join("nowhere")], root.path());
    assert!(only_problem(&registry).to_string().starts_with("cannot read the plugin.path directory"));
}

#[test]
fn config_definitions_may_stand_in_a_file() {
    let root = directory();
    let library = installed(&built("first"), root.path(), "first");
    let text = std::fs::read_to_string(library.with_file_name(MANIFEST_FILE)).unwrap();
    let line = text.lines().find(|line| line.starts_with("config-def = ")).unwrap();
    let definition = line.trim_start_matches("config-def = ").trim_matches('\'');
    std::fs::write(library.with_file_name("ticks.json"), definition).unwrap();
    edit(&library, line, "config-def-file = \"ticks.json\"");
    let registry = scanned(root.path());
    assert_eq!(registry.problems(), []);
    registry.connector(TICKS, None).unwrap().load().unwrap();
}

#[test]
fn another_version_of_the_interface_is_told_apart() {
    let root = directory();
    // By its manifest,
    let library = installed(&built("first"), root.path(), "first");
    edit(&library, "abi = \"1.2\"", "abi = \"2.0\"");
    let error = only_problem(&scanned(root.path()));
    assert!(matches!(&error, PluginError::OtherAbi { found, .. } if found == "2.0"), "{error}");
    assert!(error.to_string().contains("is built for version 2.0 of the plugin interface, this worker has version 1"));
    std::fs::remove_dir_all(root.path().join("first")).unwrap();

    // by its entry symbol, without executing it,
    let other = compiled("misfit", root.path(), &["-DOTHER_SYMBOL"]);
    let error = write_manifest(&other).unwrap_err();
    assert!(matches!(&error, PluginError::OtherAbi { found, .. } if found == "2"), "{error}");

    // and by its descriptor.
    let other = compiled("misfit", root.path(), &["-DOTHER_MAJOR"]);
    let error = write_manifest(&other).unwrap_err();
    assert!(matches!(&error, PluginError::OtherAbi { found, .. } if found == "2"), "{error}");
}

#[test]
fn what_is_no_plugin_is_told_apart() {
    let root = directory();
    let error = write_manifest(&compiled("misfit", root.path(), &["-DNO_SYMBOL"])).unwrap_err();
    assert!(matches!(error, PluginError::NoEntrySymbol { .. }), "{error}");

    let file = root.path().join("libtext.so");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let error = write_manifest(&file).unwrap_err();
    assert!(matches!(error, PluginError::NotALibrary { .. }), "{error}");
    let executable = std::fs::read("/bin/true").unwrap();
    std::fs::write(&file, &executable[..100]).unwrap();
    let error = write_manifest(&file).unwrap_err();
    assert!(matches!(error, PluginError::NotALibrary { .. }), "{error}");

    // The processor stands in two bytes at 18.
    let mut bytes = std::fs::read(built("first")).unwrap();
    bytes[18..20].copy_from_slice(&if cfg!(target_arch = "x86_64") { 183u16 } else { 62 }.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let error = write_manifest(&file).unwrap_err();
    assert!(matches!(error, PluginError::WrongArchitecture { .. }), "{error}");

    // Something that it needs is not there.
    let needy = compiled("misfit", root.path(), &["-L/lib", "-Wl,--no-as-needed", "-Wl,-soname,libx.so"]);
    let needing = root.path().join("libneeding.so");
    let status = std::process::Command::new("cc")
        .args(["-shared", "-o"])
        .arg(&needing)
        .args(["-Wl,--no-as-needed", "-Wl,--whole-archive"])
        .arg(&needy)
        .arg("-Wl,--no-whole-archive")
        .status();
    assert!(status.unwrap().success());
    // The dependency has no entry symbol of its own in this library.
    assert!(matches!(write_manifest(&needing).unwrap_err(), PluginError::NoEntrySymbol { .. }));
}

#[test]
fn broken_descriptors_are_refused() {
    let root = directory();
    for (option, expected) in [
        ("-DREFUSES", "its entry symbol answered null"),
        ("-DSMALL_DESCRIPTOR", "its descriptor says it is 24 bytes large"),
        ("-DNO_CLASSES", "it has no classes"),
        ("-DUNKNOWN_KIND", "is of the unknown kind 99"),
        ("-DBAD_CONFIG_DEF", "com.example.Misfit has a malformed config definition"),
        ("-DNO_TABLE", "has no transform table"),
        ("-DSMALL_TABLE", "has a transform table that says it is 16 bytes large"),
        ("-DNO_APPLY", "has a transform table without apply"),
    ] {
        // One path each: the linker knows a library by it.
        let place = root.path().join(option);
        std::fs::create_dir(&place).unwrap();
        let error = write_manifest(&compiled("misfit", &place, &[option])).unwrap_err();
        assert!(matches!(error, PluginError::BadDescriptor { .. }), "{option}: {error}");
        assert!(error.to_string().contains(expected), "{option}: {error}");
    }
    let place = root.path().join("abort");
    std::fs::create_dir(&place).unwrap();
    let error = write_manifest(&compiled("misfit", &place, &["-DPANIC_ABORT"])).unwrap_err();
    assert!(matches!(error, PluginError::PanicAbort { .. }), "{error}");
    assert!(error.to_string().contains("remove `panic = \"abort\"` from its Cargo profile"), "{error}");
}

#[test]
fn a_library_agrees_with_its_manifest() {
    for (from, to, expected) in [
        ("name = \"first\"", "name = \"fist\"", "the manifest has the name fist, the library first"),
        ("version = \"1.0.0\"", "version = \"1.0.1\"", "the manifest has the version 1.0.1, the library 1.0.0"),
        (TICKS, "com.example.Tocks", "the manifest does not have the library's class com.example.TicksSourceConnector"),
        ("kind = \"source\"", "kind = \"sink\"", "is a sink in the manifest and a source"),
        ("Topic to write to.", "Topic not to write to.", "has another config definition"),
    ] {
        let root = directory();
        let library = installed(&built("first"), root.path(), "first");
        edit(&library, from, to);
        let class = if from == TICKS { to } else { TICKS };
        let error = load_error(&scanned(root.path()), class);
        assert!(matches!(error, PluginError::Disagrees { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn versions_live_side_by_side() {
    let root = directory();
    for version in ["1.9.0", "1.10.0"] {
        let place = root.path().join(version);
        std::fs::create_dir(&place).unwrap();
        let option = format!("-DVERSION=\"{version}\"");
        write_manifest(&compiled("lines", &place, &[&option])).unwrap();
    }
    let registry = scanned(root.path());
    let run = |version: Option<&str>| {
        let class = registry.connector("com.example.c.Lines", version).unwrap();
        let services = Arc::new(Recorder::default());
        let mut task = class.source_task(services.clone()).unwrap();
        task.start(&Config::default()).unwrap();
        services.lines.lock().unwrap().join("\n")
    };
    assert_eq!(run(Some("1.9.0")), "Info started in C {\"version\":\"1.9.0\"}");
    assert_eq!(run(None), "Info started in C {\"version\":\"1.10.0\"}");
    let error = registry.connector("Lines", Some("2.0")).unwrap_err().to_string();
    assert!(error.contains("matches the version range [2.0,2.0], available versions: [1.9.0, 1.10.0]"), "{error}");

    // The same version twice: one is used, and the other reported.
    copied(&root.path().join("1.9.0/liblines.so"), root.path(), "again");
    std::fs::copy(root.path().join("1.9.0").join(MANIFEST_FILE), root.path().join("again").join(MANIFEST_FILE))
        .unwrap();
    let registry = scanned(root.path());
    assert_eq!(registry.classes().len(), 4);
    assert!(registry.problems()[0].error.to_string().contains("version 1.9.0 is also in"), "{:?}", registry.problems());
}

#[test]
fn the_listing_shows_all() {
    let root = directory();
    installed(&built("first"), root.path(), "first");
    copied(&built("hostile"), root.path(), "other");
    let registry = scanned(root.path());
    let text = listing(&registry);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("CLASS") && lines[0].contains("TYPE") && lines[0].ends_with("LOCATION"), "{text}");
    assert!(lines[1].starts_with(TICKS) && lines[1].contains("source") && lines[1].contains("1.0.0"), "{text}");
    assert!(text.contains("Not usable:\n- ") && text.contains("other/libtributary_plugin_hostile.so"), "{text}");
}
