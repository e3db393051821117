//! A request's body as plugins see it: messages, parameters and sizes, found without changing a
//! byte, and where each stands, for [`super::edit`].

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use sluicegate_plugin_host::types::{Message, Parameters, Role, Shape};

/// How a body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenAI's and Ollama's chat: a list `messages`.
    Chat,
    /// Anthropic's: `system` beside `messages`.
    Messages,
    /// OpenAI's responses: `instructions`, and `input` as text or a list of items.
    Responses,
    /// A single `prompt`.
    Prompt,
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
            Self::Chat | Self::Prompt | Self::Other => None,
        }
    }

    /// The member that holds the rest.
    pub(super) fn list_member(self) -> Option<&'static str> {
        match self {
            Self::Chat | Self::Messages => Some("messages"),
            Self::Responses => Some("input"),
            Self::Prompt | Self::Generate => Some("prompt"),
            Self::Other => None,
        }
    }
}

/// One member of the body's object, as written.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The name, with its quotes.
    pub key: &'a RawValue,
    /// The value.
    pub value: &'a RawValue,
}

impl Member<'_> {
    /// Whether it is called `name`; Ollama reads names without regard to case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let key = self.key.get();
        match key.get(1..key.len().saturating_sub(1)) {
            Some(plain) if !plain.contains('\\') => plain.eq_ignore_ascii_case(name),
            _ => serde_json::from_str::<String>(key).is_ok_and(|k| k.eq_ignore_ascii_case(name)),
        }
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
    pub items: Vec<&'a RawValue>,
    /// Its messages.
    pub messages: Vec<Message>,
    /// Where each stands.
    pub places: Vec<Place>,
}

impl<'a> Document<'a> {
    /// Takes `body`, which is known to be a JSON object, apart.
    #[must_use]
    pub fn parse(form: Form, body: &'a [u8]) -> Option<Self> {
        let members = serde_json::from_slice::<Members<'a>>(body).ok()?.0;
        let mut document =
            Self { form, members, items: Vec::new(), messages: Vec::new(), places: Vec::new() };
        if let Some(name) = form.system_member()
            && let Some(member) = document.member(name)
        {
            let text = content(Some(member.value)).0;
            document.push(plain(Role::System, text), Place::Member(name));
        }
        if let Some(name) = form.list_member()
            && let Some(member) = document.member(name)
        {
            document.read_list(name, member.value);
        }
        Some(document)
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

    fn read_list(&mut self, name: &'static str, value: &'a RawValue) {
        if value.get().starts_with('"') {
            let text = content(Some(value)).0;
            return self.push(plain(Role::User, text), Place::Member(name));
        }
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else { return };
        for (index, raw) in items.iter().enumerate() {
            if let Ok(item) = serde_json::from_str::<Item<'_>>(raw.get()) {
                self.push(item.message(), Place::Item(index));
            }
        }
        self.items = items;
    }

    /// Sizes.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let bytes: usize = self.messages.iter().map(|message| message.text.len()).sum();
        let chars: usize = self.messages.iter().map(|message| message.text.chars().count()).sum();
        let tools = self.member("tools").map_or(0, |tools| count(tools.value));
        let form = self.member("response_format").or_else(|| self.member("format"));
        let structured = form.is_some_and(|form| {
            let free = form.value.get().contains("\"type\"") && is_text_format(form.value);
            !free && !matches!(form.value.get(), "null" | "\"\"")
        });
        Shape {
            messages: clamp(self.messages.len()),
            text_chars: chars as u64,
            prompt_tokens: bytes.div_ceil(4) as u64,
            attachments: self.messages.iter().map(|message| message.attachments).sum(),
            tools,
            structured,
            logprobs: self
                .member("logprobs")
                .is_some_and(|m| !matches!(m.value.get(), "false" | "null")),
        }
    }

    /// Parameters, as far as they have the type they should have.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        // Ollama's native endpoints have them inside `options`.
        let options = match self.form {
            Form::Chat | Form::Generate => self.member("options"),
            Form::Messages | Form::Responses | Form::Prompt | Form::Other => None,
        };
        let inner = options.and_then(|options| serde_json::from_str(options.value.get()).ok());
        let inner = inner.unwrap_or(Members(Vec::new())).0;
        Parameters {
            temperature: self.number("temperature", &inner),
            top_p: self.number("top_p", &inner),
            max_tokens: ["max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict"]
                .into_iter()
                .find_map(|name| self.number(name, &inner)),
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
        serde_json::from_str(member.value.get()).ok()
    }

    /// The same for all requests of one conversation of `caller`, and never 0.
    #[must_use]
    pub fn conversation(&self, caller: &str) -> u64 {
        let mut hash = blake3::Hasher::new();
        let mut add = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        add(caller);
        let first = |role: Role| self.messages.iter().find(|message| message.role == role);
        for message in [first(Role::System), first(Role::User)].into_iter().flatten() {
            add(&message.text);
        }
        let mut eight = [0; 8];
        eight.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        u64::from_le_bytes(eight).max(1)
    }
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn count(list: &RawValue) -> u32 {
    serde_json::from_str::<Vec<IgnoredAny>>(list.get()).map_or(0, |items| clamp(items.len()))
}

