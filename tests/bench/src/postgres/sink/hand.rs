//! COPY and merge by hand: psql with files that are there already. What the server can do at most with such statements.

use std::fmt::Write as _;
use std::time::Instant;

use tributary_harness::process::ScratchDir;
use tributary_harness::{Context, Error, Postgres, Result};

use super::rows::{COLUMNS, Rows, TABLE};
use crate::postgres::workload::DATABASE;

/// Records a second in transactions of so many, and seconds of a processor that the server took for a million of them.
pub fn rate(server: &Postgres, rows: Rows, batch: u64) -> Result<(f64, f64)> {
    let dir = ScratchDir::new("by-hand")?;
    let set: Vec<String> = COLUMNS[1..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let mut script =
        format!("SET client_min_messages = error;\nCREATE TEMP TABLE stage (LIKE {TABLE}) ON COMMIT DELETE ROWS;\n");
    for half in [0..rows.0, rows.0..rows.records()] {
        for from in half.clone().step_by(batch as usize) {
            let path = dir.path().join(from.to_string());
            std::fs::write(&path, rows.lines(from..half.end.min(from + batch)))?;
            let _ = write!(
                script,
                "BEGIN;\n\\copy stage FROM '{}'\nINSERT INTO {TABLE} SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {};\nCOMMIT;\n",
                path.display(),
                set.join(", ")
            );
        }
    }
    let _ = writeln!(script, "{};", session_ticks("SELECT pg_backend_pid() AS pid"));
    let file = dir.path().join("script");
    std::fs::write(&file, script)?;
    server.sql(DATABASE, &Rows::ddl())?;
    let begun = Instant::now();
    let output = server
        .tool("psql", DATABASE)
        .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&file)
        .output()?;
    if !output.status.success() {
        return Err(Error::new(String::from_utf8_lossy(&output.stderr)));
    }
    let seconds = begun.elapsed().as_secs_f64();
    rows.check(|sql| server.sql(DATABASE, sql))?;
    let ticks: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("no ticks of the session")?;
    Ok((rows.records() as f64 / seconds, ticks * 1e4 / rows.records() as f64))
}

/// A statement that answers how many ticks (1/100 s) of a processor the sessions with these process ids took.
pub fn session_ticks(pids: &str) -> String {
    // The second field of the kernel's answer is a name, which may have spaces in it.
    format!(
        "SELECT COALESCE(sum(f[12]::bigint + f[13]::bigint), 0) FROM \
         (SELECT string_to_array(regexp_replace(pg_read_file('/proc/' || pid || '/stat', 0, 999), '^.*\\) ', ''), ' ') AS f FROM ({pids}) AS p) AS s"
    )
}
