//! Compaction frees what is dead, and a crash at any step of it changes nothing.

use super::disk::seam;
use super::*;

/// A store of several segments with replaced, deleted and expired keys.
fn worn(dir: &Path) -> Vec<(u8, u8)> {
    let (mut store, _) = open(dir);
    for version in 1..8 {
        for number in 0..12 {
            put(&mut store, number, version);
        }
        // Never replaced: between what is dead, segments that stay.
        for number in 0..2 {
            put(&mut store, 100 + 10 * version + number, version);
        }
    }
    for number in [2, 5, 7] {
        store.delete(&key(number)).expect("deletes");
    }
    // A newer answer that expires before the one it replaced.
    store.append(&Record { expires: NOW + 1, ..record(3, 9) }, NOW).expect("appends");
    for number in 20..30 {
        put(&mut store, number, 1);
    }
    (0..12)
        .filter(|number| ![2, 3, 5, 7].contains(number))
        .map(|number| (number, 7))
        .chain((20..30).map(|number| (number, 1)))
        .chain((1..8).flat_map(|v| (0..2).map(move |number| (100 + 10 * v + number, v))))
        .collect()
}

#[test]
fn frees_what_is_dead_and_keeps_the_rest() {
    let dir = tempfile::tempdir().expect("directory");
    let expected = worn(dir.path());
    let now = NOW + 2;
    let (mut store, _) = opened(dir.path(), roomy(), now);
    let before = store.bytes();
    compact(&mut store, now);
    assert!(store.bytes() < before * 3 / 4, "{before} -> {}", store.bytes());
    let on_disk = |dir: &Path| -> u64 {
        let files = std::fs::read_dir(dir).expect("lists");
        files.map(|file| file.expect("entry").metadata().expect("file").len()).sum()
    };
    assert_eq!(on_disk(dir.path()), store.bytes());
    drop(store);
    let (store, loaded) = opened(dir.path(), roomy(), now);
    assert_holds(&store, &loaded, &expected);
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_brings_nothing_back() {
    let worn_dir = tempfile::tempdir().expect("directory");
    let expected = worn(worn_dir.path());
    let now = NOW + 2;
    let mut crashes = 0;
    for steps in 0.. {
        let dir = copy(worn_dir.path());
        let (mut store, _) = opened(dir.path(), roomy(), now);
        seam::steps(Some(steps));
        let mut crashed = false;
        for _ in 0..100 {
            match store.compact(now) {
                Ok(done) if !done.more => break,
                Ok(_) => {}
                Err(_) => {
                    crashed = true;
                    break;
                }
            }
        }
        // The process may go on, or be killed here.
        for number in 0..12 {
            let version = expected.iter().find(|(known, _)| *known == number).map(|(_, v)| *v);
            let found = store.read_answer(&key(number), now).expect("reads");
            assert_eq!(found, version.map(|version| record(number, version).answer));
        }
        let files = copy(dir.path());
        seam::steps(None);
        if crashed {
            compact(&mut store, now);
        }
        drop(store);
        for dir in [dir.path(), files.path()] {
            let (store, loaded) = opened(dir, roomy(), now);
            assert_holds(&store, &loaded, &expected);
        }
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 30, "{crashes}");
}

#[test]
fn both_the_old_and_the_new_files_are_harmless() {
    let worn_dir = tempfile::tempdir().expect("directory");
    let expected = worn(worn_dir.path());
    let now = NOW + 2;
    let dir = copy(worn_dir.path());
    let (mut store, _) = opened(dir.path(), roomy(), now);
    compact(&mut store, now);
    drop(store);
    for entry in std::fs::read_dir(worn_dir.path()).expect("lists") {
        let name = entry.expect("entry").file_name();
        if name != "lock" && !dir.path().join(&name).exists() {
            std::fs::copy(worn_dir.path().join(&name), dir.path().join(&name)).expect("copies");
        }
    }
    std::fs::write(dir.path().join("compact.tmp"), b"half").expect("writes");
    let (store, loaded) = opened(dir.path(), roomy(), now);
    assert_eq!(store.len(), expected.len());
    assert_eq!(loaded.entries.len(), expected.len());
    assert!(!dir.path().join("compact.tmp").exists());
}

#[test]
fn a_delete_is_kept_while_what_it_deleted_is_on_disk_and_not_longer() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    // The first segment stays: more than half of it is needed.
    for number in 0..6 {
        put(&mut store, number, 1);
    }
    store.delete(&key(0)).expect("deletes");
    for round in 0..10 {
        for number in 50..56 {
            put(&mut store, number, round);
        }
        compact(&mut store, NOW);
        drop(store);
        store = open(dir.path()).0;
        assert_eq!(answer(&store, 0), None, "round {round}");
    }
    assert_eq!(store.index.dead(), 1);
    for number in 1..6 {
        store.delete(&key(number)).expect("deletes");
    }
    for number in 60..70 {
        put(&mut store, number, 1);
    }
    compact(&mut store, NOW);
    assert!(store.index.dead() < 6, "what the first of them deleted is gone");
    drop(store);
    let (mut store, _) = open(dir.path());
    assert_eq!(store.len(), 16);
    // When the deleted would have expired by themselves, no delete is needed.
    compact(&mut store, NOW + 1_000);
    assert_eq!((store.len(), store.index.dead()), (0, 0));
    assert_eq!(store.bytes(), store.active.bytes);
}

#[test]
fn an_answer_that_was_replaced_does_not_outlive_its_successor() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    for number in 0..6 {
        put(&mut store, number, 1);
    }
    store.append(&Record { expires: NOW + 1, ..record(0, 2) }, NOW).expect("appends");
    for version in 0..2 {
        for number in 10..20 {
            put(&mut store, number, version);
        }
    }
    let now = NOW + 5;
    let expired = store.compact(now).expect("compacts").expired;
    assert_eq!(expired, [key(0)]);
    compact(&mut store, now);
    drop(store);
    let (store, _) = opened(dir.path(), roomy(), now);
    assert_eq!(store.read_answer(&key(0), now).expect("reads"), None);
}

#[test]
fn a_record_damaged_meanwhile_is_reported_and_its_older_version_stays_away() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    for number in 0..6 {
        put(&mut store, number, 1);
    }
    let bad = put(&mut store, 0, 2);
    for version in 0..3 {
        for number in 10..20 {
            put(&mut store, number, version);
        }
    }
    let path = segment::path(dir.path(), bad.segment);
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[bad.offset as usize + 140] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    compact(&mut store, NOW);
    assert_eq!(store.take_evicted(), [key(0)]);
    assert_eq!(answer(&store, 0), None);
    drop(store);
    assert_eq!(answer(&open(dir.path()).0, 0), None);
}
