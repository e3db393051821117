//! The header fields of a message: their text in one piece, and where each stands in it.

use std::ops::Range;

use bytes::Bytes;

/// The fields of a head, in the order in which they came. Names are in lower case.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    text: Bytes,
    lines: Vec<Line>,
}

/// Where a field stands in its text.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: Range<u32>,
    pub(super) value: Range<u32>,
}

fn usizes(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl Fields {
    /// Fields that stand in `text`, whose names are in lower case there.
    pub(super) fn new(text: Bytes, lines: Vec<Line>) -> Self {
        Self { text, lines }
    }

    /// The name of `line`; names are checked to be tokens, which are ASCII, when they are read.
    fn name(&self, line: &Line) -> &str {
        std::str::from_utf8(&self.text[usizes(&line.name)]).unwrap_or_default()
    }

    fn is(&self, line: &Line, name: &str) -> bool {
        // The length decides almost always.
        line.name.len() == name.len() && self.text[usizes(&line.name)] == *name.as_bytes()
    }

    /// The first value of `name`, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let line = self.lines.iter().find(|line| self.is(line, name))?;
        Some(&self.text[usizes(&line.value)])
    }

    /// The first value of `name` as text; what is no UTF-8 is no text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Every value of `name`, which is in lower case.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let found = self.lines.iter().filter(move |line| self.is(line, name));
        found.map(|line| &self.text[usizes(&line.value)])
    }

    /// Whether there is a `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|line| (self.name(line), &self.text[usizes(&line.value)]))
    }

    /// Takes every `name` out.
    pub fn remove(&mut self, name: &str) {
        let text = std::mem::take(&mut self.text);
        self.lines.retain(|line| text[usizes(&line.name)] != *name.as_bytes());
        self.text = text;
    }

    /// Has `name` once, with `value`.
    pub fn set(&mut self, name: &'static str, value: &'static str) {
        self.remove(name);
        let all: Vec<(&str, &[u8])> = self.iter().chain([(name, value.as_bytes())]).collect();
        *self = all.into_iter().collect();
    }

    /// Whether a list field, such as `Connection`, has `token` in any of its lines.
    #[must_use]
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|one| one.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The members of a list field (RFC 9110, 5.6.1), without white space around them.
    pub fn tokens<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let values = self.get_all(name);
        values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Fields {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a [u8])>>(fields: T) -> Self {
        let mut text = Vec::new();
        let mut lines = Vec::new();
        let mut put = |part: &[u8]| {
            let start = text.len() as u32;
            text.extend_from_slice(part);
            start..text.len() as u32
        };
        for (name, value) in fields {
            lines.push(Line { name: put(name.as_bytes()), value: put(value) });
        }
        Self { text: text.into(), lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let given = [("accept", "a"), ("connection", "close, X-Hop"), ("accept", "b")];
        given.into_iter().map(|(name, value)| (name, value.as_bytes())).collect()
    }

    #[test]
    fn values_are_found_by_name_in_their_order() {
        let fields = fields();
        assert_eq!(fields.get("accept"), Some(&b"a"[..]));
        assert_eq!(fields.get_all("accept").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(fields.get("acc"), None);
        assert_eq!(
            fields.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["accept", "connection", "accept"]
        );
    }

    #[test]
    fn members_of_lists_are_found_whatever_their_case() {
        let fields = fields();
        assert!(fields.lists("connection", "x-hop") && fields.lists("connection", "close"));
        assert!(!fields.lists("connection", "clos"));
    }

    #[test]
    fn what_is_set_stands_there_once() {
        let mut fields = fields();
        fields.set("accept", "c");
        assert_eq!(fields.get_all("accept").collect::<Vec<_>>(), [b"c"]);
        assert!(fields.has("connection"));
        fields.remove("accept");
        assert!(!fields.has("accept"));
    }
}
