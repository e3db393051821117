//! What the configuration says of single models: how long they stay loaded, and with which options
//! they run.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::units::Period;

/// How a model of an Ollama is kept in memory.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Load it at start and after the upstream recovers, and never evict it. Default false.
    pub pin: bool,
    /// Load it at start and after the upstream recovers. Default false.
    pub warm: bool,
    /// How long it stays loaded after its last request, where the gateway loads it; a pinned one
    /// stays for ever. Default: as Ollama is set.
    pub keep_alive: Option<Period>,
    /// Hours of the day, in the machine's time zone, in which it is unloaded once idle and is not
    /// kept warm: `23:00-07:00`.
    pub off_hours: Option<Hours>,
}

/// A part of every day, by the minute; it may pass midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    to: u16,
}

const HOURS_HELP: &str = "hours of the day, such as 23:00-07:00";

impl Hours {
    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.trim().split_once('-')?;
        let hours = Self { from: minute(from)?, to: minute(to)? };
        (hours.from != hours.to).then_some(hours)
    }

    /// Whether they cover this minute of the day.
    #[must_use]
    pub fn cover(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes): (u16, u16) =
        (two(hours).then(|| hours.parse().ok())??, two(minutes).then(|| minutes.parse().ok())??);
    (hours <= 24 && minutes < 60 && hours * 60 + minutes <= 24 * 60).then_some(hours * 60 + minutes)
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not {HOURS_HELP}")))
    }
}

impl JsonSchema for Hours {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hours".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": HOURS_HELP,
            "pattern": "^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$" })
    }
}

/// Options of a route. What it generates is served through Ollama's own API where `num_ctx`, `keep_alive`,
/// `think` or `runner` are given: Ollama's `/v1` cannot set them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RouteOptions {
    /// Tokens of context the model is loaded with: a number, or `auto` for the smallest power of two
    /// that holds the prompt and its answer, at most 262144; it grows with what is asked, and is never smaller than
    /// what the model was loaded with. Prompts longer than a number get 400
    /// `context_length_exceeded`.
    pub num_ctx: Option<NumCtx>,
    /// How long the model stays loaded after a request.
    pub keep_alive: Option<Period>,
    /// Whether a thinking model thinks, where the client does not say: true, false, `low`, `medium`
    /// or `high`.
    pub think: Option<Think>,
    /// Other options of Ollama's runner: `num_gpu`, `num_batch`, `num_thread` and so on.
    pub runner: IndexMap<String, serde_json::Value>,
    /// Temperature, where the client sent none.
    pub temperature: Option<f64>,
    /// Nucleus sampling, where the client sent none.
    pub top_p: Option<f64>,
    /// Most tokens of an answer, where the client sent none.
    pub max_tokens: Option<u64>,
    /// The whole exchange, instead of the upstream's `timeouts.total`.
    pub timeout: Option<Period>,
}

/// Tokens of context.
#[derive(Clone, Copy, Debug, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum NumCtx {
    /// So many.
    Tokens(u64),
    /// As many as are needed.
    Auto(Auto),
}

impl<'de> Deserialize<'de> for NumCtx {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Word::deserialize(deserializer)?.0.as_str() {
            "auto" => Ok(NumCtx::Auto(Auto::Auto)),
            text => text
                .parse()
                .map(NumCtx::Tokens)
                .map_err(|_| D::Error::custom("expected a number of tokens, or auto")),
        }
    }
}

/// A scalar, as it is written without its quotes: one in quotes may be from the environment.
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected one value")]
        enum Scalar {
            Bool(bool),
            Number(u64),
            Text(String),
        }
        Ok(Self(match Scalar::deserialize(deserializer)? {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Number(value) => value.to_string(),
            Scalar::Text(value) => value,
        }))
    }
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// As many as are needed.
    Auto,
}

/// Whether a model thinks, and how hard.
#[derive(Clone, Debug, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum Think {
    /// Whether.
    Whether(bool),
    /// How hard.
    Level(Level),
}

impl<'de> Deserialize<'de> for Think {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Word::deserialize(deserializer)?.0.as_str() {
            "true" => Think::Whether(true),
            "false" => Think::Whether(false),
            "low" => Think::Level(Level::Low),
            "medium" => Think::Level(Level::Medium),
            "high" => Think::Level(Level::High),
            _ => return Err(D::Error::custom("expected true, false, low, medium or high")),
        })
    }
}

/// How hard a model thinks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

impl Level {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Low => "low",
            Level::Medium => "medium",
            Level::High => "high",
        }
    }
}

impl RouteOptions {
    /// Whether only Ollama's native API can carry them.
    #[must_use]
    pub fn need_native(&self) -> bool {
        self.load_options() || self.keep_alive.is_some() || self.think.is_some()
    }

    /// Whether they say what a model is loaded with.
    #[must_use]
    pub fn load_options(&self) -> bool {
        self.num_ctx.is_some() || !self.runner.is_empty()
    }

    /// What a model must be loaded with: of two requests that differ in it, each would have it
    /// loaded anew.
    #[must_use]
    pub fn loaded_with(&self) -> (Option<NumCtx>, &IndexMap<String, serde_json::Value>) {
        (self.num_ctx, &self.runner)
    }
}

/// Checks the options of a route; tells what is wrong from the name of the option on.
pub(super) fn check(options: &RouteOptions) -> Result<(), &'static str> {
    if matches!(options.num_ctx, Some(NumCtx::Tokens(tokens)) if !(256..=16_777_216).contains(&tokens))
    {
        return Err("num_ctx` is out of range; expected 256 to 16777216, or auto");
    }
    if options.temperature.is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        return Err("temperature` is out of range; expected 0 to 2");
    }
    if options.top_p.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        return Err("top_p` is out of range; expected 0 to 1");
    }
    if options.max_tokens == Some(0) || options.timeout.is_some_and(|time| time.0 == Duration::ZERO)
    {
        return Err("max_tokens` and `options.timeout` must be more than zero");
    }
    if options.runner.contains_key("num_ctx") {
        return Err("runner` has `num_ctx`, which is an option of its own");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_pass_midnight() {
        let night = Hours::parse("23:00-07:30").expect("hours");
        assert!(night.cover(23 * 60) && night.cover(0) && night.cover(7 * 60 + 29));
        assert!(!night.cover(7 * 60 + 30) && !night.cover(12 * 60));
        let noon = Hours::parse("12:00-13:00").expect("hours");
        assert!(noon.cover(12 * 60) && !noon.cover(13 * 60) && !noon.cover(11 * 60 + 59));
    }

    #[test]
    fn what_is_no_part_of_a_day_is_refused() {
        for bad in
            ["", "23-07", "25:00-07:00", "23:60-07:00", "07:00-07:00", "7:00-8:00", "24:30-01:00"]
        {
            assert_eq!(Hours::parse(bad), None, "{bad}");
        }
    }
}
