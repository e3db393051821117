//! A request's body as plugins see it: messages, parameters and sizes, found without changing a
//! byte, and where each stands, for [`super::edit`].

use std::borrow::Cow;
use std::hash::BuildHasher;

use foldhash::quality::FixedState;
use serde::Deserialize;
use sluicegate_plugin_host::types::{Message, Parameters, Role, Shape};

use crate::json::{self, Malformed};

/// How a body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenAI's and Ollama's chat: a list `messages`.
    Chat,
    /// Anthropic's: `system` beside `messages`.
    Messages,
    /// OpenAI's responses: `instructions`, and `input` as text or a list of items.
    Responses,
    /// A `prompt`, or several.
    Prompt,
    /// An `input`, or several.
    Input,
    /// Ollama's generate: `system` beside `prompt`.
    Generate,
    /// Nothing of a conversation.
    Other,
}

impl Form {
    /// The member that holds the system prompt outside the list.
    pub(super) fn system_member(self) -> Option<&'static str> {
        match self {
            Self::Messages | Self::Generate => Some("system"),
            Self::Responses => Some("instructions"),
            Self::Chat | Self::Prompt | Self::Input | Self::Other => None,
        }
    }

    /// The member that holds the rest.
    pub(super) fn list_member(self) -> Option<&'static str> {
        match self {
            Self::Chat | Self::Messages => Some("messages"),
            Self::Responses | Self::Input => Some("input"),
            Self::Prompt | Self::Generate => Some("prompt"),
            Self::Other => None,
        }
    }
}

/// One member of the body's object, as written.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The name, with its quotes.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
    /// Whether the name, without its quotes, stands there as it is: ASCII without escapes.
    plain: bool,
}

impl<'a> Member<'a> {
    fn new(json::Member { key, value }: json::Member<'a>) -> Self {
        let plain = key.bytes().all(|byte| byte.is_ascii() && byte != b'\\');
        Self { key, value, plain }
    }

    /// Whether it is called `name`, in lower case; Ollama reads names without regard to case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let key = self.key;
        if self.plain {
            return key.len() == name.len() + 2
                && key.as_bytes()[1..=name.len()].eq_ignore_ascii_case(name.as_bytes());
        }
        serde_json::from_str::<String>(key).is_ok_and(|key| json::folded(&key) == name)
    }
}

/// The member called `name`. Readers differ in which of several they take.
fn single<'a>(members: &[Member<'a>], name: &str) -> Result<Option<Member<'a>>, String> {
    let mut found = members.iter().filter(|member| member.is(name));
    let first = found.next().copied();
    match found.next() {
        None => Ok(first.filter(|member| member.value != "null")),
        Some(_) => Err(format!("`{name}` is given more than once")),
    }
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the list, at this index.
    Item(usize),
    /// It is the whole value of a member.
    Member(&'static str),
}

/// A body, taken apart.
#[derive(Debug)]
pub struct Document<'a> {
    /// Its layout.
    pub form: Form,
    /// Its members in order.
    pub members: Vec<Member<'a>>,
    /// The items of its list, as written.
    pub items: Vec<&'a str>,
    /// Its messages.
    pub messages: Vec<Message>,
    /// Where each stands.
    pub places: Vec<Place>,
}

impl<'a> Document<'a> {
    /// Takes `body`, which is known to be a JSON object, apart.
    ///
    /// # Errors
    /// In words, where servers could read the conversation differently than it would be shown to
    /// plugins: what a plugin does not see it cannot refuse.
    pub fn parse(form: Form, body: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
        let mut document = Self {
            form,
            members: members(text).map_err(|cause| cause.to_string())?,
            items: Vec::new(),
            messages: Vec::new(),
            places: Vec::new(),
        };
        if let Some(name) = form.system_member()
            && let Some(member) = single(&document.members, name)?
        {
            let text = content(member.value, false).map_err(|why| format!("`{name}`: {why}"))?.text;
            document.push(plain(Role::System, text), Place::Member(name));
        }
        if let Some(name) = form.list_member()
            && let Some(member) = single(&document.members, name)?
        {
            document.read_list(name, member.value)?;
        }
        Ok(document)
    }

