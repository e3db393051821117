//! Name patterns in which `*` stands for any text.

/// Whether `name` matches `pattern`. Linear in the two lengths for one star, and never worse than
/// their product.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(mut part) = parts.next() else { return rest.is_empty() };
    for next in parts {
        // An early match leaves the most for the parts that follow.
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
        part = next;
    }
    rest.ends_with(part)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "x"),
            ("a", "a"),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*c", "abbc"),
            ("a*b*c", "a-b-b-c"),
            ("http://localhost:*", "http://localhost:5173"),
            ("**", "x"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "x"), ("a", "ab"), ("a*", "b"), ("a*a", "a"), ("*b*c", "bca")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