/// `{"type":"text"}` asks for nothing.
fn is_text_format(value: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Format<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_str::<Format<'_>>(value.get()).is_ok_and(|format| format.r#type == "text")
}

fn plain(role: Role, text: String) -> Message {
    Message { role, text, attachments: 0, tool_calls: Vec::new(), tool_call_id: None }
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    images: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_call_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    call_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

impl Item<'_> {
    fn message(&self) -> Message {
        let kind = self.r#type.and_then(text_of);
        let role = match (self.role.and_then(text_of).as_deref(), kind.as_deref()) {
            (Some("system" | "developer"), _) => Role::System,
            (Some("user"), _) => Role::User,
            (Some("assistant"), _) | (None, Some("function_call")) => Role::Assistant,
            (Some("tool" | "function"), _) | (None, Some("function_call_output")) => Role::Tool,
            _ => Role::Other,
        };
        let parts = content(self.content.or(self.output));
        let mut calls: Vec<String> = parts.1.calls;
        calls.extend(self.tool_calls.map(ids).unwrap_or_default());
        let id = self.call_id.and_then(text_of);
        if kind.as_deref() == Some("function_call") {
            calls.extend(id.clone());
        }
        let result_of = self.tool_call_id.and_then(text_of).or(parts.1.result_of);
        let by_item = id.filter(|_| kind.as_deref() == Some("function_call_output"));
        let tool_call_id = result_of.or(by_item);
        Message {
            // Anthropic sends a tool's result as the user's message.
            role: if role == Role::User && tool_call_id.is_some() { Role::Tool } else { role },
            text: parts.0,
            attachments: parts.1.attachments + self.images.map_or(0, count),
            tool_calls: calls,
            tool_call_id,
        }
    }
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn ids(list: &RawValue) -> Vec<String> {
    #[derive(Deserialize)]
    struct Call {
        #[serde(default)]
        id: Option<String>,
    }
    // Ollama's calls have no id: they are calls all the same.
    let calls: Vec<Call> = serde_json::from_str(list.get()).unwrap_or_default();
    calls.into_iter().map(|call| call.id.unwrap_or_default()).collect()
}

/// What a content holds beside text.
#[derive(Default)]
struct Beside {
    attachments: u32,
    calls: Vec<String>,
    result_of: Option<String>,
}

/// One part of a content list.
#[derive(Deserialize)]
pub(super) struct Part<'a> {
    #[serde(borrow, default)]
    pub(super) r#type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    tool_use_id: Option<String>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl Part<'_> {
    pub(super) fn is_text(&self) -> bool {
        matches!(self.r#type.as_deref(), Some("text" | "input_text" | "output_text"))
    }
}

fn content(raw: Option<&RawValue>) -> (String, Beside) {
    let mut beside = Beside::default();
    let Some(raw) = raw else { return (String::new(), beside) };
    if raw.get().starts_with('"') {
        return (text_of(raw).unwrap_or_default(), beside);
    }
    let parts: Vec<Part<'_>> = serde_json::from_str(raw.get()).unwrap_or_default();
    let mut texts: Vec<String> = Vec::with_capacity(parts.len());
    for part in parts {
        match part.r#type.as_deref() {
            _ if part.is_text() => texts.extend(part.text.and_then(text_of)),
            Some("tool_use") => beside.calls.extend(part.id),
            Some("tool_result") => {
                beside.result_of = part.tool_use_id;
                texts.push(content(part.content).0);
            }
            _ => beside.attachments = beside.attachments.saturating_add(1),
        }
    }
    (texts.join("\n"), beside)
}

/// An object's members in order, as written.
pub(super) struct Members<'a>(pub(super) Vec<Member<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(key) = map.next_key::<&RawValue>()? {
                    members.push(Member { key, value: map.next_value()? });
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
