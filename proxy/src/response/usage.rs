//! Token counts of whole answers.

use memchr::memmem;

use crate::error::Dialect;
use crate::ollama::Line;
use crate::openai::{Usage, WithUsage};

/// Reads the usage of a whole JSON answer, if it has one.
#[must_use]
pub fn of_answer(body: &[u8], dialect: Dialect) -> Option<Usage> {
    match dialect {
        Dialect::OpenAi | Dialect::Anthropic => {
            memmem::find(body, b"\"usage\"")?;
            serde_json::from_slice::<WithUsage>(body).ok()?.usage
        }
        Dialect::Ollama => of_line(&serde_json::from_slice(body).ok()?),
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
