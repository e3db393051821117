//! The plugin's configuration: as written, and ready to use.

use serde::Deserialize;

use crate::words::TimeWords;

/// Which answers are worth keeping.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keep {
    /// Those a client asked to be the same each time.
    #[default]
    Deterministic,
    /// All but those a client asked to differ.
    UnlessHot,
    /// All.
    Always,
}

/// What the operator set, checked.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Config")]
pub(crate) struct Settings {
    /// Which answers are worth keeping.
    pub(crate) keep: Keep,
    /// Seconds an answer is kept; `None` leaves it to the gateway.
    pub(crate) ttl: Option<u32>,
    /// Whether a request that means the same may get an answer.
    pub(crate) similar: bool,
    /// Least similarity.
    pub(crate) min_similarity: Option<f64>,
    /// Answers are kept apart by it.
    pub(crate) scope: Option<String>,
    /// Most messages of a request that is matched by meaning.
    pub(crate) max_messages: u32,
    /// Most characters of its last message.
    pub(crate) max_chars: usize,
    /// Words that make an answer one of the day.
    pub(crate) time_words: TimeWords,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    policy: Keep,
    ttl: Option<u32>,
    similar: bool,
    min_similarity: Option<f64>,
    scope: Option<String>,
    max_messages: u32,
    max_chars: usize,
    time_words: Option<Vec<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Keep::default(),
            ttl: None,
            similar: true,
            min_similarity: None,
            scope: None,
            max_messages: 3,
            max_chars: 2_000,
            time_words: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::checked(Config::default())
    }
}

impl Settings {
    fn checked(config: Config) -> Self {
        let time_words = config.time_words.map_or_else(TimeWords::default, TimeWords::of);
        Self {
            keep: config.policy,
            ttl: config.ttl,
            similar: config.similar,
            min_similarity: config.min_similarity,
            scope: config.scope,
            max_messages: config.max_messages,
            max_chars: config.max_chars,
            time_words,
        }
    }
}

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        if config.ttl == Some(0) {
            return Err("ttl: expected 1 second or more".into());
        }
        if config.min_similarity.is_some_and(|least| !(0.0..=1.0).contains(&least)) {
            return Err("min_similarity: expected a number from 0 to 1".into());
        }
        if config.scope.as_ref().is_some_and(String::is_empty) {
            return Err("scope: expected a text".into());
        }
        if config.max_messages == 0 || config.max_chars == 0 {
            return Err("max_messages, max_chars: expected 1 or more; or similar: false".into());
        }
        let words = config.time_words.iter().flatten();
        for (index, word) in words.enumerate() {
            if word.is_empty() || !word.chars().all(char::is_alphanumeric) {
                return Err(format!("time_words[{index}]: expected one word"));
            }
        }
        Ok(Self::checked(config))
    }
}

#[cfg(test)]
pub(crate) fn settings(json: &str) -> Settings {
    sluicegate_plugin::testing::set_config(json);
    sluicegate_plugin::config::parse().unwrap()
}

#[cfg(test)]
mod tests {
    use sluicegate_plugin::testing::set_config;
    use sluicegate_plugin::{Guest, Needs};

    use crate::SemanticCache;

    #[test]
    fn a_wrong_configuration_is_refused_with_its_key() {
        for (json, part) in [
            (r#"{"polcy": "always"}"#, "polcy"),
            (r#"{"policy": "never"}"#, "unknown variant `never`"),
            (r#"{"ttl": 0}"#, "ttl: expected 1 second or more"),
            (r#"{"min_similarity": 1.1}"#, "min_similarity: expected a number from 0 to 1"),
            (r#"{"scope": ""}"#, "scope"),
            (r#"{"max_messages": 0}"#, "max_messages"),
            (r#"{"max_chars": 0}"#, "max_chars"),
            (r#"{"time_words": ["now", "this week"]}"#, "time_words[1]: expected one word"),
        ] {
            set_config(json);
            let text = SemanticCache::describe().unwrap_err();
            assert!(text.contains(part), "{json}: {text}");
        }
        for (json, needs) in [("{}", Needs::MESSAGES), (r#"{"similar": false}"#, Needs::SHAPE)] {
            set_config(json);
            let described = SemanticCache::describe().unwrap();
            assert_eq!((described.name.as_str(), described.needs), ("semantic-cache", needs));
        }
    }
}