    /// The member called `name`: the last, which is the one that servers take.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Member<'a>> {
        self.members.iter().rev().find(|member| member.is(name)).copied()
    }

    fn push(&mut self, message: Message, place: Place) {
        self.messages.push(message);
        self.places.push(place);
    }

    fn read_list(&mut self, name: &'static str, value: &'a str) -> Result<(), String> {
        if value.starts_with('"') {
            let text = string(value).map_err(|why| format!("`{name}`: {why}"))?;
            self.push(plain(Role::User, text), Place::Member(name));
            return Ok(());
        }
        let items = json::items(value);
        self.items = items.map_err(|_| format!("`{name}` is neither a text nor a list"))?;
        for (index, raw) in self.items.clone().into_iter().enumerate() {
            let read = if raw.starts_with('{') { item(raw) } else { bare(raw) };
            let message = read.map_err(|why| format!("`{name}[{index}]`: {why}"))?;
            self.push(message, Place::Item(index));
        }
        Ok(())
    }

    /// Sizes.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let bytes: usize = self.messages.iter().map(|message| message.text.len()).sum();
        let chars: usize = self.messages.iter().map(|message| message.text.chars().count()).sum();
        let tools = self.member("tools").map_or(0, |tools| count(tools.value));
        let form = self.member("response_format").or_else(|| self.member("format"));
        let structured = form.is_some_and(|form| {
            let free = form.value.contains("\"type\"") && is_text_format(form.value);
            !free && !matches!(form.value, "null" | "\"\"")
        });
        Shape {
            messages: clamp(self.messages.len()),
            text_chars: chars as u64,
            prompt_tokens: bytes.div_ceil(4) as u64,
            attachments: self.messages.iter().map(|message| message.attachments).sum(),
            tools,
            structured,
            logprobs: self.member("logprobs").is_some_and(|m| !matches!(m.value, "false" | "null")),
        }
    }

    /// Parameters, as far as they have the type they should have.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        // Ollama's native endpoints have them inside `options`.
        let options = match self.form {
            Form::Chat | Form::Generate => self.member("options"),
            Form::Messages | Form::Responses | Form::Prompt | Form::Input | Form::Other => None,
        };
        let inner = options.and_then(|options| members(options.value).ok()).unwrap_or_default();
        Parameters {
            temperature: self.number("temperature", &inner),
            top_p: self.number("top_p", &inner),
            // Servers differ in which they take: the largest is what may come.
            max_tokens: ["max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict"]
                .into_iter()
                .filter_map(|name| self.number::<f64>(name, &inner))
                .filter(|limit| limit.is_finite())
                .map(|limit| limit.max(0.0).ceil() as u64)
                .max(),
            seed: self.number("seed", &inner),
            n: self.number("n", &inner),
        }
    }

    fn number<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        inner: &[Member<'_>],
    ) -> Option<T> {
        let inside = || inner.iter().rev().find(|member| member.is(name)).copied();
        let member = self.member(name).or_else(inside)?;
        serde_json::from_str(member.value).ok()
    }

    /// The same for all requests of one conversation of `caller`, and never 0.
    #[must_use]
    pub fn conversation(&self, caller: &str) -> u64 {
        let first = |role: Role| self.messages.iter().find(|message| message.role == role);
        let text = |role| first(role).map_or("", |message| message.text.as_str());
        // Always with the same key: the same in every process.
        let hash = FixedState::default();
        hash.hash_one((caller, text(Role::System), text(Role::User))).max(1)
    }
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn count(list: &str) -> u32 {
    json::items(list).map_or(0, |items| clamp(items.len()))
}

/// `{"type":"text"}` asks for nothing.
fn is_text_format(value: &str) -> bool {
    #[derive(Deserialize)]
    struct Format<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_str::<Format<'_>>(value).is_ok_and(|format| format.r#type == "text")
}

fn plain(role: Role, text: String) -> Message {
    Message { role, text, attachments: 0, tool_calls: Vec::new(), tool_call_id: None }
}

