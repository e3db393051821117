//! Changes to a body as splices into its original bytes, so that everything not changed stays as
//! the client wrote it: unknown fields, key order, big integers, number spelling, white space.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::scan::Scan;

/// What a target needs changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    /// Another model name.
    pub model: Option<&'a str>,
    /// Ask for usage in the stream.
    pub include_usage: bool,
    /// Give `max_completion_tokens` also as `max_tokens`, the only name Ollama reads.
    pub map_max_tokens: bool,
}

/// A set of splices, applied in one pass.
#[derive(Debug, Default)]
struct Splices {
    list: Vec<(Range<usize>, String)>,
}

/// Applies `changes`; the very same bytes when there is nothing to change.
#[must_use]
pub fn apply(body: &Bytes, scan: &Scan, changes: &Changes<'_>) -> Bytes {
    let mut splices = Splices::default();
    if let Some(model) = changes.model {
        let quoted = serde_json::Value::from(model).to_string();
        for field in &scan.models {
            splices.replace(field.span.clone(), quoted.clone());
        }
    }
    if changes.include_usage {
        splices.include_usage(body, scan);
    }
    if changes.map_max_tokens {
        splices.map_max_tokens(body, scan);
    }
    if let Some((_, field)) = &scan.enable_cache {
        splices.remove_member(body, field.span.clone());
    }
    splices.apply(body)
}

