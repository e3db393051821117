//! The canonical form of a request: what it means, without how it was written.
//!
//! Members are sorted, numbers and text normalised (NFC, CRLF to LF), and members that change
//! nothing about the answer dropped; everything else is kept, known or not, so that a parameter the
//! gateway has never heard of costs a miss and never a wrong answer. The last user text stands apart:
//! it alone may differ between requests that mean the same.

mod json;
mod number;

use std::borrow::Cow;

pub use self::json::{Node, Unclear};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Members that say nothing about the answer, or that the key holds in another form.
const DROPPED: [&str; 8] = [
    "enable_cache",
    "keep_alive",
    "metadata",
    "model",
    "store",
    "stream",
    "stream_options",
    "user",
];

/// Members that are dropped where they have the value they would have anyway.
/// A penalty of zero is none of them: a model may have another of its own.
const DEFAULTS: [(&str, &str); 1] = [("n", "1")];

/// A canonical request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// Digest of everything but the last user text.
    pub frame: [u8; 32],
    /// The last user text, where the last message is one of plain text.
    pub text: Option<String>,
    /// Whether another text could ask for the same: short, plain, without tools or pictures.
    pub plain: bool,
    /// Whether nothing was said before but by the system.
    pub opening: bool,
}

/// Reads `body`.
///
/// # Errors
/// When servers could read it in different ways, or it is no JSON.
pub fn canonical(body: &[u8]) -> Result<Canonical, Unclear> {
    let root = json::parse(body)?;
    let Node::Object(mut members) = root else { return Err(Unclear) };
    // Ollama reads `Temperature` as `temperature`; others do not.
    if members.iter().any(|(name, _)| name.bytes().any(|byte| byte.is_ascii_uppercase())) {
        return Err(Unclear);
    }
    members.retain(|(name, value)| !DROPPED.contains(&&**name) && !is_default(name, value));
    let text = take_last_text(&mut members);
    let plain = text.is_some() && is_plain(&members);
    let opening = plain && is_opening(&members);
    let mut out = Vec::with_capacity(body.len());
    write(&Node::Object(members), &mut out)?;
    Ok(Canonical { frame: *blake3::hash(&out).as_bytes(), text, plain, opening })
}

fn is_default(name: &str, value: &Node<'_>) -> bool {
    let Node::Number(given) = value else { return false };
    let is = |default: &str| number::normal(given).is_some_and(|normal| normal == default);
    DEFAULTS.iter().any(|(known, default)| *known == name && is(default))
}

/// Takes the text out of the last message, if that is a user's and has no other parts.
fn take_last_text<'a>(members: &mut [(Cow<'a, str>, Node<'a>)]) -> Option<String> {
    let messages = member_mut(members, "messages")?;
    let Node::List(messages) = messages else { return None };
    let Some(Node::Object(last)) = messages.last_mut() else { return None };
    if member(last, "role") != Some(&Node::Text("user".into())) {
        return None;
    }
    let content = member_mut(last, "content")?;
    let place = match content {
        Node::Text(_) => content,
        Node::List(parts) => match parts.as_mut_slice() {
            [Node::Object(part)] if is_text_part(part) => member_mut(part, "text")?,
            _ => return None,
        },
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Object(_) => return None,
    };
    match std::mem::replace(place, Node::Null) {
        Node::Text(text) => Some(normal_text(&text).into_owned()),
        other => {
            *place = other;
            None
        }
    }
}

fn is_text_part(part: &[(Cow<'_, str>, Node<'_>)]) -> bool {
    part.len() == 2 && member(part, "type") == Some(&Node::Text("text".into()))
}

/// The most messages of a conversation in which the last question may be asked in other words.
const PLAIN_MESSAGES: usize = 3;

/// Members with which two texts that mean the same do not have the same answer.
const EXACTING: [&str; 9] = [
    "functions",
    "function_call",
    "logit_bias",
    "logprobs",
    "n",
    "response_format",
    "tool_choice",
    "tools",
    "format",
];

