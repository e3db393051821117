//! Which of several equal targets goes first: one that has the model loaded, of these the one that answered
//! the conversation before, else the least busy.

use super::seats::Seat;
use super::state::Snapshot;
use crate::config::DEFAULT_MAX_CONCURRENT;
use crate::router::Target;

/// How much busier than others the one may be at which a conversation was: many conversations may begin alike.
const BUSIER: usize = 1;

/// Puts neighbours of equal weight in order; those that are as busy stay as they are. The one at `seat` goes
/// before those that are as busy, and before one that is a little less busy if it is known to have a place free.
pub(super) fn in_order(snapshot: &Snapshot, targets: &mut [Target], seat: Option<&Seat>) {
    if targets.len() < 2 {
        return;
    }
    let resident =
        |target: &Target| snapshot.backends[target.upstream].residency.of(&target.model).resident;
    // Of what is nowhere loaded, and of servers that do not say, none is worse.
    let loaded = targets.iter().any(|target| resident(target) == Some(true));
    let load = |target: &Target| {
        let gate = &snapshot.backends[target.upstream].gate;
        let cold = loaded && resident(target) == Some(false);
        (cold, gate.in_flight() + gate.waiting())
    };
    for equal in targets.chunk_by_mut(|one, next| one.weight == next.weight) {
        // Others come and go meanwhile.
        let mut now: Vec<_> = equal.iter().map(|target| (load(target), target.clone())).collect();
        let (fewest_cold, least) = now.iter().map(|(load, _)| *load).min().unwrap_or_default();
        now.sort_by_key(|((cold, busy), target)| {
            let backend = &snapshot.backends[target.upstream];
            let places = backend.origin.config.max_concurrent;
            // Where nobody said how many work at one time, the second may have to wait.
            let is_free = places != DEFAULT_MAX_CONCURRENT && *busy < places;
            let more = if is_free { BUSIER } else { 0 };
            let stays = *cold == fewest_cold
                && *busy <= least.saturating_add(more)
                && seat.is_some_and(|seat| seat.is(backend.name(), &target.model));
            (*cold, !stays, *busy)
        });
        for (target, (_, next)) in equal.iter_mut().zip(now) {
            *target = next;
        }
    }
}
