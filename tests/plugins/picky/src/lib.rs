//! Refuses records by the last digit of their number (`{"seq":123,…`), so that a test knows what becomes of each.
//!
//! The sink writes what it accepts to a file, one value a line; it refuses 7 for good and 3 the first time, and every seventh
//! call as a whole. The transform refuses the digit of its `refuse`, and every eleventh call as a whole.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;

use tributary_sdk::sink::Failures;
use tributary_sdk::*;

#[derive(Default)]
struct PickySinkConnector(Config);

impl SinkConnector for PickySinkConnector {
    type Task = PickySink;

    fn config_def() -> ConfigDef {
        ConfigDef::new()
    }

    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.0 = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
        Ok(vec![self.0.clone()])
    }
}

#[derive(Default)]
struct PickySink {
    out: Option<File>,
    calls: u64,
    refused_once: HashSet<u64>,
}

impl SinkTask for PickySink {
    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        let path = config.required("file")?;
        let file = File::options().create(true).append(true).open(path);
        self.out = Some(file.map_err(|error| Error::failed(format!("cannot open {path}: {error}")))?);
        Ok(())
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        self.calls += 1;
        if self.calls % 7 == 3 {
            return Err(Error::retriable("the system is busy"));
        }
        let texts = batch.value.as_text().ok_or_else(|| Error::failed("the values are no text"))?;
        let mut accepted = Vec::new();
        for row in 0..batch.len() {
            let number = number(texts.value(row));
            match number.map(|number| number % 10) {
                None | Some(7) => failures.fail(row, format!("number {number:?} is not wanted")),
                Some(3) if self.refused_once.insert(number.unwrap_or_default()) => failures.retry(row, "not now"),
                Some(_) => {
                    accepted.extend_from_slice(texts.value(row).as_bytes());
                    accepted.push(b'\n');
                }
            }
        }
        let out = self.out.as_mut().ok_or_else(|| Error::failed("not started"))?;
        out.write_all(&accepted).map_err(|error| Error::failed(format!("cannot write: {error}")))
    }
}

#[derive(Default)]
struct Picky {
    refuse: u64,
    calls: u64,
}

impl Transform for Picky {
    fn config_def() -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.refuse = config.parsed("refuse", 9)?;
        Ok(())
    }

    fn apply(&mut self, batch: Batch, output: &mut Output<'_>, failures: &mut Failures) -> Result<()> {
        self.calls += 1;
        if self.calls % 11 == 5 {
            return Err(Error::retriable("the lookup is busy"));
        }
        let texts = batch.value.as_text().ok_or_else(|| Error::failed("the values are no text"))?;
        let mut from = 0;
        for row in 0..batch.len() {
            if number(texts.value(row)).is_none_or(|number| number % 10 == self.refuse) {
                failures.fail(row, "this digit is refused");
                output.emit(batch.slice(from, row - from))?;
                from = row + 1;
            }
        }
        output.emit(batch.slice(from, batch.len() - from))
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("{\"seq\":")?;
    digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

export_plugin!(
    Plugin::new("picky", "0.1.0")
        .sink::<PickySinkConnector>("com.example.PickySink")
        .transform::<Picky>("com.example.Picky")
);
