//! The input of the stateful jobs, and what a batch computation makes of it.
//!
//! An event is a JSON object of exactly [`LENGTH`] bytes. One in ten has the id of an earlier one. Each is a millisecond later than the
//! one before it, give or take up to two seconds. The record's key is the user, so that everybody may count by user without writing the
//! input once more.
//!
//! ```json
//! {"id":"9e3779b97f4a7c15","user":"u0576","amount":123456,"number":12,"pad":"xxxxxxxxxxxxxxxxxxxxxxxxxxx"}
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;

use rdkafka::producer::BaseRecord;
use serde_json::Value;
use tributary_harness::checker::read_topic;
use tributary_harness::{Context, Error, KafkaBroker, Result};

use crate::produced::Produced;

/// Bytes of an event.
pub const LENGTH: usize = 99;
/// Size of the windows, in milliseconds.
pub const WINDOW: i64 = 10_000;
/// Users.
const USERS: u64 = 1000;
/// The time of event 0: the beginning of 2026.
const BEGIN: i64 = 1_767_225_600_000;
/// How much earlier than the one before it an event may be.
const DISORDER: u64 = 2000;

/// So many events, and one more a minute later, which closes the last windows.
#[derive(Clone, Copy, Debug)]
pub struct Events(pub u64);

struct Event {
    id: u64,
    user: u64,
    amount: i64,
    time: i64,
}

fn mix(number: u64) -> u64 {
    // One to one, so that different numbers have different ids.
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Whether an event has the id of an earlier one.
fn repeats(number: u64) -> bool {
    number % 10 == 9
}

impl Events {
    /// How many records there are, with the last one.
    pub fn records(self) -> u64 {
        self.0 + 1
    }

    /// How many different ids.
    pub fn distinct(self) -> u64 {
        (0..self.records()).filter(|number| !repeats(*number) || *number == self.0).count() as u64
    }

    fn event(self, number: u64) -> Event {
        let mixed = mix(number + 1);
        let origin = match repeats(number) && number != self.0 {
            true => {
                let earlier = mixed % number;
                earlier - u64::from(repeats(earlier))
            }
            false => number,
        };
        let late = if number == self.0 { -60_000 } else { ((mixed >> 20) % DISORDER) as i64 };
        Event {
            id: mix(origin + 0x1000_0000),
            user: (mixed >> 7) % USERS,
            amount: (mixed >> 33) as i64 % 1_000_000,
            time: BEGIN + number as i64 - late,
        }
    }

    fn line(event: &Event, number: u64, line: &mut String) {
        line.clear();
        let Event { id, user, amount, .. } = event;
        let _ = write!(line, r#"{{"id":"{id:016x}","user":"u{user:04}","amount":{amount},"number":{number},"pad":""#);
        while line.len() < LENGTH - 2 {
            line.push('x');
        }
        line.push_str("\"}");
    }

    /// Writes them to a topic of one partition.
    pub fn produce(self, broker: &KafkaBroker, topic: &str) -> Result<()> {
        let mut produced = Produced::new(broker, topic)?;
        let (mut line, mut key) = (String::new(), String::new());
        for number in 0..self.records() {
            let event = self.event(number);
            Self::line(&event, number, &mut line);
            key.clear();
            let _ = write!(key, "u{:04}", event.user);
            produced.send(BaseRecord::to(topic).key(&key).payload(&line).timestamp(event.time).partition(0))?;
        }
        produced.finish()
    }

    /// Fails unless a topic holds the first event of each id, each once, in order.
    pub fn check_first(self, broker: &KafkaBroker, topic: &str) -> Result<()> {
        let mut expected = (0..self.records()).filter(|number| !repeats(*number) || *number == self.0);
        let (mut line, mut wrong, mut count) = (String::new(), None, 0_u64);
        read_topic(broker, topic, |_, value| {
            count += 1;
            let value = value.unwrap_or_default();
            if let Some(number) = expected.next() {
                Self::line(&self.event(number), number, &mut line);
            } else {
                line.clear();
            }
            if value != line.as_bytes() && wrong.is_none() {
                wrong = Some(format!("{} where {line} is expected", String::from_utf8_lossy(value)));
            }
        })?;
        match (wrong, expected.next()) {
            (None, None) => Ok(()),
            (Some(wrong), _) => {
                Err(Error::new(format!("of {count} records of {topic}, the first wrong one is {wrong}")))
            }
            (None, Some(_)) => Err(Error::new(format!("{topic} has {count} records of {}", self.distinct()))),
        }
    }

    /// Count and sum by user and start of the window.
    fn windows(self) -> HashMap<(String, i64), (u64, i64)> {
        let mut windows: HashMap<(String, i64), (u64, i64)> = HashMap::new();
        for number in 0..self.0 {
            let event = self.event(number);
            let start = event.time.div_euclid(WINDOW) * WINDOW;
            let (count, sum) = windows.entry((format!("u{:04}", event.user), start)).or_default();
            *count += 1;
            *sum += event.amount;
        }
        windows
    }

    /// Fails unless a topic holds each window once, with the right count and sum.
    pub fn check_windows(self, broker: &KafkaBroker, topic: &str) -> Result<()> {
        let mut expected = self.windows();
        let all = expected.len();
        let (mut wrong, mut count) = (None, 0_u64);
        read_topic(broker, topic, |_, value| {
            count += 1;
            let value = value.unwrap_or_default();
            let found = window(value).and_then(|(key, result)| Some(expected.remove(&key)? == result));
            if found != Some(true) && wrong.is_none() {
                wrong = Some(String::from_utf8_lossy(value).into_owned());
            }
        })?;
        match (wrong, expected.len()) {
            (None, 0) => Ok(()),
            (Some(wrong), _) => {
                Err(Error::new(format!("of {count} windows in {topic}, the first wrong one is {wrong}")))
            }
            (None, missing) => Err(Error::new(format!("{missing} of {all} windows are missing in {topic}"))),
        }
    }
}

type Window = ((String, i64), (u64, i64));

fn window(value: &[u8]) -> Option<Window> {
    let value: Value = serde_json::from_slice(value).context("not JSON").ok()?;
    let start = value["window_start"].as_i64()?;
    if value["window_end"].as_i64()? != start + WINDOW {
        return None;
    }
    // Some write a sum of integers as a fraction.
    let total = value["total"].as_i64()?;
    Some(((value["key"].as_str()?.to_owned(), start), (value["n"].as_u64()?, total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_as_long_as_they_say_and_one_in_ten_repeats() {
        let events = Events(10_000);
        let mut line = String::new();
        let mut ids = std::collections::HashSet::new();
        for number in 0..events.records() {
            let event = events.event(number);
            Events::line(&event, number, &mut line);
            assert_eq!(line.len(), LENGTH, "{line}");
            serde_json::from_str::<Value>(&line).unwrap();
            assert_eq!(ids.insert(event.id), !repeats(number) || number == events.0);
        }
        assert_eq!(ids.len() as u64, events.distinct());
        assert_eq!(events.windows().values().map(|(count, _)| count).sum::<u64>(), 10_000);
    }
}
