//! Whatever is done to it, the store is what a map would be.

use std::collections::HashMap;

use proptest::prelude::*;

use super::disk::seam;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put {
        number: u8,
        size: usize,
        ttl: u64,
    },
    Delete(u8),
    Compact,
    Reopen,
    Sync,
    Wait(u64),
    /// The disk stops after so many steps of the next one, then the process is killed.
    Crash(u32, Box<Step>),
    /// The same, but the process lives on.
    Fault(u32, Box<Step>),
}

fn plain() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..14_u8, 0..300_usize, 1..60_u64)
            .prop_map(|(number, size, ttl)| Step::Put { number, size, ttl }),
        3 => (0..14_u8).prop_map(Step::Delete),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Sync),
        1 => (1..20_u64).prop_map(Step::Wait),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => plain(),
        1 => (0..12_u32, plain()).prop_map(|(at, step)| Step::Crash(at, Box::new(step))),
        1 => (0..12_u32, plain()).prop_map(|(at, step)| Step::Fault(at, Box::new(step))),
    ];
    prop::collection::vec(step, 1..120)
}

fn limits(entries: usize) -> Limits {
    let max_age = Duration::from_secs(100_000);
    Limits { bytes: 12 * 1024, entries, segment_bytes: 900, max_age }
}

struct Model {
    dir: tempfile::TempDir,
    store: Option<Store>,
    limits: Limits,
    now: u64,
    version: u32,
    known: HashMap<u8, (Bytes, u64)>,
}

impl Model {
    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("open")
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Put { number, size, ttl } => {
                self.version += 1;
                let answer = Bytes::from(self.version.to_le_bytes().repeat(1 + size / 4));
                let expires = self.now + ttl;
                let put = Record { expires, answer: answer.clone(), ..record(*number, 1) };
                let now = self.now;
                let done = self.store().append(&put, now);
                self.forget_evicted();
                if done.is_ok() {
                    self.known.insert(*number, (answer, expires));
                }
            }
            Step::Delete(number) => {
                // Served no longer, written or not.
                let _ = self.store().delete(&key(*number));
                self.known.remove(number);
                self.forget_evicted();
            }
            Step::Compact => {
                let now = self.now;
                let _ = self.store().compact(now);
                self.forget_evicted();
            }
            Step::Reopen => self.reopen(),
            Step::Sync => {
                let _ = self.store().sync();
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Crash(at, step) | Step::Fault(at, step) => self.stopped(*at, step),
        }
        if let Step::Crash(..) = step {
            self.reopen();
        }
    }

    fn stopped(&mut self, at: u32, step: &Step) {
        // A delete that fails is not on disk until the next sync.
        seam::steps((!matches!(step, Step::Reopen)).then_some(at));
        self.run(step);
        seam::steps(None);
        if let Step::Delete(_) = step {
            self.store().sync().expect("the disk works again");
        }
        self.forget_evicted();
    }

    fn reopen(&mut self) {
        self.forget_evicted();
        self.store = None;
        let (store, loaded) = opened(self.dir.path(), self.limits, self.now);
        assert!(loaded.dropped.cut_segments <= 1, "at most the last one is torn");
        assert_eq!(loaded.entries.len(), store.len());
        // What has expired counts as dead from here on, and the bound on those may evict.
        let now = self.now;
        self.known.retain(|_, (_, expires)| *expires > now);
        let before = self.known.len();
        let loaded_keys: Vec<Key> = loaded.entries.iter().map(|entry| entry.key).collect();
        self.known.retain(|number, _| loaded_keys.contains(&key(*number)));
        assert_eq!(before - self.known.len(), loaded.dropped.evicted);
        self.store = Some(store);
    }

    fn forget_evicted(&mut self) {
        for evicted in self.store().take_evicted() {
            self.known.retain(|number, _| key(*number) != evicted);
        }
    }

    fn check(&mut self) {
        let (now, limits) = (self.now, self.limits);
        for number in 0..14 {
            let known = self.known.get(&number).filter(|(_, expires)| *expires > now);
            let expected = known.map(|(answer, _)| answer.clone());
            let found = self.store().read_answer(&key(number), now).expect("reads");
            assert_eq!(found, expected, "key {number}");
        }
        let store = self.store();
        assert!(store.bytes() <= limits.bytes && store.len() <= limits.entries);
    }

    fn bytes_on_disk(&self) -> u64 {
        let files = std::fs::read_dir(self.dir.path()).expect("lists");
        files.map(|file| file.expect("entry").metadata().expect("file").len()).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_what_a_map_would_be(steps in steps(), entries in 3..20_usize) {
        let dir = tempfile::tempdir().expect("directory");
        let limits = limits(entries);
        let (store, _) = opened(dir.path(), limits, NOW);
        let known = HashMap::new();
        let mut model = Model { dir, store: Some(store), limits, now: NOW, version: 0, known };
        for step in &steps {
            model.run(step);
            if !matches!(step, Step::Crash(..) | Step::Fault(..)) {
                model.check();
            }
        }
        model.reopen();
        model.check();
        let now = model.now;
        for _ in 0..100 {
            if !model.store().compact(now).expect("compacts").more {
                break;
            }
        }
        model.forget_evicted();
        model.reopen();
        model.check();
        assert_eq!(model.bytes_on_disk(), model.store().bytes());
    }
}
