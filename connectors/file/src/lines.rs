//! Lines out of raw bytes: the buffer between a file and the batches made of it.
//!
//! Promises: lines end with `\n`, `\r\n` or `\r`, as Java's readers see it, and come out without it, byte for byte and in
//! order; empty lines are kept. A line is given only when its end has been seen: a `\r` that is the last byte so far may
//! be half of a `\r\n` and waits for the next one. Bytes are copied once from here into the values of a batch; memory is
//! bounded by the longest line allowed, or [`CHUNK`] if that is more.
//!
//! Fails: [`Stop::TooLong`] at a line longer than allowed, with everything before it given first.

/// Bytes buffered while lines are short. Fits the second-level cache together with a batch of it.
pub(crate) const CHUNK: usize = 512 << 10;

/// Raw bytes with a place up to which they have been taken.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    /// The storage, all of it initialised.
    bytes: Vec<u8>,
    /// First byte not yet taken.
    start: usize,
    /// End of the bytes read.
    end: usize,
    /// Where the byte at `start` stands in the file.
    position: u64,
    /// Bytes from `start` on that are known to hold no line end: a long line is scanned once, not at each growth.
    scanned: usize,
    max_line: usize,
    /// Within a line that is being skipped.
    skipping: bool,
    /// The last take found no further whole line.
    drained: bool,
    /// Raw bytes that the last full take used: how much is worth having before the next.
    expected: usize,
}

/// Lines taken: their bytes one after the other, and where each begins and ends in them.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub values: Vec<u8>,
    /// One more than there are lines.
    pub offsets: Vec<i32>,
    /// Raw bytes they took up, terminators included.
    pub consumed: usize,
}

impl Lines {
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
}

/// Why a take ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// As many lines as asked for, or a line that was not accepted.
    Full,
    /// No further whole line is buffered.
    NeedMore,
    /// The next line is longer than allowed.
    TooLong,
}

impl LineBuffer {
    pub fn new(max_line: usize) -> Self {
        Self {
            bytes: vec![0; CHUNK],
            start: 0,
            end: 0,
            position: 0,
            scanned: 0,
            max_line,
            skipping: false,
            drained: true,
            expected: 0,
        }
    }

    /// Where in the file the next line begins: everything before it has been taken.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where in the file to read on.
    pub fn read_position(&self) -> u64 {
        self.position + self.unread() as u64
    }

    /// Bytes read and not yet taken.
    pub fn unread(&self) -> usize {
        self.end - self.start
    }

    /// Whether reading more before the next take is worth the call.
    pub fn wants_more(&self) -> bool {
        self.drained || self.unread() <= self.expected.min(self.bytes.len() / 2)
    }

    /// Forgets everything buffered; the next bytes come from `position`.
    pub fn restart(&mut self, position: u64) {
        (self.start, self.end, self.scanned, self.skipping, self.drained) = (0, 0, 0, false, true);
        self.position = position;
    }

