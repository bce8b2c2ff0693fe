//! The behaviour suite that every connector passes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tributary_connector_file::{FileStreamSinkConnector, FileStreamSourceConnector};
use tributary_sdk::Config;
use tributary_testkit::{SinkRun, SinkSubject, SourceSubject, sink_suite, source_suite};

struct Source(TempDir);

impl Source {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("in.txt")
    }
}

impl SourceSubject for Source {
    type Connector = FileStreamSourceConnector;

    fn prepare(&mut self, records: usize) -> Config {
        let mut file = fs::File::create(self.path()).unwrap();
        for record in 0..records {
            writeln!(file, "line {record}").unwrap();
        }
        let file = self.path().to_str().unwrap().to_owned();
        Config::from_iter([("file", file.as_str()), ("topic", "lines"), ("batch.size", "7"), ("max.line.bytes", "100")])
    }

    fn spoil(&mut self) -> bool {
        let mut lines = fs::read(self.path()).unwrap();
        let middle = lines.len() / 2;
        lines.splice(middle..middle, [b'x'; 200]);
        fs::write(self.path(), lines).unwrap();
        true
    }
}

source_suite!(source, Source::new());

/// The same at one line a poll: every line is a place to resume.
struct LineByLine(Source);

impl SourceSubject for LineByLine {
    type Connector = FileStreamSourceConnector;

    fn prepare(&mut self, records: usize) -> Config {
        let mut config = self.0.prepare(records);
        config.set("batch.size", "1");
        config.set("offset.identity", "inode");
        config
    }
}

source_suite!(source_line_by_line, LineByLine(Source::new()));

struct Sink(TempDir);

impl Sink {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("out.txt")
    }
}

impl SinkSubject for Sink {
    type Connector = FileStreamSinkConnector;

    fn prepare(&mut self) -> Config {
        // No file at all: the sink makes it.
        let _ = fs::remove_file(self.path());
        Config::from_iter([("file", self.path().to_str().unwrap()), ("topics", "suite")])
    }

    fn stored(&mut self) -> Vec<String> {
        assert!(!fs::metadata(self.path()).unwrap().permissions().readonly());
        assert_eq!(fs::metadata(self.path()).unwrap().permissions().mode() & 0o600, 0o600);
        fs::read_to_string(self.path()).unwrap().lines().map(str::to_owned).collect()
    }
}

sink_suite!(sink, Sink::new());

/// On a disk so small that a test can fill it, where this user may mount one.
struct SmallDisk {
    directory: TempDir,
    mounted: bool,
}

impl SmallDisk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(directory.path()).output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("no disk could be mounted: what happens on a full one is not tested");
        }
        Self { directory, mounted }
    }

    fn ballast(&self) -> PathBuf {
        self.directory.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
        }
    }
}

impl SinkSubject for SmallDisk {
    type Connector = FileStreamSinkConnector;

    fn prepare(&mut self) -> Config {
        let path = self.directory.path().join("out.txt");
        let _ = fs::remove_file(&path);
        Config::from_iter([("file", path.to_str().unwrap())])
    }

    fn stored(&mut self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("out.txt")).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "a half-written batch was left");
        text.lines().map(str::to_owned).collect()
    }

    fn record(&self, number: usize) -> String {
        // Ten of them are more than the last page of the file has room for, so that a part of a batch is written.
        format!("{number:0999}")
    }

    fn set_broken(&mut self, broken: bool) -> bool {
        if broken {
            let mut ballast = fs::File::create(self.ballast()).unwrap();
            while ballast.write_all(&[0; 4096]).is_ok() {}
        } else {
            fs::remove_file(self.ballast()).unwrap();
        }
        self.mounted
    }
}

#[test]
fn a_full_disk_takes_a_batch_whole_or_not() {
    let mut disk = SmallDisk::new();
    if disk.mounted {
        tributary_testkit::suite::sink::backpressure(&mut disk);
    }
}

#[test]
fn a_full_disk_is_reported_with_its_room() {
    let mut disk = SmallDisk::new();
    if !disk.mounted {
        return;
    }
    let mut run = SinkRun::<FileStreamSinkConnector>::start(&disk.prepare()).unwrap();
    run.put(disk.batch(0, 100)).unwrap();
    let error = run.put(disk.batch(100, 1000)).unwrap_err();
    assert!(error.is_retriable());
    let message = error.to_string();
    assert!(message.contains("cannot write 1000000 bytes to file /"), "{message}");
    assert!(message.contains("bytes are free on its file system); nothing of the batch was kept"), "{message}");
    assert_eq!(disk.stored().len(), 100);
    run.put(disk.batch(100, 50)).unwrap();
    assert_eq!(disk.stored().len(), 150);
}
