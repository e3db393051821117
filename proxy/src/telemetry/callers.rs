//! What each caller took, counted by its name. Only names of configured keys come here, so their
//! number is bounded.

use metrics::{Counter, counter};
use parking_lot::Mutex;

use super::names;
use super::record::Record;

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct Callers {
    /// The one used last comes first.
    known: Mutex<Vec<Caller>>,
}

#[derive(Debug)]
struct Caller {
    name: String,
    requests: Vec<(u16, Counter)>,
    input: Counter,
    output: Counter,
}

impl Caller {
    fn new(name: &str) -> Self {
        let tokens = |kind: &'static str| counter!(names::CALLER_TOKENS, "caller" => name.to_owned(), "type" => kind);
        let (input, output) = (tokens("input"), tokens("output"));
        Self { name: name.to_owned(), requests: Vec::new(), input, output }
    }

    fn count(&mut self, status: u16) {
        if let Some((_, counter)) = self.requests.iter().find(|(known, _)| *known == status) {
            return counter.increment(1);
        }
        let counter = counter!(
            names::CALLER_REQUESTS,
            "caller" => self.name.clone(),
            "status" => status.to_string(),
        );
        counter.increment(1);
        self.requests.push((status, counter));
    }
}

impl Callers {
    /// Counts one finished request, where a key names its caller.
    pub fn record(&self, record: &Record<'_>) {
        if !record.keyed {
            return;
        }
        let name = &*record.caller.0;
        let mut known = self.known.lock();
        let at = known.iter().position(|one| one.name == name).unwrap_or_else(|| {
            known.push(Caller::new(name));
            known.len() - 1
        });
        known.swap(0, at);
        let caller = &mut known[0];
        caller.count(record.status);
        if let Some(usage) = record.usage {
            caller.input.increment(usage.prompt_tokens.unwrap_or(0));
            caller.output.increment(usage.completion_tokens.unwrap_or(0));
        }
    }
}
