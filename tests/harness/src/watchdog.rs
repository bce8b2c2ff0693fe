//! Kills the servers and removes the directories that a dead test process leaves behind.
//!
//! A test process that ends by itself runs no destructor of a `static` (the shared broker), and one
//! that is killed runs none at all. So a small shell outside of it holds the list of what to clear
//! away and the reading end of a pipe: when the test process ends, in whatever way, the kernel closes
//! the pipe, the shell reads its end and clears away. It cannot help where it is itself killed first.
//!
//! (`PR_SET_PDEATHSIG` would not do: it fires when the *thread* that started the server ends, and
//! each test is a thread of its own.)

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Keeps two lists by commands of one letter and one argument a line: process groups (`+` add,
/// `-` remove) and directories (`d` add, `r` remove).
const SCRIPT: &str = r#"
groups=' '
dirs='
'
newline='
'
while read -r command argument; do
  case $command in
    +) groups="$groups$argument " ;;
    -) case $groups in *" $argument "*) groups="${groups%%" $argument "*} ${groups#*" $argument "}" ;; esac ;;
    d) dirs="$dirs$argument$newline" ;;
    r) case $dirs in *"$newline$argument$newline"*)
         dirs="${dirs%%"$newline$argument$newline"*}$newline${dirs#*"$newline$argument$newline"}" ;; esac ;;
  esac
done
for group in $groups; do kill -9 "-$group" 2>/dev/null; done
# A killed process needs a moment to let go of its files.
[ "$groups" = ' ' ] || sleep 0.3
printf '%s' "$dirs" | while read -r dir; do
  case $dir in /*/*) rm -rf -- "$dir" ;; esac
done
"#;

/// Has the process group killed when this process ends.
pub fn watch(group: u32) {
    tell('+', &group.to_string());
}

/// Takes the group off the list. To be called before it is reaped: from then on its number may belong to another.
pub fn unwatch(group: u32) {
    tell('-', &group.to_string());
}

/// Has the directory removed when this process ends.
pub fn watch_dir(dir: &Path) {
    tell('d', &dir.to_string_lossy());
}

/// Takes the directory off the list.
pub fn unwatch_dir(dir: &Path) {
    tell('r', &dir.to_string_lossy());
}

#[expect(clippy::zombie_processes, reason = "the shell ends after this process, which cannot wait for it")]
fn tell(command: char, argument: &str) {
    static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            // An inherited standard output would make whoever reads the tests' output wait for the shell.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal goes to the group of the tests, and this one has to outlive them.
            .process_group(0)
            .spawn()
            .expect("cannot start sh, which clears up behind the tests");
        // No other child inherits this end: the standard library opens pipes with close-on-exec.
        Mutex::new(shell.stdin.take().expect("stdin is piped"))
    });
    let mut pipe = pipe.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // A shell that somebody killed is no reason to fail a test.
    let _ = writeln!(pipe, "{command} {argument}");
}
