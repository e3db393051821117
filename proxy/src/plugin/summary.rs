//! What plugins are shown of a request: built once, and only the parts that one of them needs.

use sluicegate_plugin_host::types::{Endpoint, Message, Needs, Parameters, Request, Shape};

use super::document::{Document, Form};
use super::link::Link;

/// Headers that hold secrets; no plugin sees them.
const SECRET: [&str; 5] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"];

/// What is known of a request without its body.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its caller.
    pub caller: &'a str,
    /// The model name of its route.
    pub route: Option<&'a str>,
    /// The model asked for.
    pub model: &'a str,
    /// Where it was sent.
    pub endpoint: Endpoint,
    /// How its body is laid out.
    pub form: Form,
    /// Whether the answer is to be a stream.
    pub streaming: bool,
}

/// The summary of a request for plugins that need `needs`.
///
/// # Errors
/// In words, when a plugin needs to see the conversation and it cannot be told what it is.
pub fn summary<'h>(
    facts: &Facts<'_>,
    needs: Needs,
    headers: impl Iterator<Item = (&'h str, &'h str)>,
    body: &[u8],
) -> Result<Request, String> {
    let mut summary = Request {
        id: facts.id.to_owned(),
        caller: facts.caller.to_owned(),
        route: facts.route.map(str::to_owned),
        model: facts.model.to_owned(),
        upstream: None,
        endpoint: facts.endpoint,
        streaming: facts.streaming,
        body_bytes: body.len() as u64,
        parameters: Parameters {
            temperature: None,
            top_p: None,
            max_tokens: None,
            seed: None,
            n: None,
        },
        shape: Shape {
            messages: 0,
            text_chars: 0,
            prompt_tokens: 0,
            attachments: 0,
            tools: 0,
            structured: false,
            logprobs: false,
        },
        conversation: 0,
        messages: Vec::new(),
        headers: Vec::new(),
        labels: Vec::new(),
    };
    if needs.contains(Needs::HEADERS) {
        let open = headers.filter(|(name, _)| !SECRET.contains(name));
        summary.headers = open.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    }
    read_body(&mut summary, needs, facts.form, body)?;
    Ok(summary)
}

/// Reads what `needs` asks for out of `body`.
///
/// # Errors
/// As [`summary`].
pub fn read_body(
    summary: &mut Request,
    needs: Needs,
    form: Form,
    body: &[u8],
) -> Result<(), String> {
    summary.body_bytes = body.len() as u64;
    if !needs.intersects(Needs::SHAPE | Needs::MESSAGES) {
        return Ok(());
    }
    let document = Document::parse(form, body)?;
    summary.parameters = document.parameters();
    summary.shape = document.shape();
    summary.conversation = document.conversation(&summary.caller);
    if needs.contains(Needs::MESSAGES) {
        summary.messages = document.messages;
    }
    Ok(())
}

/// Parts of a summary that a plugin did not ask to see, put aside while it is called.
#[derive(Debug)]
pub struct Hidden {
    messages: Vec<Message>,
    headers: Vec<(String, String)>,
}

impl Hidden {
    /// Takes out of `summary` what `link` did not ask to see.
    #[must_use]
    pub fn from(summary: &mut Request, link: &Link) -> Self {
        let needs = link.plugin().description().needs;
        let mut hidden = Self { messages: Vec::new(), headers: Vec::new() };
        if !needs.contains(Needs::MESSAGES) {
            std::mem::swap(&mut hidden.messages, &mut summary.messages);
        }
        if !needs.contains(Needs::HEADERS) {
            std::mem::swap(&mut hidden.headers, &mut summary.headers);
        }
        hidden
    }

    /// Puts it back.
    pub fn restore(self, summary: &mut Request) {
        if !self.messages.is_empty() {
            summary.messages = self.messages;
        }
        if !self.headers.is_empty() {
            summary.headers = self.headers;
        }
    }
}
