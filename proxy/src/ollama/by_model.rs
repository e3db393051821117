//! What is known of models, by their names as an Ollama reads them.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::plain;

/// A value for each model, found under its name with or without `:latest`. Finding one allocates nothing.
#[derive(Debug)]
pub struct ByModel<T> {
    /// By the name without `:latest`; each with the name it was given.
    all: HashMap<String, (String, T), RandomState>,
}

impl<T> Default for ByModel<T> {
    fn default() -> Self {
        Self { all: HashMap::default() }
    }
}

impl<T> FromIterator<(String, T)> for ByModel<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(all: I) -> Self {
        let all = all.into_iter().map(|(name, value)| (plain(&name).to_owned(), (name, value)));
        Self { all: all.collect() }
    }
}

impl<T> ByModel<T> {
    /// What is known of `model`.
    #[must_use]
    pub fn get(&self, model: &str) -> Option<&T> {
        self.all.get(plain(model)).map(|(_, value)| value)
    }

    /// Every model, by the name it was given, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.all.values().map(|(name, value)| (name.as_str(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tag_is_latest_on_either_side() {
        let all = ["a:latest", "b", "c:7b"].map(|name| (name.to_owned(), name));
        let known = ByModel::from_iter(all);
        for (asked, found) in [
            ("a", Some("a:latest")),
            ("a:latest", Some("a:latest")),
            ("b", Some("b")),
            ("b:latest", Some("b")),
            ("c", None),
            ("c:latest", None),
            ("c:7b", Some("c:7b")),
        ] {
            assert_eq!(known.get(asked).copied(), found, "{asked}");
        }
        let mut names: Vec<_> = known.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a:latest", "b", "c:7b"]);
    }
}
