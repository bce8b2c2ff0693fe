//! What members and leader tell each other through the coordinator, in Kafka Connect's own bytes.
//!
//! A member joins with its *metadata*: REST URL, config offset, and what it owns. The leader answers each member with an
//! *assignment*: what is new, what is to be stopped, and how long a lost worker is waited for. The formats are those of
//! Connect's protocols `sessioned` (version 2) and `compatible` (version 1), so tools that know Connect's groups read ours.
//!
//! After Connect's fields the metadata goes on with the worker's labels, whether it is about to leave, and who is absent from
//! the group, and whose state it follows; the assignment with who is absent and whose state is to be followed. Connect reads its
//! own fields only, so the rest does not disturb it; nor does it disturb workers of ours that know less of it.
//!
//! Fails: bytes that end early or make no sense are a [`Malformed`] that names the field; nothing is allocated by a length
//! that the bytes do not back.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Assignment;
use crate::worker::TaskId;

/// The group protocols that are offered, the preferred one first, with the version in their bytes.
pub(super) const PROTOCOLS: [(&str, i16); 2] = [("sessioned", 2), ("compatible", 1)];
/// Of the group, as the coordinator knows it.
pub(super) const PROTOCOL_TYPE: &str = "connect";

/// The task number that stands for the connector itself.
const CONNECTOR_TASK: i32 = -1;
/// Begins what Connect does not know; the second byte is its version.
const EXTENSION: i16 = 0x7401;
const LEAVING: i8 = 1;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be read; is another program a member of this group? Give the workers a group.id of their own")]
pub struct Malformed(&'static str);

/// What a member tells when it joins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemberMetadata {
    /// Its REST URL.
    pub url: String,
    /// Up to where it has read the config topic.
    pub config_offset: i64,
    /// What it owns.
    pub owned: Assignment,
    /// The generation of the last assignment that it has followed; -1: none. Older than what the leader gave it: this is an
    /// old message, or the assignment did not reach the member.
    pub followed: i32,
    /// Its labels.
    pub labels: Vec<String>,
    /// It is about to leave: it takes nothing, and has stopped what it owned.
    pub leaving: bool,
    /// How long it expects to be away, if it leaves to be started again; zero: it is not to be waited for.
    pub back_within: Duration,
    /// The absences that the leader told of last.
    pub absences: Vec<Absence>,
    /// Tasks whose state it follows.
    pub standbys: BTreeSet<TaskId>,
    /// Whether this is a worker of ours, rather than a Java one.
    pub ours: bool,
    /// Whether it can follow state: whoever tells of what it follows, be it nothing.
    pub follows: bool,
}

/// A worker that is not in the group and may come back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Absence {
    /// Its REST URL, by which it is known again.
    pub url: String,
    /// How long its part is kept for it yet; zero: others may have it, and it is remembered only.
    pub wait: Duration,
    /// What it had.
    pub part: Assignment,
    /// Tasks whose state it followed.
    pub standbys: BTreeSet<TaskId>,
}

/// What the leader answers a member.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemberAssignment {
    /// 0, or [`CONFIG_MISMATCH`].
    pub error: i16,
    /// The leader's member id.
    pub leader: String,
    /// The leader's REST URL.
    pub leader_url: String,
    /// The config offset that was assigned by.
    pub config_offset: i64,
    /// What is new.
    pub assigned: Assignment,
    /// What is to be stopped.
    pub revoked: Assignment,
    /// How long a lost worker is waited for, in milliseconds.
    pub delay_ms: i32,
    /// Who is absent, to be told to the next leader.
    pub absences: Vec<Absence>,
    /// Tasks whose state the member is to follow: all of them.
    pub standbys: BTreeSet<TaskId>,
}

/// The leader knows less of the config topic than a member: everybody reads on and joins again.
pub(super) const CONFIG_MISMATCH: i16 = 1;

