//! What `/api/ps` and `/api/tags` tell of models.

use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::FOR_EVER;
use super::runners::Runner;

/// One loaded model, as `/api/ps` has it.
pub(super) fn loaded(runner: &Runner) -> Value {
    let left = runner.expires.saturating_duration_since(Instant::now());
    json!({
        "name": runner.model.name,
        "model": runner.model.name,
        "size": runner.size,
        "digest": runner.model.digest(),
        "details": details(),
        "expires_at": rfc3339(SystemTime::now() + left.min(FOR_EVER)),
        "size_vram": runner.size_vram,
        "context_length": runner.context,
    })
}

pub(crate) fn details() -> Value {
    json!({
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "3.2B", "quantization_level": "Q4_K_M"
    })
}

/// Whole seconds of UTC; Ollama's own has nanoseconds and an offset.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date (Howard Hinnant, chrono-compatible low-level date algorithms).
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_civil() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_132_799);
        assert_eq!(rfc3339(at), "2026-11-19T23:59:59Z");
    }
}
