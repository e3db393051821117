//! The messages of Anthropic's form to those of Ollama's.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::Refusal;
use super::super::answer::EMPTY;
use super::super::json::{self, Keys, List, each, is_string, members, text};
use super::super::message::{Call, Function, Message};
use super::super::messages::base64;
use super::super::texts::{Lines, Texts};

/// The field that refusals here name.
const PARAM: &str = "messages";

/// Writes Ollama's form of `system` and `messages`, comma-separated, to `out`.
pub fn write(
    system: Option<&RawValue>,
    messages: Option<&RawValue>,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let mut list = List::new(out);
    if let Some(content) = system.map(said).transpose()?.and_then(Texts::joined) {
        let role = Some(Cow::Owned(json::raw(&"system")));
        list.push(&Message { role, content: Some(content).into(), ..Message::default() });
    }
    let missing = || refused("messages is required");
    let mut seen = false;
    each(
        messages.ok_or_else(missing)?,
        || refused("`messages` must be an array"),
        |message| {
            seen = true;
            convert(message, &mut list)
        },
    )?;
    match (seen, list.empty) {
        (false, _) => Err(missing()),
        // Without any, Ollama would only load the model.
        (true, true) => Err(refused("the messages say nothing")),
        (true, false) => Ok(()),
    }
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(PARAM, message)
}

/// A message, as one of Ollama's and one for each result of a tool.
fn convert(message: &RawValue, list: &mut List<'_>) -> Result<(), Refusal> {
    let [role, content] = members(message.get(), Keys::AnyCase, ["role", "content"])
        .map_err(|_| refused("a message must be an object"))?;
    let role = role.and_then(text).unwrap_or_default().to_lowercase();
    let mut parts = Parts::default();
    match content {
        Some(content) if is_string(content) => parts.texts.push(content),
        Some(content) => each(content, not_content, |block| parts.take(block))?,
        None => {}
    }
    let Parts { texts, images, calls, thinking, results } = parts;
    let content: Lines<'_> = texts.joined().into();
    // A user's words come after the results they are about.
    let results_first = role == "user";
    if results_first {
        results.iter().for_each(|result| list.push(result));
    }
    if !(content.is_empty() && images.is_empty() && calls.is_empty() && thinking.is_empty()) {
        let role = Some(Cow::Owned(json::raw(&role)));
        let tool_calls = calls;
        list.push(&Message { role, content, images, tool_calls, thinking, ..Message::default() });
    }
    if !results_first {
        results.iter().for_each(|result| list.push(result));
    }
    Ok(())
}

fn not_content() -> Refusal {
    refused("`content` must be a string or an array of blocks")
}

/// What the blocks of a message hold.
#[derive(Default)]
struct Parts<'a> {
    texts: Texts<'a>,
    images: Vec<Cow<'a, str>>,
    calls: Vec<Call<'a>>,
    thinking: Lines<'a>,
    results: Vec<Message<'a>>,
}

impl<'a> Parts<'a> {
    fn take(&mut self, block: &'a RawValue) -> Result<(), Refusal> {
        let names =
            ["type", "text", "source", "id", "name", "input", "tool_use_id", "content", "thinking"];
        let found = members(block.get(), Keys::AnyCase, names)
            .map_err(|_| refused("a block must be an object"))?;
        let [kind, words, source, id, name, input, tool_use_id, content, thinking] = found;
        match kind.and_then(text).as_deref() {
            Some("text") => match words {
                Some(words) if !is_string(words) => {
                    return Err(refused("`text` of a block must be a string"));
                }
                words => words.into_iter().for_each(|words| self.texts.push(words)),
            },
            Some("image") => self.images.push(image(source)?),
            Some("tool_use" | "server_tool_use") => {
                let id = Some(present(id, "id")?);
                let name = Some(present(name, "name")?);
                let empty = || Cow::Owned(json::raw(&serde_json::json!({})));
                let arguments = input.map_or_else(empty, Cow::Borrowed);
                self.calls.push(Call { id, function: Function { name, arguments } });
            }
            Some("tool_result") => self.results.push(result(tool_use_id, content)?),
            Some("web_search_tool_result") => {
                let said = Some(Cow::Owned(json::raw(&search_result(content))));
                self.results.push(result_of(tool_use_id, said, Vec::new()));
            }
            // A message that calls tools may think again before the next.
            Some("thinking") => {
                self.thinking.append(thinking.filter(|it| is_string(it) && it.get() != EMPTY));
            }
            // Thoughts that only Anthropic can read, and what is newer than this.
            _ => {}
        }
        Ok(())
    }
}

