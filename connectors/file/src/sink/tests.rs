//! The sink against real files, full disks and pipes.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tributary_sdk::Column;
use tributary_sdk::arrow::array::{BinaryArray, StringArray};
use tributary_testkit::TestServices;

use super::*;

fn task(context: &Context, path: &Path, extra: &[(&str, &str)]) -> Result<FileStreamSinkTask> {
    let mut config: Config = extra.iter().copied().collect();
    config.set("file", path.to_str().unwrap());
    let mut task = FileStreamSinkTask::default();
    task.start(context, &config)?;
    Ok(task)
}

fn warnings(services: &TestServices, text: &str) -> usize {
    services.logs().iter().filter(|line| line.message.contains(text)).count()
}

fn text<'a>(lines: impl IntoIterator<Item = &'a str>) -> Batch {
    Batch::new("t", Column::text(StringArray::from_iter_values(lines)))
}

fn put(task: &mut FileStreamSinkTask, batch: Batch) -> Result<()> {
    let mut failures = Failures::default();
    let result = task.put(batch, &mut failures);
    assert!(failures.is_empty());
    result
}

#[test]
fn each_form_has_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.txt");
    fs::write(&path, "already there\n").unwrap();
    let context = TestServices::new().context();
    let mut task = task(&context, &path, &[]).unwrap();
    put(&mut task, Batch::new("t", Column::text(StringArray::from(vec![Some("one"), None, Some(""), Some("é")]))))
        .unwrap();
    let bytes = BinaryArray::from(vec![Some(&b"\xFF\xFE"[..]), None, Some(b"plain")]);
    put(&mut task, Batch::new("t", Column::bytes(bytes))).unwrap();
    let json = StringArray::from(vec![Some("{\"a\":1}"), None, Some("{\n \"b\": \"x\\n\"\r\n}"), Some("\"s\"")]);
    put(&mut task, Batch::new("t", Column::json(json))).unwrap();
    // A slice has its own beginning.
    put(&mut task, text(["no", "sliced", "no"]).slice(1, 1)).unwrap();
    task.pre_commit(&[]).unwrap();
    let expected = [
        &b"already there\none\nnull\n\n\xC3\xA9\n"[..],
        b"\xFF\xFE\nnull\nplain\n",
        b"{\"a\":1}\nnull\n{  \"b\": \"x\\n\"  }\n\"s\"\n",
        b"sliced\n",
    ]
    .concat();
    assert_eq!(fs::read(&path).unwrap(), expected);
}

#[test]
fn a_torn_last_line_is_mended_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let services = TestServices::new();
    let context = services.context();
    let long = "y".repeat(100_000);
    let cases = [
        ("", "", ""),
        ("a\n", "a\n", "a\n"),
        ("a\nb", "a\n", "a\nb\n"),
        ("b", "", "b\n"),
        (&format!("a\n{long}"), "a\n", &format!("a\n{long}\n")),
        (&long, "", &format!("{long}\n")),
    ];
    for (number, (before, truncated, terminated)) in cases.into_iter().enumerate() {
        for (mode, after) in [("truncate", truncated), ("terminate", terminated)] {
            let path = directory.path().join(format!("{number}-{mode}"));
            fs::write(&path, before).unwrap();
            let mut task = task(&context, &path, &[("torn.line", mode)]).unwrap();
            put(&mut task, text(["next"])).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{after}next\n"), "case {number}, {mode}");
        }
    }
    assert_eq!(warnings(&services, "They were: \"b\""), 2);
}

#[test]
fn a_file_without_any_line_is_not_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(100 << 20).unwrap();
    let context = TestServices::new().context();
    let error = task(&context, &path, &[]).map(|_| ()).unwrap_err();
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("this sink did not write it"), "{error}");
    assert_eq!(file.metadata().unwrap().len(), 100 << 20);
}

#[test]
fn a_file_moved_away_is_created_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.txt");
    let services = TestServices::new();
    let context = services.context();
    let mut task = task(&context, &path, &[("sync", "data")]).unwrap();
    put(&mut task, text(["one"])).unwrap();
    task.flush(&[]).unwrap();
    fs::rename(&path, directory.path().join("out.txt.1")).unwrap();
    put(&mut task, text(["two"])).unwrap();
    put(&mut task, text(["three"])).unwrap();
    task.flush(&[]).unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("out.txt.1")).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\nthree\n");
    fs::remove_file(&path).unwrap();
    put(&mut task, text(["four"])).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
    assert_eq!(warnings(&services, "was renamed or removed"), 2);
}

#[test]
fn tasks_share_a_file_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.txt");
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let path = &path;
            scope.spawn(move || {
                let context = TestServices::new().context();
                let line = name.repeat(500);
                for _ in 0..20 {
                    // Starting mends, which must not cut what another one is writing.
                    let mut task = loop {
                        match task(&context, path, &[]) {
                            Ok(task) => break task,
                            Err(error) => assert!(error.is_retriable(), "{error}"),
                        }
                    };
                    for _ in 0..10 {
                        while let Err(error) = put(&mut task, text(std::iter::repeat_n(line.as_str(), 200))) {
                            assert!(error.is_retriable(), "{error}");
                        }
                    }
                }
            });
        }
    });
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().count(), 3 * 20 * 10 * 200);
    assert!(written.lines().all(|line| line.len() == 500 && line.bytes().all(|byte| byte == line.as_bytes()[0])));
}

#[test]
fn a_full_device_is_retried() {
    let context = TestServices::new().context();
    let mut task = task(&context, Path::new("/dev/full"), &[]).unwrap();
    let error = put(&mut task, text(["one"])).unwrap_err();
    assert!(error.is_retriable());
    let message = error.to_string();
    assert!(
        message.contains("cannot write 4 bytes to file /dev/full") && message.contains("No space left"),
        "{message}"
    );
    task.flush(&[]).unwrap();
}

#[test]
fn a_directory_or_a_place_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let context = TestServices::new().context();
    let error = task(&context, directory.path(), &[]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("it is a directory; name a file"), "{error}");
    let error = task(&context, &directory.path().join("missing/out.txt"), &[]).map(|_| ()).unwrap_err();
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("missing/out.txt: No such file or directory"), "{error}");
}

#[test]
fn a_pipe_waits_for_its_reader() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let context = TestServices::new().context();
    assert!(task(&context, &path, &[]).map(|_| ()).unwrap_err().is_retriable(), "no reader yet");
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let reader = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
    let mut task = task(&context, &path, &[]).unwrap();
    let counting = std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let (mut count, mut line) = (0, String::new());
        while count < 20_000 {
            // The whole line may not be there yet.
            match reader.read_line(&mut line) {
                Ok(_) if line.ends_with('\n') => {
                    assert_eq!(line.len(), 100);
                    line.clear();
                    count += 1;
                }
                _ => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
        count
    });
    let line = "z".repeat(99);
    for _ in 0..20 {
        put(&mut task, text(std::iter::repeat_n(line.as_str(), 1000))).unwrap();
    }
    task.flush(&[]).unwrap();
    assert_eq!(counting.join().unwrap(), 20_000);
}
