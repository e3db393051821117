//! The plugin's configuration: as written, and ready to use.

use serde::Deserialize;
use sluicegate_plugin::Role;

use crate::block::Block;
use crate::history::History;
use crate::limits::{Clamp, MaxTokens};
use crate::system::SystemRule;

/// What the operator set, checked.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Config")]
pub(crate) struct Settings {
    /// The first that fits a request is applied.
    pub(crate) system: Vec<SystemRule>,
    /// Which messages stay.
    pub(crate) history: History,
    /// Longest answers.
    pub(crate) max_tokens: MaxTokens,
    /// Ranges of parameters.
    pub(crate) clamp: Clamp,
    /// Texts that are refused.
    pub(crate) block: Vec<Block>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    system: Vec<SystemRule>,
    history: History,
    max_tokens: MaxTokens,
    clamp: Clamp,
    block: Vec<BlockRule>,
}

/// A blocked pattern as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockRule {
    /// A regular expression.
    pub(crate) pattern: String,
    /// What the client is told.
    pub(crate) message: Option<String>,
    /// Whose messages are looked at.
    #[serde(default = "users")]
    pub(crate) roles: Vec<Speaker>,
}

fn users() -> Vec<Speaker> {
    vec![Speaker::User]
}

/// Who speaks.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Speaker {
    /// `system` or `developer`.
    System,
    /// `user`
    User,
    /// `assistant`
    Assistant,
    /// The result of a call.
    Tool,
    /// Anything else.
    Other,
}

impl From<Speaker> for Role {
    fn from(speaker: Speaker) -> Self {
        match speaker {
            Speaker::System => Self::System,
            Speaker::User => Self::User,
            Speaker::Assistant => Self::Assistant,
            Speaker::Tool => Self::Tool,
            Speaker::Other => Self::Other,
        }
    }
}

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        for (index, rule) in config.system.iter().enumerate() {
            rule.check().map_err(|cause| format!("system[{index}].{cause}"))?;
        }
        config.history.check().map_err(|cause| format!("history.{cause}"))?;
        config.max_tokens.check().map_err(|cause| format!("max_tokens.{cause}"))?;
        config.clamp.check().map_err(|cause| format!("clamp.{cause}"))?;
        let blocks = config.block.into_iter().enumerate();
        let block = blocks.map(|(index, rule)| {
            Block::new(rule).map_err(|cause| format!("block[{index}].{cause}"))
        });
        Ok(Self {
            system: config.system,
            history: config.history,
            max_tokens: config.max_tokens,
            clamp: config.clamp,
            block: block.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
pub(crate) fn settings(json: &str) -> Settings {
    sluicegate_plugin::testing::set_config(json);
    sluicegate_plugin::config::parse().unwrap()
}

#[cfg(test)]
mod tests {
    use sluicegate_plugin::Guest;
    use sluicegate_plugin::testing::set_config;

    use crate::PromptRewriter;

    #[test]
    fn a_wrong_configuration_is_refused_with_its_key() {
        for (json, part) in [
            (r#"{"sytem": []}"#, "sytem"),
            (r#"{"system": [{"text": ""}]}"#, "system[0].text: expected a text"),
            (r#"{"system": [{"text": "a", "caller": ""}]}"#, "system[0].caller"),
            (r#"{"system": [{"text": "a", "route": ""}]}"#, "system[0].route"),
            (r#"{"system": [{"text": "a", "mode": "append"}]}"#, "unknown variant `append`"),
            (r#"{"history": {"keep_last": 0}}"#, "history.keep_last: expected 1 or more"),
            (r#"{"history": {"token_budget": 0}}"#, "history.token_budget"),
            (r#"{"max_tokens": {"default": 9, "max": 8}}"#, "max_tokens.default: expected at most"),
            (r#"{"max_tokens": {"max": 0}}"#, "max_tokens.max: expected 1 or more"),
            (r#"{"clamp": {"top_p": {"min": 1, "max": 0}}}"#, "clamp.top_p.min: expected at most"),
            (r#"{"clamp": {"top_p": {}}}"#, "clamp.top_p: expected min, max or both"),
            (r#"{"block": [{"pattern": "a"}, {"pattern": "("}]}"#, "block[1].pattern"),
            (r#"{"block": [{"pattern": ""}]}"#, "block[0].pattern: expected"),
            (r#"{"block": [{"pattern": "a", "roles": []}]}"#, "block[0].roles: expected"),
            (r#"{"block": [{"pattern": "a", "roles": ["bot"]}]}"#, "unknown variant `bot`"),
        ] {
            set_config(json);
            let text = PromptRewriter::describe().unwrap_err();
            assert!(text.contains(part), "{json}: {text}");
        }
        set_config("{}");
        assert_eq!(PromptRewriter::describe().unwrap().name, "prompt-rewriter");
    }
}
