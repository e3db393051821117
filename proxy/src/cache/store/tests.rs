//! A record is given out as it was written or not at all, wherever the disk stops.

mod bounds;
mod compaction;
mod model;
mod torn;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::*;

/// When the tests take place, in Unix seconds.
const NOW: u64 = 1_800_000_000;

/// Bounds that are not reached, and small segments.
/// Opens the store. A process that another test starts holds the lock until it is on its own.
fn opened(dir: &std::path::Path, limits: Limits, now: u64) -> (Store, Loaded) {
    for _ in 0..1_000 {
        match Store::open(dir, limits, now) {
            Err(OpenError::Locked(_)) => std::thread::sleep(Duration::from_millis(1)),
            other => return other.expect("opens"),
        }
    }
    panic!("the lock is never let go");
}

fn roomy() -> Limits {
    let max_age = Duration::from_secs(100_000);
    Limits { bytes: 64 * 1024, entries: 1_000, segment_bytes: 1024, max_age }
}

fn key(number: u8) -> Key {
    let mut key = [0xa5; 32];
    key[0] = number;
    key
}

/// A record whose every part depends on the key and the version.
fn record(number: u8, version: u8) -> Record {
    Record {
        key: key(number),
        scope: [number ^ 0x55; 32],
        expires: NOW + 1_000,
        embedder: [7; 16],
        vector: vec![f32::from(number), f32::from(version), -0.5],
        text: format!("text {number} ü {version}"),
        answer: Bytes::from(vec![version; 40 + usize::from(number)]),
    }
}

fn open(dir: &Path) -> (Store, Loaded) {
    opened(dir, roomy(), NOW)
}

fn put(store: &mut Store, number: u8, version: u8) -> Position {
    store.append(&record(number, version), NOW).expect("appends")
}

fn answer(store: &Store, number: u8) -> Option<Bytes> {
    store.read_answer(&key(number), NOW).expect("reads")
}

/// Compacts until there is nothing left to do.
fn compact(store: &mut Store, now: u64) {
    for _ in 0..1_000 {
        if !store.compact(now).expect("compacts").more {
            return;
        }
    }
    panic!("compaction does not end");
}

/// The store is what these versions of the keys say, in memory and on disk.
fn assert_holds(store: &Store, loaded: &Loaded, expected: &[(u8, u8)]) {
    assert_eq!(store.len(), expected.len());
    let entry = |(number, version): &(u8, u8)| {
        let Record { key, scope, expires, embedder, vector, text, .. } = record(*number, *version);
        Entry { key, scope, embedder, vector, text, stored: NOW, expires }
    };
    let mut entries = loaded.entries.clone();
    entries.sort_by_key(|entry| entry.key);
    assert_eq!(entries, expected.iter().map(entry).collect::<Vec<_>>());
    for (number, version) in expected {
        assert_eq!(answer(store, *number), Some(record(*number, *version).answer));
    }
}

/// A copy of the store's files, without its lock.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("directory");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("entry");
        if entry.file_name() != "lock" {
            std::fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copies");
        }
    }
    to
}

#[test]
fn what_was_appended_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, loaded) = open(dir.path());
    assert!(loaded.entries.is_empty() && store.is_empty());
    for number in 0..20 {
        put(&mut store, number, 1);
    }
    put(&mut store, 3, 2);
    assert!(store.delete(&key(4)).expect("deletes"));
    assert!(!store.delete(&key(4)).expect("nothing to delete"));
    assert!(!store.delete(&key(99)).expect("never there"));
    assert_eq!(answer(&store, 4), None);
    store.sync().expect("syncs");
    assert!(store.segments() > 2);
    let bytes = store.bytes();
    drop(store);
    let (store, loaded) = open(dir.path());
    let mut expected: Vec<(u8, u8)> = (0..20).filter(|n| *n != 4).map(|n| (n, 1)).collect();
    expected[3].1 = 2;
    assert_holds(&store, &loaded, &expected);
    assert_eq!(loaded.entries.last().map(|entry| entry.key), Some(key(3)), "oldest first");
    assert_eq!(loaded.dropped, Dropped { replaced: 1, deletes: 1, ..Dropped::default() });
    assert_eq!(store.bytes(), bytes);
}

#[test]
fn an_answer_is_read_while_its_segment_is_replaced() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    for number in 0..30 {
        put(&mut store, number, 1);
    }
    let location = store.locate(&key(0), NOW).expect("there");
    for number in 0..30 {
        put(&mut store, number, 2);
    }
    compact(&mut store, NOW);
    assert_eq!(location.read().expect("reads"), record(0, 1).answer);
    assert_eq!(answer(&store, 0), Some(record(0, 2).answer));
}

#[test]
fn a_damaged_answer_is_an_error_and_never_wrong_bytes() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    let position = put(&mut store, 1, 1);
    let path = segment::path(dir.path(), position.segment);
    let good = std::fs::read(&path).expect("reads");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).expect("writes");
        let error = store.read_answer(&key(1), NOW).expect_err("damaged");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "at {at}");
    }
    std::fs::write(&path, &good[..50]).expect("writes");
    assert!(store.read_answer(&key(1), NOW).is_err());
    assert!(store.delete(&key(1)).expect("deletes"));
}
