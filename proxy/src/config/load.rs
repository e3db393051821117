//! From bytes on disk to [`Raw`], with errors a person can act on: file:line:column, what was
//! expected, the line itself and a near name.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde_saphyr::Location;

use super::environment::expand_quoted;
use super::raw::Raw;
use super::units::SECRET_HELP;

/// Beyond this edit distance a suggestion would be a guess.
const MAX_SUGGESTION_DISTANCE: usize = 3;

/// A line with one of these is not repeated in an error.
const SENSITIVE: [&str; 7] = ["key", "token", "secret", "passw", "hash", "sk-", "@"];

/// Why a configuration was refused.
#[derive(Debug)]
pub struct ConfigError {
    /// What is wrong and what was expected.
    pub message: String,
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    file: String,
    line: u64,
    column: u64,
    text: String,
}

impl ConfigError {
    /// An error that belongs to no single place in the file.
    #[must_use]
    pub fn general(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None }
    }

    fn hide_line(&mut self) {
        if let Some(place) = &mut self.place {
            place.text = "(line not shown)".into();
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Place { file, line, column, text }) = &self.place else {
            return f.write_str(&self.message);
        };
        let gutter = line.to_string().len();
        let caret = usize::try_from(*column).unwrap_or(1).max(1);
        write!(
            f,
            "{file}:{line}:{column}: {}\n {line} | {text}\n {:gutter$} | ",
            self.message, ""
        )?;
        write!(f, "{:>caret$}", "^")
    }
}

impl std::error::Error for ConfigError {}

/// A configuration text and the name it is known by in errors.
#[derive(Debug)]
pub struct Source {
    /// File name for messages.
    pub file: String,
    /// The YAML itself.
    pub text: String,
}

impl Source {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::general(format!("cannot read {file}: {cause}")))?;
        Ok(Self { file, text })
    }

    /// Parses the text; `${NAME}` in a value is replaced from `environment`.
    pub fn parse(&self, environment: HashMap<String, String>) -> Result<Raw, ConfigError> {
        if self.text.trim().is_empty() {
            // An editor or a full disk may leave a file empty for a moment or for good; serving
            // without its keys would be the worst answer to that.
            return Err(ConfigError::general(format!("{}: the file is empty", self.file)));
        }
        let text = expand_quoted(&self.text, &environment).map_err(|unreplaced| {
            let before = &self.text[..unreplaced.at];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            self.error_in(line as u64, column as u64, unreplaced.why)
        })?;
        let options = serde_saphyr::Options::default().with_properties(environment);
        serde_saphyr::from_str_with_options(&text, options)
            .map_err(|cause| self.explain(cause.without_snippet()))
    }

    /// Tells the text from others, for people who compare: replicas that should have the same.
    #[must_use]
    pub fn hash(&self) -> u32 {
        let hash = blake3::hash(self.text.as_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// An error at a place in this text.
    #[must_use]
    pub fn error_at(&self, at: Location, message: impl Into<String>) -> ConfigError {
        self.error_in(at.line(), at.column(), message)
    }

    fn error_in(&self, line: u64, column: u64, message: impl Into<String>) -> ConfigError {
        let text = self.line(line).to_owned();
        // The line may show the very secret that does not belong there.
        let lowered = text.to_lowercase();
        let hidden = SENSITIVE.iter().any(|word| lowered.contains(word));
        let place = Place { file: self.file.clone(), line, column, text };
        let mut error = ConfigError { message: message.into(), place: Some(place) };
        if hidden {
            error.hide_line();
        }
        error
    }

    /// The line of that number, from 1.
    fn line(&self, number: u64) -> &str {
        let index = usize::try_from(number.saturating_sub(1)).unwrap_or(0);
        self.text.lines().nth(index).unwrap_or_default()
    }

    fn explain(&self, cause: &serde_saphyr::Error) -> ConfigError {
        use serde_saphyr::Error as E;
        let message = match cause {
            E::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
            E::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
            E::SerdeMissingField { field, .. } => format!("key `{field}` is missing"),
            E::UnresolvedProperty { name, .. } => {
                format!("the environment variable `{name}` is not set")
            }
            other => plainly(&other.to_string()),
        };
        match cause.location() {
            Some(at) if at.line() > 0 => {
                let unquoted = self.line(at.line()).contains("${");
                let hint = match message.contains("flow mapping") && unquoted {
                    true => "; within { … }, a value with ${…} needs quotes",
                    false => "",
                };
                let mut error = self.error_at(at, format!("{message}{hint}"));
                if error.message.contains(SECRET_HELP) {
                    error.hide_line();
                }
                error
            }
            _ => ConfigError::general(format!("{}: {message}", self.file)),
        }
    }
}

/// What the parser says, in the words of somebody who writes a configuration.
fn plainly(text: &str) -> String {
    let line = text.lines().next().unwrap_or(text);
    // The place stands before it.
    let line = line.split(" at line ").next().unwrap_or(line);
    let line = line.split(", set DuplicateKeyPolicy").next().unwrap_or(line);
    match line {
        "expected mapping start" => "expected `key: value` pairs, or { key: value }".into(),
        "expected sequence start" => "expected a list: [ … ], or lines that begin with `- `".into(),
        "expected string scalar" => "expected a text".into(),
        "invalid u16" | "invalid u32" | "invalid u64" | "invalid usize" => {
            "expected a whole number".into()
        }
        "invalid f64" => "expected a number".into(),
        _ => match line.strip_prefix("duplicate mapping key: ") {
            Some(key) => format!("the key `{key}` is given twice"),
            None => line.to_owned(),
        },
    }
}

fn unknown(what: &str, given: &str, expected: &[&str]) -> String {
    let list = expected.join(", ");
    match nearest(given, expected.iter().copied()) {
        Some(near) => {
            format!("unknown {what} `{given}`; did you mean `{near}`? Expected one of: {list}")
        }
        None => format!("unknown {what} `{given}`; expected one of: {list}"),
    }
}

/// The candidate closest to `given`, if any is close enough to be what was meant.
pub fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        // Also what keeps an endless name from costing its length times each candidate's.
        .filter(|candidate| candidate.len().abs_diff(given.len()) <= MAX_SUGGESTION_DISTANCE)
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, near)| {
            *distance <= MAX_SUGGESTION_DISTANCE && *distance < near.chars().count()
        })
        .map(|(_, near)| near)
}
