//! What plugins decide, checked: a decision that makes no sense is a failure of its call, never of
//! the request.

use super::edit;
use sluicegate_plugin_host::router::Ranking;
use sluicegate_plugin_host::types::{Rejection, Value};
use sluicegate_plugin_host::{cache_policy, responder};

/// Labels of one decision.
const MAX_LABELS: usize = 16;
/// Parameters set by one decision.
const MAX_DEFAULTS: usize = 32;
/// Bytes of a label's name or value, and of a scope.
const MAX_LABEL: usize = 256;
/// Bytes of a reason: it becomes a header.
const MAX_REASON: usize = 64;
/// Bytes of a message for people.
const MAX_MESSAGE: usize = 1_000;
/// Bytes of a responder's state.
const MAX_STATE: usize = 64 << 10;
/// What a responder may make of one piece, in bytes.
const MAX_PIECE: usize = 16 << 20;

/// A ranking that can be followed.
#[derive(Clone, Debug)]
pub struct Order {
    /// Indexes into the targets given, the first to be tried first; none twice.
    pub targets: Vec<usize>,
    /// Why.
    pub reason: String,
    /// Parameters to set where there are none.
    pub defaults: Vec<(String, Value)>,
    /// For later plugins.
    pub labels: Vec<(String, String)>,
}

/// Checks a ranking of `count` targets.
///
/// # Errors
/// In words, when it cannot be followed.
pub fn order(ranking: Ranking, count: usize) -> Result<Order, String> {
    if ranking.targets.is_empty() {
        return Err("it ranks no target".into());
    }
    let mut seen = vec![false; count];
    for ranked in &ranking.targets {
        let index = ranked.target as usize;
        match seen.get_mut(index) {
            None => return Err(format!("target {index} does not exist; there are {count}")),
            Some(true) => return Err(format!("target {index} is ranked twice")),
            Some(unseen) => *unseen = true,
        }
        if !ranked.weight.is_finite() {
            return Err(format!("the weight of target {index} is {}", ranked.weight));
        }
    }
    if ranking.defaults.len() > MAX_DEFAULTS {
        return Err(format!("{} defaults; {MAX_DEFAULTS} at most", ranking.defaults.len()));
    }
    ranking.defaults.iter().try_for_each(|(name, value)| edit::check(name, value))?;
    let reason = &ranking.reason;
    if reason.len() > MAX_REASON
        || !reason.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return Err(format!("its reason is not visible ASCII of {MAX_REASON} bytes at most"));
    }
    check_labels(&ranking.labels)?;
    let mut ranked = ranking.targets;
    // Stable: equal ones stay in the plugin's order.
    ranked.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    Ok(Order {
        targets: ranked.into_iter().map(|one| one.target as usize).collect(),
        reason: ranking.reason,
        defaults: ranking.defaults,
        labels: ranking.labels,
    })
}

fn check_labels(labels: &[(String, String)]) -> Result<(), String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("{} labels; {MAX_LABELS} at most", labels.len()));
    }
    let long = |(name, value): &(String, String)| name.len() > MAX_LABEL || value.len() > MAX_LABEL;
    if labels.iter().any(long) {
        return Err(format!("a label is longer than {MAX_LABEL} bytes"));
    }
    Ok(())
}

/// Checks a rejection.
///
/// # Errors
/// In words, when it cannot be sent.
pub fn rejection(given: Rejection) -> Result<Rejection, String> {
    if !(400..=599).contains(&given.status) {
        return Err(format!("a rejection's status is {}; expected 400 to 599", given.status));
    }
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if given.code.is_empty() || given.code.len() > 64 || !given.code.bytes().all(sane) {
        return Err("a rejection's code is not 1 to 64 letters, digits and `_`".into());
    }
    if given.message.is_empty() || given.message.len() > MAX_MESSAGE {
        return Err(format!("a rejection's message is not 1 to {MAX_MESSAGE} bytes"));
    }
    Ok(given)
}

/// Checks a cache policy.
///
/// # Errors
/// In words, when it cannot be followed.
pub fn policy(given: cache_policy::Policy) -> Result<cache_policy::Policy, String> {
    if given.min_similarity.is_some_and(|least| !(0.0..=1.0).contains(&least)) {
        return Err("`min-similarity` is not between 0 and 1".into());
    }
    if given.scope.as_ref().is_some_and(|scope| scope.len() > MAX_LABEL) {
        return Err(format!("its scope is longer than {MAX_LABEL} bytes"));
    }
    Ok(given)
}

/// Checks an edited piece.
///
/// # Errors
/// In words, when it is too large.
pub fn edited(given: responder::Edited) -> Result<responder::Edited, String> {
    if given.state.len() > MAX_STATE {
        return Err(format!("a state of {} bytes; {MAX_STATE} at most", given.state.len()));
    }
    if given.text.len() > MAX_PIECE {
        return Err(format!("a text of {} bytes; {MAX_PIECE} at most", given.text.len()));
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use sluicegate_plugin_host::router::Ranked;

    use super::*;

    fn ranking(targets: &[(u32, f64)]) -> Ranking {
        Ranking {
            targets: targets.iter().map(|&(target, weight)| Ranked { target, weight }).collect(),
            reason: "r".into(),
            defaults: Vec::new(),
            labels: Vec::new(),
        }
    }

    fn of(targets: &[(u32, f64)]) -> Result<Vec<usize>, String> {
        order(ranking(targets), 3).map(|order| order.targets)
    }

    #[test]
    fn the_heavier_comes_first_and_equal_ones_keep_their_order() {
        assert_eq!(of(&[(0, 1.0), (2, 5.0), (1, 1.0)]), Ok(vec![2, 0, 1]));
        assert_eq!(of(&[(1, -3.0)]), Ok(vec![1]));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            [&[][..], &[(3, 1.0)], &[(0, 1.0), (0, 2.0)], &[(0, f64::NAN)], &[(0, f64::INFINITY)]]
        {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        let forged = Ranking { reason: "a\r\nx-injected: 1".into(), ..ranking(&[(0, 1.0)]) };
        assert!(order(forged, 3).is_err());
        for (name, value) in [("model", Value::Integer(1)), ("x", Value::Number(f64::NAN))] {
            let defaults = vec![(name.to_owned(), value)];
            assert!(order(Ranking { defaults, ..ranking(&[(0, 1.0)]) }, 3).is_err(), "{name}");
        }
        let reject = |status, code: &str, message: &str| {
            rejection(Rejection { status, code: code.into(), message: message.into() })
        };
        assert!(reject(400, "blocked_pattern", "no").is_ok());
        assert!(reject(200, "c", "m").is_err());
        assert!(reject(400, "a b", "m").is_err());
        assert!(reject(400, "c", "").is_err());
    }
}
