//! What the source's task does: reads a file or stream, and makes batches of its lines.
//!
//! Promises: lines in order, and with each batch the position to resume behind it; lines of a batch that was not taken are
//! given again. Rotation and truncation are followed, logged and counted.
//!
//! Fails: for good at what somebody has to mend (a directory, a permission, a line above `max.line.bytes`), retriably at
//! what may pass; after that, the next poll goes on where this one stood.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::arrow::array::{BinaryArray, StringArray};
use tributary_sdk::arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use tributary_sdk::{Batch, Column, Context, Error, Output, Result};

use crate::config::{LongLines, SourceConfig};
use crate::errors::shown;
use crate::lines::{LineBuffer, Lines, Stop};
use crate::offsets::{self, Resume};
use crate::stream::{Got, Stream};
use crate::tail::{Change, Found, Tail};

/// Counter: files left because another one had taken their path.
pub(crate) const ROTATIONS: &str = "file-rotations";
/// Counter: files that became shorter than what had been read of them.
pub(crate) const TRUNCATIONS: &str = "file-truncations";
/// Counter: lines above `max.line.bytes` that were skipped.
pub(crate) const SKIPPED: &str = "lines-skipped";
/// Gauge: bytes of the file that have not been read yet.
const BEHIND: &str = "file-bytes-behind";

/// Waits at the end of the file: first short, for a writer that is at work, then longer, for little use of the processor.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// How long one poll may wait in all, so that the worker can pause and stop the task.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is read, as messages name it.
pub(crate) fn named(file: Option<&Path>) -> String {
    file.map_or_else(|| "standard input".to_owned(), shown)
}

enum Input {
    File(Tail),
    Stream(Stream),
}

pub(crate) struct Reader {
    context: Context,
    config: SourceConfig,
    /// What is read, as messages name it.
    name: String,
    input: Input,
    buffer: LineBuffer,
    /// Where to begin, until the file is open.
    resume: Resume,
    /// Of a file: its source partition.
    partition: Option<Arc<str>>,
    /// Of the file being read, where offsets name it.
    identity: Option<String>,
    /// The next wait at the end.
    wait: Duration,
    /// Since when a file that has a successor gave nothing more, ms since the epoch.
    quiet_since: Option<i64>,
    /// Nothing will be added to what is being read.
    finished: bool,
    /// It was said that the file is not there.
    missing: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("config", &self.config).field("position", &self.buffer.position()).finish()
    }
}

/// What to do when there is no whole line.
enum Next {
    /// Look again at once.
    Again,
    /// Wait first.
    Wait,
    /// Look again: reading has waited already, so long.
    Waited(Duration),
}

impl Reader {
    pub fn new(context: &Context, config: SourceConfig) -> Result<Self> {
        let (input, resume, partition) = match &config.file {
            None => (Input::Stream(Stream::stdin()?), Resume::default(), None),
            Some(path) => {
                let stored = context.offset(&offsets::partition(path))?;
                let resume = offsets::resume(stored.as_ref())?;
                (Input::File(Tail::new(path)), resume, Some(offsets::partition_text(path)))
            }
        };
        Ok(Self {
            context: context.clone(),
            name: named(config.file.as_deref()),
            buffer: LineBuffer::new(config.max_line_bytes),
            config,
            input,
            resume,
            partition,
            identity: None,
            wait: FIRST_WAIT,
            quiet_since: None,
            finished: false,
            missing: false,
        })
    }

