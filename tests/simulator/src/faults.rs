//! Scripted faults: each is used up by one request for a model, or by one load of a model.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;

/// What goes wrong with one request.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing: keeps the script in step.
    None,
    /// The connection is closed without any answer.
    Close,
    /// The connection breaks after this many tokens, in the middle of the body.
    CutAfter(usize),
    /// The runner crashes after this many tokens: an empty chunk, then a clean end.
    CrashAfter(usize),
    /// Nothing more comes after this many tokens.
    StallAfter(usize),
    /// The stream ends cleanly after this many tokens, without its final events.
    EndAfter(usize),
    /// The first token takes this many milliseconds longer.
    SlowFirst(u64),
    /// The stream pauses after its first token for this many milliseconds.
    PauseAfterFirst(u64),
    /// Another status with this body.
    Status(u16, String),
    /// The same with a `Retry-After` in seconds.
    StatusRetry(u16, u64),
    /// This answer as it is, whole or (where it begins with `data:`) as a stream.
    Canned(String),
    /// Bytes that are not HTTP's promise: a JSON content type over something else.
    Garbage,
    /// One event whose text is this many bytes long.
    HugeToken(usize),
    /// The last native line carries a context of this many tokens.
    HugeContext(usize),
    /// An `error` event after this many tokens.
    ErrorAfter(usize),
}

impl Fault {
    /// Extra time before the first token.
    #[must_use]
    pub fn delay(&self) -> Duration {
        match self {
            Fault::SlowFirst(millis) => Duration::from_millis(*millis),
            _ => Duration::ZERO,
        }
    }
}

/// The script.
#[derive(Debug, Default)]
pub struct Faults {
    script: Mutex<VecDeque<Fault>>,
    always: Mutex<Option<Fault>>,
    loads: Mutex<(usize, String)>,
}

impl Faults {
    /// Adds faults for the requests to come.
    pub fn push(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().extend(faults);
    }

    /// A fault for every request that the script has none for.
    pub fn always(&self, fault: Option<Fault>) {
        *self.always.lock() = fault;
    }

    /// The next `count` loads of any model fail, in the time they take, with this message; 0 ends it.
    pub fn loads(&self, count: usize, message: &str) {
        *self.loads.lock() = (count, message.to_owned());
    }

    pub(crate) fn next_load(&self) -> Option<String> {
        let mut loads = self.loads.lock();
        loads.0 = loads.0.checked_sub(1)?;
        Some(loads.1.clone())
    }

    pub(crate) fn next(&self) -> Fault {
        let scripted = self.script.lock().pop_front();
        scripted.or_else(|| self.always.lock().clone()).unwrap_or(Fault::None)
    }
}
