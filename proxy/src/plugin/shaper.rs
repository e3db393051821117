//! An answer on its way through the responders of a chain: each piece of text is shown to each of
//! them in turn, and what it holds back or adds goes no further than this answer.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluicegate_plugin_host::responder::{Answer, Piece};

use super::answer::{fill, slots};
use super::link::Link;
use crate::error::Error;

/// Answers to one request that are shaped; more pass as they are.
const MAX_CHOICES: u32 = 128;

/// One answer's way.
#[derive(Debug)]
pub struct Shaper {
    links: Vec<Arc<Link>>,
    about: Answer,
    /// What each plugin wants back with the next piece of a choice.
    states: HashMap<(usize, u32), Vec<u8>>,
    spent: Duration,
    /// Whether a text to wait with was sent already.
    announced: bool,
}

impl Shaper {
    /// A way through `links` for the answer that `about` describes.
    #[must_use]
    pub fn new(links: Vec<Arc<Link>>, about: Answer) -> Self {
        Self { links, about, states: HashMap::new(), spent: Duration::ZERO, announced: false }
    }

    /// Time spent in plugins so far.
    #[must_use]
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// An event of a stream (SSE or a line of JSON), shaped.
    ///
    /// # Errors
    /// When a plugin that must not fail failed.
    pub async fn event(&mut self, event: Bytes) -> Result<Bytes, Error> {
        let Ok(text) = std::str::from_utf8(&event) else { return Ok(event) };
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
        let began = tokio::time::Instant::now();
        let mut piece = Piece { choice, text, finish, state: Vec::new() };
        for (index, link) in self.links.iter().enumerate() {
            piece.state = self.states.remove(&(index, choice)).unwrap_or_default();
            let Some(edited) = link.edit(&self.about, &piece).await? else { continue };
            if link.config.shadow {
                link.shadowed(edited.text != piece.text);
            } else {
                piece.text = edited.text;
            }
            if piece.finish.is_none() && !edited.state.is_empty() {
                self.states.insert((index, choice), edited.state);
            }
        }
        self.spent += began.elapsed();
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