/// An item of a list that is an object: a message, or a call or result of the responses API.
fn item(raw: &str) -> Result<Message, String> {
    let members = members(raw).map_err(|cause| cause.to_string())?;
    let text = |name: &str| single(&members, name)?.map(|m| words(m.value)).transpose();
    let (role, kind, call) = (text("role")?, text("type")?, text("call_id")?);
    let is_result = kind.as_deref() == Some("function_call_output");
    let mut role = match (role.as_deref(), kind.as_deref()) {
        (Some("system" | "developer"), _) => Role::System,
        (Some("user"), _) => Role::User,
        (Some("assistant"), _) | (None, Some("function_call")) => Role::Assistant,
        (Some("tool" | "function"), _) | (None, Some("function_call_output")) => Role::Tool,
        _ => Role::Other,
    };
    let holder = if is_result { "output" } else { "content" };
    let held = match single(&members, holder)? {
        Some(member) => content(member.value, false)?,
        None => Content::default(),
    };
    let mut tool_calls = held.calls;
    if let Some(calls) = single(&members, "tool_calls")? {
        tool_calls.extend(ids(calls.value));
    }
    if kind.as_deref() == Some("function_call") {
        tool_calls.extend(call.as_deref().map(str::to_owned));
    }
    // Anthropic sends a tool's result as the user's message; what else is in it is the user's.
    if role == Role::User && held.result_of.is_some() && !held.has_text {
        role = Role::Tool;
    }
    let result_of = text("tool_call_id")?.map(Cow::into_owned).or(held.result_of);
    let result_of = result_of.or(call.filter(|_| is_result).map(Cow::into_owned));
    let images = single(&members, "images")?.map_or(0, |images| count(images.value));
    Ok(Message {
        role,
        text: held.text,
        attachments: held.attachments + images,
        tool_calls,
        tool_call_id: result_of,
    })
}

/// An item that is no object: one of several prompts, or tokens.
fn bare(raw: &str) -> Result<Message, String> {
    if raw.starts_with('"') {
        return Ok(plain(Role::User, string(raw)?));
    }
    Ok(Message { attachments: 1, ..plain(Role::Other, String::new()) })
}

fn string(raw: &str) -> Result<String, String> {
    words(raw).map(Cow::into_owned)
}

fn words(raw: &str) -> Result<Cow<'_, str>, String> {
    json::string(raw).map_err(|_| {
        let cause = serde_json::from_str::<String>(raw).err();
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        format!("no text that can be read{cause}")
    })
}

fn ids(list: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Call {
        #[serde(default)]
        id: Option<String>,
    }
    // Ollama's calls have no id: they are calls all the same.
    let calls: Vec<Call> = serde_json::from_str(list).unwrap_or_default();
    calls.into_iter().map(|call| call.id.unwrap_or_default()).collect()
}

/// What a content holds.
#[derive(Default)]
struct Content {
    text: String,
    /// Whether any of the text is the sender's own.
    has_text: bool,
    attachments: u32,
    calls: Vec<String>,
    result_of: Option<String>,
}

/// The kind of one part of a content list.
pub(super) fn kind_of(part: &str) -> Result<Option<String>, String> {
    let members = members(part).map_err(|cause| cause.to_string())?;
    single(&members, "type")?.map(|member| string(member.value)).transpose()
}

/// Whether a part of this kind is text.
pub(super) fn is_text(kind: Option<&str>) -> bool {
    matches!(kind, Some("text" | "input_text" | "output_text"))
}

/// What `raw` holds; within a tool's result, no result itself.
fn content(raw: &str, within_result: bool) -> Result<Content, String> {
    if raw.starts_with('"') {
        return Ok(Content { text: string(raw)?, has_text: true, ..Content::default() });
    }
    let parts = json::items(raw);
    let mut held = Content::default();
    let mut texts: Vec<String> = Vec::new();
    for part in parts.map_err(|_| "a content is neither a text nor a list of parts")? {
        let members = members(part).map_err(|_| "a part of a content is no object")?;
        let text = |name: &str| single(&members, name)?.map(|m| string(m.value)).transpose();
        match text("type")?.as_deref() {
            kind if is_text(kind) => {
                held.has_text = true;
                texts.extend(text("text")?);
            }
            Some("tool_use") => held.calls.extend(text("id")?),
            Some("tool_result") if within_result => {
                return Err("a `tool_result` must hold no other".to_owned());
            }
            Some("tool_result") => {
                held.result_of = text("tool_use_id")?;
                if let Some(inner) = single(&members, "content")? {
                    texts.push(content(inner.value, true)?.text);
                }
            }
            _ => held.attachments = held.attachments.saturating_add(1),
        }
    }
    held.text = texts.join("\n");
    Ok(held)
}

/// An object's members in order, as written.
pub(super) fn members(text: &str) -> Result<Vec<Member<'_>>, Malformed> {
    Ok(json::members(text)?.into_iter().map(Member::new).collect())
}
