//! The watermark of a shard: up to when its input is complete.
//!
//! Each input (topic) of the shard has seen a latest time; the watermark is the earliest of these, less the bound of how much out of order
//! records may be. An input without records for `idle.timeout` is left out until it has one. The watermark never goes back.
//!
//! Behind a repartition topic the inputs are the partitions of the topics in front of it. Those are known beforehand, and each holds time
//! back until it is heard of: whichever of them is read first, nothing is late. Only who reads one knows whether it is idle, and tells it.

/// Settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTimeSettings {
    /// How much later than others a record may come, in milliseconds of event time.
    pub max_out_of_orderness: i64,
    /// Silence after which an input is idle, in milliseconds; `None`: never.
    pub idle_timeout: Option<i64>,
    /// Whether event time moves on with the clock while all inputs are idle.
    pub idle_advance: bool,
}

/// Time is told about once a second. When it was not for longer than this, in milliseconds, nobody has read meanwhile: state was being
/// restored, or the cluster did not answer.
const NOTICE: i64 = 5000;

/// Silence since time was told last, `passed` ago, that means nothing, since nothing was read.
pub fn unread(passed: i64, reading: bool) -> i64 {
    if reading { (passed - NOTICE).max(0) } else { passed }
}

/// No watermark yet.
pub const BEGINNING: i64 = i64::MIN;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Input {
    topic: String,
    latest: i64,
    /// When the last record came, by the clock; `None`: not since this task has the shard.
    heard: Option<i64>,
    idle: bool,
    /// Read by others, who tell when it is idle.
    upstream: bool,
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    settings: EventTimeSettings,
    inputs: Vec<Input>,
    watermark: i64,
    /// When this was asked last.
    asked: Option<i64>,
    changed: bool,
}

impl EventTime {
    /// A shard that has seen nothing.
    pub fn new(settings: EventTimeSettings) -> Self {
        Self { settings, inputs: Vec::new(), watermark: BEGINNING, asked: None, changed: false }
    }

    /// The watermark: records before it are late.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The number of an input, for [`Self::observe`].
    pub fn input(&mut self, topic: &str) -> usize {
        if let Some(known) = self.inputs.iter().position(|input| input.topic == topic) {
            return known;
        }
        let (topic, latest) = (topic.to_owned(), BEGINNING);
        self.inputs.push(Input { topic, latest, heard: None, idle: false, upstream: false });
        self.inputs.len() - 1
    }

    /// These inputs are read by others, who tell of them. Others of that kind are no longer there.
    pub fn expect(&mut self, upstream: &[String]) {
        let gone = |input: &Input| input.upstream && !upstream.contains(&input.topic);
        self.changed |= self.inputs.iter().any(gone);
        self.inputs.retain(|input| !gone(input));
        for name in upstream {
            let input = self.input(name);
            self.inputs[input].upstream = true;
        }
    }

    /// Whoever reads an input tells of it: the latest time, and whether nothing has come for long.
    pub fn told(&mut self, input: &str, latest: i64, idle: bool, now_ms: i64) {
        let number = self.input(input);
        let input = &mut self.inputs[number];
        if latest > input.latest || idle != input.idle {
            (input.latest, input.idle) = (input.latest.max(latest), idle);
            input.heard = Some(now_ms);
            self.changed = true;
            self.advance();
        }
    }

    /// A batch of an input is about to be observed.
    pub fn hear(&mut self, input: usize, now_ms: i64) {
        let input = &mut self.inputs[input];
        input.heard = Some(now_ms);
        // What is told is stored.
        self.changed |= input.idle && input.upstream;
        input.idle = false;
    }

    /// A record's time. The watermark after it is the answer.
    pub fn observe(&mut self, input: usize, time: i64) -> i64 {
        if time > self.inputs[input].latest {
            self.inputs[input].latest = time;
            self.changed = true;
            self.advance();
        }
        self.watermark
    }

    fn advance(&mut self) {
        let counts = |input: &&Input| !input.idle && (input.latest != BEGINNING || input.upstream);
        let active = self.inputs.iter().filter(counts);
        if let Some(earliest) = active.map(|input| input.latest).min() {
            self.watermark = self.watermark.max(earliest.saturating_sub(self.settings.max_out_of_orderness));
        }
    }

