//! What the tests of the boundary share: a worker that remembers, and libraries to open.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tributary_sdk::sink::TopicPartition;
use tributary_sdk::{Batch, Error, Level, Result, Services};

/// Services that remember what they were asked.
#[derive(Default)]
pub struct Recorder {
    /// Log lines, `level message`.
    pub lines: Mutex<Vec<String>>,
    /// Set to end waits.
    pub cancelled: AtomicBool,
    /// Whether offsets are known: each `{"of":<the source partition>}`.
    pub has_offsets: AtomicBool,
    /// Other calls, by name.
    pub calls: Mutex<Vec<String>>,
}

impl Recorder {
    fn called(&self, what: impl Into<String>) {
        self.calls.lock().unwrap().push(what.into());
    }
}

impl Services for Recorder {
    fn log_enabled(&self, level: Level) -> bool {
        level <= Level::Info
    }

    fn log(&self, level: Level, message: &str, fields: &str) {
        self.lines.lock().unwrap().push(format!("{level:?} {message} {fields}").trim_end().to_owned());
    }

    fn count(&self, name: &str, value: f64) {
        self.called(format!("count {name} {value}"));
    }

    fn gauge(&self, name: &str, value: f64) {
        self.called(format!("gauge {name} {value}"));
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn wait(&self, time: Duration) -> bool {
        std::thread::sleep(time.min(Duration::from_millis(5)));
        self.cancelled()
    }

    fn now_ms(&self) -> i64 {
        1_000
    }

    fn offsets(&self, partitions: &[Value]) -> Result<Vec<Option<Value>>> {
        let known = self.has_offsets.load(Ordering::Relaxed);
        Ok(partitions.iter().map(|partition| known.then(|| serde_json::json!({ "of": partition }))).collect())
    }

    fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.called(format!("pause {}", partitions.len()));
        Ok(())
    }

    fn resume(&self, _: &[TopicPartition]) -> Result<()> {
        Err(Error::Unsupported("resuming".into()))
    }

    fn request_commit(&self) {
        self.called("request_commit");
    }

    fn request_reconfiguration(&self) {
        self.called("request_reconfiguration");
    }

    fn end_transaction(&self, commit: bool) -> Result<()> {
        self.called(format!("end_transaction {commit}"));
        Ok(())
    }

    fn state_get_many(&self, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        Ok(keys.iter().map(|key| (key != b"absent").then(|| [shard.as_bytes(), b"/", key].concat())).collect())
    }

    fn state_put_many(&self, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<()> {
        for (key, value) in writes {
            self.called(format!(
                "put {shard} {} {:?}",
                String::from_utf8_lossy(key),
                value.map(String::from_utf8_lossy)
            ));
        }
        Ok(())
    }

    fn state_scan(&self, _: &str, prefix: &[u8], _: &[u8], entry: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for at in 0..10u8 {
            if !entry(&[prefix, &[b'0' + at]].concat(), &[at]) {
                break;
            }
        }
        Ok(())
    }

    fn produce(&self, batch: Batch) -> Result<()> {
        if &*batch.topic == "nowhere" {
            return Err(Error::Unsupported("there is no such topic".into()));
        }
        let values = batch.value.as_text().map(|text| text.iter().flatten().collect::<Vec<_>>().join(" "));
        self.called(format!("produce {} [{}]", batch.topic, values.unwrap_or_default()));
        Ok(())
    }
}

/// Libraries to test with.
pub mod libraries {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use tributary::plugin::{Registry, write_manifest};

    /// A plugin crate that is a dependency of the tests, as cargo built it: `first`, `hostile`.
    pub fn built(name: &str) -> PathBuf {
        let executable = std::env::current_exe().expect("the test has a path");
        let library = executable.with_file_name(format!("libtributary_plugin_{name}.so"));
        assert!(library.is_file(), "{} was not built with the tests", library.display());
        library
    }

    /// Compiles a plugin of `tests/plugins/c` into `directory`.
    pub fn compiled(source: &str, directory: &Path, options: &[&str]) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let library = directory.join(format!("lib{source}.so"));
        let output = Command::new("cc")
            .args([
                "-std=c11",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-Wno-unused-function",
                "-Wno-unused-const-variable",
                "-g",
                "-fPIC",
                "-shared",
            ])
            .args(options)
            .arg("-I")
            .arg(root.join("connector-sdk/include"))
            .arg("-o")
            .arg(&library)
            .arg(root.join(format!("tests/plugins/c/{source}.c")))
            .output()
            .expect("a C compiler is installed: the worker needs one to build");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    }

    /// Puts a copy of a library into a plugin directory of its own below `root`, without a manifest.
    pub fn copied(library: &Path, root: &Path, name: &str) -> PathBuf {
        let directory = root.join(name);
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        let copy = directory.join(library.file_name().expect("libraries have names"));
        std::fs::copy(library, &copy).expect("a library can be copied");
        copy
    }

    /// Installs a library with its manifest in `root/name`.
    pub fn installed(library: &Path, root: &Path, name: &str) -> PathBuf {
        let copy = copied(library, root, name);
        write_manifest(&copy).unwrap_or_else(|error| panic!("{error}"));
        copy
    }

    /// What a worker knows with `root` in its plugin.path.
    pub fn scanned(root: &Path) -> Registry {
        Registry::new().scan(&[root.to_owned()], &root.join("work"))
    }
}
