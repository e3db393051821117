//! Where a Redis is, as configurations say it.

use serde_saphyr::Spanned;

use super::load::{ConfigError, Source};
use super::units::{Secret, SecretSource};

/// Reads the URL of a Redis given for `key`.
///
/// # Errors
/// When it is none, or has a password that would stand in the file for all to read.
pub(super) fn url(
    given: &Spanned<String>,
    key: &str,
    source: &Source,
) -> Result<Secret, ConfigError> {
    let fail = |message: String| source.error_at(given.defined, message);
    let text = given.value.as_str();
    match text.split_once(':') {
        Some(("env" | "file", _)) => {
            let from: SecretSource = serde_json::from_value(text.into())
                .map_err(|cause| fail(format!("`{key}`: {cause}")))?;
            from.read().map_err(|why| fail(format!("`{key}`: {why}")))
        }
        Some(("redis" | "redis+unix", _)) if !text.contains('@') => {
            Ok(Secret::new(text.to_owned()))
        }
        _ => {
            let message = "is not redis://host:port; a URL with a password comes from `env:NAME` or \
                           `file:/path`";
            Err(fail(format!("`{key}` {message}")))
        }
    }
}
