//! Shapes answers: closes what a truncated one leaves open, strips or varies opening phrases, and
//! says something to those who wait.
//!
//! # Layout
//! - `opening`: opening phrases
//! - `fence`: code fences left open
//! - `json`: brackets and strings left open
//! - `state`: what is kept between two pieces of an answer
//! - `config`: the plugin's configuration

mod config;
mod fence;
mod json;
mod opening;
mod state;
#[cfg(test)]
mod tests;

use sluicegate_plugin::config::Cached;
use sluicegate_plugin::responder::{Answer, Edited, Piece};
use sluicegate_plugin::{Description, Guest, Needs, Responder, describe};

use crate::config::Settings;
use crate::fence::Fence;
use crate::json::Json;
use crate::state::State;

struct ResponseShaper;

thread_local! { static SETTINGS: Cached<Settings> = const { Cached::new() }; }

impl Guest for ResponseShaper {
    fn describe() -> Result<Description, String> {
        sluicegate_plugin::config::parse::<Settings>()?;
        Ok(describe!(Needs::RESPONSE))
    }
}

impl Responder for ResponseShaper {
    fn edit(answer: Answer, piece: Piece) -> Edited {
        SETTINGS.with(|settings| shape(settings.get(), &answer, piece))
    }

    fn waiting(_: Answer, waited_ms: u64) -> Option<String> {
        SETTINGS.with(|settings| settings.get().waiting_text(waited_ms))
    }
}

fn shape(settings: &Settings, answer: &Answer, piece: Piece) -> Edited {
    let mut state = State::decode(&piece.state);
    let ended = piece.finish.is_some();
    let chance = || chance(&answer.request_id, piece.choice);
    let mut text = state.opening.take(&settings.phrases, piece.text, ended, chance);
    if settings.close.fences {
        state.fence.read(&text);
    }
    if settings.close.brackets {
        state.json.read(&text);
    }
    if piece.finish.as_deref() == Some("length") {
        text.push_str(&state.json.closing());
        text.push_str(&state.fence.closing());
        state.json = Json::default();
        state.fence = Fence::default();
    }
    Edited { text, state: state.encode() }
}

/// A number that is the same for every piece of an answer, and another for the next answer: FNV-1a.
fn chance(request_id: &str, choice: u32) -> usize {
    let bytes = request_id.bytes().chain(choice.to_le_bytes());
    let hash = bytes
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)) as usize
}

sluicegate_plugin::export!(ResponseShaper: responder);
