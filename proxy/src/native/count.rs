//! How many tokens a request of the Anthropic Messages API has, guessed as [`super::context`] does:
//! Ollama serves that API without its `count_tokens`
//! (<https://docs.anthropic.com/en/api/messages-count-tokens>).

use serde_json::value::RawValue;

use super::context::Tally;
use super::json::{Keys, each, members, text};

/// Tokens of the prompt of `body`: its `system`, `messages` and `tools`. What a model thought in
/// earlier turns does not count, as there.
///
/// # Errors
/// What is wrong with it, in words.
pub fn message_tokens(body: &[u8]) -> Result<u64, &'static str> {
    let body = String::from_utf8_lossy(body);
    let [system, messages, tools] =
        members(&body, Keys::Exact, ["system", "messages", "tools"]).map_err(|_| "no object")?;
    let messages = messages.ok_or("`messages` is missing")?;
    let mut tally = Tally::default();
    if let Some(system) = system {
        tally.message();
        content(system, &mut tally, false)?;
    }
    each(
        messages,
        || "`messages` must be an array",
        |message| {
            let [said] = members(message.get(), Keys::Exact, ["content"])
                .map_err(|_| "each of `messages` must be an object")?;
            tally.message();
            content(said.ok_or("each of `messages` needs `content`")?, &mut tally, false)
        },
    )?;
    if let Some(tools) = tools {
        tally.add(tools.get());
    }
    Ok(tally.tokens())
}

/// A text, or blocks, which within a tool's result are no results themselves.
fn content(raw: &RawValue, tally: &mut Tally, within_result: bool) -> Result<(), &'static str> {
    if let Some(words) = text(raw) {
        tally.add(&words);
        return Ok(());
    }
    each(
        raw,
        || "`content` must be a text or an array of blocks",
        |one| block(one, tally, within_result),
    )
}

fn block(raw: &RawValue, tally: &mut Tally, within_result: bool) -> Result<(), &'static str> {
    let fields = ["type", "text", "name", "input", "content", "source"];
    let [kind, words, name, input, inner, source] =
        members(raw.get(), Keys::Exact, fields).map_err(|_| "a block must be an object")?;
    match kind.and_then(text).as_deref() {
        Some("thinking" | "redacted_thinking") => {}
        Some("image") => tally.image(),
        Some("tool_use") => [name, input].into_iter().flatten().for_each(|it| tally.add(it.get())),
        Some("tool_result") if within_result => {
            return Err("a `tool_result` must hold no other");
        }
        Some("tool_result") => {
            if let Some(inner) = inner {
                content(inner, tally, true)?;
            }
        }
        Some("document") => {
            let data = source.map(|source| members(source.get(), Keys::Exact, ["data"]));
            if let Some(Ok([Some(data)])) = data {
                tally.add(data.get());
            }
        }
        _ => {
            if let Some(words) = words.and_then(text) {
                tally.add(&words);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::native::context::prompt_tokens_estimate;

    fn count(body: &Value) -> Result<u64, &'static str> {
        message_tokens(body.to_string().as_bytes())
    }

    #[test]
    fn a_text_counts_as_in_a_chat_however_it_is_written() {
        let words = "It was a bright cold day in April, and the clocks were striking thirteen.";
        let chat = json!({"messages": [{"role": "user", "content": words}]});
        let expected = Ok(prompt_tokens_estimate(chat.to_string().as_bytes()));
        let blocks = json!({"messages": [{"content": [{"type": "text", "text": words}]}]});
        let result = json!({"messages": [{"content": [
            {"type": "thinking", "thinking": words},
            {"type": "tool_result", "content": [{"type": "text", "text": words}]},
        ]}]});
        let system = json!({"system": [{"type": "text", "text": words}], "messages": []});
        for body in [chat, blocks, result, system] {
            assert_eq!(count(&body), expected, "{body}");
        }
    }

    #[test]
    fn tools_calls_images_and_documents_count() {
        let with = |block: Value| count(&json!({"messages": [{"content": [block]}]}));
        let bare = with(json!({"type": "text", "text": ""}));
        for block in [
            json!({"type": "tool_use", "name": "f", "input": {"a": 1}}),
            json!({"type": "image", "source": {"type": "base64", "data": ""}}),
            json!({"type": "document", "source": {"type": "text", "data": "words"}}),
        ] {
            assert!(with(block.clone()) > bare, "{block}");
        }
        let tools = json!({"messages": [{"content": ""}], "tools": [{"name": "f"}]});
        assert!(count(&tools) > bare);
    }

    #[test]
    fn what_is_no_request_is_refused_in_words() {
        for body in [
            json!([]),
            json!({}),
            json!({"messages": 7}),
            json!({"messages": [7]}),
            json!({"messages": [{}]}),
            json!({"messages": [{"content": 7}]}),
            json!({"messages": [{"content": [7]}]}),
            json!({"messages": [{"content": [
                {"type": "tool_result", "content": [{"type": "tool_result", "content": "a"}]}
            ]}]}),
        ] {
            assert!(count(&body).is_err(), "{body}");
        }
    }
}
