//! The last things that admission did, for people: loads, evictions, trips, requests sent elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Events kept.
const KEPT: usize = 256;
/// When what goes on is told again, in milliseconds.
const AGAIN_AFTER_MS: u64 = 60_000;

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The upstream it happened at.
    pub upstream: String,
    /// The model it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What happened, in a sentence.
    pub what: String,
}

/// The last events; older ones are forgotten.
#[derive(Debug, Default)]
pub struct Events {
    last: Mutex<VecDeque<Arc<Event>>>,
}

impl Events {
    /// Notes that something happened, here and in the program log.
    pub fn note(&self, upstream: &str, model: Option<&str>, what: String) {
        tracing::info!(upstream, model, "{what}");
        let at_unix_ms = now_ms();
        let (upstream, model) = (upstream.to_owned(), model.map(str::to_owned));
        let event = Arc::new(Event { at_unix_ms, upstream, model, what });
        let mut last = self.last.lock();
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(event);
    }

    /// Notes that a request went past `upstream` to another, and why: the first in a minute.
    pub fn went_elsewhere(&self, upstream: &str, to: &str, why: &str) {
        self.tell(upstream, None, &format!("requests go to `{to}` instead: "), why);
    }

    /// Notes that prompts for `model` are longer than its context, and what becomes of them: the first in
    /// a minute.
    pub fn prompts_cut(&self, upstream: &str, model: &str, context: u64) {
        self.tell(
            upstream,
            Some(model),
            "prompts are cut to its context: ",
            &format!("{context} tokens"),
        );
    }

    /// Notes `what` and why, unless it was told lately of the same, if with other figures: of what every
    /// request would tell anew.
    fn tell(&self, upstream: &str, model: Option<&str>, what: &str, why: &str) {
        let same = |one: &Event| {
            let told = one.what.strip_prefix(what);
            one.upstream == upstream
                && one.model.as_deref() == model
                && told.is_some_and(|told| words(told).eq(words(why)))
        };
        let oldest = now_ms().saturating_sub(AGAIN_AFTER_MS);
        let was_told = {
            let last = self.last.lock();
            last.iter().rev().take_while(|one| one.at_unix_ms >= oldest).any(|one| same(one))
        };
        if !was_told {
            self.note(upstream, model, format!("{what}{why}"));
        }
    }

    /// The last events, newest first.
    #[must_use]
    pub fn last(&self) -> Vec<Arc<Event>> {
        self.last.lock().iter().rev().cloned().collect()
    }
}

/// A text without its figures.
fn words(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_ascii_digit() && *c != '.')
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_request_would_tell_is_told_once_for_each_reason() {
        let events = Events::default();
        for percent in 98..102 {
            events.went_elsewhere("host", "spare", &format!("the GPU is {percent} % full"));
            events.went_elsewhere("host", "other", "busy");
            events.went_elsewhere("host", "spare", "not reachable");
            events.went_elsewhere("gpu1", "gpu2", "busy");
            events.went_elsewhere("gpu1", "gpu3", "busy");
            events.prompts_cut("host", "qwen2.5:7b", 4096);
            events.prompts_cut("host", "qwen2.5:14b", 4096);
        }
        let told: Vec<String> = events.last().iter().rev().map(|one| one.what.clone()).collect();
        let expected = [
            "requests go to `spare` instead: the GPU is 98 % full",
            "requests go to `other` instead: busy",
            "requests go to `spare` instead: not reachable",
            "requests go to `gpu2` instead: busy",
            "requests go to `gpu3` instead: busy",
            "prompts are cut to its context: 4096 tokens",
            "prompts are cut to its context: 4096 tokens",
        ];
        assert_eq!(told, expected);
    }
}
