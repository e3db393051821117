//! Token counts of whole answers, found without parsing the answer: they stand at its end, and a key
//! inside generated text has its quotes escaped.

use memchr::memmem;
use serde::Deserialize;

use crate::error::Dialect;
use crate::ollama::Line;
use crate::openai::Usage;

/// Reads the usage of a whole JSON answer, if it has one.
#[must_use]
pub fn of_answer(body: &[u8], dialect: Dialect) -> Option<Usage> {
    match dialect {
        Dialect::OpenAi | Dialect::Anthropic => value_of(body, b"\"usage\""),
        Dialect::Ollama => {
            let prompt_tokens = value_of(body, b"\"prompt_eval_count\"");
            let completion_tokens = value_of(body, b"\"eval_count\"");
            let any = prompt_tokens.is_some() || completion_tokens.is_some();
            any.then_some(Usage { prompt_tokens, completion_tokens })
        }
    }
}

/// The counts on the last line of a native stream.
#[must_use]
pub fn of_line(line: &Line) -> Option<Usage> {
    (line.prompt_eval_count.is_some() || line.eval_count.is_some()).then_some(Usage {
        prompt_tokens: line.prompt_eval_count,
        completion_tokens: line.eval_count,
    })
}

/// The value after the last occurrence of a quoted key.
fn value_of<'a, T: Deserialize<'a>>(body: &'a [u8], key: &[u8]) -> Option<T> {
    let after = &body[memmem::rfind(body, key)? + key.len()..];
    let value = after.trim_ascii_start().strip_prefix(b":")?;
    T::deserialize(&mut serde_json::Deserializer::from_slice(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(body: &str, dialect: Dialect) -> Option<(Option<u64>, Option<u64>)> {
        let usage = of_answer(body.as_bytes(), dialect)?;
        Some((usage.prompt_tokens, usage.completion_tokens))
    }

    #[test]
    fn counts_are_found_in_every_dialect() {
        let openai = r#"{"choices":[{"text":"\"usage\":{}"}],"usage" : {"prompt_tokens":3,"completion_tokens":5},"x":1}"#;
        assert_eq!(counts(openai, Dialect::OpenAi), Some((Some(3), Some(5))));
        let anthropic = r#"{"usage":{"input_tokens":3,"output_tokens":5}}"#;
        assert_eq!(counts(anthropic, Dialect::Anthropic), Some((Some(3), Some(5))));
        let native = r#"{"done":true,"prompt_eval_count":3,"eval_count":5}"#;
        assert_eq!(counts(native, Dialect::Ollama), Some((Some(3), Some(5))));
        assert_eq!(counts(r#"{"usage":null}"#, Dialect::OpenAi), None);
        assert_eq!(counts("{}", Dialect::Ollama), None);
    }
}
