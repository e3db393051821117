//! Bounds, the lock, and disks that fail.

use std::os::unix::fs::PermissionsExt;

use super::disk::seam;
use super::*;

#[test]
fn bytes_are_bounded_by_dropping_the_oldest() {
    let dir = tempfile::tempdir().expect("directory");
    let limits = Limits { bytes: 4096, ..roomy() };
    let (mut store, _) = opened(dir.path(), limits, NOW);
    let mut evicted = Vec::new();
    for number in 0..100 {
        put(&mut store, number, 1);
        assert!(store.bytes() <= 4096);
        evicted.extend(store.take_evicted());
        assert_eq!(evicted.len() + store.len(), usize::from(number) + 1);
    }
    evicted.sort_unstable();
    assert_eq!(evicted, (0..evicted.len() as u8).map(key).collect::<Vec<_>>(), "the oldest");
    assert!(store.len() > 8);
    let left = store.len();
    drop(store);
    let (store, loaded) = opened(dir.path(), limits, NOW);
    assert_eq!((store.len(), loaded.entries.len()), (left, left));
    drop(store);
    let less = Limits { bytes: 2048, ..limits };
    let (store, loaded) = opened(dir.path(), less, NOW);
    assert!(store.bytes() <= 2048 && store.len() < left);
    assert_eq!(loaded.dropped.evicted + loaded.entries.len(), left);
}

#[test]
fn entries_are_bounded_and_a_bound_costs_a_part_of_them() {
    let dir = tempfile::tempdir().expect("directory");
    let limits = Limits { entries: 16, segment_bytes: 16 * 1024, ..roomy() };
    let (mut store, _) = opened(dir.path(), limits, NOW);
    for number in 0..100 {
        put(&mut store, number, 1);
        assert!(store.len() <= 16);
        assert!(store.len() >= 14.min(usize::from(number) + 1), "{number}: {}", store.len());
    }
    // Replacing an entry needs no room.
    let before = store.len();
    let _ = store.take_evicted();
    put(&mut store, 99, 2);
    assert_eq!((store.len(), store.take_evicted()), (before, vec![]));
}

#[test]
fn deletes_are_bounded_too() {
    let dir = tempfile::tempdir().expect("directory");
    let limits = Limits { entries: 8, ..roomy() };
    let (mut store, _) = opened(dir.path(), limits, NOW);
    for number in 0..200 {
        put(&mut store, number, 1);
        store.delete(&key(number)).expect("deletes");
        assert!(store.index.dead() <= 9);
    }
}

#[test]
fn no_entry_is_served_longer_than_the_greatest_age() {
    let dir = tempfile::tempdir().expect("directory");
    let limits = Limits { max_age: Duration::from_secs(10), ..roomy() };
    let (mut store, _) = opened(dir.path(), limits, NOW);
    put(&mut store, 1, 1);
    assert!(store.locate(&key(1), NOW + 9).is_some());
    assert!(store.locate(&key(1), NOW + 10).is_none());
    assert_eq!(store.compact(NOW + 10).expect("compacts").expired, [key(1)]);
    assert!(store.is_empty());
    put(&mut store, 2, 1);
    drop(store);
    let shorter = Limits { max_age: Duration::from_secs(5), ..roomy() };
    let (store, loaded) = opened(dir.path(), shorter, NOW + 4);
    assert_eq!(loaded.entries[0].expires, NOW + 5);
    drop(store);
    let (_, loaded) = opened(dir.path(), shorter, NOW + 5);
    assert_eq!((loaded.entries.len(), loaded.dropped.expired), (0, 2));
}

#[test]
fn a_record_larger_than_the_store_is_refused_and_nothing_goes_for_it() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    put(&mut store, 1, 1);
    let huge = |bytes| Record { answer: Bytes::from(vec![0; bytes]), ..record(2, 1) };
    for bytes in [64 * 1024, record::MAX_RECORD + 1] {
        let error = store.append(&huge(bytes), NOW).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let wide = Record { vector: vec![0.0; 70_000], ..record(2, 1) };
    assert!(store.append(&wide, NOW).is_err());
    assert_eq!(store.len(), 1);
    store.append(&huge(60 * 1024), NOW).expect("larger than a segment, but fits");
    assert_eq!(store.read_answer(&key(2), NOW).expect("reads").map(|a| a.len()), Some(60 * 1024));
}