fn is_plain(members: &[(Cow<'_, str>, Node<'_>)]) -> bool {
    let free = |value: &Node<'_>| match value {
        Node::Null | Node::Bool(false) => true,
        Node::List(all) => all.is_empty(),
        Node::Object(format) => {
            format.len() == 1 && member(format, "type") == Some(&Node::Text("text".into()))
        }
        Node::Bool(true) | Node::Number(_) | Node::Text(_) => false,
    };
    let Some(Node::List(messages)) = member(members, "messages") else { return false };
    members.iter().all(|(name, value)| !EXACTING.contains(&&**name) || free(value))
        && messages.len() <= PLAIN_MESSAGES
        && messages.iter().all(is_plain_message)
}

fn is_opening(members: &[(Cow<'_, str>, Node<'_>)]) -> bool {
    let Some(Node::List(messages)) = member(members, "messages") else { return false };
    let said = |message: &Node<'_>| match message {
        Node::Object(members) => {
            !matches!(member(members, "role"), Some(Node::Text(role)) if matches!(&**role, "system" | "developer"))
        }
        _ => true,
    };
    messages.iter().filter(|message| said(message)).count() == 1
}

fn is_plain_message(message: &Node<'_>) -> bool {
    let Node::Object(members) = message else { return false };
    members.iter().all(|(name, value)| match &**name {
        "role" => matches!(value, Node::Text(role) if role != "tool" && role != "function"),
        // The place of the last text is empty by now.
        "content" => match value {
            Node::Null | Node::Text(_) => true,
            Node::List(parts) => {
                parts.iter().all(|part| matches!(part, Node::Object(part) if is_text_part(part)))
            }
            Node::Bool(_) | Node::Number(_) | Node::Object(_) => false,
        },
        _ => false,
    })
}

fn member<'n, 'a>(members: &'n [(Cow<'a, str>, Node<'a>)], name: &str) -> Option<&'n Node<'a>> {
    members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn member_mut<'n, 'a>(
    members: &'n mut [(Cow<'a, str>, Node<'a>)],
    name: &str,
) -> Option<&'n mut Node<'a>> {
    members.iter_mut().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Text in one form, however it was typed.
fn normal_text<'a>(text: &'a str) -> Cow<'a, str> {
    let lines = |text: &'a str| {
        if memchr::memchr(b'\r', text.as_bytes()).is_none() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.replace("\r\n", "\n"))
    };
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return lines(text);
    }
    Cow::Owned(text.nfc().collect::<String>().replace("\r\n", "\n"))
}

/// Writes a node so that no two different ones are written alike: lengths stand before what they
/// measure.
fn write(node: &Node<'_>, out: &mut Vec<u8>) -> Result<(), Unclear> {
    match node {
        Node::Null => out.push(b'0'),
        Node::Bool(value) => out.push(if *value { b't' } else { b'f' }),
        Node::Number(given) => {
            out.push(b'n');
            // A number beyond all bounds is compared as it is written.
            match number::normal(given) {
                Some(normal) => write_bytes(normal.as_bytes(), out),
                None => write_bytes(given.as_bytes(), out),
            }
        }
        Node::Text(text) => {
            out.push(b's');
            write_bytes(normal_text(text).as_bytes(), out);
        }
        Node::List(items) => {
            out.push(b'[');
            write_bytes(&items.len().to_le_bytes(), out);
            items.iter().try_for_each(|item| write(item, out))?;
        }
        Node::Object(members) => {
            let mut named: Vec<(Cow<'_, str>, &Node<'_>)> =
                members.iter().map(|(name, value)| (normal_text(name), value)).collect();
            named.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            // Servers differ in which of two they take.
            if named.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(Unclear);
            }
            out.push(b'{');
            write_bytes(&named.len().to_le_bytes(), out);
            for (name, value) in named {
                write_bytes(name.as_bytes(), out);
                write(value, out)?;
            }
        }
    }
    Ok(())
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut length = itoa::Buffer::new();
    out.extend_from_slice(length.format(bytes.len()).as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
