//! Code fences of Markdown, followed through a text that comes in pieces.
//!
//! As in CommonMark a fence is a line of three marks or more, closed by a line of as many or more of
//! the same mark and nothing else. Any indentation is allowed: fences stand in lists.

/// A run of marks at the start of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    mark: u8,
    len: u8,
}

impl Run {
    fn opens(self) -> bool {
        self.len >= 3
    }

    fn closes(self, open: Self) -> bool {
        self.mark == open.mark && self.len >= open.len
    }
}

/// Where in a line the text stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// At its start.
    #[default]
    Start,
    /// After white space.
    Indent,
    /// In a run of marks.
    Marks(Run),
    /// After a run of marks, and it may still be a fence.
    After(Run),
    /// In any other text.
    Text,
}

/// The fence a text is in, if any.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fence {
    open: Option<Run>,
    line: Line,
}

impl Fence {
    /// Reads on.
    pub(crate) fn read(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            if self.line == Line::Text {
                // Most of a text has no marks.
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return };
                self.line = Line::Start;
                rest = &rest[end + 1..];
            } else {
                self.step(byte);
                rest = after;
            }
        }
    }

    fn step(&mut self, byte: u8) {
        if byte == b'\n' {
            self.open = self.after_line();
            self.line = Line::Start;
            return;
        }
        let space = matches!(byte, b' ' | b'\t' | b'\r');
        self.line = match self.line {
            Line::Start | Line::Indent if space => Line::Indent,
            Line::Start | Line::Indent if matches!(byte, b'`' | b'~') => {
                Line::Marks(Run { mark: byte, len: 1 })
            }
            Line::Marks(run) if byte == run.mark => {
                Line::Marks(Run { len: run.len.saturating_add(1), ..run })
            }
            Line::Marks(run) | Line::After(run) if self.may_follow(run, byte, space) => {
                Line::After(run)
            }
            _ => Line::Text,
        };
    }

    /// Whether a line of `run` with `byte` behind it can be a fence: one that closes has nothing
    /// else, and the language of one of backticks has no backtick, or it is code within a line.
    fn may_follow(&self, run: Run, byte: u8, space: bool) -> bool {
        match self.open {
            Some(open) => space && run.closes(open),
            None => run.opens() && !(run.mark == b'`' && byte == b'`'),
        }
    }

    /// The fence that is open once the line is over.
    fn after_line(&self) -> Option<Run> {
        match (self.open, self.line) {
            (None, Line::Marks(run) | Line::After(run)) if run.opens() => Some(run),
            (Some(open), Line::Marks(run) | Line::After(run)) if run.closes(open) => None,
            (open, _) => open,
        }
    }

    /// What closes the fence, should the text end here.
    pub(crate) fn closing(&self) -> String {
        let Some(run) = self.after_line() else { return String::new() };
        let marks = |count: u8| char::from(run.mark).to_string().repeat(usize::from(count));
        match (self.open, self.line) {
            (Some(_), Line::Start) => marks(run.len),
            // Cut within the closing fence.
            (Some(_), Line::Marks(part)) if part.mark == run.mark => marks(run.len - part.len),
            _ => "\n".to_owned() + &marks(run.len),
        }
    }

    /// For [`Fence::decode`].
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        let open = self.open.unwrap_or(Run { mark: 0, len: 0 });
        let (line, run) = match self.line {
            Line::Start => (0, None),
            Line::Indent => (1, None),
            Line::Text => (2, None),
            Line::Marks(run) => (3, Some(run)),
            Line::After(run) => (4, Some(run)),
        };
        let run = run.unwrap_or(Run { mark: 0, len: 0 });
        bytes.extend([open.mark, open.len, line, run.mark, run.len]);
    }

    /// What was encoded; `None` where it cannot have been.
    pub(crate) fn decode(bytes: &mut impl Iterator<Item = u8>) -> Option<Self> {
        let open = decode_run(bytes)?;
        if open.is_some_and(|open| !open.opens()) {
            return None;
        }
        let line = bytes.next()?;
        let run = decode_run(bytes)?;
        let line = match line {
            0 => Line::Start,
            1 => Line::Indent,
            2 => Line::Text,
            3 => Line::Marks(run?),
            4 => Line::After(run?),
            _ => return None,
        };
        Some(Self { open, line })
    }
}

fn decode_run(bytes: &mut impl Iterator<Item = u8>) -> Option<Option<Run>> {
    match (bytes.next()?, bytes.next()?) {
        (0, 0) => Some(None),
        (mark @ (b'`' | b'~'), len @ 1..) => Some(Some(Run { mark, len })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(text: &str) -> String {
        let mut fence = Fence::default();
        fence.read(text);
        fence.closing()
    }

    #[test]
    fn an_open_fence_is_closed_on_a_line_of_its_own() {
        for (text, expected) in [
            ("```rust\nfn main", "\n```"),
            ("```rust\nfn main\n", "```"),
            ("Text\n\n   ~~~~\ncode", "\n~~~~"),
            ("1. Do\n\n     ```sh\n     ls", "\n```"),
            ("```", "\n```"),
            ("```py", "\n```"),
            ("```\ncode\n  ", "\n```"),
            ("````md\n```\n", "````"),
            ("```\n~~~\n", "```"),
            ("```md\n```python\n", "```"),
            ("```\r\ncode\r\n", "```"),
        ] {
            assert_eq!(closing(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_open_is_left_alone() {
        for text in [
            "",
            "plain",
            "``",
            "`code`",
            "```code``` in a line",
            "use ``` here",
            "```\ncode\n```",
            "```\ncode\n```\n",
            "```\ncode\n```  \nmore",
            "~~~\ncode\n~~~~~",
            "~~ strike ~~",
            "```a`b\n",
        ] {
            assert_eq!(closing(text), "", "{text:?}");
        }
    }

    #[test]
    fn a_closing_fence_that_was_cut_is_completed() {
        assert_eq!(closing("```\ncode\n`"), "``");
        assert_eq!(closing("````\ncode\n```"), "`");
        assert_eq!(closing("```\ncode\n~~"), "\n```");
    }

    #[test]
    fn very_long_runs_are_no_trouble() {
        let marks = "`".repeat(1_000);
        assert_eq!(closing(&format!("{marks}\ncode")), format!("\n{}", "`".repeat(255)));
        assert_eq!(closing(&format!("{marks}\ncode\n{marks}")), "");
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        let text = "Für dich:\n```rust\nfn f() {}\n```\n ~~~~\n`x` ü";
        let mut fence = Fence::default();
        let mut so_far = String::new();
        for c in text.chars() {
            so_far.push(c);
            fence.read(&c.to_string());
            let mut bytes = Vec::new();
            fence.encode(&mut bytes);
            assert_eq!(Fence::decode(&mut bytes.into_iter()).as_ref(), Some(&fence));
            assert_eq!(fence.closing(), closing(&so_far), "{so_far:?}");
        }
    }
}
