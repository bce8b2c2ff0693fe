//! Against a naive model: a map of what is committed, and a stack of layers; with discards, crashes and little memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::changelog::read_value;
use super::testing::MemoryLog;
use super::*;

type Entries = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;
type Writes = BTreeMap<Vec<u8>, Option<(Vec<u8>, i64)>>;

#[derive(Debug, Clone)]
enum Op {
    Put { key: u8, time: i64, value: Vec<u8>, due: Option<i64> },
    Delete { key: u8, time: i64 },
    Get { key: u8, time: i64 },
    Load,
    Scan { key: u8, from: i64, to: i64 },
    Due { scanned: bool, up_to: i64, keep: bool },
    Seal { part: bool },
    Commit,
    Discard { sealed: bool },
    Maintain,
    Sync,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let (key, time) = (0..24_u8, 0..6_i64);
    let value = prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        8 => (key.clone(), time.clone(), value, prop::option::of(0..20_i64))
            .prop_map(|(key, time, value, due)| Op::Put { key, time, value, due }),
        3 => (key.clone(), time.clone()).prop_map(|(key, time)| Op::Delete { key, time }),
        3 => (key.clone(), time.clone()).prop_map(|(key, time)| Op::Get { key, time }),
        1 => Just(Op::Load),
        1 => (key, time.clone(), time).prop_map(|(key, from, to)| Op::Scan { key, from, to }),
        1 => (any::<bool>(), 0..20_i64, any::<bool>()).prop_map(|(scanned, up_to, keep)| Op::Due { scanned, up_to, keep }),
        4 => prop::bool::weighted(0.3).prop_map(|part| Op::Seal { part }),
        3 => Just(Op::Commit),
        1 => any::<bool>().prop_map(|sealed| Op::Discard { sealed }),
        3 => Just(Op::Maintain),
        2 => Just(Op::Sync),
        1 => Just(Op::Crash),
    ]
}

/// Keys below 12 are looked up, the others scanned.
fn space(key: u8) -> Space {
    if key < 12 { Space::new("one", Kind::looked_up(1)) } else { Space::new("two", Kind::scanned(3)) }
}

fn bytes(key: u8, time: i64) -> Vec<u8> {
    let mut out = Vec::new();
    space(key).timed(&[key], time, &mut out);
    out
}

struct Model {
    committed: Entries,
    /// Sealed, then the open one.
    layers: Vec<Writes>,
    sealed: Vec<Layer>,
    /// Sealed parts of the open one.
    parts: Option<Layer>,
    log: MemoryLog,
}

impl Model {
    fn now(&self) -> Entries {
        let mut all = self.committed.clone();
        self.layers.iter().for_each(|layer| apply(&mut all, layer));
        all
    }
    fn open(&mut self) -> &mut Writes {
        self.layers.last_mut().unwrap()
    }
}

fn apply(entries: &mut Entries, writes: &Writes) {
    for (key, write) in writes {
        match write {
            Some(entry) => entries.insert(key.clone(), entry.clone()),
            None => entries.remove(key),
        };
    }
}

fn open(directory: &std::path::Path, budget: usize, log: &mut MemoryLog) -> (Arc<TaskState>, Restored) {
    let state = TaskState::new(StateDirectory::new(directory), "c", "c-0", budget).unwrap();
    let restored = state.restore(0, log).unwrap();
    (state, restored)
}

