//! Longest answers and ranges of parameters.
//!
//! Ollama's own endpoints have their parameters inside `options`, out of an edit's reach: they are
//! left alone.

use serde::Deserialize;
use sluicegate_plugin::rewriter::Edit;
use sluicegate_plugin::{Endpoint, Request, Value};

use crate::config::Settings;

/// Longest answers in tokens.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MaxTokens {
    /// Where the client sent none; without it `max`.
    default: Option<u64>,
    /// What a client may ask for at most.
    max: Option<u64>,
}

impl MaxTokens {
    /// Says what is wrong with the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, value) in [("default", self.default), ("max", self.max)] {
            if value == Some(0) {
                return Err(format!("{key}: expected 1 or more"));
            }
        }
        if self.default > self.max && self.max.is_some() {
            return Err("default: expected at most max".into());
        }
        Ok(())
    }

    /// The length to ask for, when it is another than the client's.
    fn instead_of(&self, asked: Option<u64>) -> Option<u64> {
        match asked {
            Some(asked) => self.max.filter(|max| asked > *max),
            None => self.default.or(self.max),
        }
    }
}

/// Ranges of parameters that a client sent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Clamp {
    /// Of `temperature`.
    temperature: Option<Range>,
    /// Of `top_p`.
    top_p: Option<Range>,
}

impl Clamp {
    /// Says what is wrong with the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, range) in [("temperature", &self.temperature), ("top_p", &self.top_p)] {
            if let Some(range) = range {
                range.check().map_err(|cause| format!("{key}{cause}"))?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    min: Option<f64>,
    max: Option<f64>,
}

impl Range {
    fn check(&self) -> Result<(), String> {
        match (self.min, self.max) {
            (None, None) => Err(": expected min, max or both".into()),
            (Some(min), Some(max)) if min > max => Err(".min: expected at most max".into()),
            _ => Ok(()),
        }
    }

    fn apply(&self, value: f64) -> f64 {
        let value = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(value, |max| value.min(max))
    }
}

/// Brings parameters within their limits.
pub(crate) fn edit(settings: &Settings, request: &Request, edits: &mut Vec<Edit>) {
    let Some(name) = length_parameter(request.endpoint) else { return };
    let parameters = &request.parameters;
    if let Some(tokens) = settings.max_tokens.instead_of(parameters.max_tokens) {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        edits.push(Edit::SetParameter((name.to_owned(), Value::Integer(tokens))));
        // It goes before `max_tokens`; the larger of the two may be in it, and one that cannot be
        // read is shown as none.
        if request.endpoint == Endpoint::ChatCompletions {
            edits.push(Edit::RemoveParameter("max_completion_tokens".to_owned()));
        }
    }
    let clamp = &settings.clamp;
    for (name, range, sent) in [
        ("temperature", &clamp.temperature, parameters.temperature),
        ("top_p", &clamp.top_p, parameters.top_p),
    ] {
        let (Some(range), Some(sent)) = (range, sent) else { continue };
        let value = range.apply(sent);
        if value != sent {
            edits.push(Edit::SetParameter((name.to_owned(), Value::Number(value))));
        }
    }
}

/// What the longest answer is called, where an answer is generated and its name is known.
fn length_parameter(endpoint: Endpoint) -> Option<&'static str> {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Messages => {
            Some("max_tokens")
        }
        Endpoint::Responses => Some("max_output_tokens"),
        Endpoint::NativeChat
        | Endpoint::NativeGenerate
        | Endpoint::Embeddings
        | Endpoint::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_plugin::testing::request;

    use super::*;
    use crate::config::settings;

    fn edited(config: &str, request: &Request) -> Vec<String> {
        let mut edits = Vec::new();
        edit(&settings(config), request, &mut edits);
        edits.iter().map(describe).collect()
    }

    fn describe(edit: &Edit) -> String {
        match edit {
            Edit::SetParameter((name, Value::Integer(value))) => format!("{name}={value}"),
            Edit::SetParameter((name, Value::Number(value))) => format!("{name}={value:?}"),
            Edit::RemoveParameter(name) => format!("-{name}"),
            other => panic!("{other:?}"),
        }
    }

    fn asking(endpoint: Endpoint, max_tokens: Option<u64>) -> Request {
        let mut request = Request { endpoint, ..request(Vec::new()) };
        request.parameters.max_tokens = max_tokens;
        request
    }

    #[test]
    fn an_answer_has_a_default_and_a_longest_length() {
        let config = r#"{"max_tokens": {"default": 100, "max": 200}}"#;
        let edits = |asked| edited(config, &asking(Endpoint::ChatCompletions, asked));
        assert_eq!(edits(None), ["max_tokens=100", "-max_completion_tokens"]);
        assert!(edits(Some(200)).is_empty());
        assert_eq!(edits(Some(201)), ["max_tokens=200", "-max_completion_tokens"]);
        assert_eq!(edits(Some(u64::MAX)), ["max_tokens=200", "-max_completion_tokens"]);
    }

    #[test]
    fn a_longest_length_alone_is_also_the_default() {
        let chat = |asked| asking(Endpoint::ChatCompletions, asked);
        let max = r#"{"max_tokens": {"max": 200}}"#;
        assert_eq!(edited(max, &chat(None)), ["max_tokens=200", "-max_completion_tokens"]);
        let default = r#"{"max_tokens": {"default": 7}}"#;
        assert_eq!(edited(default, &chat(None)), ["max_tokens=7", "-max_completion_tokens"]);
        assert!(edited(default, &chat(Some(9_999))).is_empty());
    }

    #[test]
    fn each_endpoint_has_its_own_name_for_it() {
        let edits = |endpoint| edited(r#"{"max_tokens": {"max": 1}}"#, &asking(endpoint, Some(2)));
        assert_eq!(edits(Endpoint::Messages), ["max_tokens=1"]);
        assert_eq!(edits(Endpoint::Completions), ["max_tokens=1"]);
        assert_eq!(edits(Endpoint::Responses), ["max_output_tokens=1"]);
        for endpoint in
            [Endpoint::NativeChat, Endpoint::NativeGenerate, Endpoint::Embeddings, Endpoint::Other]
        {
            assert!(edits(endpoint).is_empty(), "{endpoint:?}");
        }
    }

    #[test]
    fn parameters_that_were_sent_are_brought_into_their_range() {
        let config = r#"{"clamp": {"temperature": {"min": 0.1, "max": 1}, "top_p": {"min": 0.5}}}"#;
        let mut asked = asking(Endpoint::ChatCompletions, None);
        assert!(edited(config, &asked).is_empty());
        asked.parameters.temperature = Some(1.5);
        asked.parameters.top_p = Some(0.2);
        assert_eq!(edited(config, &asked), ["temperature=1.0", "top_p=0.5"]);
        asked.parameters.temperature = Some(0.0);
        asked.parameters.top_p = Some(0.5);
        assert_eq!(edited(config, &asked), ["temperature=0.1"]);
        asked.endpoint = Endpoint::NativeChat;
        assert!(edited(config, &asked).is_empty());
    }
}
