//! Which residents to evict so that a model fits.
//!
//! The score of a resident is its idle seconds per second of loading it again: long unused and
//! cheap to bring back goes first. With equal loading times that is least recently used.

use std::cmp::Reverse;
use std::time::Duration;

/// Loading time assumed of a model that was never seen loading.
pub const DEFAULT_RELOAD: Duration = Duration::from_secs(10);
/// A reload is never taken for cheaper than this: it interrupts whoever comes next all the same.
const LEAST_RELOAD: Duration = Duration::from_secs(1);

/// A resident model, as a plan sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Bytes of GPU memory that its eviction frees.
    pub vram: u64,
    /// Nothing of it is in flight and nobody who may run waits for it.
    pub idle: bool,
    /// Never to be evicted.
    pub pinned: bool,
    /// Time since it was loaded.
    pub resident_for: Duration,
    /// Time since its last request.
    pub unused_for: Duration,
    /// Time it takes to load again, where known.
    pub reload: Option<Duration>,
}

impl Candidate {
    fn may_go(&self, min_residency: Duration) -> bool {
        self.idle && !self.pinned && self.resident_for >= min_residency
    }

    /// Idle milliseconds per second of reloading; higher goes first.
    fn score(&self) -> u128 {
        let reload = self.reload.unwrap_or(DEFAULT_RELOAD).max(LEAST_RELOAD);
        self.unused_for.as_millis() * 1_000 / reload.as_millis()
    }
}

/// Indices of the candidates whose eviction lets `need` bytes fit beside `free`: none if it fits
/// already, and `None` if those that may go do not suffice. No element can be left out.
#[must_use]
pub fn plan(
    free: u64,
    need: u64,
    candidates: &[Candidate],
    min_residency: Duration,
) -> Option<Vec<usize>> {
    let mut order: Vec<usize> =
        (0..candidates.len()).filter(|&index| candidates[index].may_go(min_residency)).collect();
    order.sort_by_key(|&index| Reverse(candidates[index].score()));

    let mut room = free;
    let mut chosen = Vec::new();
    for index in order {
        if room >= need {
            break;
        }
        room = room.saturating_add(candidates[index].vram);
        chosen.push(index);
    }
    if room < need {
        return None;
    }
    // A big one taken late may have made small ones superfluous: spare the dearest of them first.
    let mut spared = room - need;
    for at in (0..chosen.len()).rev() {
        let vram = candidates[chosen[at]].vram;
        if vram <= spared {
            spared -= vram;
            chosen.remove(at);
        }
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GB: u64 = 1 << 30;

    fn idle(vram: u64, unused: u64, reload: u64) -> Candidate {
        Candidate {
            vram: vram * GB,
            idle: true,
            pinned: false,
            resident_for: Duration::from_secs(1_000),
            unused_for: Duration::from_secs(unused),
            reload: Some(Duration::from_secs(reload)),
        }
    }

    fn of(free: u64, need: u64, candidates: &[Candidate]) -> Option<Vec<usize>> {
        plan(free * GB, need * GB, candidates, Duration::from_secs(30))
    }

    #[test]
    fn what_fits_evicts_nobody() {
        assert_eq!(of(10, 10, &[idle(5, 9, 9)]), Some(vec![]));
    }

    #[test]
    fn the_least_recently_used_goes_first_at_equal_cost() {
        assert_eq!(of(0, 5, &[idle(5, 10, 8), idle(5, 20, 8), idle(5, 15, 8)]), Some(vec![1]));
    }

    #[test]
    fn the_cheap_to_reload_goes_before_the_slightly_longer_unused() {
        assert_eq!(of(0, 5, &[idle(5, 25, 60), idle(5, 20, 4)]), Some(vec![1]));
    }

    #[test]
    fn a_big_one_makes_small_ones_superfluous() {
        assert_eq!(of(0, 10, &[idle(2, 90, 1), idle(10, 50, 1)]), Some(vec![1]));
    }

    #[test]
    fn busy_pinned_and_young_models_stay() {
        let busy = Candidate { idle: false, ..idle(10, 9, 9) };
        let pinned = Candidate { pinned: true, ..idle(10, 9, 9) };
        let young = Candidate { resident_for: Duration::from_secs(29), ..idle(10, 9, 9) };
        assert_eq!(of(0, 10, &[busy, pinned, young]), None);
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0..20_u64, any::<bool>(), any::<bool>(), 0..60_u64, 0..99_u64, 0..30_u64);
        let one = one.prop_map(|(vram, idle, pinned, resident, unused, reload)| Candidate {
            vram,
            idle,
            pinned,
            resident_for: Duration::from_secs(resident),
            unused_for: Duration::from_secs(unused),
            reload: (reload > 0).then(|| Duration::from_secs(reload)),
        });
        proptest::collection::vec(one, 0..9)
    }

    proptest! {
        #[test]
        fn a_plan_frees_enough_and_nothing_forbidden_and_no_more(
            free in 0..30_u64, need in 0..60_u64, candidates in candidates()
        ) {
            let min = Duration::from_secs(30);
            let may_go = |one: &Candidate| one.idle && !one.pinned && one.resident_for >= min;
            let most: u64 = candidates.iter().filter(|one| may_go(one)).map(|one| one.vram).sum();
            let Some(plan) = plan(free, need, &candidates, min) else {
                prop_assert!(free + most < need, "there was a way");
                return Ok(());
            };
            prop_assert!(plan.iter().all(|&index| may_go(&candidates[index])));
            let freed: u64 = plan.iter().map(|&index| candidates[index].vram).sum();
            prop_assert!(free + freed >= need);
            for &index in &plan {
                prop_assert!(free + freed - candidates[index].vram < need, "{index} for nothing");
            }
        }
    }
}
