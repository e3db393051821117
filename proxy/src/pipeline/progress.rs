//! How far the search for an answer has come, and which targets it has passed over.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::ctx::Phase;
use crate::admission::InLine;

/// Targets passed over that are told of.
const MAX_PASSED: usize = 8;
/// Bytes of why one gave no answer: what upstreams say has no end.
const MAX_WHY: usize = 300;

/// How far the search for an answer has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Where it is.
    pub phase: Phase,
    /// Time spent waiting for places.
    pub queued: Duration,
    /// Time spent waiting for upstreams.
    pub upstream_wait: Duration,
    /// Targets passed over, in order.
    passed: Vec<Passed>,
    /// Where in a line it stands, for those who keep its client company.
    place: Option<Arc<Mutex<Option<InLine>>>>,
}

/// A target that gave no answer.
#[derive(Clone, Debug)]
struct Passed {
    upstream: String,
    /// In a few words.
    short: Cow<'static, str>,
    /// In a sentence, where it was tried.
    failed: Option<String>,
}

impl Progress {
    /// Notes that a target was left out.
    pub fn skipped(&mut self, upstream: &str, why: &str) {
        let end = why.floor_char_boundary(MAX_WHY);
        self.pass(upstream, why[..end].to_owned().into(), None);
    }

    /// Notes that a target was tried in vain: why in a word for programs, and in a sentence.
    pub fn failed(&mut self, upstream: &str, why: impl Into<Cow<'static, str>>, sentence: &str) {
        let end = sentence.floor_char_boundary(MAX_WHY);
        self.pass(upstream, why.into(), Some(sentence[..end].to_owned()));
    }

    fn pass(&mut self, upstream: &str, short: Cow<'static, str>, failed: Option<String>) {
        if self.passed.len() < MAX_PASSED {
            self.passed.push(Passed { upstream: upstream.to_owned(), short, failed });
        }
    }

    /// The targets passed over, and why in a few words; `None` where there are none. With `answered`,
    /// another answered instead.
    #[must_use]
    pub fn passed_over(&self, answered: bool) -> Option<String> {
        let fallback = if answered { "fallback: " } else { "" };
        let told = self.passed.iter().map(|Passed { upstream, short, failed }| match failed {
            Some(_) => format!("{fallback}{upstream} failed ({short})"),
            None => format!("{upstream}: {short}"),
        });
        (!self.passed.is_empty()).then(|| told.collect::<Vec<_>>().join("; "))
    }

    /// The upstreams passed over, each with why in a few words.
    pub fn upstreams_passed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.passed.iter().map(|one| (one.upstream.as_str(), &*one.short))
    }

    /// Why each target gave no answer, where there were several.
    #[must_use]
    pub fn failures(&self) -> Option<String> {
        let told = self.passed.iter().map(|Passed { upstream, short, failed }| match failed {
            Some(sentence) => sentence.clone(),
            None => format!("the upstream `{upstream}` was left out: {short}"),
        });
        (self.passed.len() > 1).then(|| told.collect::<Vec<_>>().join("; "))
    }

    /// Has others see where it stands; for requests whose client is kept company.
    pub fn show_place(&mut self) {
        self.place = Some(Arc::default());
    }

    /// It stands in a line now, or in none any more.
    pub fn stands(&self, place: Option<InLine>) {
        if let Some(shown) = &self.place {
            *shown.lock() = place;
        }
    }

    /// A copy that sees where it stands.
    #[must_use]
    pub fn observer(&self) -> Self {
        Self { place: self.place.clone(), ..Self::default() }
    }

    /// Where it stands, in words.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        let place = self.place.as_ref()?.lock().clone()?;
        Some(place.to_string())
    }
}
