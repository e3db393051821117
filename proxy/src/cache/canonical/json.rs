//! JSON as it is written: numbers keep their spelling, members their duplicates, text borrows from
//! the body. (A general parser rounds numbers and lets the last of two members win, and a cache key
//! must do neither.)

use std::borrow::Cow;

use crate::json::{self, Malformed, Reader};

/// Deeper nesting than any request has.
const MAX_DEPTH: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it is spelt.
    Number(&'a str),
    /// Text, unescaped.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Node<'a>>),
    /// Members in their order.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// The body is no JSON, or servers could read it in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

impl From<Malformed> for Unclear {
    fn from(Malformed: Malformed) -> Self {
        Self
    }
}

/// Parses `body`.
///
/// # Errors
/// When it is not JSON (RFC 8259), not UTF-8, or nested deeper than 64 values.
pub fn parse(body: &[u8]) -> Result<Node<'_>, Unclear> {
    let text = std::str::from_utf8(body).map_err(|_| Unclear)?;
    let mut reader = Reader::new(body);
    let node = node(&mut reader, text, 0)?;
    reader.end()?;
    Ok(node)
}

fn node<'a>(reader: &mut Reader<'_>, text: &'a str, depth: usize) -> Result<Node<'a>, Unclear> {
    if depth > MAX_DEPTH {
        return Err(Unclear);
    }
    match reader.first() {
        Some(b'{') => {
            let mut members = Vec::new();
            reader.members(|reader, key| {
                let name = json::string(&text[key])?;
                members.push((name, node(reader, text, depth + 1)?));
                Ok::<_, Unclear>(())
            })?;
            Ok(Node::Object(members))
        }
        Some(b'[') => {
            let mut items = Vec::new();
            reader.items(|reader| {
                items.push(node(reader, text, depth + 1)?);
                Ok::<_, Unclear>(())
            })?;
            Ok(Node::List(items))
        }
        _ => Ok(match &text[reader.value()?] {
            "null" => Node::Null,
            "true" => Node::Bool(true),
            "false" => Node::Bool(false),
            quoted if quoted.starts_with('"') => Node::Text(json::string(quoted)?),
            number => Node::Number(number),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_to_serde_is_json_here_and_nothing_else() {
        for text in json::tests::TEXTS {
            let expected = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(parse(text.as_bytes()).is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn depth_and_encoding_are_bounded() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(deep.as_bytes()), Err(Unclear));
        assert_eq!(parse(b"\"\xff\""), Err(Unclear));
    }

    #[test]
    fn numbers_keep_their_spelling_and_members_their_duplicates() {
        let node = parse(b"{\"a\":1.0,\"a\":1e400}").expect("JSON");
        let expected = vec![("a".into(), Node::Number("1.0")), ("a".into(), Node::Number("1e400"))];
        assert_eq!(node, Node::Object(expected));
    }
}