    /// Time has passed by the clock. `reading`: silence since the last call means that there was nothing.
    pub fn tick(&mut self, now_ms: i64, reading: bool) {
        let passed = self.asked.map_or(0, |asked| (now_ms - asked).max(0));
        self.asked = Some(now_ms);
        for input in &mut self.inputs {
            let heard = input.heard.get_or_insert(now_ms);
            *heard = now_ms.min(*heard + unread(passed, reading));
        }
        let Some(timeout) = self.settings.idle_timeout.filter(|_| reading) else { return };
        let before = (self.watermark, self.inputs.iter().filter(|input| input.idle).count());
        let silent = |input: &Input| match input.upstream {
            true => input.idle,
            false => input.heard.is_some_and(|heard| now_ms - heard >= timeout),
        };
        if self.inputs.iter().any(|input| !silent(input)) {
            self.inputs.iter_mut().for_each(|input| input.idle = silent(input));
            self.advance();
        } else if let Some(last) = self.inputs.iter().max_by_key(|input| input.latest) {
            // All are silent: nobody holds anybody back.
            let mut time = last.latest;
            if self.settings.idle_advance && time != BEGINNING {
                time = time.saturating_add(now_ms - last.heard.unwrap_or(now_ms));
            }
            if time != BEGINNING {
                self.watermark = self.watermark.max(time.saturating_sub(self.settings.max_out_of_orderness));
            }
        }
        self.changed |= before != (self.watermark, self.inputs.iter().filter(|input| input.idle).count());
    }

    /// Its bytes in the state, if they have changed since the last time.
    pub fn to_store(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let with_flags = self.inputs.iter().any(|input| input.upstream);
        let mut out = vec![if with_flags { 2 } else { 1 }];
        out.extend_from_slice(&self.watermark.to_be_bytes());
        for input in &self.inputs {
            if with_flags {
                out.push(u8::from(input.upstream) | u8::from(input.upstream && input.idle) << 1);
            }
            out.extend_from_slice(&input.latest.to_be_bytes());
            super::stored::length(input.topic.len(), &mut out);
            out.extend_from_slice(input.topic.as_bytes());
        }
        Some(out)
    }