fn run(ops: Vec<Op>, budget: usize, page: usize) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().unwrap();
    let log = MemoryLog { page, ..MemoryLog::default() };
    let mut model =
        Model { committed: Entries::new(), layers: vec![Writes::new()], sealed: Vec::new(), parts: None, log };
    let (mut state, _) = open(directory.path(), budget, &mut model.log);
    for op in ops {
        match op {
            Op::Put { key, time, value, due } => {
                state.with(0, |store| store.put(&bytes(key, time), &value, due)).unwrap();
                model.open().insert(bytes(key, time), Some((value, due.unwrap_or(i64::MAX))));
            }
            Op::Delete { key, time } => {
                state.with(0, |store| store.delete(&bytes(key, time))).unwrap();
                model.open().insert(bytes(key, time), None);
            }
            Op::Get { key, time } => {
                let got = state.with(0, |store| Ok(store.get(&bytes(key, time))?.map(<[u8]>::to_vec))).unwrap();
                prop_assert_eq!(got, model.now().get(&bytes(key, time)).map(|(value, _)| value.clone()));
            }
            Op::Load => {
                let keys: Vec<_> = (0..24).flat_map(|key| (0..6).map(move |time| bytes(key, time))).collect();
                state.with(0, |store| store.load(keys.iter().map(Vec::as_slice))).unwrap();
                let now = model.now();
                for key in &keys {
                    let got = state.with(0, |store| Ok(store.get(key)?.map(<[u8]>::to_vec))).unwrap();
                    prop_assert_eq!(got, now.get(key).map(|(value, _)| value.clone()));
                }
            }
            Op::Scan { key, from, to } => {
                let key = 12 + key % 12;
                let got = state.with(0, |store| store.scan(&bytes(key, from), &bytes(key, to.max(from)))).unwrap();
                let now = model.now();
                let expected: Vec<_> = now
                    .range(bytes(key, from)..=bytes(key, to.max(from)))
                    .map(|(key, (value, _))| (key.clone(), value.clone()))
                    .collect();
                prop_assert_eq!(got, expected);
            }
            Op::Due { scanned, up_to, keep } => {
                let space = space(if scanned { 12 } else { 0 });
                let mut got = Vec::new();
                loop {
                    let due = state.with(0, |store| store.due(&space, up_to)).unwrap();
                    if due.is_empty() {
                        break;
                    }
                    for entry in due {
                        got.push((entry.due, entry.key.clone()));
                        prop_assert_eq!(Some((entry.payload.clone(), entry.due)), model.now().remove(&entry.key));
                        state
                            .with(0, |store| match keep {
                                true => store.put(&entry.key, &entry.payload, None),
                                false => store.delete(&entry.key),
                            })
                            .unwrap();
                        model.open().insert(entry.key, keep.then_some((entry.payload, i64::MAX)));
                    }
                }
                got.sort();
                got.dedup();
                let left: Vec<_> = model
                    .now()
                    .into_iter()
                    .filter(|(key, (_, due))| key.starts_with(space.prefix()) && *due <= up_to)
                    .collect();
                prop_assert_eq!(left, vec![]);
            }
            Op::Seal { part } => {
                let layer = if part { state.seal_part().unwrap() } else { state.seal().unwrap() };
                let whole = match model.parts.take() {
                    Some(mut parts) => {
                        parts.join(layer);
                        parts
                    }
                    None => layer,
                };
                if part {
                    model.parts = Some(whole);
                } else {
                    model.sealed.push(whole);
                    model.layers.push(Writes::new());
                }
            }
            Op::Commit => {
                if !model.sealed.is_empty() {
                    let layer = model.sealed.remove(0);
                    let positions = model.log.append(&layer);
                    let writes = model.layers.remove(0);
                    apply(&mut model.committed, &writes);
                    state.committed(layer, positions).unwrap();
                }
            }
            Op::Discard { sealed } => {
                let from = if sealed && !model.sealed.is_empty() { 0 } else { model.sealed.len() };
                if from == model.sealed.len() && !model.sealed.is_empty() {
                    // What is sealed and not committed would be lost with it.
                    continue;
                }
                state.discard(model.sealed.first().cloned()).unwrap();
                model.sealed.clear();
                model.parts = None;
                model.layers = vec![Writes::new()];
            }
            Op::Maintain => state
                .with(0, |store| {
                    store.maintain();
                    Ok(())
                })
                .unwrap(),
            Op::Sync => state.sync().unwrap(),
            Op::Crash => {
                state.crash();
                drop(state);
                let restored;
                (state, restored) = open(directory.path(), budget, &mut model.log);
                prop_assert_eq!(restored.next_offset, model.log.records.len() as i64);
                model.sealed.clear();
                model.parts = None;
                model.layers = vec![Writes::new()];
            }
        }
        let all = state.with(0, Store::all).unwrap();
        prop_assert_eq!(all, model.now());
    }
    // Whatever happened: the changelog alone makes the same state.
    state.crash();
    drop(state);
    let elsewhere = tempfile::tempdir().unwrap();
    let (state, restored) = open(elsewhere.path(), budget, &mut model.log);
    prop_assert!(restored.full);
    prop_assert_eq!(state.with(0, Store::all).unwrap(), model.committed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn state_is_what_a_map_with_layers_would_be(
        ops in prop::collection::vec(op(), 1..120),
        budget in prop_oneof![Just(1_usize), Just(1500), Just(1 << 20)],
        page in 1..40_usize,
    ) {
        run(ops, budget, page)?;
    }
}

