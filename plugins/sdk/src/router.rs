//! What a [`Router`](crate::Router) sees and decides.

pub use crate::bindings::routing::exports::sluicegate::plugin::router::{
    Breaker, Decision, Ranked, Ranking, Target,
};

/// Ranks every target by `weight`, the heaviest first; equal ones stay in their order.
pub fn heaviest_first(
    targets: &[Target],
    reason: &str,
    mut weight: impl FnMut(&Target) -> f64,
) -> Decision {
    let ranked = (0_u32..)
        .zip(targets)
        .map(|(index, target)| Ranked { target: index, weight: weight(target) })
        .collect();
    Decision::Rank(Ranking {
        targets: ranked,
        reason: reason.to_owned(),
        defaults: Vec::new(),
        labels: Vec::new(),
    })
}
