//! A server process: started in a directory of its own, signalled, measured, and gone at the end.
//!
//! Output goes to one log file in the directory, appended over restarts; errors end with its tail.
//! The process leads its own group, so that signals reach its children too. Dropping a [`Server`]
//! kills it; should the test process die first, the [`watchdog`](crate::watchdog) does.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::{Context, Error, Result, Usage, wait, watchdog};

const LOG_TAIL: usize = 60;

/// A temporary directory that is removed at the end unless `TRIBUTARY_KEEP` is set.
#[derive(Debug)]
pub struct ScratchDir(PathBuf);

impl ScratchDir {
    /// Makes one whose name begins with `tributary-` and `name`.
    pub fn new(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("tributary-{name}-"))
            .tempdir()
            .context("cannot make a temporary directory")?
            .keep();
        if keep() {
            eprintln!("keeping {}", dir.display());
        } else {
            watchdog::watch_dir(&dir);
        }
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if !keep() {
            let _ = fs::remove_dir_all(&self.0);
            watchdog::unwatch_dir(&self.0);
        }
    }
}

fn keep() -> bool {
    std::env::var_os("TRIBUTARY_KEEP").is_some_and(|value| value != "0")
}

/// A server that may be running or not, with the command that starts it.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// A server that is not started yet and will log to `log`.
    pub fn new(name: &'static str, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { name, program: program.into(), args: Vec::new(), env: Vec::new(), log: log.into(), child: None }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts the process. It fails if one is running already.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Err(Error::new(format!("{} is running already", self.name)));
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context(format_args!("cannot start {}", self.program.display()))?;
        watchdog::watch(child.id());
        self.child = Some(child);
        Ok(())
    }

    /// Asks `probe` until it gives a value; fails at once when the process ends, else after `limit`.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let name = self.name;
        let child = self.child.as_mut().context(format_args!("{name} is not running"))?;
        let mut ended = None;
        let outcome = wait::until(&format!("{name} {what}"), limit, || {
            if let Some(status) = child.try_wait()? {
                ended = Some(status);
                return Ok(Some(None));
            }
            probe().map(|value| value.map(Some))
        });
        match outcome {
            Ok(Some(value)) => Ok(value),
            Ok(None) => {
                self.forget();
                let status = ended.map(|status| status.to_string()).unwrap_or_default();
                Err(self.with_log(format!("{name} ended ({status}) before it was {what}")))
            }
            Err(error) => Err(self.with_log(error.to_string())),
        }
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Result<u32> {
        let child = self.child.as_ref().context(format_args!("{} is not running", self.name))?;
        Ok(child.id())
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends a signal to the process and its children.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid()?;
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id out of range")?;
        rustix::process::kill_process_group(group, signal).context(format_args!("cannot signal {} ({pid})", self.name))
    }

    /// Kills it with SIGKILL and waits until it is gone. Nothing happens if it is not running.
    pub fn kill(&mut self) -> Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        // One that has ended meanwhile cannot be signalled, and need not be.
        let _ = self.signal(Signal::KILL);
        self.forget();
        Ok(())
    }

    /// Asks it with SIGTERM to end and waits. Past the limit it is killed, and that is an error.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name;
        self.signal(Signal::TERM)?;
        let child = self.child.as_mut().context(format_args!("{name} is not running"))?;
        match wait::until(&format!("{name} to end after SIGTERM"), limit, || Ok(child.try_wait()?)) {
            Ok(status) => {
                self.forget();
                Ok(status)
            }
            Err(error) => {
                let error = self.with_log(error.to_string());
                self.kill()?;
                Err(error)
            }
        }
    }

    /// Waits until it ends by itself.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name;
        let child = self.child.as_mut().context(format_args!("{name} is not running"))?;
        match wait::until(&format!("{name} to end"), limit, || Ok(child.try_wait()?)) {
            Ok(status) => {
                self.forget();
                Ok(status)
            }
            Err(error) => Err(self.with_log(error.to_string())),
        }
    }

    /// What it costs.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid()?)
    }

    /// Where it logs to.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All it has logged since its first start.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// An error that ends with the last lines of the log.
    pub fn with_log(&self, message: impl Into<String>) -> Error {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        Error::new(format!("{}\n--- the end of {}\n{tail}\n---", message.into(), self.log.display()))
    }

    /// Reaps the process.
    fn forget(&mut self) {
        if let Some(mut child) = self.child.take() {
            watchdog::unwatch(child.id());
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
