//! Input whose loss, repetition, reordering and tearing can be told from the output alone.
//!
//! A line is a JSON object of exactly [`LENGTH`] bytes with the number of its source, its own number
//! and a checksum over all that stands before it:
//!
//! ```json
//! {"seq":123456,"src":0,"user":"u0576","amount":1234.56,"ok":true,"pad":"xxxxxxxx","crc":"0f1e2d3c"}
//! ```
//!
//! The same numbers always give the same bytes, so nothing has to be kept to compare with.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use crate::{Context, Result};

/// Bytes of a line without its newline.
pub const LENGTH: usize = 99;

const CRC: &[u8] = b",\"crc\":\"";
/// `,"crc":"01234567"}`
const TAIL: usize = CRC.len() + 8 + 2;

/// A run of numbered lines of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    source: u32,
    numbers: Range<u64>,
}

impl Lines {
    /// The lines 0 to `count` of source 0.
    pub fn new(count: u64) -> Self {
        Self { source: 0, numbers: 0..count }
    }

    /// The same lines of another source. Lines of different sources never look alike.
    pub fn of_source(mut self, source: u32) -> Self {
        self.source = source;
        self
    }

    /// The lines of these numbers instead.
    pub fn with_numbers(mut self, numbers: Range<u64>) -> Self {
        self.numbers = numbers;
        self
    }

    /// How many lines these are.
    pub fn count(&self) -> u64 {
        self.numbers.end.saturating_sub(self.numbers.start)
    }

    /// How many bytes they take in a file, newlines included.
    pub fn bytes(&self) -> u64 {
        self.count() * (LENGTH as u64 + 1)
    }

    pub(crate) fn source(&self) -> u32 {
        self.source
    }

    pub(crate) fn numbers(&self) -> &Range<u64> {
        &self.numbers
    }

    /// Writes them to a new file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).context(format_args!("cannot create {}", path.display()))?;
        self.write_to(file)
    }

    /// Adds them to the end of a file.
    pub fn append(&self, path: &Path) -> Result<()> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .context(format_args!("cannot open {}", path.display()))?;
        self.write_to(file)
    }

    fn write_to(&self, file: File) -> Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut line = Vec::with_capacity(LENGTH + 1);
        for number in self.numbers.clone() {
            put(self.source, number, &mut line)?;
            line.push(b'\n');
            out.write_all(&line)?;
        }
        Ok(out.flush()?)
    }

    /// The last of them, without a newline.
    pub fn last(&self) -> Option<Vec<u8>> {
        let last = self.numbers.clone().next_back()?;
        self.clone().with_numbers(last..last + 1).iter().next()
    }

    /// They, one after another, each without a newline.
    pub fn iter(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.numbers.clone().map(|number| {
            let mut line = Vec::with_capacity(LENGTH);
            put(self.source, number, &mut line).expect("writing to memory");
            line
        })
    }
}

/// Replaces the content of `line`.
fn put(source: u32, number: u64, line: &mut Vec<u8>) -> io::Result<()> {
    line.clear();
    // Spread over users and amounts, and the same every time.
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let (user, cents) = (mixed % 1000, mixed / 1000 % 1_000_000);
    write!(
        line,
        r#"{{"seq":{number},"src":{source},"user":"u{user:04}","amount":{}.{:02},"ok":{},"pad":""#,
        cents / 100,
        cents % 100,
        !number.is_multiple_of(3),
    )?;
    line.resize(LENGTH - TAIL - 1, b'x');
    line.push(b'"');
    let crc = crc32c::crc32c(line);
    line.extend_from_slice(CRC);
    write!(line, "{crc:08x}\"}}")
}

/// Source and number of a line, if it is whole and unchanged.
pub(crate) fn read(line: &[u8]) -> Option<(u32, u64)> {
    let (head, tail) = line.split_at_checked(line.len().checked_sub(TAIL)?)?;
    let crc = tail.strip_prefix(CRC)?.strip_suffix(b"\"}")?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    if line.len() != LENGTH || crc != crc32c::crc32c(head) {
        return None;
    }
    let (number, rest) = digits(head.strip_prefix(b"{\"seq\":")?)?;
    let (source, _) = digits(rest.strip_prefix(b",\"src\":")?)?;
    Some((u32::try_from(source).ok()?, number))
}

fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at(end);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_json_of_the_same_length_and_reads_back() {
        for number in [0, 7, 99_999, 3_000_000, 9_999_999_999] {
            for source in [0, 12] {
                let lines = Lines::new(0).of_source(source).with_numbers(number..number + 1);
                let line = lines.iter().next().unwrap();
                assert_eq!(line.len(), LENGTH);
                let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
                assert_eq!(json["seq"], number);
                assert_eq!(read(&line), Some((source, number)));
            }
        }
    }

    #[test]
    fn a_torn_or_changed_line_does_not_read() {
        let line = Lines::new(1).iter().next().unwrap();
        assert_eq!(read(&line[..50]), None);
        assert_eq!(read(&line[1..]), None);
        let mut changed = line.clone();
        changed[10] = b'7';
        assert_eq!(read(&changed), None);
        assert_eq!(read(b""), None);
    }

    #[test]
    fn a_file_holds_them_one_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let lines = Lines::new(1000);
        lines.write(&path).unwrap();
        lines.clone().with_numbers(1000..1010).append(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, lines.bytes() + 1000);
        let want: Vec<u8> = Lines::new(1010).iter().flat_map(|line| [line, b"\n".to_vec()].concat()).collect();
        assert_eq!(bytes, want);
    }
}