    pub fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let mut waited = Duration::ZERO;
        while !self.context.cancelled() {
            let more = if self.buffer.wants_more() && !self.finished { self.fill()? } else { 0 };
            let (lines, stop) = self.buffer.take(self.config.batch_size, self.finished, |_| true);
            if lines.len() > 0 {
                return self.emit(lines, output);
            }
            let next = match stop {
                Stop::TooLong => self.too_long().map(|()| Next::Again)?,
                Stop::NeedMore if more == 0 => self.at_end()?,
                _ => Next::Again,
            };
            match next {
                Next::Again => continue,
                Next::Waited(time) => waited += time,
                Next::Wait => {
                    self.context.wait(self.wait);
                    waited += self.wait;
                    self.wait = (self.wait * 2).min(LONGEST_WAIT);
                }
            }
            if waited >= PATIENCE {
                break;
            }
        }
        Ok(())
    }

    /// Reads what there is, up to the buffer's size. The answer is the number of bytes.
    fn fill(&mut self) -> Result<usize> {
        let count = match &mut self.input {
            Input::File(tail) => {
                if !tail.is_open() && !self.open()? {
                    return Ok(0);
                }
                let Input::File(tail) = &mut self.input else { return Ok(0) };
                let count = tail.read(self.buffer.space())?;
                if count > 0 {
                    // Rotations are seen also while there is much to catch up with. What goes wrong with the new file is
                    // reported when it is its turn.
                    let _ = tail.look_at_path();
                    self.context.gauge(BEHIND, tail.behind(self.buffer.read_position() + count as u64) as f64);
                }
                count
            }
            Input::Stream(stream) => match stream.read(self.buffer.space(), LONGEST_WAIT)? {
                Got::Bytes(count) => count,
                Got::Nothing => 0,
                Got::End => {
                    self.finished = true;
                    0
                }
            },
        };
        self.buffer.filled(count);
        if count > 0 {
            self.wait = FIRST_WAIT;
            self.quiet_since = None;
        }
        Ok(count)
    }

    /// Opens the file at the place to resume. Whether there is one to read now.
    fn open(&mut self) -> Result<bool> {
        let opened = self.open_at_resume();
        match (&opened, &mut self.input) {
            (Ok(true), _) => self.resume = Resume::default(),
            // The next poll begins anew.
            (_, Input::File(tail)) => tail.close(),
            _ => {}
        }
        opened
    }

    fn open_at_resume(&mut self) -> Result<bool> {
        let Input::File(tail) = &mut self.input else { return Ok(false) };
        let path = &self.name;
        let mut length = match tail.open()? {
            Found::File(length) => length,
            Found::Stream => {
                let stream = Stream::open(tail.path())?;
                self.context.info(format!("{path} is a pipe or device: it is read as a stream, without offsets"));
                self.input = Input::Stream(stream);
                self.partition = None;
                return Ok(false);
            }
            Found::Missing => {
                if !self.missing {
                    self.context.warn(format!("{path} is not there: waiting for it"));
                    self.missing = true;
                }
                return Ok(false);
            }
        };
        let Resume { mut position, identity } = self.resume.clone();
        if let Some(stored) = identity
            && tail.identity().as_ref() != Some(&stored)
        {
            if tail.open_identity(&stored)? {
                length = tail.behind(0);
                self.context.warn(format!(
                    "{path} was replaced while the task was away: the old file is read to its end first, from position {position}"
                ));
            } else {
                self.context.warn(format!(
                    "{path} was replaced while the task was away, and the old file, read up to position {position}, \
                     is not in its directory any more: reading the new one from its start"
                ));
                self.context.count(ROTATIONS, 1.0);
                position = 0;
            }
        }
        if position > length {
            self.context.warn(format!(
                "{path} was truncated: it has {length} bytes, and {position} had been read: reading it from its start"
            ));
            self.context.count(TRUNCATIONS, 1.0);
            position = 0;
        }
        if position > 0 {
            let mut before = [0];
            tail.seek(position - 1)?;
            if tail.read(&mut before)? == 1 && !matches!(before[0], b'\n' | b'\r') {
                self.context.warn(format!(
                    "position {position} of {path} is not the start of a line: the offset was set by hand, or the file was \
                     replaced while the task was away (offset.identity=inode notices that); reading on from there"
                ));
            }
        }
        tail.seek(position)?;
        self.identity = if self.config.identity { tail.identity() } else { None };
        self.buffer.restart(position);
        self.missing = false;
        self.context.info(format!("reading {path} from position {position}"));
        Ok(true)
    }

    /// Nothing more to read and no whole line buffered: why?
    fn at_end(&mut self) -> Result<Next> {
        let Input::File(tail) = &mut self.input else {
            // What follows an end is another writer's.
            return Ok(if std::mem::take(&mut self.finished) { Next::Wait } else { Next::Waited(LONGEST_WAIT) });
        };
        if !tail.is_open() {
            return Ok(Next::Wait);
        }
        let path = &self.name;
        if self.finished {
            tail.advance();
            self.finished = false;
            self.quiet_since = None;
            self.identity = if self.config.identity { tail.identity() } else { None };
            self.context.count(ROTATIONS, 1.0);
            self.context.warn(format!(
                "{path} was rotated: the old file is finished at position {}, reading the new one from its start",
                self.buffer.position()
            ));
            self.buffer.restart(0);
            return Ok(Next::Again);
        }
        match tail.change(self.buffer.read_position())? {
            Change::None => Ok(Next::Wait),
            Change::Truncated(length) => {
                let cut = match self.buffer.unread() {
                    0 => String::new(),
                    bytes => format!(", a last line of {bytes} bytes without its end is gone"),
                };
                self.context.warn(format!(
                    "{path} was truncated: it has {length} bytes, and {} had been read{cut}: reading it from its start",
                    self.buffer.read_position()
                ));
                self.context.count(TRUNCATIONS, 1.0);
                tail.seek(0)?;
                self.buffer.restart(0);
                Ok(Next::Again)
            }
            Change::Replaced => {
                // Its writer may not have noticed yet and still be adding to it.
                let now = self.context.now_ms();
                let quiet = now - *self.quiet_since.get_or_insert(now);
                self.finished = quiet >= self.config.rotation_wait.as_millis() as i64;
                Ok(if self.finished { Next::Again } else { Next::Wait })
            }
        }
    }

    fn too_long(&mut self) -> Result<()> {
        let place = format!("the line at position {} of {}", self.buffer.position(), self.name);
        let limit = self.config.max_line_bytes;
        match self.config.long_lines {
            LongLines::Fail => Err(Error::failed(format!(
                "{place} is longer than max.line.bytes={limit}: raise that, or set max.line.action=skip"
            ))),
            LongLines::Skip => {
                self.context.warn(format!("{place} is longer than max.line.bytes={limit}: skipped"));
                self.context.count(SKIPPED, 1.0);
                self.buffer.skip_line();
                Ok(())
            }
        }
    }

    fn emit(&mut self, lines: Lines, output: &mut Output<'_>) -> Result<()> {
        let Lines { values, offsets, consumed } = lines;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        match StringArray::try_new(offsets, Buffer::from_vec(values), None) {
            Ok(text) => self.hand_over(Column::text(text), consumed, output),
            Err(_) => self.emit_mixed(consumed, output),
        }
    }

    /// Some of the lines are not UTF-8: makes batches of runs of lines that are, and that are not.
    fn emit_mixed(&mut self, consumed: usize, output: &mut Output<'_>) -> Result<()> {
        self.buffer.put_back(consumed);
        let end = self.buffer.position() + consumed as u64;
        while self.buffer.position() < end {
            let mut run = None;
            let same = |line: &[u8]| {
                let valid = simdutf8::basic::from_utf8(line).is_ok();
                *run.get_or_insert(valid) == valid
            };
            let (Lines { values, offsets, consumed }, _) =
                self.buffer.take(self.config.batch_size, self.finished, same);
            let (offsets, values) = (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(values));
            let column = match run {
                Some(true) => Column::text(StringArray::try_new(offsets, values, None)?),
                _ => Column::bytes(BinaryArray::try_new(offsets, values, None)?),
            };
            self.hand_over(column, consumed, output)?;
        }
        Ok(())
    }

    /// Emits lines that end at the buffer's position and took up `consumed` bytes of it.
    fn hand_over(&mut self, column: Column, consumed: usize, output: &mut Output<'_>) -> Result<()> {
        let batch = Batch::new(self.config.topic.clone(), column);
        let emitted = output.emit(match &self.partition {
            None => batch,
            Some(partition) => {
                let offset = offsets::offset_text(self.buffer.position(), self.identity.as_deref());
                batch.with_resume_point(partition.clone(), &offset)
            }
        });
        if emitted.is_err() {
            // Lines that were not taken are given again.
            self.buffer.put_back(consumed);
        }
        emitted
    }
}