fn present<'a>(value: Option<&'a RawValue>, name: &str) -> Result<&'a RawValue, Refusal> {
    let missing = || refused(format!("tool_use block missing required '{name}' field"));
    value.filter(|it| is_string(it) && it.get() != EMPTY).ok_or_else(missing)
}

fn image(source: Option<&RawValue>) -> Result<Cow<'_, str>, Refusal> {
    let invalid = || refused("invalid image source");
    let [kind, data] = members(source.ok_or_else(invalid)?.get(), Keys::AnyCase, ["type", "data"])
        .map_err(|_| invalid())?;
    let kind = kind.and_then(text).unwrap_or_default();
    if kind != "base64" {
        let message =
            format!("invalid image source type: {kind}. Only base64 images are supported.");
        return Err(refused(message));
    }
    let data = data.and_then(text).and_then(base64);
    data.ok_or_else(|| refused("invalid base64 image data"))
}

fn result<'a>(
    id: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
) -> Result<Message<'a>, Refusal> {
    let (mut texts, mut images) = (Texts::default(), Vec::new());
    match content {
        Some(content) if is_string(content) => texts.push(content),
        Some(content) if content.get().starts_with('[') => each(content, not_content, |block| {
            // What is no block of these is passed over, as by Ollama.
            let names = ["type", "text", "source"];
            let [kind, words, source] =
                members(block.get(), Keys::Exact, names).unwrap_or_default();
            match kind.and_then(text).as_deref() {
                Some("text") => texts.extend(words),
                Some("image") => images.push(image(source)?),
                _ => {}
            }
            Ok(())
        })?,
        _ => {}
    }
    Ok(result_of(id, texts.joined(), images))
}

fn result_of<'a>(
    id: Option<&'a RawValue>,
    content: Option<Cow<'a, RawValue>>,
    images: Vec<Cow<'a, str>>,
) -> Message<'a> {
    Message {
        role: Some(Cow::Owned(json::raw(&"tool"))),
        content: Some(content.unwrap_or_else(|| Cow::Owned(json::raw(&"")))).into(),
        images,
        tool_call_id: id.filter(|id| is_string(id)),
        ..Message::default()
    }
}

/// What a search of the web found, as Ollama tells its models.
fn search_result(content: Option<&RawValue>) -> String {
    let Some(content) = content else { return "null".into() };
    if let Some(said) = text(content) {
        return said.into_owned();
    }
    let told = |item: &RawValue| {
        let names = ["type", "title", "url", "error_code"];
        let [kind, title, url, code] = members(item.get(), Keys::Exact, names).unwrap_or_default();
        let [title, url, code] =
            [title, url, code].map(|value| value.and_then(text).unwrap_or_default());
        match kind.and_then(text).as_deref() {
            Some("web_search_result") => format!("- {title}: {url}\n"),
            Some("web_search_tool_result_error") => format!("web_search_tool_result_error: {code}"),
            _ => String::new(),
        }
    };
    let mut all = String::new();
    let listed = each(
        content,
        || (),
        |item| {
            all.push_str(&told(item));
            Ok(())
        },
    );
    if listed.is_ok() { all } else { told(content) }
}

/// A text, or the texts of blocks.
fn said(raw: &RawValue) -> Result<Texts<'_>, Refusal> {
    let mut texts = Texts::default();
    if is_string(raw) {
        texts.push(raw);
        return Ok(texts);
    }
    let wrong = || Refusal::new("system", "`system` must be a string or an array of blocks");
    each(raw, wrong, |block| {
        // What is no block of these is passed over, as by Ollama.
        let [kind, words] = members(block.get(), Keys::Exact, ["type", "text"]).unwrap_or_default();
        if kind.and_then(text).as_deref() == Some("text") {
            texts.extend(words);
        }
        Ok(())
    })?;
    Ok(texts)
}
