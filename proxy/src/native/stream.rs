//! Native lines to the server-sent events that a caller expects.

use super::answer::Line;
use super::chunks::{self, Chunks};
use super::{About, Form, anthropic, completions, responses};

/// The longest line taken, in bytes; a tool call's arguments come in one.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// The translator of one stream.
#[derive(Debug)]
pub struct Stream {
    writer: Writer,
    /// The beginning of a line whose end has not come.
    pending: Vec<u8>,
    /// The last line or an error has come: nothing after it counts.
    over: bool,
}

/// Writes what lines say in the caller's form.
#[derive(Debug)]
enum Writer {
    Chat(Chunks),
    Message(anthropic::stream::Events),
    Response(responses::stream::Events),
    Completion(About),
}

impl Stream {
    /// A translator at the start of a stream.
    #[must_use]
    pub fn new(about: About) -> Self {
        let writer = match about.form {
            Form::Chat { .. } => Writer::Chat(Chunks::new(about)),
            Form::Message { .. } => Writer::Message(anthropic::stream::Events::new(about)),
            Form::Completion { .. } => Writer::Completion(about),
            Form::Response { .. } => Writer::Response(responses::stream::Events::new(about)),
        };
        Self { writer, pending: Vec::new(), over: false }
    }

    /// Appends to `out` the events of the lines that `part` completes.
    ///
    /// An error the upstream reports becomes an event, and nothing follows it.
    ///
    /// # Errors
    /// When a line is not one of Ollama's, or too long: the stream is of no more use.
    pub fn push(&mut self, mut part: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        while let Some(end) = part.iter().position(|&b| b == b'\n') {
            let (line, rest) = part.split_at(end);
            part = &rest[1..];
            self.hold(line)?;
            let line = std::mem::take(&mut self.pending);
            self.line(&line, out)?;
        }
        self.hold(part)
    }

    /// Ends the stream. Without a last line there is no finish and no `[DONE]`: whoever reads `out`
    /// must see that it was cut off.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.pending);
        let start = out.len();
        // A line that ended with the stream may be whole; if it is not, it was cut off.
        if self.line(&line, out).is_err() {
            out.truncate(start);
        }
        self.over = true;
    }

    fn hold(&mut self, part: &[u8]) -> Result<(), String> {
        if self.over {
            return Ok(());
        }
        if self.pending.len() + part.len() > MAX_LINE {
            self.over = true;
            self.pending = Vec::new();
            return Err("a line of the upstream's stream is too long".into());
        }
        self.pending.extend_from_slice(part);
        Ok(())
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if self.over || line.trim_ascii().is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        let line = Line::parse(&text).inspect_err(|_| self.over = true)?;
        if let Some(error) = line.error {
            self.over = true;
            match &mut self.writer {
                Writer::Chat(_) | Writer::Completion(_) => chunks::failure(error, out),
                Writer::Message(_) => anthropic::stream::Events::failure(error, out),
                Writer::Response(events) => events.failure(error, out),
            }
            return Ok(());
        }
        self.over = line.done;
        match &mut self.writer {
            Writer::Chat(chunks) => {
                chunks.content(&line, out)?;
                if line.done {
                    chunks.finish(&line, out);
                }
            }
            Writer::Completion(about) => completions::chunks(&line, about, out)?,
            Writer::Message(events) => {
                events.content(&line, out)?;
                if line.done {
                    events.finish(&line, out);
                }
            }
            Writer::Response(events) => {
                events.content(&line, out)?;
                if line.done {
                    events.finish(&line, out);
                }
            }
        }
        Ok(())
    }
}
