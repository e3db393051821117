//! An HTTP/1.1 client that shows what came over the wire.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;

/// Anything bytes go over.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection.
pub struct Connection {
    wire: Box<dyn Wire>,
    unread: Vec<u8>,
    framing: Framing,
}

#[derive(Clone, Copy, PartialEq)]
enum Framing {
    Done,
    Length(usize),
    Chunked,
    UntilClose,
}

/// The connection ended before the body did.
#[derive(Debug, PartialEq, Eq)]
pub struct Truncated;

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }
}

impl Connection {
    /// Connects.
    pub async fn open(to: SocketAddr) -> Self {
        let wire = TcpStream::connect(to).await.expect("connects");
        wire.set_nodelay(true).expect("set");
        Self::over(wire)
    }

    /// Uses a stream that is connected already.
    pub fn over(wire: impl Wire + 'static) -> Self {
        Self { wire: Box::new(wire), unread: Vec::new(), framing: Framing::Done }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write_all(bytes.as_ref()).await.expect("sent");
    }

    /// Sends bytes; false when the other side has closed.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends a `POST` with a body of known length.
    pub async fn post(&mut self, path: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send([head.as_bytes(), body].concat()).await;
    }

    async fn more(&mut self) -> usize {
        let mut buffer = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.wire.read(&mut buffer)).await.expect("an answer in time");
        let read = read.unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..read]);
        read
    }

    /// Whether the other side has closed, without waiting for anything else.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.more().await == 0
    }

    /// Reads a head; the body is left to be read. Informational answers are skipped.
    pub async fn head(&mut self) -> Response {
        self.try_head().await.expect("a head before the connection closed")
    }

    /// Reads a head, if one comes before the connection is closed.
    pub async fn try_head(&mut self) -> Option<Response> {
        loop {
            let Some(end) = find(&self.unread, b"\r\n\r\n") else {
                if self.more().await == 0 {
                    return None;
                }
                continue;
            };
            let text = String::from_utf8_lossy(&self.unread[..end]).into_owned();
            self.unread.drain(..end + 4);
            let mut lines = text.split("\r\n");
            let status_line = lines.next().expect("a status line");
            let status =
                status_line.split(' ').nth(1).expect("a status").parse().expect("a number");
            let headers: Vec<(String, String)> = lines
                .map(|line| line.split_once(':').expect("a header"))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            if status == 100 {
                continue;
            }
            let response = Response { status, headers, body: Vec::new() };
            self.framing =
                match (response.header("content-length"), response.header("transfer-encoding")) {
                    _ if status == 204 => Framing::Done,
                    (_, Some("chunked")) => Framing::Chunked,
                    (Some(length), _) => Framing::Length(length.parse().expect("a length")),
                    (None, _) => Framing::UntilClose,
                };
            return Some(response);
        }
    }

    /// The next part of the body as it comes; `None` at its proper end.
    pub async fn part(&mut self) -> Result<Option<Vec<u8>>, Truncated> {
        loop {
            match self.framing {
                Framing::Done | Framing::Length(0) => {
                    self.framing = Framing::Done;
                    return Ok(None);
                }
                Framing::Length(left) if !self.unread.is_empty() => {
                    let taken = left.min(self.unread.len());
                    self.framing = Framing::Length(left - taken);
                    return Ok(Some(self.unread.drain(..taken).collect()));
                }
                Framing::UntilClose if !self.unread.is_empty() => {
                    return Ok(Some(std::mem::take(&mut self.unread)));
                }
                Framing::Chunked => {
                    if let Some(chunk) = self.chunk() {
                        if chunk.is_empty() {
                            self.framing = Framing::Done;
                            return Ok(None);
                        }
                        return Ok(Some(chunk));
                    }
                }
                Framing::Length(_) | Framing::UntilClose => {}
            }
            if self.more().await == 0 {
                return if self.framing == Framing::UntilClose { Ok(None) } else { Err(Truncated) };
            }
        }
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = find(&self.unread, b"\r\n")?;
        let size = std::str::from_utf8(&self.unread[..end]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        let whole = end + 2 + size + 2;
        if self.unread.len() < whole {
            return None;
        }
        let chunk = self.unread[end + 2..end + 2 + size].to_vec();
        self.unread.drain(..whole);
        Some(chunk)
    }

    /// Reads the body to its end.
    pub async fn body(&mut self) -> Result<Vec<u8>, Truncated> {
        let mut body = Vec::new();
        while let Some(part) = self.part().await? {
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    /// Reads a whole answer.
    pub async fn response(&mut self) -> Response {
        let mut response = self.head().await;
        response.body = self.body().await.expect("a whole body");
        response
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A whole exchange on a connection of its own.
pub async fn request(to: SocketAddr, head: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(to).await;
    connection.send([head.as_bytes(), b"\r\n\r\n", body].concat()).await;
    connection.response().await
}

/// A `GET` on a connection of its own.
pub async fn get(to: SocketAddr, path: &str) -> Response {
    request(to, &format!("GET {path} HTTP/1.1\r\nHost: gateway"), b"").await
}

/// A `POST` of JSON on a connection of its own.
pub async fn post(to: SocketAddr, path: &str, body: impl AsRef<[u8]>) -> Response {
    let mut connection = Connection::open(to).await;
    connection.post(path, body).await;
    connection.response().await
}
