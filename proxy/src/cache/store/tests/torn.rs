//! Torn tails and flipped bits.

use super::*;

/// Everything a file of these records would give, by how many of them are whole.
fn prefixes(steps: &[(u8, Option<u8>)]) -> Vec<Vec<(u8, u8)>> {
    let mut state: Vec<(u8, u8)> = Vec::new();
    let mut all = vec![state.clone()];
    for (number, version) in steps {
        state.retain(|(known, _)| known != number);
        state.extend(version.map(|version| (*number, version)));
        state.sort_unstable();
        all.push(state.clone());
    }
    all
}

/// Writes the steps to one segment: its bytes, and where each record ends.
fn written(steps: &[(u8, Option<u8>)]) -> (Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    let mut ends = vec![0];
    for (number, version) in steps {
        match version {
            Some(version) => drop(put(&mut store, *number, *version)),
            None => assert!(store.delete(&key(*number)).expect("deletes")),
        }
        ends.push(store.bytes() as usize);
    }
    assert_eq!(store.segments(), 1);
    (std::fs::read(segment::path(dir.path(), 1)).expect("reads"), ends)
}

const STEPS: [(u8, Option<u8>); 5] =
    [(1, Some(1)), (2, Some(1)), (3, Some(1)), (1, Some(2)), (2, None)];

/// The store opened on these bytes holds what is whole, can be written to, and opens again.
fn check(bytes: &[u8], expected: &[(u8, u8)], whole: usize) {
    let dir = tempfile::tempdir().expect("directory");
    let path = segment::path(dir.path(), 1);
    std::fs::write(&path, bytes).expect("writes");
    let (mut store, loaded) = open(dir.path());
    assert_holds(&store, &loaded, expected);
    assert_eq!(loaded.dropped.cut_bytes, (bytes.len() - whole) as u64);
    assert_eq!(std::fs::metadata(&path).expect("file").len(), whole as u64);
    put(&mut store, 9, 9);
    drop(store);
    let (store, loaded) = open(dir.path());
    let mut more = expected.to_vec();
    more.push((9, 9));
    assert_holds(&store, &loaded, &more);
    assert_eq!(loaded.dropped.cut_segments, 0);
}

#[test]
fn a_tail_cut_anywhere_leaves_what_is_whole() {
    let (bytes, ends) = written(&STEPS);
    let states = prefixes(&STEPS);
    for cut in ends[STEPS.len() - 3]..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        check(&bytes[..cut], &states[whole], ends[whole]);
    }
}

#[test]
fn a_bit_flipped_anywhere_ends_the_segment_there() {
    let (bytes, ends) = written(&STEPS);
    let states = prefixes(&STEPS);
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let whole = ends.iter().filter(|end| **end <= at).count() - 1;
        check(&bad, &states[whole], ends[whole]);
    }
}

#[test]
fn noise_and_zeros_behind_the_last_record_are_cut() {
    let (bytes, _) = written(&STEPS);
    let states = prefixes(&STEPS);
    let mut random = fastrand::Rng::with_seed(1);
    for length in [1, 127, 128, 129, 4096] {
        let noise: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        check(&[&bytes[..], &noise].concat(), &states[STEPS.len()], bytes.len());
        check(&[&bytes[..], &vec![0; length]].concat(), &states[STEPS.len()], bytes.len());
    }
}

#[test]
fn a_length_that_was_garbled_allocates_nothing_absurd() {
    let (bytes, _) = written(&[(1, Some(1))]);
    for at in 6..16 {
        let mut bad = bytes.clone();
        bad[at] = 0xff;
        check(&bad, &[], 0);
    }
}

#[test]
fn damage_in_an_earlier_segment_costs_only_its_rest() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut store, _) = open(dir.path());
    let places: Vec<Position> = (0..20).map(|number| put(&mut store, number, 1)).collect();
    drop(store);
    let bad = places[1];
    let path = segment::path(dir.path(), bad.segment);
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[bad.offset as usize + 130] ^= 1;
    std::fs::write(&path, &bytes).expect("writes");
    let (mut store, loaded) = open(dir.path());
    let left = |at: &Position| at.segment != bad.segment || at.offset < bad.offset;
    let expected: Vec<(u8, u8)> =
        (0_u8..).zip(&places).filter(|(_, at)| left(at)).map(|(n, _)| (n, 1)).collect();
    assert!(expected.len() > 10 && expected.len() < 20);
    assert_holds(&store, &loaded, &expected);
    assert_eq!(loaded.dropped.cut_segments, 1);
    let before = store.bytes();
    compact(&mut store, NOW);
    assert!(store.bytes() < before, "what was cut goes with compaction");
    drop(store);
    let (store, loaded) = open(dir.path());
    assert_holds(&store, &loaded, &expected);
    assert_eq!(loaded.dropped.cut_segments, 0);
}
