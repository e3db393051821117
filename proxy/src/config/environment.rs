//! `${NAME}` in quoted values. In plain ones the parser replaces it; a quoted one it takes as it is
//! written, and YAML has no other way to write one in `{ … }`.

use std::borrow::Cow;
use std::collections::HashMap;

/// A reference that cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreplaced {
    /// Where it begins, in bytes.
    pub at: usize,
    /// Why not.
    pub why: String,
}

/// `text` with each `${NAME}` and `${NAME:-default}` in quoted values replaced from `environment`, written so
/// that it stays within the quotes. `$${` stands for `${`.
///
/// # Errors
/// When a variable is not set and there is no default.
pub fn expand_quoted<'t>(
    text: &'t str,
    environment: &HashMap<String, String>,
) -> Result<Cow<'t, str>, Unreplaced> {
    let (mut out, mut copied) = (String::new(), 0);
    for (start, end) in quoted(text) {
        let quote = text.as_bytes()[start];
        let mut at = start;
        while let Some(found) = text[at..end].find("${") {
            let dollar = at + found;
            at = dollar + 2;
            if text[..dollar].ends_with('$') {
                out.push_str(&text[copied..dollar]);
                copied = dollar + 1;
                continue;
            }
            let Some((name, default, length)) = reference(&text[dollar..end]) else { continue };
            let value = environment.get(name).map(String::as_str).or(default);
            let value = value.ok_or_else(|| Unreplaced {
                at: dollar,
                why: format!("the environment variable `{name}` is not set"),
            })?;
            out.push_str(&text[copied..dollar]);
            out.push_str(&within(value, quote));
            (at, copied) = (dollar + length, dollar + length);
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(text));
    }
    out.push_str(&text[copied..]);
    Ok(Cow::Owned(out))
}

/// The name, the default and the length of the reference that `text` begins with.
fn reference(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let inside = text.strip_prefix("${")?;
    let inside = &inside[..inside.find('}')?];
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit());
    (is_name && !name.is_empty()).then_some((name, default, inside.len() + "${}".len()))
}

/// `value` as it is written within `quote`s.
fn within(value: &str, quote: u8) -> String {
    if quote == b'\'' {
        // An empty line is a line end there.
        return value.replace('\'', "''").replace('\n', "\n\n");
    }
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Where the quoted values of a YAML `text` begin and end, quotes included. Of what is no YAML some may be
/// missed.
fn quoted(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    // What stood before on this line, and whether white space was between.
    let mut before = None;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' if begins_value(before) => {
                let end = closing(bytes, at);
                found.push((at, end));
                (before, at) = (Some((b'"', false)), end);
                continue;
            }
            b'#' if before.is_none_or(|(_, spaced)| spaced) => at = line_end(bytes, at),
            b'|' | b'>' if begins_value(before) => at = block_end(bytes, at),
            _ => {}
        }
        match bytes.get(at) {
            Some(b'\n') => before = None,
            Some(b' ' | b'\t') => before = before.map(|(byte, _)| (byte, true)),
            Some(&other) => before = Some((other, false)),
            None => break,
        }
        at += 1;
    }
    found
}

fn begins_value(before: Option<(u8, bool)>) -> bool {
    match before {
        None => true,
        Some((byte, spaced)) => {
            matches!(byte, b'[' | b'{' | b',') || (matches!(byte, b':' | b'-' | b'?') && spaced)
        }
    }
}

/// The end of the quoted value that begins `at`.
fn closing(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let mut end = at + 1;
    while let Some(&byte) = bytes.get(end) {
        match byte {
            b'\\' if quote == b'"' => end += 1,
            _ if byte != quote => {}
            b'\'' if bytes.get(end + 1) == Some(&b'\'') => end += 1,
            _ => return end + 1,
        }
        end += 1;
    }
    bytes.len()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |found| at + found)
}

/// The end of the last line of the block that is announced `at`: all lines that are indented further.
fn block_end(bytes: &[u8], at: usize) -> usize {
    let start = memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |found| found + 1);
    let indent = |line: &[u8]| line.iter().take_while(|byte| **byte == b' ').count();
    let own = indent(&bytes[start..at]);
    let mut end = line_end(bytes, at);
    while end < bytes.len() {
        let next = line_end(bytes, end + 1);
        let line = &bytes[end + 1..next];
        if indent(line) <= own && !line.trim_ascii().is_empty() {
            break;
        }
        end = next;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Unreplaced> {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = HashMap::from([of("A", "one"), of("B", "it's \"two\"\\\nlines")]);
        expand_quoted(text, &environment).map(Cow::into_owned)
    }

    #[test]
    fn references_in_quotes_are_replaced_and_stay_within_them() {
        for (text, expected) in [
            (r#"a: "${A}""#, r#"a: "one""#),
            (r#"a: {b: "x${A}y${A}", c: ['${A}']}"#, r#"a: {b: "xoneyone", c: ['one']}"#),
            (r#"- "${B}""#, "- \"it's \\\"two\\\"\\\\\\nlines\""),
            ("- '${B}'", "- 'it''s \"two\"\\\n\nlines'"),
            (r#"a: "${C:-other}" # "${C}""#, r#"a: "other" # "${C}""#),
            (r#"a: "$${A} \"${A}""#, r#"a: "${A} \"one""#),
            (r#"a: "${not a name} ${} $A ${A""#, r#"a: "${not a name} ${} $A ${A""#),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_quoted_is_left_to_the_parser() {
        for text in [
            "a: ${C}",
            "a: it's ${C} isn't",
            "# don't \"${C}\"\na: 1",
            "a: |\n  \"${C}\"\n\n  '\nb: 2",
            "- >-\n    'tis \"${C}\"\n- x",
            "a: b\"${C}\"",
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(text));
        }
        assert_eq!(expanded("a: |\n  'x\nb: \"${A}\"").as_deref(), Ok("a: |\n  'x\nb: \"one\""));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_with_its_place() {
        let refused = expanded("a: 1\nb: \"${C}\"").expect_err("refused");
        assert_eq!((refused.at, &*refused.why), (9, "the environment variable `C` is not set"));
    }
}
