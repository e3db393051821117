//! Numbers in one spelling, exactly: nothing is rounded, however many digits there are.

/// Digits beyond this are not worth a normal form.
const MAX_DIGITS: usize = 400;

/// `given`, a JSON number, as its significant digits and a power of ten: `100`, `1e2` and `1.00e+2`
/// are the same. `None` when it is too long or its exponent beyond all bounds.
#[must_use]
pub fn normal(given: &str) -> Option<String> {
    if given.len() > MAX_DIGITS {
        return None;
    }
    let (negative, rest) = match given.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, given),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, part].concat();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".into());
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let shift = i64::try_from(trailing).ok()? - i64::try_from(part.len()).ok()?;
    let power = exponent.checked_add(shift)?;
    let sign = if negative { "-" } else { "" };
    Some(if power == 0 {
        format!("{sign}{significant}")
    } else {
        format!("{sign}{significant}e{power}")
    })
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn one_number_has_one_spelling() {
        for (spellings, expected) in [
            (&["0", "-0", "0.0", "0e9", "-0.00e-3"][..], "0"),
            (&["1", "1.0", "10e-1", "0.1E1", "100e-2", "1e0", "1e+0"], "1"),
            (&["100", "1e2", "1.00e+2", "100.0"], "1e2"),
            (&["-0.25", "-25e-2", "-2.50e-1"], "-25e-2"),
            (&["9007199254740993", "9007199254740993.0"], "9007199254740993"),
            (&["1e400", "10e399"], "1e400"),
        ] {
            for spelling in spellings {
                assert_eq!(normal(spelling).as_deref(), Some(expected), "{spelling}");
            }
        }
        assert_ne!(normal("9007199254740993"), normal("9007199254740992"));
        assert_eq!(normal("1e99999999999999999999"), None);
        assert_eq!(normal(&"1".repeat(401)), None);
    }
}