    /// Goes on from what was stored.
    pub fn restore(settings: EventTimeSettings, bytes: &[u8]) -> Option<Self> {
        let mut time = Self::new(settings);
        let (version, rest) = bytes.split_first()?;
        let (watermark, mut rest) = rest.split_at_checked(8).filter(|_| matches!(*version, 1 | 2))?;
        time.watermark = i64::from_be_bytes(watermark.try_into().ok()?);
        while !rest.is_empty() {
            let mut flags = 0;
            if *version == 2 {
                (flags, rest) = rest.split_first().map(|(flags, rest)| (*flags, rest))?;
            }
            let (latest, after) = rest.split_at_checked(8)?;
            rest = after;
            let topic = std::str::from_utf8(super::stored::take(&mut rest)?).ok()?.to_owned();
            let latest = i64::from_be_bytes(latest.try_into().ok()?);
            time.inputs.push(Input { topic, latest, heard: None, idle: flags & 2 != 0, upstream: flags & 1 != 0 });
        }
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EventTimeSettings {
        EventTimeSettings { max_out_of_orderness: 10, idle_timeout: Some(100), idle_advance: false }
    }

    #[test]
    fn follows_the_latest_record_by_the_bound_and_never_goes_back() {
        let mut time = EventTime::new(settings());
        let input = time.input("a");
        assert_eq!(time.watermark(), BEGINNING);
        assert_eq!(time.observe(input, 100), 90);
        assert_eq!(time.observe(input, 50), 90);
        assert_eq!(time.observe(input, 101), 91);
    }

    #[test]
    fn the_slowest_input_decides_until_it_is_idle() {
        let mut time = EventTime::new(settings());
        let (a, b) = (time.input("a"), time.input("b"));
        time.hear(a, 0);
        time.hear(b, 0);
        time.observe(a, 1000);
        // Nothing of b yet.
        assert_eq!(time.watermark(), 990);
        time.observe(b, 2000);
        time.observe(b, 5000);
        assert_eq!(time.watermark(), 990);
        time.hear(b, 90);
        time.tick(99, true);
        assert_eq!(time.watermark(), 990);
        time.tick(100, true);
        assert_eq!(time.watermark(), 4990);
        // It comes back and holds nobody back who is ahead: its records are late.
        time.hear(a, 120);
        assert_eq!(time.observe(a, 1500), 4990);
    }

    #[test]
    fn silence_counts_only_while_reading() {
        let mut time = EventTime::new(settings());
        let (a, b) = (time.input("a"), time.input("b"));
        time.hear(a, 0);
        time.observe(a, 1000);
        time.hear(b, 0);
        time.observe(b, 3000);
        time.tick(0, true);
        time.tick(5000, false);
        time.hear(b, 5000);
        time.tick(5050, true);
        assert_eq!(time.watermark(), 990);
        time.tick(5100, true);
        assert_eq!(time.watermark(), 2990);
    }

    #[test]
    fn a_standstill_of_who_reads_is_no_silence() {
        let mut time = EventTime::new(EventTimeSettings { idle_timeout: Some(10_000), ..settings() });
        let (a, b) = (time.input("a"), time.input("b"));
        time.hear(a, 0);
        time.hear(b, 0);
        time.observe(a, 1000);
        time.observe(b, 3000);
        time.tick(0, true);
        time.tick(100_000, true);
        assert_eq!(time.watermark(), 990);
        time.hear(b, 100_000);
        time.tick(105_000, true);
        assert_eq!(time.watermark(), 2990);
    }

    #[test]
    fn when_all_are_idle_the_clock_moves_time_if_asked_to() {
        let mut time = EventTime::new(settings());
        let input = time.input("a");
        time.hear(input, 0);
        time.observe(input, 1000);
        time.tick(10_000, true);
        assert_eq!(time.watermark(), 990);
        let mut time = EventTime::new(EventTimeSettings { idle_advance: true, ..settings() });
        let input = time.input("a");
        time.hear(input, 0);
        time.observe(input, 1000);
        time.tick(99, true);
        assert_eq!(time.watermark(), 990);
        time.tick(5000, true);
        time.tick(10_000, true);
        assert_eq!(time.watermark(), 10_990);
    }

    #[test]
    fn goes_on_where_it_was() {
        let mut time = EventTime::new(settings());
        let (a, b) = (time.input("a"), time.input("b"));
        time.observe(b, 6000);
        time.observe(a, 7000);
        assert_eq!(time.watermark(), 5990);
        let bytes = time.to_store().unwrap();
        assert_eq!(time.to_store(), None);
        let mut again = EventTime::restore(settings(), &bytes).unwrap();
        assert_eq!(again.watermark(), time.watermark());
        let b = again.input("b");
        assert_eq!(again.observe(b, 6500), 6490);
        assert_eq!(again.observe(b, 8000), 6990);
        assert_eq!(EventTime::restore(settings(), b"\x03"), None);
    }

    #[test]
    fn partitions_in_front_of_a_repartition_topic_are_waited_for() {
        let mut time = EventTime::new(settings());
        let names = ["a-0".to_owned(), "a-1".to_owned()];
        time.expect(&names);
        let first = time.input("a-0");
        time.hear(first, 0);
        // Nothing is known of the other one, however long it takes.
        time.observe(first, 9000);
        time.tick(100_000, true);
        assert_eq!(time.watermark(), BEGINNING);
        time.told("a-1", 500, false, 100_000);
        assert_eq!(time.watermark(), 490);
        time.told("a-1", BEGINNING, true, 200_000);
        assert_eq!(time.watermark(), 8990);
        // All of it is stored.
        let bytes = time.to_store().unwrap();
        let mut again = EventTime::restore(settings(), &bytes).unwrap();
        again.expect(&names);
        let first = again.input("a-0");
        assert_eq!(again.observe(first, 10_000), 9990);
        // One that is no more holds nobody back.
        again.told("a-1", 9100, false, 300_000);
        assert_eq!(again.observe(first, 11_000), 9990);
        again.expect(&names[..1]);
        let first = again.input("a-0");
        assert_eq!(again.observe(first, 12_000), 11_990);
    }

    #[test]
    fn when_all_partitions_in_front_are_idle_the_latest_decides() {
        let mut time = EventTime::new(settings());
        time.expect(&["a-0".to_owned(), "a-1".to_owned()]);
        time.told("a-0", 1000, false, 0);
        time.told("a-1", BEGINNING, true, 0);
        assert_eq!(time.watermark(), 990);
        time.told("a-0", 3000, true, 0);
        time.tick(1, true);
        assert_eq!(time.watermark(), 2990);
    }
}
