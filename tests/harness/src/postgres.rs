//! A real PostgreSQL server: Debian's, with logical replication, in a temporary directory.
//!
//! It refuses to run as root, so there it runs as the user that Debian's package brings. It survives [`Postgres::kill9`]: what it has
//! committed is there after [`Postgres::restart`]. Statements go through `psql`, so that tests do not look through the eyes of
//! what they test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::process::{ScratchDir, Server};
use crate::{Context, Error, Result, debian, ports, wait};

/// The superuser, and its password.
pub const USER: &str = "tester";
/// See [`USER`]. Special characters, so that whoever forgets to quote it is found out.
pub const PASSWORD: &str = "s3cret'\"\\ &=pass";

/// A server that lives as long as this value.
#[derive(Debug)]
pub struct Postgres {
    // The process must be gone before its directory is.
    server: Mutex<Server>,
    port: u16,
    bin: PathBuf,
    _dir: ScratchDir,
}

impl Postgres {
    /// The server that the tests of a process share, each with a database of its own.
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// Starts a server.
    pub fn start() -> Result<Self> {
        let bin = bin()?;
        let dir = ScratchDir::new("postgres")?;
        let data = dir.path().join("data");
        let password = dir.path().join("password");
        fs::create_dir(&data)?;
        fs::write(&password, PASSWORD)?;
        let user = user()?;
        if let Some((uid, gid)) = user {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
            chown(&data, Some(uid), Some(gid))?;
            chown(&password, Some(uid), Some(gid))?;
        }
        init(&bin, &data, &password, user)?;
        let port = ports::free()?;
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "unix_socket_directories=".to_owned(),
            "wal_level=logical".to_owned(),
            "max_wal_senders=40".to_owned(),
            "max_replication_slots=40".to_owned(),
            // A killed process leaves its pages with the kernel.
            "fsync=off".to_owned(),
            "shared_buffers=32MB".to_owned(),
            "autovacuum=off".to_owned(),
        ];
        let mut args: Vec<String> = Vec::new();
        let program = bin.join("postgres");
        let mut server = match user {
            None => Server::new("postgres", &program, dir.path().join("postgres.log")),
            Some((uid, gid)) => {
                args.extend([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
                args.push(program.display().to_string());
                Server::new("postgres", "setpriv", dir.path().join("postgres.log"))
            }
        };
        args.extend(["-D".to_owned(), data.display().to_string()]);
        args.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        server = server.args(args);
        let this = Self { server: Mutex::new(server), port, bin, _dir: dir };
        this.restart()?;
        Ok(this)
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server with SIGKILL; its sessions end with it.
    pub fn kill9(&self) -> Result<()> {
        self.server().kill()
    }

    /// Starts it (again) and waits until it answers.
    pub fn restart(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut server = self.server();
            server.start()?;
            let answers = server.wait_until("answering", wait::PATIENCE, || {
                Ok(self.try_sql("postgres", "SELECT 1").is_ok().then_some(()))
            });
            match answers {
                // The sessions of a server that was killed hold its memory until they notice.
                Err(_) if !server.is_running() && begun.elapsed() < wait::PATIENCE => {
                    drop(server);
                    std::thread::sleep(Duration::from_millis(50));
                }
                outcome => return outcome,
            }
        }
    }

    /// Makes a database.
    pub fn create_database(&self, name: &str) -> Result<()> {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\"")).map(drop)
    }

    /// Runs statements in a database; answers the rows, with `|` between the columns and without trailing line end.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String> {
        self.try_sql(database, statements).map_err(|error| Error::new(format!("{statements}: {error}")))
    }

    /// One of PostgreSQL's tools (`pgbench`, `pg_recvlogical`), with where the server is, the user, the password and the database.
    pub fn tool(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", USER)
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", database)
            .stdin(Stdio::null());
        command
    }

    fn try_sql(&self, database: &str, statements: &str) -> Result<String> {
        let mut child = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER, "-f", "-"])
            .args(["-p", &self.port.to_string(), "-d", database])
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run psql")?;
        let mut stdin = child.stdin.take().context("psql has no input")?;
        let text = statements.to_owned();
        // What it answers may be more than a pipe holds, and so may the statements.
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()));
        let output = child.wait_with_output()?;
        let _ = writer.join();
        if !output.status.success() {
            return Err(Error::new(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// An error that ends with the last lines of the server's log.
    pub fn with_log(&self, message: impl Into<String>) -> Error {
        self.server().with_log(message)
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The newest version's programs, installed if there are none.
fn bin() -> Result<PathBuf> {
    let find = || {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let with_version = |path: PathBuf| {
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let bin = path.join("bin");
            bin.join("initdb").exists().then_some((version, bin))
        };
        versions.filter_map(|entry| with_version(entry.path())).max().map(|(_, bin)| bin)
    };
    if let Some(bin) = find() {
        return Ok(bin);
    }
    debian::install("postgresql")?;
    find().context("the package postgresql was installed, and there is no /usr/lib/postgresql/*/bin/initdb")
}

/// Whom the server runs as; `None`: who runs the tests.
fn user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let line = passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user = ids("postgres").or_else(|| ids("nobody"));
    user.map(Some).context("the server cannot run as root, and there is neither a user postgres nor nobody")
}

fn init(bin: &Path, data: &Path, password: &Path, user: Option<(u32, u32)>) -> Result<()> {
    let mut command = Command::new(bin.join("initdb"));
    command
        .args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--pwfile"])
        .arg(password)
        .arg("-D")
        .arg(data)
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    let output = command.output().context("cannot run initdb")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr))))
}