impl MemberMetadata {
    /// The bytes for a protocol version of [`PROTOCOLS`].
    pub fn encode(&self, version: i16) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.owned.len() * 24);
        out.put_i16(version);
        put_string(&mut out, &self.url);
        out.put_i64(self.config_offset);
        if self.owned.is_empty() {
            out.put_i32(-1);
        } else {
            let owned = MemberAssignment {
                config_offset: self.config_offset,
                assigned: self.owned.clone(),
                ..MemberAssignment::default()
            }
            .encode(version);
            out.put_i32(owned.len() as i32);
            out.put_slice(&owned);
        }
        out.put_i16(EXTENSION);
        out.put_i8(if self.leaving { LEAVING } else { 0 });
        out.put_i32(self.followed);
        out.put_i32(self.labels.len() as i32);
        for label in &self.labels {
            put_string(&mut out, label);
        }
        out.put_i32(millis(self.back_within));
        put_absences(&mut out, &self.absences);
        put_standbys(&mut out, &self.standbys, &self.absences);
        out.freeze()
    }

    /// Reads what [`encode`](Self::encode) or a Java worker has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Reader(bytes);
        version(&mut rest, "a member's metadata")?;
        let url = rest.string("a member's url")?;
        let config_offset = rest.i64("a member's config offset")?;
        let owned = match rest.nullable_bytes("what a member owns")? {
            Some(bytes) if !bytes.is_empty() => MemberAssignment::decode(bytes)?.assigned,
            _ => Assignment::default(),
        };
        let mut metadata = Self { url, config_offset, owned, followed: i32::MAX, ..Self::default() };
        if rest.0.len() >= 2 && rest.i16("the extension")? == EXTENSION {
            metadata.ours = true;
            metadata.leaving = rest.i8("the extension's flags")? & LEAVING != 0;
            metadata.followed = rest.i32("the generation that a member follows")?;
            for _ in 0..rest.i32("the number of labels")? {
                metadata.labels.push(rest.string("a label")?);
            }
            metadata.back_within = rest.millis("the time of a restart")?;
            metadata.absences = rest.absences()?;
            metadata.follows = !rest.0.is_empty();
            metadata.standbys = rest.standbys(&mut metadata.absences)?;
        }
        Ok(metadata)
    }
}

impl MemberAssignment {
    /// The bytes for a protocol version of [`PROTOCOLS`].
    pub fn encode(&self, version: i16) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + (self.assigned.len() + self.revoked.len()) * 24);
        out.put_i16(version);
        out.put_i16(self.error);
        put_string(&mut out, &self.leader);
        put_string(&mut out, &self.leader_url);
        out.put_i64(self.config_offset);
        put_assignment(&mut out, &self.assigned);
        put_assignment(&mut out, &self.revoked);
        out.put_i32(self.delay_ms);
        if !self.absences.is_empty() || !self.standbys.is_empty() {
            out.put_i16(EXTENSION);
            put_absences(&mut out, &self.absences);
            put_standbys(&mut out, &self.standbys, &self.absences);
        }
        out.freeze()
    }

    /// Reads what [`encode`](Self::encode) or a Java worker has written. Fields after the assigned part may be missing.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Reader(bytes);
        version(&mut rest, "an assignment")?;
        let error = rest.i16("an assignment's error code")?;
        let leader = rest.string("the leader's id")?;
        let leader_url = rest.string("the leader's url")?;
        let config_offset = rest.i64("an assignment's config offset")?;
        let mut optional = |what| if rest.0.is_empty() { Ok(Assignment::default()) } else { rest.assignment(what) };
        let assigned = optional("the assigned part")?;
        let revoked = optional("the revoked part")?;
        let delay_ms = if rest.0.is_empty() { 0 } else { rest.i32("the delay")? };
        let ours = rest.0.len() >= 2 && rest.i16("the extension")? == EXTENSION;
        let mut absences = if ours { rest.absences()? } else { Vec::new() };
        let standbys = if ours { rest.standbys(&mut absences)? } else { BTreeSet::new() };
        Ok(Self { error, leader, leader_url, config_offset, assigned, revoked, delay_ms, absences, standbys })
    }
}

fn version(rest: &mut Reader<'_>, what: &'static str) -> Result<(), Malformed> {
    // Later versions only append, as Connect's own reader assumes.
    if rest.i16(what)? < 0 { Err(Malformed(what)) } else { Ok(()) }
}