fn fill(state: &TaskState, log: &mut MemoryLog, from: u32, to: u32) {
    let space = Space::new("a", Kind::looked_up(1));
    let mut key = Vec::new();
    state
        .with(0, |store| {
            for number in from..to {
                space.plain(&number.to_be_bytes(), &mut key);
                store.put(&key, b"0123456789", Some(i64::from(number)))?;
            }
            store.maintain();
            Ok(())
        })
        .unwrap();
    let layer = state.seal().unwrap();
    let positions = log.append(&layer);
    state.committed(layer, positions).unwrap();
}

#[test]
fn memory_stays_within_its_bound_and_everything_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = MemoryLog { page: 10_000, ..MemoryLog::default() };
    let (state, _) = open(directory.path(), 1 << 20, &mut log);
    for part in 0..40 {
        fill(&state, &mut log, part * 1000, (part + 1) * 1000);
    }
    state.sync().unwrap();
    let space = Space::new("a", Kind::looked_up(1));
    let mut key = Vec::new();
    let count = |state: &TaskState, numbers: std::ops::Range<u32>, key: &mut Vec<u8>| {
        state
            .with(0, |store| {
                store.maintain();
                assert!(store.bytes() < (1 << 20) + (200 << 10), "{} bytes", store.bytes());
                let mut found = 0;
                for number in numbers {
                    space.plain(&number.to_be_bytes(), key);
                    found += usize::from(store.get(key)?.is_some());
                }
                Ok(found)
            })
            .unwrap()
    };
    let found: usize = (0..50).map(|part| count(&state, part * 1000..(part + 1) * 1000, &mut key)).sum();
    assert_eq!(found, 40_000);
    // Times of entries that are only in SQLite.
    let mut due = Vec::new();
    loop {
        let some = state.with(0, |store| store.due(&space, 29_999)).unwrap();
        if some.is_empty() {
            break;
        }
        state.with(0, |store| some.iter().try_for_each(|due| store.delete(&due.key))).unwrap();
        due.extend(some.into_iter().map(|due| due.due));
    }
    assert_eq!(due, (0..30_000).collect::<Vec<i64>>());
    drop(state);
    // Opened again, nothing is read but what is asked for.
    let (state, restored) = open(directory.path(), 1 << 20, &mut log);
    assert_eq!((restored.records, restored.full), (0, false));
    assert_eq!(state.status()[0].entries, 0);
    assert_eq!(count(&state, 0..1000, &mut key), 1000);
}

#[test]
fn a_file_that_the_changelog_does_not_reach_is_thrown_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = MemoryLog { page: 100, ..MemoryLog::default() };
    let (state, _) = open(directory.path(), 1 << 20, &mut log);
    fill(&state, &mut log, 0, 100);
    drop(state);
    // The topic was made again, with less in it.
    log.records.truncate(40);
    let (state, restored) = open(directory.path(), 1 << 20, &mut log);
    assert_eq!((restored.records, restored.full), (40, true));
    assert_eq!(state.with(0, Store::all).unwrap().len(), 40);
    drop(state);
    // Its beginning is gone.
    fill(&open(directory.path(), 1 << 20, &mut log).0, &mut log, 100, 160);
    log.first = 200;
    log.records.resize_with(210, || (bytes(1, 1), None));
    let (_, restored) = open(directory.path(), 1 << 20, &mut log);
    assert_eq!((restored.records, restored.full), (10, true));
}

/// Fails after so many reads.
struct Broken<'l>(&'l mut MemoryLog, usize);

