//! Which of several equal targets goes first: one that has the model loaded, of these the one that answered
//! the conversation before, else the least busy.

use super::state::Snapshot;
use crate::config::DEFAULT_MAX_CONCURRENT;
use crate::router::Target;

/// Puts neighbours of equal weight in order; those that are as busy stay as they are. The one at `seat` goes
/// before those that are as busy, and before less busy ones as long as it is known to have a place free.
pub(super) fn in_order(snapshot: &Snapshot, targets: &mut [Target], seat: Option<&str>) {
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
        let least = equal.iter().map(load).min();
        equal.sort_by_cached_key(|target| {
            let backend = &snapshot.backends[target.upstream];
            let places = backend.origin.config.max_concurrent;
            let (cold, busy) = load(target);
            // Where nobody said how many work at one time, the second may have to wait.
            let is_free = places != DEFAULT_MAX_CONCURRENT && busy < places;
            let stays = seat == Some(backend.name()) && (is_free || least == Some((cold, busy)));
            (cold, !stays, busy)
        });
    }
}
