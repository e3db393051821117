//! `${NAME}` in quoted values. In plain ones the parser replaces it; a quoted one it takes as it is
//! written, and YAML has no other way to write one in `{ … }`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use granit_parser::{Event, Parser, ScalarStyle};

/// A reference that cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreplaced {
    /// Where its value begins, in bytes.
    pub at: usize,
    /// Why not.
    pub why: String,
}

/// `text` with each `${NAME}` and `${NAME:-default}` in quoted values replaced from `environment`. `$${`
/// stands for `${`.
///
/// # Errors
/// When a variable is not set and there is no default.
pub fn expand_quoted<'t>(
    text: &'t str,
    environment: &HashMap<String, String>,
) -> Result<Cow<'t, str>, Unreplaced> {
    let (mut out, mut copied) = (String::new(), 0);
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    for event in Parser::new_from_str(text) {
        // What is no YAML is told by the one who reads it.
        let Ok((event, span)) = event else { break };
        let Event::Scalar(value, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..) = event
        else {
            continue;
        };
        let (Some(start), Some(end)) = (span.start.byte_offset(), span.end.byte_offset()) else {
            continue;
        };
        let expanded = expand(&value, environment).map_err(|why| Unreplaced { at: start, why })?;
        if let Some(expanded) = expanded {
            out.push_str(&text[copied..start]);
            out.push_str(&quoted(&expanded));
            copied = end;
        }
    }
    out.push_str(&text[copied..]);
    Ok(Cow::Owned(out))
}

/// `value` with its references replaced; `None` where it has none.
fn expand(value: &str, environment: &HashMap<String, String>) -> Result<Option<String>, String> {
    let (mut out, mut rest) = (String::new(), value);
    while let Some(dollar) = rest.find("${") {
        let (before, at) = rest.split_at(dollar);
        let escaped = before.strip_suffix('$');
        out.push_str(escaped.unwrap_or(before));
        let Some((name, default, length)) = reference(at).filter(|_| escaped.is_none()) else {
            out.push_str("${");
            rest = &at["${".len()..];
            continue;
        };
        let found = environment.get(name).map(String::as_str);
        // As a shell has it: the default is for what is empty too.
        let found = found.filter(|value| !value.is_empty() || default.is_none()).or(default);
        let unset = || format!("the environment variable `{name}` is not set");
        out.push_str(found.ok_or_else(unset)?);
        rest = &at[length..];
    }
    if rest.len() == value.len() {
        return Ok(None);
    }
    out.push_str(rest);
    Ok(Some(out))
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

/// `value` as YAML has it in double quotes (YAML 1.2, 5.7).
#[must_use]
pub fn quoted(value: &str) -> String {
    let mut out = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a string cannot fail. All of these are of the basic plane.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(text: &str) -> Result<String, Unreplaced> {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let awkward = "it's \"two\"\\\r\nlines\u{7f}\u{2028}";
        let environment = HashMap::from([of("A", "one"), of("B", awkward), of("E", "")]);
        expand_quoted(text, &environment).map(Cow::into_owned)
    }

    #[test]
    fn references_in_quotes_are_replaced_wherever_yaml_has_them() {
        for (text, expected) in [
            (r#"a: "${A}""#, r#"a: "one""#),
            (r#"a: {b: "x${A}y${A}", c: ['${A}']}"#, r#"a: {b: "xoneyone", c: ["one"]}"#),
            (r#"[{"a":"${A}"}]"#, r#"[{"a":"one"}]"#),
            (r#"a: !!str "${A}""#, r#"a: !!str "one""#),
            ("- a: |\n    x\n  b: \"${A}\"", "- a: |\n    x\n  b: \"one\""),
            (r#"a: "${C:-other}" # "${C}""#, r#"a: "other" # "${C}""#),
            (r#"a: "${E:-other}${E}""#, r#"a: "other""#),
            (r#"a: "$${A} \"${A}""#, r#"a: "${A} \"one""#),
            (r#"a: "${not a name} ${} $A ${A""#, r#"a: "${not a name} ${} $A ${A""#),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_value_stays_within_its_quotes_whatever_it_holds() {
        for text in ["a: \"${B}\"\n", "a: '${B}'\n"] {
            let yaml = expanded(text).expect("replaced");
            let read: HashMap<String, String> = serde_saphyr::from_str(&yaml).expect("YAML");
            assert_eq!(read["a"], "it's \"two\"\\\r\nlines\u{7f}\u{2028}", "{yaml}");
        }
    }

    #[test]
    fn what_is_not_quoted_is_left_to_the_parser() {
        for text in [
            "a: ${C}",
            "a: it's ${C} isn't, 'so",
            "# don't \"${C}\"\na: 1",
            "a: |\n  \"${C}\"\n\n  '\nb: 2",
            "- >-\n    'tis \"${C}\"\n- x",
            "a: b\"${C}\"",
            "a: [ \"${C",
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_with_its_place() {
        let refused = expanded("a: 1\nb: \"x${C}\"").expect_err("refused");
        assert_eq!((refused.at, &*refused.why), (8, "the environment variable `C` is not set"));
    }

    proptest! {
        #[test]
        fn any_text_is_gone_through_and_one_without_references_stays(
            parts in proptest::collection::vec("[a{}\\[\\]:,\"'|>#! \n\\-\\\\&*é]|[$]\\{A\\}|: |- ", 0..40),
        ) {
            let text = parts.concat();
            let environment = HashMap::from([("A".to_owned(), "x\"'\n".to_owned())]);
            let expanded = expand_quoted(&text, &environment).expect("it is set");
            if !text.contains("${") {
                prop_assert_eq!(&*expanded, &*text);
            }
            let most = parts.len() * 4;
            prop_assert!(expanded.len() + most >= text.len());
        }
    }
}