impl ChangelogReader for Broken<'_> {
    fn bounds(&mut self) -> Result<(i64, i64), StateError> {
        self.0.bounds()
    }
    fn read(&mut self, from: i64) -> Result<Option<ChangelogRecords>, StateError> {
        self.1 = self.1.checked_sub(1).ok_or_else(|| StateError::retriable("the cluster is away"))?;
        self.0.read(from)
    }
}

#[test]
fn an_interrupted_restore_does_not_make_a_file_younger() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = MemoryLog { page: 10, ..MemoryLog::default() };
    let (state, _) = open(directory.path(), 1 << 20, &mut log);
    fill(&state, &mut log, 0, 50);
    drop(state);
    let path = StateDirectory::new(directory.path()).shard("c", 0).unwrap();
    let age = |set: Option<i64>| -> i64 {
        let file = rusqlite::Connection::open(&path).unwrap();
        if let Some(at) = set {
            file.execute("UPDATE meta SET value = ?1 WHERE name = 'saved.at'", [at]).unwrap();
        }
        file.query_row("SELECT value FROM meta WHERE name = 'saved.at'", [], |row| row.get(0)).unwrap()
    };
    let hour = 3_600_000;
    let old = age(None) - 20 * hour;
    age(Some(old));
    let elsewhere = tempfile::tempdir().unwrap();
    fill(&open(elsewhere.path(), 1 << 20, &mut log).0, &mut log, 50, 100);
    let state = TaskState::new(StateDirectory::new(directory.path()), "c", "c-0", 1 << 20).unwrap();
    assert!(state.restore(0, &mut Broken(&mut log, 2)).is_err());
    drop(state);
    assert_eq!(age(None), old);
    // As a whole it makes it young again, and it goes on from where it was interrupted.
    let (state, restored) = open(directory.path(), 1 << 20, &mut log);
    assert_eq!((restored.records, restored.full), (30, false));
    drop(state);
    assert!(age(None) > old + 19 * hour);
    // So does one that finds nothing new.
    age(Some(old));
    drop(open(directory.path(), 1 << 20, &mut log));
    assert!(age(None) > old + 19 * hour);
}

#[test]
fn a_state_has_entries_when_some_are_committed_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = MemoryLog { page: 100, ..MemoryLog::default() };
    let (state, _) = open(directory.path(), 1 << 20, &mut log);
    assert!(!state.has_entries(0).unwrap());
    state.with(0, |store| store.put(&bytes(1, 1), b"x", None)).unwrap();
    assert!(!state.has_entries(0).unwrap(), "it may come to nothing");
    let layer = state.seal().unwrap();
    let positions = log.append(&layer);
    state.committed(layer, positions).unwrap();
    assert!(state.has_entries(0).unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(open(elsewhere.path(), 1 << 20, &mut log).0.has_entries(0).unwrap(), "restored from the changelog");
    log.records.push((bytes(1, 1), None));
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(!open(elsewhere.path(), 1 << 20, &mut log).0.has_entries(0).unwrap(), "deleted again");
}

#[test]
fn a_task_that_was_replaced_saves_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = MemoryLog { page: 100, ..MemoryLog::default() };
    let (zombie, _) = open(directory.path(), 1 << 20, &mut log);
    fill(&zombie, &mut log, 0, 10);
    zombie.sync().unwrap();
    let (owner, _) = open(directory.path(), 1 << 20, &mut log);
    fill(&zombie, &mut MemoryLog::default(), 50, 60);
    let error = zombie.sync().unwrap_err();
    assert!(error.taken_over, "{error}");
    fill(&owner, &mut log, 10, 20);
    owner.sync().unwrap();
    assert_eq!(owner.with(0, Store::all).unwrap().len(), 20);
}

#[test]
fn damaged_records_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    for (key, value) in
        [(b"\x01".to_vec(), b"\0".to_vec()), (bytes(1, 1), b"\x09".to_vec()), (b"\x02x".to_vec(), b"\0".to_vec())]
    {
        let mut log = MemoryLog { page: 1, records: vec![(key, Some(value))], ..MemoryLog::default() };
        let state = TaskState::new(StateDirectory::new(directory.path()), "c", "c-0", 1000).unwrap();
        assert!(state.restore(0, &mut log).is_err());
    }
    assert!(read_value(b"\0").is_ok());
}