fn put_string(out: &mut BytesMut, text: &str) {
    // Longer names are refused where connectors are created; cut at a character here rather than write nonsense.
    let mut end = text.len().min(i16::MAX as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.put_i16(end as i16);
    out.put_slice(&text.as_bytes()[..end]);
}

fn put_assignment(out: &mut BytesMut, assignment: &Assignment) {
    let count = out.len();
    out.put_i32(0);
    let mut connectors = 0;
    let mut tasks = assignment.tasks.iter().peekable();
    let mut own = assignment.connectors.iter().peekable();
    // Both are sorted by connector name: one pass over the two.
    loop {
        let name = match (own.peek().copied(), tasks.peek().copied()) {
            (None, None) => break,
            (Some(name), None) => name.as_str(),
            (None, Some(task)) => task.connector.as_str(),
            (Some(name), Some(task)) => name.as_str().min(task.connector.as_str()),
        };
        put_string(out, name);
        let numbers = out.len();
        out.put_i32(0);
        let mut count = 0;
        if own.peek().is_some_and(|own| own.as_str() == name) {
            out.put_i32(CONNECTOR_TASK);
            count += 1;
            own.next();
        }
        while let Some(task) = tasks.next_if(|task| task.connector == name) {
            out.put_i32(i32::try_from(task.task).unwrap_or(i32::MAX));
            count += 1;
        }
        out[numbers..numbers + 4].copy_from_slice(&i32::to_be_bytes(count));
        connectors += 1;
    }
    out[count..count + 4].copy_from_slice(&i32::to_be_bytes(connectors));
}

fn put_absences(out: &mut BytesMut, absences: &[Absence]) {
    out.put_i32(absences.len() as i32);
    for absence in absences {
        put_string(out, &absence.url);
        out.put_i32(millis(absence.wait));
        put_assignment(out, &absence.part);
    }
}

/// A member's own, and then those of the absent workers, in the order in which these were written.
fn put_standbys(out: &mut BytesMut, own: &BTreeSet<TaskId>, absences: &[Absence]) {
    for tasks in std::iter::once(own).chain(absences.iter().map(|absence| &absence.standbys)) {
        put_assignment(out, &Assignment { tasks: tasks.clone(), ..Assignment::default() });
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The rest of the bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn need(&self, bytes: usize, what: &'static str) -> Result<(), Malformed> {
        if self.0.len() < bytes { Err(Malformed(what)) } else { Ok(()) }
    }

    fn i8(&mut self, what: &'static str) -> Result<i8, Malformed> {
        self.need(1, what).map(|()| self.0.get_i8())
    }

    fn i16(&mut self, what: &'static str) -> Result<i16, Malformed> {
        self.need(2, what).map(|()| self.0.get_i16())
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        self.need(4, what).map(|()| self.0.get_i32())
    }

    fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        self.need(8, what).map(|()| self.0.get_i64())
    }

    fn string(&mut self, what: &'static str) -> Result<String, Malformed> {
        let length = usize::try_from(self.i16(what)?).map_err(|_| Malformed(what))?;
        self.need(length, what)?;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Malformed(what))
    }

    fn nullable_bytes(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        let Ok(length) = usize::try_from(self.i32(what)?) else { return Ok(None) };
        self.need(length, what)?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(Some(bytes))
    }

    fn millis(&mut self, what: &'static str) -> Result<Duration, Malformed> {
        Ok(Duration::from_millis(u64::try_from(self.i32(what)?).unwrap_or(0)))
    }

    fn absences(&mut self) -> Result<Vec<Absence>, Malformed> {
        let mut absences = Vec::new();
        for _ in 0..self.i32("the number of absent workers")? {
            let url = self.string("an absent worker's url")?;
            let wait = self.millis("the time that is left to an absent worker")?;
            let part = self.assignment("what an absent worker had")?;
            absences.push(Absence { url, wait, part, standbys: BTreeSet::new() });
        }
        Ok(absences)
    }

    /// See [`put_standbys`]. Workers before that did not write any.
    fn standbys(&mut self, absences: &mut [Absence]) -> Result<BTreeSet<TaskId>, Malformed> {
        if self.0.is_empty() {
            return Ok(BTreeSet::new());
        }
        let own = self.assignment("the tasks that a member follows")?.tasks;
        for absence in absences {
            absence.standbys = self.assignment("the tasks that an absent worker followed")?.tasks;
        }
        Ok(own)
    }

    fn assignment(&mut self, what: &'static str) -> Result<Assignment, Malformed> {
        let mut assignment = Assignment::default();
        for _ in 0..self.i32(what)? {
            let connector = self.string(what)?;
            for _ in 0..self.i32(what)? {
                match self.i32(what)? {
                    CONNECTOR_TASK => {
                        assignment.connectors.insert(connector.clone());
                    }
                    task => {
                        let task = u32::try_from(task).map_err(|_| Malformed(what))?;
                        assignment.tasks.insert(TaskId { connector: connector.clone(), task });
                    }
                }
            }
        }
        Ok(assignment)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assignment() -> impl Strategy<Value = Assignment> {
        let connectors = prop::collection::btree_set("[a-zé ]{0,6}", 0..5);
        let tasks = prop::collection::btree_set(("[a-zé ]{0,6}", 0..9u32), 0..12);
        (connectors, tasks).prop_map(|(connectors, tasks)| Assignment {
            connectors,
            tasks: tasks.into_iter().map(|(connector, task)| TaskId { connector, task }).collect(),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(owned in assignment(), revoked in assignment(), labels in prop::collection::vec("[a-z=]{0,5}", 0..3), leaving: bool, millis in 0u64..100_000) {
            let wait = Duration::from_millis(millis);
            let absences = vec![Absence { url: "http://x:1/".into(), wait, part: revoked.clone(), standbys: owned.tasks.clone() }; labels.len()];
            let metadata = MemberMetadata { url: "http://w:1/".into(), config_offset: 7, owned: owned.clone(), followed: 3, labels, leaving, back_within: wait, absences: absences.clone(), standbys: revoked.tasks.clone(), ours: true, follows: true };
            prop_assert_eq!(MemberMetadata::decode(&metadata.encode(2)).unwrap(), metadata);
            let standbys = owned.tasks.clone();
            let answer = MemberAssignment { error: 0, leader: "l-1".into(), leader_url: "u".into(), config_offset: -1, assigned: owned, revoked, delay_ms: 5, absences, standbys };
            prop_assert_eq!(MemberAssignment::decode(&answer.encode(1)).unwrap(), answer);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = MemberMetadata::decode(&bytes);
            let _ = MemberAssignment::decode(&bytes);
        }

        #[test]
        fn cut_bytes_are_refused_or_shorter(owned in assignment(), cut in 0usize..400) {
            let bytes = MemberAssignment { assigned: owned, leader: "l".into(), ..MemberAssignment::default() }.encode(2);
            let _ = MemberAssignment::decode(&bytes[..cut.min(bytes.len())]);
        }
    }

    /// A worker of ours that knows nothing of standbys ends its bytes before them.
    #[test]
    fn bytes_that_end_before_standbys_have_none() {
        let absences = vec![Absence { url: "u".into(), ..Absence::default() }];
        let older = MemberMetadata { absences: absences.clone(), ours: true, followed: 2, ..MemberMetadata::default() };
        let whole = MemberMetadata { follows: true, ..older.clone() };
        let bytes = whole.encode(2);
        assert_eq!(MemberMetadata::decode(&bytes).unwrap(), whole);
        // Two empty lists.
        assert_eq!(MemberMetadata::decode(&bytes[..bytes.len() - 8]).unwrap(), older);
        let answer = MemberAssignment { absences, ..MemberAssignment::default() };
        let bytes = answer.encode(2);
        assert_eq!(MemberAssignment::decode(&bytes[..bytes.len() - 8]).unwrap(), answer);
    }

    /// A length that the bytes do not back must not be believed.
    #[test]
    fn huge_counts_end_at_once() {
        let mut bytes = BytesMut::new();
        bytes.put_i16(2);
        bytes.put_i16(0);
        bytes.put_i16(0);
        bytes.put_i16(0);
        bytes.put_i64(0);
        bytes.put_i32(i32::MAX);
        assert_eq!(MemberAssignment::decode(&bytes), Err(Malformed("the assigned part")));
    }
}
