//! A guest's standard output and error, as lines of the plugin's log: a panic says there why.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::bindings::sluicegate::plugin::log::Level;
use crate::state::Shared;

/// Bytes taken at one time.
const CHUNK: usize = 4096;
/// A line that does not end is written at this length.
const MAX_PARTIAL: usize = 1024;

/// Standard output or error of one instance.
pub(crate) struct Output(pub(crate) Arc<Shared>);

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines { shared: Arc::clone(&self.0), partial: Vec::new() })
    }
}

struct Lines {
    shared: Arc<Shared>,
    partial: Vec<u8>,
}

impl Lines {
    fn write_out(&mut self) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.shared.log.write(Level::Warn, &String::from_utf8_lossy(&line));
        }
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= MAX_PARTIAL {
                self.write_out();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.write_out();
    }
}
