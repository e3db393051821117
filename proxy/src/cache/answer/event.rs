//! The assembled event list: what an answer consists of, whichever way it came.

use serde::{Deserialize, Serialize};

use super::json::Json;
use super::tree::Tree;
use super::{Form, Unfit};

/// What ids begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Prefix {
    /// Chat completions.
    Chatcmpl,
    /// Legacy completions.
    Cmpl,
}

impl Prefix {
    pub(super) fn of(form: Form, id: &str) -> Self {
        match form {
            _ if id.starts_with("chatcmpl-") => Prefix::Chatcmpl,
            _ if id.starts_with("cmpl-") => Prefix::Cmpl,
            Form::Completions => Prefix::Cmpl,
            Form::Chat | Form::Raw => Prefix::Chatcmpl,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Prefix::Chatcmpl => "chatcmpl-",
            Prefix::Cmpl => "cmpl-",
        }
    }
}

/// In which chunks of a stream a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    /// In each, as `system_fingerprint`.
    Every,
    /// In the first, as `prompt_filter_results`.
    First,
    /// In the last, as `timings`.
    Last,
}

/// A member that is passed on as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub(super) name: Box<str>,
    pub(super) value: Json,
    pub(super) place: Place,
}

/// An answer in parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    pub(super) prefix: Prefix,
    pub(super) model: Box<str>,
    /// Top-level members that are not named here.
    pub(super) head: Vec<Member>,
    /// By `index`.
    pub(super) choices: Vec<Choice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Json>,
}

/// One of the answers that were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Choice {
    pub(super) index: u64,
    /// What comes before anything generated: the role, empty text, nulls.
    pub(super) opening: Vec<(Box<str>, Json)>,
    pub(super) events: Vec<Event>,
    /// Members of the choice that are not named here.
    pub(super) members: Vec<Member>,
    /// Empty where none came.
    pub(super) finish: Box<str>,
    /// Chunks without `logprobs` say so by a null.
    pub(super) nulls: bool,
}

/// One coalesced delta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    pub(super) part: Part,
    /// The members of `logprobs`, joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<Vec<(Box<str>, Json)>>,
}

/// What a delta adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// Text of one kind: `content`, `reasoning`, `refusal`, `text`, …
    Text(Box<str>, String),
    /// An entry of `tool_calls`.
    Call(Tree),
    /// The legacy `function_call`.
    Function(Tree),
    /// Any other member.
    Value(Box<str>, Json),
    /// Log probabilities of text that never came, as for half a character.
    Bare,
}

impl Events {
    /// Whether the answer is fit to be given again.
    pub(super) fn check(&self) -> Result<(), Unfit> {
        if self.choices.is_empty() {
            return Err(Unfit::Empty);
        }
        for choice in &self.choices {
            match &*choice.finish {
                "" => return Err(Unfit::Incomplete),
                "stop" | "tool_calls" | "function_call" => {}
                _ => return Err(Unfit::Finish),
            }
        }
        match self
            .choices
            .iter()
            .all(|choice| choice.events.iter().any(|event| event.part.counts()))
        {
            true => Ok(()),
            false => Err(Unfit::Empty),
        }
    }

    /// What was generated: text, refusals and calls. Reasoning is not what is answered.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (at, choice) in self.choices.iter().enumerate() {
            if at > 0 {
                text.push('\n');
            }
            choice.events.iter().for_each(|event| event.part.write_text(&mut text));
        }
        text
    }

    pub(super) fn size(&self) -> usize {
        let members = |members: &[Member]| -> usize {
            members.iter().map(|m| size_of::<Member>() + m.name.len() + m.value.size()).sum()
        };
        let choice = |choice: &Choice| {
            let events: usize = choice.events.iter().map(Event::size).sum();
            size_of::<Choice>()
                + pairs(&choice.opening)
                + events
                + members(&choice.members)
                + choice.finish.len()
        };
        let choices: usize = self.choices.iter().map(choice).sum();
        let usage = self.usage.as_ref().map_or(0, Json::size);
        size_of::<Self>() + self.model.len() + members(&self.head) + choices + usage
    }
}

impl Event {
    pub(super) fn size(&self) -> usize {
        let part = match &self.part {
            Part::Text(name, text) => name.len() + text.capacity(),
            Part::Call(tree) | Part::Function(tree) => tree.size(),
            Part::Value(name, value) => name.len() + value.size(),
            Part::Bare => 0,
        };
        size_of::<Self>() + part + self.logprobs.as_deref().map_or(0, pairs)
    }
}

impl Part {
    /// Whether it is an answer rather than thoughts about one.
    fn counts(&self) -> bool {
        match self {
            Part::Text(name, _) => matches!(&**name, "content" | "refusal" | "text"),
            Part::Call(_) | Part::Function(_) => true,
            Part::Value(name, value) => {
                matches!(&**name, "content" | "audio") && !matches!(value.get(), "[]" | "{}")
            }
            Part::Bare => false,
        }
    }

    fn write_text(&self, out: &mut String) {
        match self {
            Part::Text(_, text) if self.counts() => out.push_str(text),
            Part::Value(_, value) if self.counts() => out.push_str(value.get()),
            Part::Call(call) => {
                // A custom tool's call has its name and input elsewhere.
                for inner in ["function", "custom"].iter().filter_map(|kind| call.get(kind)) {
                    write_call(inner, out);
                }
            }
            Part::Function(call) => write_call(call, out),
            Part::Text(..) | Part::Value(..) | Part::Bare => {}
        }
    }
}

fn write_call(call: &Tree, out: &mut String) {
    for member in ["name", "arguments", "input"] {
        if let Some(text) = call.text(member) {
            out.push(' ');
            out.push_str(text);
        }
    }
}

fn pairs(members: &[(Box<str>, Json)]) -> usize {
    members.iter().map(|(name, value)| 32 + name.len() + value.size()).sum()
}
