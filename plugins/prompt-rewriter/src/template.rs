//! The variables of a system prompt: `{caller}`, `{model}`, `{route}` and `{date}`. Other braces
//! stay as they are: prompts show JSON.

use sluicegate_plugin::{Request, host};

/// `text` with its variables filled in.
pub(crate) fn fill(text: &str, request: &Request) -> String {
    let mut filled = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some((name, after)) = variable(rest) else {
            filled.push('{');
            rest = &rest[1..];
            continue;
        };
        match name {
            Variable::Caller => filled.push_str(&request.caller),
            Variable::Model => filled.push_str(&request.model),
            Variable::Route => filled.push_str(crate::system::route(request)),
            Variable::Date => filled.push_str(&date(host::unix_ms())),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[derive(Clone, Copy)]
enum Variable {
    Caller,
    Model,
    Route,
    Date,
}

/// The variable that `text` begins with, and what follows it.
fn variable(text: &str) -> Option<(Variable, &str)> {
    let names = [
        ("{caller}", Variable::Caller),
        ("{model}", Variable::Model),
        ("{route}", Variable::Route),
        ("{date}", Variable::Date),
    ];
    names.into_iter().find_map(|(name, variable)| Some((variable, text.strip_prefix(name)?)))
}

/// The UTC day as `YYYY-MM-DD`, in the proleptic Gregorian calendar.
fn date(unix_ms: u64) -> String {
    // Years begin in March here, so that a leap day is the last of its year; eras are of 400 years.
    let days = unix_ms / 86_400_000 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + carry)
}

#[cfg(test)]
mod tests {
    use sluicegate_plugin::testing::{request, set_unix_ms};

    use super::*;

    #[test]
    fn days_are_right_around_leap_days_and_years() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (86_400, "1970-01-02"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds * 1000), expected);
        }
        assert!(date(u64::MAX).ends_with(|c: char| c.is_ascii_digit()));
    }

    #[test]
    fn variables_are_filled_in_and_other_braces_stay() {
        set_unix_ms(1_735_689_600_000);
        let mut asked = request(Vec::new());
        asked.caller = "alice".into();
        asked.model = "m:1".into();
        asked.route = Some("r".into());
        let text = "{date}: {caller} at {route}/{model} {{caller}} {\"a\": {b}} {Date} {date";
        let filled = "2025-01-01: alice at r/m:1 {alice} {\"a\": {b}} {Date} {date";
        assert_eq!(fill(text, &asked), filled);
        asked.route = None;
        assert_eq!(fill("{route}", &asked), "m:1");
        asked.caller = "{model}".into();
        assert_eq!(fill("{caller}", &asked), "{model}", "a value is not filled in again");
    }
}
