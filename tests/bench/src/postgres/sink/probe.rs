//! How far a sink is, asked often and cheaply: one session of psql that stays, and a few look-ups by key.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use tributary_harness::{Context, Error, Postgres, Result};

use super::rows::{Rows, TABLE};
use crate::postgres::workload::DATABASE;

/// Into how many parts the records are divided: so finely progress is seen.
const PARTS: u64 = 200;

/// See the module.
pub struct Probe {
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    rows: Rows,
    /// The last records of the parts that are there, and how many of these are.
    done: u64,
}

impl Probe {
    pub fn start(server: &Postgres, rows: Rows) -> Result<Self> {
        let mut psql = server.tool("psql", DATABASE);
        let mut psql = psql
            .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run psql")?;
        let input = psql.stdin.take().context("psql has no input")?;
        let output = BufReader::new(psql.stdout.take().context("psql has no output")?);
        Ok(Self { psql, input, output, rows, done: 0 })
    }

    /// How many records are in the table at least. They are written in order, so the last one of a part stands for it.
    pub fn records(&mut self) -> Result<u64> {
        while self.done < PARTS && self.is_there(self.last_of(self.done))? {
            self.done += 1;
        }
        Ok(if self.done == 0 { 0 } else { self.last_of(self.done - 1) + 1 })
    }

    fn last_of(&self, part: u64) -> u64 {
        (part + 1) * self.rows.records() / PARTS - 1
    }

    fn is_there(&mut self, record: u64) -> Result<bool> {
        let (id, round) = (self.rows.id(record), self.rows.round(record));
        writeln!(self.input, "SELECT count(*) FROM {TABLE} WHERE id = {id} AND right(customer, 1) >= '{round}';")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim() {
            "0" => Ok(false),
            "1" => Ok(true),
            other => Err(Error::new(format!("psql answered \"{other}\""))),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
