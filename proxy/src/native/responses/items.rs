//! The items of a response's input to the messages of a chat.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::Refusal;
use super::super::answer::EMPTY;
use super::super::json::{self, Keys, each, is_string, members, text};
use super::super::message::{self, Call, Function, Message, Writer, arguments};
use super::super::messages::image_data;
use super::super::texts::{Lines, Texts};

/// The field that refusals here name.
const PARAM: &str = "input";
/// Who calls tools, as JSON.
const ASSISTANT: &str = r#""assistant""#;

/// Writes Ollama's form of `instructions` and `input`, comma-separated, to `out`.
pub fn write(
    instructions: Option<&RawValue>,
    input: Option<&RawValue>,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let mut chat = Chat { writer: Writer::new(out), thinking: Lines::default() };
    if let Some(instructions) = instructions {
        let wrong = || Refusal::new("instructions", "`instructions` must be a string");
        chat.say("system", Some(instructions).filter(|it| is_string(it)).ok_or_else(wrong)?);
    }
    match input {
        Some(words) if is_string(words) => chat.say("user", words),
        Some(items) => chat.items(items)?,
        None => {}
    }
    chat.writer.flush();
    // Without any message, Ollama would only load the model.
    if chat.writer.is_empty() { Err(refused("the input says nothing")) } else { Ok(()) }
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(PARAM, message)
}

/// The messages so far.
struct Chat<'a, 'o> {
    writer: Writer<'a, 'o>,
    /// What was thought before the next message of the assistant's.
    thinking: Lines<'a>,
}

impl<'a> Chat<'a, '_> {
    fn say(&mut self, role: &str, words: &'a RawValue) {
        if words.get() != EMPTY {
            let (role, content) = (named(role), Some(words).into());
            self.writer.push(Message { role, content, ..Message::default() });
        }
    }

    fn items(&mut self, input: &'a RawValue) -> Result<(), Refusal> {
        let not_items = || refused("`input` must be a string or an array of items");
        each(input, not_items, |item| self.item(Item::read(item)?))?;
        if !self.thinking.is_empty() {
            let (role, thinking) = (named("assistant"), self.thoughts());
            self.writer.push(Message { role, thinking, ..Message::default() });
        }
        Ok(())
    }

    fn item(&mut self, item: Item<'a>) -> Result<(), Refusal> {
        match &*item.kind {
            "message" => self.message(&item)?,
            "function_call" => self.call(&item)?,
            "function_call_output" => {
                let Said { texts, images } = Said::read("output", item.output)?;
                let content = texts.joined().unwrap_or_else(|| Cow::Owned(json::raw(&"")));
                self.writer.push(Message {
                    role: named("tool"),
                    content: Some(content).into(),
                    images,
                    tool_call_id: item.call_id,
                    ..Message::default()
                });
            }
            "reasoning" => {
                self.thinking.append(item.encrypted_content.filter(|it| it.get() != EMPTY));
            }
            // The message after it has what was found.
            "web_search_call" => {}
            "item_reference" => {
                return Err(refused(
                    "nothing is stored here that an `item_reference` could mean; have the client send \
                     whole items (`store: false`)",
                ));
            }
            "" => return Err(refused("input item missing required 'type' field")),
            other => return Err(refused(format!("unknown input item type: {other:?}"))),
        }
        Ok(())
    }

    fn message(&mut self, item: &Item<'a>) -> Result<(), Refusal> {
        let Said { texts, images } = Said::read("content", item.content)?;
        let role = item.role.filter(|role| is_string(role));
        let role = role.ok_or_else(|| refused("`role` of a message must be a string"))?;
        let content: Lines<'_> = texts.joined().into();
        let assistant = is_assistant(role);
        let thinking = if assistant { self.thoughts() } else { Lines::default() };
        // Words after a call belong to its message: the result must follow that.
        let called = self.writer.last.as_mut().filter(|last| !last.tool_calls.is_empty());
        match called.filter(|_| assistant) {
            Some(last) => {
                last.content.append(content);
                last.images.extend(images);
                last.thinking.append(thinking);
            }
            None => {
                let role = Some(message::role(role));
                self.writer.push(Message { role, content, images, thinking, ..Message::default() });
            }
        }
        Ok(())
    }

    fn call(&mut self, item: &Item<'a>) -> Result<(), Refusal> {
        let invalid = || refused("failed to parse function call arguments");
        let given = item.arguments.map_or(Some(Cow::Borrowed("")), text).ok_or_else(invalid)?;
        let given = if given.is_empty() { Cow::Borrowed("{}") } else { given };
        let arguments = Cow::Owned(arguments(given).ok_or_else(invalid)?);
        let call = Call { id: item.call_id, function: Function { name: item.name, arguments } };
        let thinking = self.thoughts();
        let last = self.writer.last.as_mut();
        match last.filter(|last| last.role.as_deref().is_some_and(is_assistant)) {
            Some(last) => {
                last.tool_calls.push(call);
                last.thinking.append(thinking);
            }
            None => {
                let (role, tool_calls) = (named("assistant"), vec![call]);
                self.writer.push(Message { role, tool_calls, thinking, ..Message::default() });
            }
        }
        Ok(())
    }

    /// What was thought and belongs to what comes now.
    fn thoughts(&mut self) -> Lines<'a> {
        std::mem::take(&mut self.thinking)
    }
}

