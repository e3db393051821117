//! Random requests, leaves, loads that fail and memory that changes, against the invariants.

use std::collections::HashMap;

use fastrand::Rng;

use super::memory::Resident;
use super::*;

const MODELS: [(&str, u64); 5] = [("a", 3), ("b", 10), ("c", 9), ("d", 1), ("huge", 40)];
const VRAM: u64 = 16;

/// The upstream, and everything that is under way.
struct World {
    rng: Rng,
    line: Line,
    now: Instant,
    residents: Vec<Resident>,
    waiting: HashMap<u64, Ticket>,
    running: Vec<Grant>,
    load: Option<Load>,
    places: usize,
    joined: usize,
    done: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let places = rng.usize(1..5);
        let now = Instant::now();
        let residents = if rng.bool() {
            let d = Resident { pinned: true, ..Self::resident("d", 1, now) };
            vec![d, Self::resident("a", 3, now)]
        } else {
            Vec::new()
        };
        let mut world = Self {
            rng,
            line: Line::new(Self::terms(places)),
            now,
            residents,
            waiting: HashMap::new(),
            running: Vec::new(),
            load: None,
            places,
            joined: 0,
            done: 0,
        };
        world.look();
        world
    }

    fn terms(places: usize) -> Terms {
        Terms {
            places,
            max_waiting: 20,
            min_residency: Duration::from_secs(20),
            max_starvation: Duration::from_secs(60),
            offload: Offload::Fallback,
        }
    }

    fn resident(model: &str, vram: u64, since: Instant) -> Resident {
        Resident {
            model: model.into(),
            vram,
            partial: false,
            since,
            pinned: false,
            reload: (vram > 5).then_some(Duration::from_secs(vram)),
        }
    }

    fn look(&mut self) {
        let used: u64 = self.residents.iter().map(|one| one.vram).sum();
        let free = VRAM.saturating_sub(used);
        self.line.know(Some(Memory { free, residents: self.residents.clone() }));
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(0..3_000));
        match self.rng.u32(0..100) {
            0..40 => self.ask(),
            40..65 => self.finish(),
            65..72 => self.leave(),
            72..85 => self.finish_load(),
            85..95 => self.look(),
            95..97 => self.lose_a_resident(),
            97 => self.line.know(None),
            _ => {
                self.places = self.rng.usize(1..5);
                self.line.configure(Self::terms(self.places));
            }
        }
        self.settle();
    }

    fn ask(&mut self) {
        let (model, need) = MODELS[self.rng.usize(..MODELS.len())];
        let ask = Ask {
            model: model.into(),
            caller: format!("caller {}", self.rng.u32(0..6)).into(),
            weight: self.rng.u32(0..4),
            priority: if self.rng.bool() { Priority::Interactive } else { Priority::Batch },
            need: self.rng.u32(0..20).gt(&0).then_some(need),
        };
        let decision = self.line.consider(&ask, self.now);
        match self.line.enter(&ask, self.now) {
            Ok(grant) => {
                assert_eq!(self.running.len() + 1, self.line.in_flight());
                assert!(self.line.in_flight() <= self.places);
                self.joined += 1;
                self.running.push(grant);
            }
            Err(other) => {
                assert_ne!(other, Decision::Run, "{decision:?}");
                if let Ok(ticket) = self.line.join(&ask, self.now) {
                    self.joined += 1;
                    self.waiting.insert(ticket.number, ticket);
                }
            }
        }
    }

    fn finish(&mut self) {
        if !self.running.is_empty() {
            let grant = self.running.swap_remove(self.rng.usize(..self.running.len()));
            self.line.release(&grant, self.now);
            self.done += 1;
        }
    }

    fn leave(&mut self) {
        let Some(&number) = self.waiting.keys().min() else { return };
        let ticket = self.waiting.remove(&number).expect("it waits");
        assert!(self.line.leave(&ticket));
        self.done += 1;
    }

    fn lose_a_resident(&mut self) {
        if !self.residents.is_empty() {
            self.residents.remove(self.rng.usize(..self.residents.len()));
            self.look();
        }
    }

    fn finish_load(&mut self) {
        let Some(load) = self.load.take() else { return };
        let succeeded = self.rng.u32(0..4) > 0;
        if succeeded {
            let used: u64 = self.residents.iter().map(|one| one.vram).sum();
            let vram = load.need.min(VRAM.saturating_sub(used));
            self.residents.retain(|one| one.model != load.model);
            self.residents.push(Self::resident(&load.model, vram, self.now));
        }
        for ticket in self.line.loaded(&load.model, succeeded, self.now) {
            assert!(!succeeded);
            assert!(self.waiting.remove(&ticket.number).is_some());
            self.done += 1;
        }
    }

    /// What the gate and the loading task do after every change.
    fn settle(&mut self) {
        while let Some((ticket, grant)) = self.line.next(self.now) {
            assert!(self.line.in_flight() <= self.places);
            assert_eq!(self.waiting.remove(&ticket.number), Some(ticket));
            self.running.push(grant);
        }
        if let Some(load) = self.line.next_load(self.now) {
            assert!(self.load.is_none(), "two loads");
            for one in &load.evict {
                assert_eq!(self.line.in_flight_of(one), 0, "{one} is in flight");
                let seen = self.residents.iter().find(|other| other.model == *one);
                let Some(seen) = seen else { continue };
                assert!(!seen.pinned, "{one} is pinned");
                assert!(self.now - seen.since >= Duration::from_secs(20), "{one} is young");
            }
            self.residents.retain(|one| !load.evict.contains(&one.model));
            self.load = Some(load);
        }
        assert_eq!(self.line.in_flight(), self.running.len());
        assert_eq!(self.line.waiting(), self.waiting.len());
        assert_eq!(self.line.accounts.active(), self.running.len() + self.waiting.len());
        assert_eq!(self.joined, self.done + self.running.len() + self.waiting.len());
        let listed = self.line.report(self.now).waiting;
        assert!(listed.iter().enumerate().all(|(index, one)| one.position == index + 1));
        assert_eq!(listed.len(), self.waiting.len());
    }
}

#[test]
fn under_chaos_the_counts_hold_and_everybody_is_seen_to() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        // Nobody comes any more; requests end, loads end, time passes.
        let mut rounds = 0;
        while !(world.waiting.is_empty() && world.running.is_empty()) {
            rounds += 1;
            assert!(rounds < 2_000, "seed {seed}: {:?}", world.line);
            world.now += Duration::from_secs(1);
            world.finish_load();
            world.finish();
            world.look();
            world.settle();
        }
        assert_eq!((world.line.in_flight(), world.line.waiting()), (0, 0));
        assert_eq!(world.joined, world.done);
    }
}

/// Whatever arrives, the oldest waiter is seen to in bounded time.
#[test]
fn nobody_starves_under_a_permanent_overload() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        let mut longest = Duration::ZERO;
        for _ in 0..1_200 {
            world.now += Duration::from_millis(500);
            world.ask();
            world.settle();
            if world.rng.u32(0..3) == 0 {
                world.finish();
                world.finish_load();
                world.look();
            }
            world.settle();
            let oldest = world.line.models.iter().filter_map(Model::oldest).map(|one| one.1).min();
            longest = longest.max(oldest.map_or(Duration::ZERO, |since| world.now - since));
        }
        assert!(longest < Duration::from_secs(600), "seed {seed}: {longest:?}");
    }
}
