//! `keep_alive`, in the forms that Ollama takes.

use serde_json::Value;

/// Seconds: of a number as it is, of a string as a Go duration. Below zero means for ever.
pub(super) fn seconds(value: &Value) -> Result<Option<f64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Number(seconds) => Ok(seconds.as_f64()),
        Value::String(text) => duration(text).map(Some),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("Unsupported type: '{value}'"))
        }
    }
}

/// Go's `time.ParseDuration`, with its messages: "1h30m", "-1s"; a number without a unit is wrong.
fn duration(text: &str) -> Result<f64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0.0);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let numeric = |c: char| c.is_ascii_digit() || c == '.';
    let (mut rest, mut seconds) = (unsigned, 0.0);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c| !numeric(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(numeric).unwrap_or(after.len()));
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            _ if number.is_empty() => return Err(invalid()),
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        seconds += number.parse::<f64>().map_err(|_| invalid())? * factor;
        rest = after;
    }
    Ok(if text.starts_with('-') { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_seconds_and_a_string_needs_a_unit() {
        for (value, expected) in [
            (json!(null), Ok(None)),
            (json!(0), Ok(Some(0.0))),
            (json!(-1), Ok(Some(-1.0))),
            (json!(300), Ok(Some(300.0))),
            (json!("0"), Ok(Some(0.0))),
            (json!("5m"), Ok(Some(300.0))),
            (json!("1h30m"), Ok(Some(5400.0))),
            (json!("1.5s"), Ok(Some(1.5))),
            (json!("-1m"), Ok(Some(-60.0))),
            (json!("300"), Err("time: missing unit in duration \"300\"".to_owned())),
            (json!("soon"), Err("time: invalid duration \"soon\"".to_owned())),
            (json!("3d"), Err("time: unknown unit \"d\" in duration \"3d\"".to_owned())),
        ] {
            assert_eq!(seconds(&value), expected, "{value}");
        }
    }
}
