//! The plugin's configuration: as written, and ready to use.

use serde::Deserialize;

use crate::opening::{Phrase, Phrases};

/// Longest phrase in bytes: text is held back while it may yet become one.
const MAX_PHRASE: usize = 200;

/// What the operator set, checked.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Config")]
pub(crate) struct Settings {
    /// What is closed.
    pub(crate) close: Close,
    /// Opening phrases.
    pub(crate) phrases: Phrases,
    waiting: Option<Waiting>,
}

impl Settings {
    /// What to say to a client that has waited so long.
    pub(crate) fn waiting_text(&self, waited_ms: u64) -> Option<String> {
        let due = self.waiting.as_ref().filter(|waiting| waited_ms >= waiting.after_ms);
        due.map(|waiting| waiting.text.clone())
    }
}

/// What is closed when an answer was cut at its longest length.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Close {
    /// Code fences.
    pub(crate) fences: bool,
    /// Brackets and strings of an answer that is JSON.
    pub(crate) brackets: bool,
}

impl Default for Close {
    fn default() -> Self {
        Self { fences: true, brackets: false }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    close: Close,
    openings: Openings,
    waiting: Option<Waiting>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Openings {
    strip: Vec<String>,
    vary: Vec<Vary>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vary {
    from: String,
    to: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    after_ms: u64,
    text: String,
}

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        let mut phrases = Vec::new();
        for (index, text) in config.openings.strip.into_iter().enumerate() {
            check_phrase(&text).map_err(|cause| format!("openings.strip[{index}]: {cause}"))?;
            phrases.push(Phrase { text, instead: Vec::new() });
        }
        for (index, vary) in config.openings.vary.into_iter().enumerate() {
            let key = format!("openings.vary[{index}]");
            check_phrase(&vary.from).map_err(|cause| format!("{key}.from: {cause}"))?;
            if vary.to.is_empty() || vary.to.iter().any(|text| text.trim().is_empty()) {
                return Err(format!("{key}.to: expected one phrase or more; or list it in strip"));
            }
            phrases.push(Phrase { text: vary.from, instead: vary.to });
        }
        if config.waiting.as_ref().is_some_and(|waiting| waiting.text.is_empty()) {
            return Err("waiting.text: expected a text".into());
        }
        Ok(Self { close: config.close, phrases: Phrases::new(phrases), waiting: config.waiting })
    }
}

fn check_phrase(text: &str) -> Result<(), String> {
    if text.trim() != text || text.is_empty() || text.len() > MAX_PHRASE {
        return Err(format!(
            "expected a phrase of 1 to {MAX_PHRASE} bytes without white space around it"
        ));
    }
    Ok(())
}
