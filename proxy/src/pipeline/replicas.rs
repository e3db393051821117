//! Which of several equal targets goes first: one that has the model loaded, and of these the least
//! busy.

use super::state::Snapshot;
use crate::router::Target;

/// Puts neighbours of equal weight in order; those that are as busy stay as they are.
pub(super) fn least_busy_first(snapshot: &Snapshot, targets: &mut [Target]) {
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
        equal.sort_by_cached_key(load);
    }
}