fn named<'a>(role: &str) -> Option<Cow<'a, RawValue>> {
    Some(Cow::Owned(json::raw(&role)))
}

fn is_assistant(role: &RawValue) -> bool {
    role.get() == ASSISTANT
}

/// An item, of whichever type.
struct Item<'a> {
    kind: Cow<'a, str>,
    role: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
    encrypted_content: Option<&'a RawValue>,
    call_id: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    arguments: Option<&'a RawValue>,
    output: Option<&'a RawValue>,
}

impl<'a> Item<'a> {
    fn read(item: &'a RawValue) -> Result<Self, Refusal> {
        let names = [
            "type",
            "role",
            "content",
            "encrypted_content",
            "call_id",
            "name",
            "arguments",
            "output",
        ];
        let found = members(item.get(), Keys::AnyCase, names)
            .map_err(|_| refused("an item must be an object"))?;
        let [kind, role, content, encrypted_content, call_id, name, arguments, output] = found;
        for (field, value) in
            [("encrypted_content", encrypted_content), ("call_id", call_id), ("name", name)]
        {
            if value.is_some_and(|value| !is_string(value)) {
                return Err(refused(format!("`{field}` of an item must be a string")));
            }
        }
        let kind = match kind.and_then(text).unwrap_or_default() {
            // Messages need not say that they are.
            none if none.is_empty() && role.is_some() => Cow::Borrowed("message"),
            kind => kind,
        };
        Ok(Self { kind, role, content, encrypted_content, call_id, name, arguments, output })
    }
}

/// What a message or a result says.
#[derive(Default)]
struct Said<'a> {
    texts: Texts<'a>,
    images: Vec<Cow<'a, str>>,
}

impl<'a> Said<'a> {
    /// Reads `field`, a text or parts.
    fn read(field: &str, given: Option<&'a RawValue>) -> Result<Self, Refusal> {
        let mut said = Self::default();
        let Some(given) = given else { return Ok(said) };
        if is_string(given) {
            said.texts.push(given);
            return Ok(said);
        }
        let wrong = || refused(format!("`{field}` must be a string or an array of parts"));
        each(given, wrong, |part| said.take(part))?;
        Ok(said)
    }

    fn take(&mut self, part: &'a RawValue) -> Result<(), Refusal> {
        let [kind, words, image] =
            members(part.get(), Keys::AnyCase, ["type", "text", "image_url"])
                .map_err(|_| refused("a part must be an object"))?;
        match kind.and_then(text).unwrap_or_default().as_ref() {
            "input_text" | "output_text" => match words {
                Some(words) if !is_string(words) => {
                    return Err(refused("`text` of a part must be a string"));
                }
                words => self.texts.extend(words),
            },
            "input_image" => {
                let Some(url) = image.filter(|url| url.get() != EMPTY) else { return Ok(()) };
                let url = text(url).ok_or_else(|| refused("`image_url` must be a string"))?;
                let data = image_data(url);
                self.images.push(data.map_err(|refusal| refused(refusal.message))?);
            }
            "input_file" => return Err(refused("file inputs are not currently supported")),
            other => return Err(refused(format!("unknown content type: {other}"))),
        }
        Ok(())
    }
}
