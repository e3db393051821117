//! An answer on its way through the responders of a chain: each piece of text is shown to each of
//! them in turn, and what it holds back or adds goes no further than this answer.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sluicegate_plugin_host::responder::{Answer, Edited, Piece};
use tokio::time::Instant;

use super::answer::{fill, slots};
use super::direct;
use super::link::Link;
use super::record::Step;
use crate::error::Error;

/// Answers to one request that are shaped; more pass as they are.
const MAX_CHOICES: u32 = 128;

/// Text of which a failed plugin's part is made good, in bytes.
const MAX_UNRELEASED: usize = 64 << 10;

/// What a plugin knows of one choice.
#[derive(Debug, Default)]
struct Held {
    /// What it wants back with the next piece.
    state: Vec<u8>,
    /// Text it was shown and has not given back yet: nobody's to lose, should it fail.
    text: String,
}

/// What the responders of one answer did so far: for whoever asks about its request, wherever the
/// answer itself is by then.
#[derive(Debug)]
pub struct Shaped(Vec<(Arc<Link>, Counts)>);

#[derive(Debug, Default)]
struct Counts {
    pieces: AtomicU64,
    changed: AtomicU64,
    failed: AtomicU64,
    microseconds: AtomicU64,
}

impl Shaped {
    /// One step for each responder that was shown something.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shown = self.0.iter().filter(|(_, counts)| read(&counts.pieces) > 0);
        shown
            .map(|(link, counts)| {
                let (changed, pieces) = (read(&counts.changed), read(&counts.pieces));
                let failed = match read(&counts.failed) {
                    0 => String::new(),
                    failed => format!(", {failed} failed"),
                };
                Step {
                    plugin: Arc::clone(&link.name),
                    interface: "responder",
                    decision: format!("{changed} of {pieces} pieces changed{failed}").into(),
                    shadow: link.config.shadow,
                    microseconds: read(&counts.microseconds),
                }
            })
            .collect()
    }

    fn note(&self, index: usize, since: Instant, outcome: Option<bool>) {
        let Some((_, counts)) = self.0.get(index) else { return };
        let add = |counter: &AtomicU64, by| counter.fetch_add(by, Ordering::Relaxed);
        add(&counts.pieces, 1);
        match outcome {
            Some(changed) => add(&counts.changed, u64::from(changed)),
            None => add(&counts.failed, 1),
        };
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        add(&counts.microseconds, took);
    }
}

/// One answer's way.
#[derive(Debug)]
pub struct Shaper {
    links: Vec<Arc<Link>>,
    shaped: Arc<Shaped>,
    about: Answer,
    /// What each plugin knows of each choice.
    held: HashMap<(usize, u32), Held>,
    /// Whether a text to wait with was sent already.
    announced: bool,
}

impl Shaper {
    /// A way through `links` for the answer that `about` describes.
    #[must_use]
    pub fn new(links: Vec<Arc<Link>>, about: Answer) -> Self {
        let counted = links.iter().map(|link| (Arc::clone(link), Counts::default()));
        let shaped = Arc::new(Shaped(counted.collect()));
        Self { links, shaped, about, held: HashMap::new(), announced: false }
    }

    /// What is done on the way.
    #[must_use]
    pub fn shaped(&self) -> Arc<Shaped> {
        Arc::clone(&self.shaped)
    }

    /// An event of a stream (SSE or a line of JSON), shaped.
    ///
    /// # Errors
    /// When a plugin that must not fail failed.
    pub async fn event(&mut self, event: Bytes) -> Result<Bytes, Error> {
        let Ok(text) = std::str::from_utf8(&event) else { return Ok(event) };
        if text.starts_with("data: [DONE]") && !self.held.is_empty() {
            return self.last(&event).await;
        }
        // Only events of one data line hold text; that is all that servers send.
        let start = text.find('{').unwrap_or(text.len());
        let sse = text.starts_with("data:") && !text[..start].contains('\n');
        if !sse && start != 0 {
            return Ok(event);
        }
        let end = text.trim_end().len();
        let Some(json) = text.get(start..end).filter(|json| !json.contains('\n')) else {
            return Ok(event);
        };
        match self.json(json).await? {
            Cow::Borrowed(_) => Ok(event),
            Cow::Owned(other) => Ok(Bytes::from([&text[..start], &other, &text[end..]].concat())),
        }
    }

