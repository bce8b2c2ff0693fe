//! Judges whether what was delivered is what was sent.
//!
//! The checker knows nothing of the worker: it reads the output, a file or a topic, with its own
//! code and compares it with the [`Lines`] that went in. It tells lines that are missing, that came
//! more than once, that came before an earlier one, that are damaged and that nobody sent.
//!
//! Order is judged by **first** deliveries and a partition at a time: at-least-once may go back and
//! repeat a run of lines, but a line may not come for the first time after one that was sent later.
//! How often the output goes back is counted as `rewinds`; there is no reason for more of them than
//! there were crashes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::lines::{self, Lines};
use crate::{Context, Error, KafkaBroker, Result};

/// Differences that are spelled out; the rest is only counted.
const SHOWN: usize = 10;

/// Collects what was delivered.
#[derive(Debug)]
pub struct Checker {
    sources: BTreeMap<u32, Source>,
    /// By partition and source: the number delivered last, and the highest so far.
    positions: BTreeMap<(i32, u32), (u64, u64)>,
    report: Report,
}

#[derive(Debug)]
struct Source {
    first: u64,
    /// Deliveries of each line, up to 255.
    deliveries: Vec<u8>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that went in.
    pub expected: u64,
    /// Lines of the output, whatever they are.
    pub delivered: u64,
    /// Lines that went in and never came out.
    pub missing: u64,
    /// Deliveries beyond the first of a line.
    pub duplicates: u64,
    /// First deliveries that came after a line sent later, in the same partition.
    pub reordered: u64,
    /// Lines that are damaged: cut short, run together, changed.
    pub torn: u64,
    /// Whole lines that are not among those expected.
    pub foreign: u64,
    /// How often the output went back to an earlier line.
    pub rewinds: u64,
    /// The first differences, in words.
    pub differences: Vec<String>,
}

impl Checker {
    /// A checker that expects these lines, each run from a source of its own.
    pub fn new<'a>(expected: impl IntoIterator<Item = &'a Lines>) -> Self {
        let mut report = Report::default();
        let mut sources = BTreeMap::new();
        for lines in expected {
            report.expected += lines.count();
            let deliveries = vec![0; usize::try_from(lines.count()).expect("fits into memory")];
            sources.insert(lines.source(), Source { first: lines.numbers().start, deliveries });
        }
        Self { sources, positions: BTreeMap::new(), report }
    }

    /// Takes one line, without its newline, as the next of a partition.
    pub fn line(&mut self, partition: i32, line: &[u8]) {
        let place = self.report.delivered;
        self.report.delivered += 1;
        let Some((source, number)) = lines::read(line) else {
            self.report.torn += 1;
            return self.report.differ(|| format!("line {place} is damaged: {:?}", String::from_utf8_lossy(line)));
        };
        let deliveries = self.sources.get_mut(&source).and_then(|source| {
            let index = usize::try_from(number.checked_sub(source.first)?).ok()?;
            source.deliveries.get_mut(index)
        });
        let Some(deliveries) = deliveries else {
            self.report.foreign += 1;
            return self.report.differ(|| format!("line {place}: nobody sent number {number} of source {source}"));
        };
        let first_delivery = *deliveries == 0;
        *deliveries = deliveries.saturating_add(1);
        if !first_delivery {
            self.report.duplicates += 1;
        }
        let Some((last, highest)) = self.positions.get_mut(&(partition, source)) else {
            self.positions.insert((partition, source), (number, number));
            return;
        };
        if number <= *last {
            self.report.rewinds += 1;
        }
        if first_delivery && number < *highest {
            self.report.reordered += 1;
            let highest = *highest;
            self.report.differ(|| {
                format!("line {place}: number {number} of source {source} comes first after {highest}, partition {partition}")
            });
        }
        *last = number;
        *highest = number.max(*highest);
    }

    /// Reads a file as one partition.
    pub fn file(mut self, path: &Path) -> Result<Report> {
        let file = File::open(path).context(format_args!("cannot open {}", path.display()))?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 {
            // A last line that lacks its newline is torn, even where nothing else is lost.
            let whole = line.strip_suffix(b"\n");
            self.line(0, whole.unwrap_or(b"no newline at the end"));
            line.clear();
        }
        Ok(self.finish())
    }

    /// Reads what is committed in a topic from its beginning to its present end.
    pub fn topic(mut self, broker: &KafkaBroker, topic: &str) -> Result<Report> {
        read_topic(broker, topic, |partition, payload| self.line(partition, payload.unwrap_or(b"a null value")))?;
        Ok(self.finish())
    }

    /// Ends the counting.
    pub fn finish(mut self) -> Report {
        for (number, source) in &self.sources {
            let missing = source.deliveries.iter().enumerate().filter(|(_, deliveries)| **deliveries == 0);
            for (index, _) in missing {
                self.report.missing += 1;
                let line = source.first + index as u64;
                self.report.differ(|| format!("number {line} of source {number} is missing"));
            }
        }
        self.report
    }
}

impl Report {
    /// Fails unless every line came once, whole and in order.
    pub fn exactly_once(&self) -> Result<()> {
        self.judge(self.duplicates == 0)
    }

    /// Fails unless every line came at least once, whole, and for the first time in order.
    pub fn at_least_once(&self) -> Result<()> {
        self.judge(true)
    }

    fn judge(&self, else_good: bool) -> Result<()> {
        let Self { missing, reordered, torn, foreign, .. } = self;
        if else_good && [missing, reordered, torn, foreign].into_iter().all(|count| *count == 0) {
            return Ok(());
        }
        Err(Error::new(self.to_string()))
    }

