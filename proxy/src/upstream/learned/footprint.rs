//! How much VRAM a model will take.

use std::collections::HashMap;

use super::{Facts, Key};

/// Part of a footprint that is taken to grow with the tokens of context when only one size is
/// known: the cache of keys and values. An 8B model at 4,096 tokens has a tenth, a small model at
/// a large context a third and more.
const GROWING: f64 = 0.125;

/// Bytes that a model takes that nothing was learned about: those it has on disk, and a fifth for
/// its context and buffers.
#[must_use]
pub fn estimate(disk_bytes: u64) -> u64 {
    disk_bytes.saturating_add(disk_bytes / 5)
}

/// See `Learned::footprint`.
pub(super) fn of(
    models: &HashMap<Key, Facts>,
    digest: &str,
    context: Option<u64>,
    parallel: u32,
) -> Option<u64> {
    let known = || {
        let of_digest = models.iter().filter(|(key, _)| key.digest == digest);
        of_digest.filter(|(_, facts)| facts.vram > 0)
    };
    let Some(context) = context else {
        return known().max_by_key(|(key, facts)| (facts.seen_unix, *key)).map(|(_, it)| bytes(it));
    };
    // The same number of tokens can be shared out differently.
    if let Some((_, facts)) =
        known().find(|(key, _)| (key.context, key.parallel) == (context, parallel))
    {
        return Some(bytes(facts));
    }
    let wanted = tokens(context, parallel);
    let sizes = || known().map(|(key, facts)| (tokens(key.context, key.parallel), bytes(facts)));
    let below = sizes().filter(|(tokens, _)| *tokens <= wanted).max();
    let above = sizes().filter(|(tokens, _)| *tokens >= wanted).min();
    match (below, above) {
        (Some((low, less)), Some((high, more))) if low < high => {
            let part = (wanted - low) as f64 / (high - low) as f64;
            Some((less as f64 + part * (more as f64 - less as f64)) as u64)
        }
        (Some((0, bytes)), None) => Some(bytes),
        (Some((low, bytes)), None) => {
            let growth = GROWING * (wanted - low) as f64 / low as f64;
            Some((bytes as f64 * (1.0 + growth)) as u64)
        }
        (_, above) => above.map(|(_, bytes)| bytes),
    }
}

fn tokens(context: u64, parallel: u32) -> u64 {
    context.saturating_mul(u64::from(parallel))
}

/// What the upstream says and what the probe saw, whichever is more. Ollama's own figure can be too
/// low; but whatever else grew during the load is in the probe's, so that it counts up to a half
/// more.
fn bytes(facts: &Facts) -> u64 {
    let most = facts.vram.saturating_add(facts.vram / 2);
    facts.vram.max(facts.probe_delta.unwrap_or(0).min(most))
}