    /// The end of a stream that gave no reason for its end: what is held back goes before it.
    async fn last(&mut self, end: &Bytes) -> Result<Bytes, Error> {
        let choices: BTreeSet<u32> = self.held.keys().map(|(_, choice)| *choice).collect();
        let mut all = Vec::new();
        for choice in choices {
            let text = self.piece(choice, String::new(), Some("stop".to_owned())).await?;
            if !text.is_empty() {
                let (id, model) = (&self.about.request_id, &self.about.model);
                all.extend_from_slice(direct::text_event(id, model, choice, &text).as_bytes());
            }
        }
        all.extend_from_slice(end);
        Ok(Bytes::from(all))
    }

    /// A whole answer, shaped.
    ///
    /// # Errors
    /// When a plugin that must not fail failed.
    pub async fn whole(&mut self, body: Bytes) -> Result<Bytes, Error> {
        let Ok(text) = std::str::from_utf8(&body) else { return Ok(body) };
        match self.json(text).await? {
            Cow::Borrowed(_) => Ok(body),
            Cow::Owned(other) => Ok(Bytes::from(other)),
        }
    }

    async fn json<'a>(&mut self, json: &'a str) -> Result<Cow<'a, str>, Error> {
        let slots = slots(json);
        let mut texts = Vec::with_capacity(slots.len());
        for slot in &slots {
            let text = slot.text.clone();
            let nothing = text.is_empty() && slot.finish.is_none();
            if nothing || slot.choice >= MAX_CHOICES {
                texts.push(text);
                continue;
            }
            texts.push(self.piece(slot.choice, text, slot.finish.clone()).await?);
        }
        Ok(fill(json, &slots, &texts))
    }

    async fn piece(
        &mut self,
        choice: u32,
        text: String,
        finish: Option<String>,
    ) -> Result<String, Error> {
        let mut piece = Piece { choice, text, finish, state: Vec::new() };
        for (index, link) in self.links.iter().enumerate() {
            let held = self.held.remove(&(index, choice)).unwrap_or_default();
            piece.state = held.state;
            let since = Instant::now();
            let edited = link.edit(&self.about, &piece).await;
            let changed = |edited: &Edited| edited.text != piece.text;
            self.shaped.note(
                index,
                since,
                edited.as_ref().ok().and_then(Option::as_ref).map(changed),
            );
            let Some(edited) = edited? else {
                piece.text.insert_str(0, &held.text);
                continue;
            };
            if link.config.shadow {
                link.shadowed(edited.text != piece.text);
            }
            let shown = held.text + &piece.text;
            if !link.config.shadow {
                piece.text = edited.text;
            }
            if piece.finish.is_none() && !edited.state.is_empty() {
                let text = unreleased(&shown, &piece.text).to_owned();
                self.held.insert((index, choice), Held { state: edited.state, text });
            }
        }
        Ok(piece.text)
    }

    /// A text, once, for a client that has waited so long for the first piece.
    ///
    /// # Errors
    /// When a plugin that must not fail failed.
    pub async fn waiting(&mut self, waited: Duration) -> Result<Option<String>, Error> {
        if self.announced {
            return Ok(None);
        }
        for link in &self.links {
            let text = link.waiting(&self.about, waited).await?;
            match text.filter(|text| !text.is_empty()) {
                Some(_) if link.config.shadow => link.shadowed(true),
                Some(text) => {
                    self.announced = true;
                    return Ok(Some(text));
                }
                None => {}
            }
        }
        Ok(None)
    }
}

/// Of the text a plugin was shown, what it has not given back: the rest, where it gave the beginning;
/// nothing, where it gave something else instead.
fn unreleased<'a>(shown: &'a str, given: &str) -> &'a str {
    let rest = shown.strip_prefix(given).unwrap_or("");
    if rest.len() > MAX_UNRELEASED { "" } else { rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_given_back_is_known() {
        for (shown, given, rest) in [
            ("Sure, he", "", "Sure, he"),
            ("Sure, here", "Sure, here", ""),
            ("abc", "a", "bc"),
            ("Sure, it is", "It is", ""),
        ] {
            assert_eq!(unreleased(shown, given), rest, "{shown}");
        }
    }
}