#[test]
fn two_processes_never_have_one_store() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = open(dir.path());
    let error = Store::open(dir.path(), roomy(), NOW).expect_err("locked");
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
    drop(store);
    open(dir.path());
}

#[test]
fn files_are_private() {
    let parent = tempfile::tempdir().expect("directory");
    let dir = parent.path().join("a/b");
    let (mut store, _) = open(&dir);
    for number in 0..30 {
        put(&mut store, number, 1);
    }
    for number in 0..30 {
        put(&mut store, number, 2);
    }
    compact(&mut store, NOW);
    let mode = |path: &Path| std::fs::metadata(path).expect("file").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in std::fs::read_dir(&dir).expect("lists") {
        assert_eq!(mode(&entry.expect("entry").path()), 0o600);
    }
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let parent = tempfile::tempdir().expect("directory");
    let file = parent.path().join("file");
    std::fs::write(&file, b"").expect("writes");
    let error = Store::open(&file.join("dir"), roomy(), NOW).expect_err("no directory");
    assert!(error.to_string().contains("file/dir"), "{error}");
    assert!(Store::open(&file, roomy(), NOW).is_err());
    assert!(Store::open(Path::new("/proc/no"), roomy(), NOW).is_err());
}

#[test]
fn a_disk_that_fills_up_at_any_byte_leaves_the_store_as_it_was() {
    for room in (0..400).step_by(7) {
        let dir = tempfile::tempdir().expect("directory");
        let (mut store, _) = open(dir.path());
        put(&mut store, 1, 1);
        seam::room(Some(room));
        let mut expected = vec![(1, 1)];
        for number in 2..5 {
            match store.append(&record(number, 1), NOW) {
                Ok(_) => expected.push((number, 1)),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
            }
        }
        assert_eq!(store.len(), expected.len());
        let killed = copy(dir.path());
        seam::room(None);
        put(&mut store, 9, 1);
        drop(store);
        let (store, loaded) = open(killed.path());
        assert_holds(&store, &loaded, &expected);
        expected.push((9, 1));
        let (store, loaded) = open(dir.path());
        assert_holds(&store, &loaded, &expected);
        assert_eq!(loaded.dropped.cut_segments, 0);
    }
}

#[test]
fn half_a_record_that_cannot_be_cut_off_is_never_written_behind() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    put(&mut store, 1, 1);
    // An answer with a record in it, just where the shorter one that is written next will end.
    let next = record::put(&record(4, 1), NOW, NOW).expect("a record").len();
    let before = record::put(&Record { answer: Bytes::new(), ..record(2, 1) }, NOW, NOW);
    let gap = vec![0; next - before.expect("a record").len()];
    let forged = record::delete(&key(1), NOW + 500);
    let evil = Record { answer: [gap, forged, vec![0; 350]].concat().into(), ..record(2, 1) };
    // Stopped at the second half of the write: cutting it off fails too.
    seam::steps(Some(1));
    assert!(store.append(&evil, NOW).is_err());
    assert!(store.append(&record(3, 1), NOW).is_err());
    seam::steps(None);
    put(&mut store, 4, 1);
    drop(store);
    let (store, loaded) = open(dir.path());
    assert_holds(&store, &loaded, &[(1, 1), (4, 1)]);
    assert_eq!(loaded.dropped.cut_segments, 0);
}

#[test]
fn a_delete_that_could_not_be_written_counts_and_is_written_later() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    put(&mut store, 1, 1);
    put(&mut store, 2, 1);
    seam::room(Some(10));
    assert!(store.delete(&key(1)).is_err());
    assert!(store.delete(&key(1)).is_err());
    assert_eq!((answer(&store, 1), store.len()), (None, 1));
    assert!(store.sync().is_err());
    seam::room(None);
    store.sync().expect("writes it");
    drop(store);
    let (store, loaded) = open(dir.path());
    assert_holds(&store, &loaded, &[(2, 1)]);
}

#[test]
fn a_full_disk_can_be_relieved() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    for number in 0..20 {
        put(&mut store, number, 1);
    }
    let segments = store.segments();
    assert!(store.shed().expect("sheds"));
    assert_eq!(store.segments(), segments - 1);
    assert!(!store.take_evicted().is_empty());
    while store.shed().expect("sheds") {}
    assert_eq!((store.bytes(), store.len()), (0, 0));
    put(&mut store, 1, 1);
}