/// Whether the client itself asks for usage in its stream.
#[must_use]
pub fn wants_usage(body: &[u8], scan: &Scan) -> bool {
    let options = scan.stream_options.as_ref().and_then(|field| options(body, field.span.clone()));
    options.is_some_and(|options| options.include_usage == Some(true))
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

fn options(body: &[u8], span: Range<usize>) -> Option<StreamOptions> {
    serde_json::from_slice::<Option<StreamOptions>>(body.get(span)?).ok()?
}

impl Splices {
    fn replace(&mut self, span: Range<usize>, with: String) {
        self.list.push((span, with));
    }

    fn insert(&mut self, at: usize, text: String) {
        self.replace(at..at, text);
    }

    /// Adds `include_usage` in whatever form `stream_options` has, and leaves one that is not an
    /// object to the upstream's own complaint.
    fn include_usage(&mut self, body: &[u8], scan: &Scan) {
        const ASKING: &str = r#"{"include_usage":true}"#;
        let Some(given) = &scan.stream_options else {
            if let Some(stream) = &scan.stream_field {
                self.insert(stream.span.end, format!(r#","stream_options":{ASKING}"#));
            }
            return;
        };
        let span = given.span.clone();
        let text = body.get(span.clone()).unwrap_or_default();
        if text == b"null" {
            return self.replace(span, ASKING.into());
        }
        let Some(found) = include_usage_value(text) else { return };
        match found {
            Some(value) => {
                self.replace(span.start + value.start..span.start + value.end, "true".into());
            }
            None => {
                let empty = text[1..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'}');
                let comma = if empty { "" } else { "," };
                self.insert(span.start + 1, format!(r#""include_usage":true{comma}"#));
            }
        }
    }

    fn map_max_tokens(&mut self, body: &[u8], scan: &Scan) {
        let Some(wanted) = &scan.max_completion_tokens else { return };
        let value = String::from_utf8_lossy(body.get(wanted.span.clone()).unwrap_or_default());
        if value == "null" {
            return;
        }
        match &scan.max_tokens {
            Some(given) if body.get(given.span.clone()) == Some(b"null") => {
                self.replace(given.span.clone(), value.into_owned());
            }
            // The client set both; Ollama's own name is what it meant for Ollama.
            Some(_) => {}
            None => self.insert(wanted.span.end, format!(r#","max_tokens":{value}"#)),
        }
    }

    /// Takes out the member with the value at `value`, and one of the commas beside it.
    fn remove_member(&mut self, body: &[u8], value: Range<usize>) {
        let before = body[..value.start].trim_ascii_end();
        let Some(name) = before.strip_suffix(b":").map(<[u8]>::trim_ascii_end) else { return };
        let Some(name) = name.strip_suffix(b"\"") else { return };
        let Some(start) = memchr::memrchr(b'"', name) else { return };
        let rest = &body[value.end..];
        let follows = rest.trim_ascii_start();
        if follows.first() == Some(&b',') {
            let comma = rest.len() - follows.len() + 1;
            return self.replace(start..value.end + comma, String::new());
        }
        let ahead = body[..start].trim_ascii_end();
        let start = if ahead.last() == Some(&b',') { ahead.len() - 1 } else { start };
        self.replace(start..value.end, String::new());
    }

    fn apply(mut self, body: &Bytes) -> Bytes {
        if self.list.is_empty() {
            return body.clone();
        }
        self.list.sort_by_key(|(span, _)| span.start);
        let added: usize = self.list.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(body.len() + added);
        let mut from = 0;
        for (span, text) in &self.list {
            out.extend_from_slice(body.get(from..span.start).unwrap_or_default());
            out.extend_from_slice(text.as_bytes());
            from = span.end;
        }
        out.extend_from_slice(body.get(from..).unwrap_or_default());
        Bytes::from(out)
    }
}

/// Where the value of `include_usage` stands inside an object: `None` when `text` is no object,
/// `Some(None)` when it has no such member.
fn include_usage_value(text: &[u8]) -> Option<Option<Range<usize>>> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow, default)]
        include_usage: Option<&'a RawValue>,
    }
    if text.first() != Some(&b'{') {
        return None;
    }
    // A duplicate member is left alone: which one counts is the upstream's choice.
    let object: Object<'_> = serde_json::from_slice(text).ok()?;
    Some(object.include_usage.map(|raw| {
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        start..start + raw.get().len()
    }))
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    fn patched(body: &'static str, changes: &Changes<'_>) -> String {
        let bytes = Bytes::from_static(body.as_bytes());
        let out = apply(&bytes, &scan(&bytes).expect("valid"), changes);
        String::from_utf8(out.to_vec()).expect("UTF-8")
    }

    #[test]
    fn the_gateways_own_field_does_not_reach_an_upstream() {
        for (body, expected) in [
            (r#"{"model":"m","enable_cache":false,"x":1}"#, r#"{"model":"m","x":1}"#),
            (r#"{"model":"m" , "enable_cache" : true }"#, r#"{"model":"m"  }"#),
            (r#"{"enable_cache":false,"model":"m"}"#, r#"{"model":"m"}"#),
            (r#"{"\u0065nable_cache":false ,"model":"m"}"#, r#"{"model":"m"}"#),
        ] {
            assert_eq!(patched(body, &Changes::default()), expected);
        }
    }

    #[test]
    fn nothing_to_change_gives_the_very_same_bytes() {
        let bytes = Bytes::from_static(br#"{"model":"m"}"#);
        let out = apply(&bytes, &scan(&bytes).expect("valid"), &Changes::default());
        assert_eq!(out.as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn a_rename_touches_nothing_else() {
        let body = r#"{ "seed":9007199254740993, "model" :"a", "x":null,"x":1e+2, "model":"a" }"#;
        let changes = Changes { model: Some("c\"d"), ..Changes::default() };
        assert_eq!(
            patched(body, &changes),
            r#"{ "seed":9007199254740993, "model" :"c\"d", "x":null,"x":1e+2, "model":"c\"d" }"#
        );
    }

    #[test]
    fn usage_is_asked_for_in_every_form_of_stream_options() {
        let changes = Changes { include_usage: true, ..Changes::default() };
        for (body, expected) in [
            (r#"{"stream":true}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream":true,"stream_options":null}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream_options":{ },"stream":true}"#,
                r#"{"stream_options":{"include_usage":true },"stream":true}"#,
            ),
            (
                r#"{"stream_options":{"x":1},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true,"x":1},"stream":true}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":false},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
            ),
            (r#"{"stream_options":7,"stream":true}"#, r#"{"stream_options":7,"stream":true}"#),
        ] {
            assert_eq!(patched(body, &changes), expected);
        }
    }

    #[test]
    fn max_completion_tokens_is_given_by_both_names() {
        let changes = Changes { map_max_tokens: true, ..Changes::default() };
        for (body, expected) in [
            (
                r#"{"max_completion_tokens":5,"a":1}"#,
                r#"{"max_completion_tokens":5,"max_tokens":5,"a":1}"#,
            ),
            (
                r#"{"max_tokens":null,"max_completion_tokens":5}"#,
                r#"{"max_tokens":5,"max_completion_tokens":5}"#,
            ),
            (
                r#"{"max_tokens":3,"max_completion_tokens":5}"#,
                r#"{"max_tokens":3,"max_completion_tokens":5}"#,
            ),
            (r#"{"max_completion_tokens":null}"#, r#"{"max_completion_tokens":null}"#),
        ] {
            assert_eq!(patched(body, &changes), expected);
        }
    }
}