    /// Where to read the next bytes to; not empty while [`Self::wants_more`].
    pub fn space(&mut self) -> &mut [u8] {
        let unread = self.unread();
        if self.bytes.len() > CHUNK && unread < CHUNK / 2 {
            // One long line was here; its memory is not kept.
            let mut bytes = vec![0; CHUNK];
            bytes[..unread].copy_from_slice(&self.bytes[self.start..self.end]);
            self.bytes = bytes;
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, unread);
        if self.end == self.bytes.len() {
            // A line of the greatest length, a `\r`, and the byte after it have room: then it is known to be whole or too long.
            let most = (self.max_line + 2).max(CHUNK);
            self.bytes.resize((self.bytes.len() * 2).min(most), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes were read to [`Self::space`].
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len());
        self.drained &= count == 0;
    }

    /// Takes up to `most` whole lines, as long as `accept` likes them. With `finished`, nothing follows what is buffered:
    /// the rest is a line even without a line end.
    pub fn take(&mut self, most: usize, finished: bool, mut accept: impl FnMut(&[u8]) -> bool) -> (Lines, Stop) {
        if self.skipping && !self.skip_on(finished) {
            return (Lines::default(), Stop::NeedMore);
        }
        let raw = &self.bytes[self.start..self.end];
        let expected = if self.expected == 0 { raw.len() } else { self.expected + self.expected / 8 };
        let mut values = Vec::with_capacity(raw.len().min(expected));
        let mut offsets = Vec::with_capacity(most.min(raw.len()) + 1);
        offsets.push(0);
        let mut push = |from: usize, to: usize| {
            if to - from > self.max_line {
                return Some(Stop::TooLong);
            }
            let text = &raw[from..to];
            if !accept(text) {
                return Some(Stop::Full);
            }
            values.extend_from_slice(text);
            // All lines together are no longer than the buffer, which is far below 2 GiB.
            offsets.push(values.len() as i32);
            None
        };
        let mut line = 0;
        let mut left = most;
        let mut stop = Stop::NeedMore;
        for found in memchr::memchr2_iter(b'\n', b'\r', &raw[self.scanned..]) {
            let at = self.scanned + found;
            if at < line {
                continue; // the second half of a \r\n
            }
            if left == 0 {
                stop = Stop::Full;
                break;
            }
            let next = match (raw[at], raw.get(at + 1)) {
                (b'\n', _) => at + 1,
                (_, Some(b'\n')) => at + 2,
                (_, Some(_)) => at + 1,
                (_, None) if finished => at + 1,
                (_, None) => break,
            };
            if let Some(why) = push(line, at) {
                stop = why;
                break;
            }
            line = next;
            left -= 1;
        }
        if stop == Stop::NeedMore && line < raw.len() {
            if left == 0 {
                stop = Stop::Full;
            } else if finished {
                match push(line, raw.len()) {
                    Some(why) => stop = why,
                    None => line = raw.len(),
                }
            } else if raw.len() - line > self.max_line + 1 {
                stop = Stop::TooLong;
            }
        }
        if left == 0 {
            self.expected = line;
        }
        self.advance(line);
        self.drained = stop == Stop::NeedMore;
        // A trailing \r is looked at again when its successor is there.
        self.scanned = if self.drained { self.unread().saturating_sub(1) } else { 0 };
        (Lines { values: trimmed(values), offsets: trimmed(offsets), consumed: line }, stop)
    }

    /// Undoes the last take, of so many raw bytes.
    pub fn put_back(&mut self, consumed: usize) {
        self.start -= consumed;
        self.position -= consumed as u64;
        self.scanned = 0;
    }

    /// Drops the line at the front, also what of it is still to come.
    pub fn skip_line(&mut self) {
        self.skipping = true;
        self.skip_on(false);
    }

    /// Goes on skipping; whether the end of the line was found.
    fn skip_on(&mut self, finished: bool) -> bool {
        let raw = &self.bytes[self.start..self.end];
        let (dropped, done) = match memchr::memchr2(b'\n', b'\r', raw) {
            // Keeps the \r: the next byte says whether it stands alone.
            Some(at) if raw[at] == b'\r' && at + 1 == raw.len() && !finished => (at, false),
            Some(at) => (at + if raw[at..].starts_with(b"\r\n") { 2 } else { 1 }, true),
            None => (raw.len(), finished),
        };
        self.advance(dropped);
        self.scanned = 0;
        self.skipping = !done;
        self.drained = !done;
        done
    }

    fn advance(&mut self, bytes: usize) {
        self.start += bytes;
        self.position += bytes as u64;
    }
}

/// Gives memory back where much more was reserved than used: queues are bounded by what batches hold.
fn trimmed<T>(mut items: Vec<T>) -> Vec<T> {
    if items.capacity() - items.len() > items.len() / 2 + 256 {
        items.shrink_to_fit();
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of `raw`, read in pieces of `piece` bytes and taken `most` at a time.
    fn split(raw: &[u8], piece: usize, most: usize, finished: bool) -> Vec<Vec<u8>> {
        let mut buffer = LineBuffer::new(100);
        let mut found = Vec::new();
        let mut rest = raw;
        loop {
            let finished = finished && rest.is_empty();
            let before = buffer.position();
            let (lines, stop) = buffer.take(most, finished, |_| true);
            assert!(lines.len() <= most);
            assert_eq!(buffer.position() - before, lines.consumed as u64);
            found.extend(lines.offsets.windows(2).map(|w| lines.values[w[0] as usize..w[1] as usize].to_vec()));
            if stop == Stop::NeedMore {
                if rest.is_empty() {
                    return found;
                }
                let count = piece.min(rest.len());
                buffer.space()[..count].copy_from_slice(&rest[..count]);
                buffer.filled(count);
                rest = &rest[count..];
            }
        }
    }

    #[test]
    fn terminators_are_javas() {
        let raw = b"one\ntwo\r\nthree\rfour\r\r\n\n\nlast";
        let lines: [&[u8]; 8] = [b"one", b"two", b"three", b"four", b"", b"", b"", b"last"];
        for piece in 1..=raw.len() {
            for most in [1, 2, 3, 100] {
                assert_eq!(split(raw, piece, most, true), lines, "pieces of {piece}, {most} lines a take");
                assert_eq!(split(raw, piece, most, false), lines[..7], "pieces of {piece}, {most} lines a take");
            }
        }
    }

    #[test]
    fn a_carriage_return_waits_for_what_follows() {
        assert_eq!(split(b"a\r", 1, 9, false), Vec::<Vec<u8>>::new());
        assert_eq!(split(b"a\r", 1, 9, true), [b"a"]);
        assert_eq!(split(b"a\r\nb", 1, 9, false), [b"a"]);
        assert_eq!(split(b"a\rb", 1, 9, false), [b"a"]);
    }

    fn read(buffer: &mut LineBuffer, mut raw: &[u8]) {
        while !raw.is_empty() {
            let space = buffer.space();
            let count = space.len().min(raw.len());
            assert!(count > 0);
            space[..count].copy_from_slice(&raw[..count]);
            buffer.filled(count);
            raw = &raw[count..];
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_allowed_and_no_longer() {
        for end in [&b"\n"[..], b"\r\n", b"\rx"] {
            let mut buffer = LineBuffer::new(3 * CHUNK);
            read(&mut buffer, &vec![b'x'; 3 * CHUNK]);
            assert_eq!(buffer.take(1, false, |_| true).1, Stop::NeedMore);
            read(&mut buffer, end);
            let (lines, _) = buffer.take(1, false, |_| true);
            assert_eq!(lines.values.len(), 3 * CHUNK);

            assert_eq!(buffer.take(1, false, |_| true).1, Stop::NeedMore);
            let length = 3 * CHUNK + 1 - buffer.unread();
            read(&mut buffer, &vec![b'y'; length]);
            assert_eq!(buffer.take(1, false, |_| true).1, Stop::NeedMore);
            read(&mut buffer, b"y");
            assert_eq!(buffer.take(1, false, |_| true).1, Stop::TooLong);
            buffer.skip_line();
            read(&mut buffer, end);
            read(&mut buffer, b"after\n");
            assert!(buffer.take(1, false, |_| true).0.values.ends_with(b"after"));
            assert_eq!(buffer.unread(), 0);
            buffer.space();
            assert_eq!(buffer.bytes.len(), CHUNK, "the memory of a long line is not kept");
        }
    }

    #[test]
    fn a_long_line_without_end_is_noticed_before_its_end() {
        let mut buffer = LineBuffer::new(10);
        read(&mut buffer, b"0123456789ab");
        assert_eq!(buffer.take(1, false, |_| true).1, Stop::TooLong);
        buffer.skip_line();
        read(&mut buffer, b"cdef");
        assert_eq!(buffer.take(1, false, |_| true).1, Stop::NeedMore);
        read(&mut buffer, b"\r");
        assert_eq!(buffer.take(1, false, |_| true).1, Stop::NeedMore);
        read(&mut buffer, b"\nnext\n");
        let (lines, _) = buffer.take(9, false, |_| true);
        assert_eq!(lines.values, b"next");
        assert_eq!(buffer.position(), b"0123456789abcdef\r\nnext\n".len() as u64);
    }

    #[test]
    fn lines_that_are_not_accepted_stay() {
        let mut buffer = LineBuffer::new(10);
        read(&mut buffer, b"a\nb\nC\nd\n");
        let (lines, stop) = buffer.take(9, false, |line| line[0].is_ascii_lowercase());
        assert_eq!((lines.values.as_slice(), stop), (&b"ab"[..], Stop::Full));
        let consumed = lines.consumed;
        buffer.put_back(consumed);
        assert_eq!(buffer.take(9, false, |_| true).0.values, b"abCd");
    }
}
