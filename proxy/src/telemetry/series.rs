//! Handles to metrics, looked up once per (endpoint, upstream, model) and kept, because building a
//! metric key costs more than recording a value.

use std::sync::Arc;

use metrics::{Counter, Histogram, Label, counter, histogram};
use parking_lot::Mutex;

use super::callers::Callers;
use super::names;
use super::record::{Outcome, Record};

/// Distinct (endpoint, upstream, model) before `other` takes the rest.
const MAX_SERIES: usize = 512;
/// The label for what is beyond a bound.
pub const OTHER: &str = "other";

/// The handles of one worker.
#[derive(Debug, Default)]
pub struct Registry {
    /// The one used last comes first.
    series: Mutex<Vec<Arc<Series>>>,
    /// By outcome and reason, all of which are the program's own words.
    lookups: Mutex<Vec<((&'static str, &'static str), Counter)>>,
    callers: Callers,
}

#[derive(Debug)]
struct Key {
    endpoint: &'static str,
    upstream: String,
    model: String,
}

#[derive(Debug)]
struct Series {
    key: Key,
    requests: Mutex<Vec<(u16, Counter)>>,
    duration: Histogram,
    overhead: Histogram,
    first_token: Histogram,
    per_token: Histogram,
    queue: Histogram,
    input: Histogram,
    output: Histogram,
}

impl Series {
    fn new(key: Key) -> Self {
        let labels = [
            Label::new("gen_ai_request_model", key.model.clone()),
            Label::new("upstream", key.upstream.clone()),
            Label::from_static_parts("endpoint", key.endpoint),
        ];
        let of = |name| histogram!(name, labels.iter());
        let typed = |kind| {
            let labels = labels.iter().chain([&kind]).cloned().collect::<Vec<_>>();
            histogram!(names::TOKENS, labels)
        };
        Self {
            requests: Mutex::default(),
            duration: of(names::DURATION),
            overhead: of(names::OVERHEAD),
            first_token: of(names::FIRST_TOKEN),
            per_token: of(names::PER_TOKEN),
            queue: histogram!(names::QUEUE, "upstream" => key.upstream.clone()),
            input: typed(Label::from_static_parts("gen_ai_token_type", "input")),
            output: typed(Label::from_static_parts("gen_ai_token_type", "output")),
            key,
        }
    }

    fn count(&self, status: u16) {
        let mut requests = self.requests.lock();
        if let Some((_, counter)) = requests.iter().find(|(known, _)| *known == status) {
            return counter.increment(1);
        }
        let counter = counter!(
            names::REQUESTS,
            "endpoint" => self.key.endpoint,
            "upstream" => self.key.upstream.clone(),
            "model" => self.key.model.clone(),
            "status" => status.to_string(),
        );
        counter.increment(1);
        requests.push((status, counter));
    }
}

impl Registry {
    /// Counts one finished request.
    pub fn record(&self, record: &Record<'_>) {
        let series = self.series(record);
        series.count(record.status);
        self.callers.record(record);
        if record.outcome == Outcome::ClientGone {
            counter!(names::CANCELLED, "phase" => record.phase).increment(1);
        }
        series.duration.record(record.total);
        if record.upstream.is_none() {
            return;
        }
        series.queue.record(record.queued);
        let Some(first) = record.first else { return };
        series.overhead.record(first.saturating_sub(record.queued + record.upstream_wait));
        if record.streamed {
            series.first_token.record(first);
        }
        let Some(usage) = record.usage else { return };
        if let Some(tokens) = usage.prompt_tokens {
            series.input.record(tokens as f64);
        }
        if let Some(tokens) = usage.completion_tokens {
            series.output.record(tokens as f64);
            if record.streamed && tokens > 1 {
                let decode = record.total.saturating_sub(first);
                series.per_token.record(decode.as_secs_f64() / (tokens - 1) as f64);
            }
        }
    }

    /// Counts what the cache had to do with a request.
    pub fn cache_lookup(&self, outcome: &'static str, reason: &'static str) {
        let mut lookups = self.lookups.lock();
        if let Some((_, counter)) = lookups.iter().find(|(known, _)| *known == (outcome, reason)) {
            return counter.increment(1);
        }
        let counter = counter!(names::CACHE_LOOKUPS, "outcome" => outcome, "reason" => reason);
        counter.increment(1);
        lookups.push(((outcome, reason), counter));
    }

    fn series(&self, record: &Record<'_>) -> Arc<Series> {
        let upstream = record.upstream.unwrap_or("none");
        // Only a name that some upstream took is worth a label.
        let model = record.model.unwrap_or(OTHER);
        let mut series = self.series.lock();
        let full = series.len() >= MAX_SERIES;
        let of = |model: &str, one: &Series| {
            one.key.model == model
                && one.key.endpoint == record.endpoint
                && one.key.upstream == upstream
        };
        let known = series.iter().position(|one| of(model, one));
        let (model, known) = match known {
            None if full => (OTHER, series.iter().position(|one| of(OTHER, one))),
            known => (model, known),
        };
        let at = known.unwrap_or_else(|| {
            let (upstream, model) = (upstream.to_owned(), model.to_owned());
            let key = Key { endpoint: record.endpoint, upstream, model };
            series.push(Arc::new(Series::new(key)));
            series.len() - 1
        });
        series.swap(0, at);
        Arc::clone(&series[0])
    }
}
