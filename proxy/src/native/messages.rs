//! The messages of a chat, from OpenAI's form to Ollama's.
//!
//! They are written as they are read: a long chat is held only as the body it came in and the one
//! it becomes.

mod parts;

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use self::parts::part_of;
pub(super) use self::parts::{base64, image_data};
use super::Refusal;
use super::json::{Keys, each, is_string, members, text};
use super::message::{Call, Function, Message, Writer, arguments, role};

/// The field that refusals here name.
const PARAM: &str = "messages";

/// Writes Ollama's form of `messages`, comma-separated, to `out`.
pub fn write(messages: &RawValue, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut names = None;
    let mut writer = Writer::new(out);
    let mut seen = false;
    each(messages, not_array, |raw| {
        seen = true;
        let given = Given::read(raw)?;
        let tool_name = given.tool_name(messages, &mut names)?;
        given.write(tool_name, &mut writer)
    })?;
    writer.flush();
    if seen { Ok(()) } else { Err(refused("[] is too short - 'messages'")) }
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(PARAM, message)
}

fn not_array() -> Refusal {
    refused("`messages` must be an array")
}

fn invalid_format() -> Refusal {
    refused("invalid message format")
}

/// A message as OpenAI has it.
struct Given<'a> {
    role: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
    reasoning: Option<&'a RawValue>,
    tool_calls: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    tool_call_id: Option<&'a RawValue>,
}

impl<'a> Given<'a> {
    fn read(raw: &'a RawValue) -> Result<Self, Refusal> {
        let fields = ["role", "content", "reasoning", "tool_calls", "name", "tool_call_id"];
        let found = members(raw.get(), Keys::AnyCase, fields)
            .map_err(|_| refused("a message must be an object"))?;
        let [role, content, reasoning, tool_calls, name, tool_call_id] = found;
        let texts = [
            ("role", role),
            ("reasoning", reasoning),
            ("name", name),
            ("tool_call_id", tool_call_id),
        ];
        for (field, value) in texts {
            string(field, value)?;
        }
        Ok(Self { role, content, reasoning, tool_calls, name, tool_call_id })
    }

    /// The tool whose result this is: named, or found by the id of its call among `messages`.
    fn tool_name(
        &self,
        messages: &RawValue,
        names: &mut Option<HashMap<String, String>>,
    ) -> Result<Option<String>, Refusal> {
        if decoded(self.role).is_none_or(|role| role.to_lowercase() != "tool") {
            return Ok(None);
        }
        if let Some(name) = decoded(self.name) {
            return Ok(Some(name));
        }
        let Some(id) = decoded(self.tool_call_id) else { return Ok(None) };
        let names = match names {
            Some(names) => names,
            None => names.insert(tool_names(messages)?),
        };
        Ok(names.get(&id).filter(|name| !name.is_empty()).cloned())
    }

    fn write(self, tool_name: Option<String>, writer: &mut Writer<'a, '_>) -> Result<(), Refusal> {
        let role = self.role.map(role);
        let message = Message { role: role.clone(), ..Message::default() };
        match self.content {
            Some(content) if is_string(content) => {
                writer.push(Message {
                    content: Some(content).into(),
                    thinking: self.reasoning.into(),
                    tool_calls: self.calls()?,
                    tool_name,
                    tool_call_id: self.tool_call_id,
                    ..message
                });
            }
            Some(parts) if parts.get().starts_with('[') => {
                each(parts, invalid_format, |part| {
                    writer.push(Message { role: role.clone(), ..part_of(part)? });
                    Ok(())
                })?;
                // Ollama has the calls with whichever message came last, and so must we.
                if let Some(last) = &mut writer.last {
                    let calls = self.calls()?;
                    if !calls.is_empty() {
                        last.tool_calls = calls;
                        last.tool_name = tool_name;
                        last.tool_call_id = self.tool_call_id;
                        last.thinking = self.reasoning.into();
                    }
                }
            }
            other if self.tool_calls.is_none() => {
                let found = other.map_or("<nil>", kind);
                return Err(refused(format!("invalid message content type: {found}")));
            }
            Some(_) | None => {
                writer.push(Message {
                    thinking: self.reasoning.into(),
                    tool_calls: self.calls()?,
                    tool_call_id: self.tool_call_id,
                    ..message
                });
            }
        }
        Ok(())
    }

    fn calls(&self) -> Result<Vec<Call<'a>>, Refusal> {
        let mut calls = Vec::new();
        self.each_call(|call| {
            calls.push(call.translated()?);
            Ok(())
        })?;
        Ok(calls)
    }

    fn each_call(
        &self,
        mut visit: impl FnMut(GivenCall<'a>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Some(calls) = self.tool_calls else { return Ok(()) };
        each(calls, not_calls, |call| visit(GivenCall::read(call)?))
    }
}

fn string(field: &str, value: Option<&RawValue>) -> Result<(), Refusal> {
    if value.is_none_or(is_string) {
        return Ok(());
    }
    Err(refused(format!("`{field}` of a message must be a string")))
}

/// Go's name of a JSON value that cannot be a message's content.
fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "map[string]interface {}",
        Some(b't' | b'f') => "bool",
        _ => "float64",
    }
}

/// The tool of each call's id. Of equal ids in several messages the last counts, in one message the
/// first.
fn tool_names(messages: &RawValue) -> Result<HashMap<String, String>, Refusal> {
    let mut names = HashMap::new();
    each(messages, not_array, |raw| {
        let mut here = Vec::new();
        Given::read(raw)?.each_call(|call| {
            if let Some(id) = decoded(call.id) {
                here.push((id, decoded(call.name).unwrap_or_default()));
            }
            Ok(())
        })?;
        names.extend(here.into_iter().rev());
        Ok(())
    })?;
    Ok(names)
}

/// The text of a string that is not empty.
fn decoded(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(text).filter(|text| !text.is_empty()).map(Cow::into_owned)
}

fn not_calls() -> Refusal {
    refused("`tool_calls` of a message must be an array of calls")
}

/// A tool call as OpenAI has it.
struct GivenCall<'a> {
    id: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    arguments: Option<&'a RawValue>,
}

impl<'a> GivenCall<'a> {
    fn read(raw: &'a RawValue) -> Result<Self, Refusal> {
        let [id, function] =
            members(raw.get(), Keys::AnyCase, ["id", "function"]).map_err(|_| not_calls())?;
        let function = function.map_or("null", RawValue::get);
        let [name, arguments] =
            members(function, Keys::AnyCase, ["name", "arguments"]).map_err(|_| not_calls())?;
        if ![id, name, arguments].into_iter().flatten().all(is_string) {
            return Err(refused("`id`, `name` and `arguments` of a tool call must be strings"));
        }
        Ok(Self { id, name, arguments })
    }

    fn translated(self) -> Result<Call<'a>, Refusal> {
        let arguments = self
            .arguments
            .and_then(text)
            .and_then(arguments)
            .ok_or_else(|| refused("invalid tool call arguments"))?;
        Ok(Call {
            id: self.id,
            function: Function { name: self.name, arguments: Cow::Owned(arguments) },
        })
    }
}
