//! Name patterns in which `*` stands for any text, as in the gateway's own configuration.

/// Whether `name` matches `pattern`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, last)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = last;
    while let Some((part, after)) = last.split_once('*') {
        // An early match leaves the most for the parts that follow.
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name) in [
            ("*", ""),
            ("a", "a"),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*c", "abbc"),
            ("a*b*c", "a-b-b-c"),
            ("**", "ü"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("a", "ab"), ("a*", "b"), ("a*a", "a"), ("*b*c", "bca"), ("ü*", "u")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