    fn differ(&mut self, difference: impl FnOnce() -> String) {
        if self.differences.len() < SHOWN {
            self.differences.push(difference());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, delivered, missing, duplicates, reordered, torn, foreign, rewinds, differences } = self;
        write!(
            f,
            "{delivered} lines for {expected}: {missing} missing, {duplicates} duplicates, {reordered} reordered, "
        )?;
        write!(f, "{torn} damaged, {foreign} foreign, {rewinds} rewinds")?;
        differences.iter().try_for_each(|difference| write!(f, "\n  {difference}"))
    }
}

/// Calls `each` with partition and value of every committed record, up to the ends at the time of the call.
pub fn read_topic(broker: &KafkaBroker, topic: &str, mut each: impl FnMut(i32, Option<&[u8]>)) -> Result<()> {
    const SILENCE: Duration = Duration::from_secs(30);
    let ends = broker.watermarks(topic)?;
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "checker")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "10")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    let mut open = 0;
    for (partition, (first, next)) in (0..).zip(&ends) {
        if next > first {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            open += 1;
        }
    }
    consumer.assign(&assignment)?;
    // Transactions leave markers that take offsets but are no records, so a partition is at its end
    // when the client says so, not when a certain offset was seen.
    while open > 0 {
        match consumer.poll(SILENCE) {
            Some(Ok(record)) => each(record.partition(), record.payload()),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error).context(format_args!("cannot read topic {topic}")),
            None => {
                let seconds = SILENCE.as_secs();
                return Err(Error::new(format!(
                    "nothing came from topic {topic} for {seconds} s; {open} partitions open"
                )));
            }
        }
    }
    Ok(())
}

/// Fails at the first byte in which two files differ.
pub fn same_bytes(left: &Path, right: &Path) -> Result<()> {
    let open = |path: &Path| {
        let file = File::open(path).context(format_args!("cannot open {}", path.display()))?;
        Ok::<_, Error>(BufReader::with_capacity(1 << 20, file))
    };
    let (mut a, mut b) = (open(left)?, open(right)?);
    let mut offset = 0u64;
    loop {
        let (x, y) = (a.fill_buf()?, b.fill_buf()?);
        let n = x.len().min(y.len());
        if x[..n] != y[..n] || (n == 0 && x.len() != y.len()) {
            let same = x.iter().zip(y).take_while(|(x, y)| x == y).count();
            let (left, right) = (left.display(), right.display());
            return Err(Error::new(format!("{left} and {right} differ from byte {} on", offset + same as u64)));
        }
        if n == 0 {
            return Ok(());
        }
        a.consume(n);
        b.consume(n);
        offset += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(numbers: &[u64]) -> Report {
        let expected = Lines::new(10);
        let lines: Vec<Vec<u8>> = expected.iter().collect();
        let mut checker = Checker::new([&expected]);
        for number in numbers {
            checker.line(0, &lines[usize::try_from(*number).unwrap()]);
        }
        checker.finish()
    }

    #[test]
    fn all_in_order_is_exact() {
        let report = report(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        report.exactly_once().unwrap();
        assert_eq!(report, Report { expected: 10, delivered: 10, ..Report::default() });
    }

    #[test]
    fn a_loss_is_found() {
        let report = report(&[0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert_eq!(report.missing, 1);
        assert_eq!(report.differences, ["number 3 of source 0 is missing"]);
        assert!(report.at_least_once().is_err());
    }

    #[test]
    fn a_repeated_run_is_counted_and_allowed_at_least_once() {
        let report = report(&[0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!((report.duplicates, report.rewinds, report.reordered), (2, 1, 0));
        report.at_least_once().unwrap();
        assert!(report.exactly_once().is_err());
    }

    #[test]
    fn a_line_that_overtakes_another_is_found() {
        let report = report(&[0, 1, 3, 2, 4, 5, 6, 7, 8, 9]);
        assert_eq!((report.missing, report.duplicates, report.reordered), (0, 0, 1));
        assert!(report.at_least_once().is_err());
    }

    #[test]
    fn order_counts_within_a_partition_only() {
        let expected = Lines::new(4);
        let mut checker = Checker::new([&expected]);
        for (partition, line) in [1, 0, 1, 0].into_iter().zip(expected.iter().collect::<Vec<_>>().into_iter().rev()) {
            checker.line(partition, &line);
        }
        assert_eq!(checker.finish().reordered, 2);
    }

    #[test]
    fn damaged_and_foreign_lines_are_told_apart() {
        let (expected, other) = (Lines::new(1), Lines::new(1).of_source(9));
        let mut checker = Checker::new([&expected]);
        let line = expected.iter().next().unwrap();
        checker.line(0, &line);
        checker.line(0, &[&line[..40], &line[..]].concat());
        checker.line(0, &other.iter().next().unwrap());
        let report = checker.finish();
        assert_eq!((report.torn, report.foreign, report.missing), (1, 1, 0));
        assert!(report.at_least_once().is_err());
    }

    #[test]
    fn files_are_compared_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (left, right) = (dir.path().join("left"), dir.path().join("right"));
        let lines = Lines::new(30_000);
        lines.write(&left).unwrap();
        lines.write(&right).unwrap();
        same_bytes(&left, &right).unwrap();
        Checker::new([&lines]).file(&left).unwrap().exactly_once().unwrap();

        let mut bytes = std::fs::read(&right).unwrap();
        bytes[2_500_000] ^= 1;
        std::fs::write(&right, &bytes).unwrap();
        assert!(same_bytes(&left, &right).unwrap_err().to_string().contains("from byte 2500000 on"));
        bytes[2_500_000] ^= 1;
        bytes.pop();
        std::fs::write(&right, &bytes).unwrap();
        assert!(same_bytes(&left, &right).unwrap_err().to_string().contains("from byte 2999999 on"));
        assert_eq!(Checker::new([&lines]).file(&right).unwrap().torn, 1);
    }
}
