//! Milliseconds as text, without the cost of formatting a float: it is done for every request.

use std::time::Duration;

/// Appends `spent` in milliseconds with three decimals.
pub fn push(out: &mut String, spent: Duration) {
    let micros = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
    push_number(out, micros / 1000);
    out.push('.');
    let rest = micros % 1000;
    for place in [100, 10, 1] {
        out.push(char::from(b'0' + u8::try_from(rest / place % 10).unwrap_or(0)));
    }
}

/// Appends a whole number.
pub fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_decimals_always() {
        for (micros, text) in [(0, "0.000"), (7, "0.007"), (12_034, "12.034")] {
            let mut out = String::new();
            push(&mut out, Duration::from_micros(micros));
            assert_eq!(out, text);
        }
    }
}
