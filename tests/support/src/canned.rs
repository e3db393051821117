//! An upstream that answers with bytes a test wrote, and notes the heads that came.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A running upstream; each connection serves one request.
#[derive(Debug)]
pub struct Canned {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    /// Starts one that answers every `POST` with `answer`, and has nothing to `GET`.
    pub async fn start(answer: impl Into<Vec<u8>>) -> Self {
        Self::start_slow(Duration::ZERO, answer).await
    }

    /// The same, that takes `wait` before it answers.
    pub async fn start_slow(wait: Duration, answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (answer, noted) = (Arc::new(answer.into()), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((wire, _)) = listener.accept().await {
                let (answer, noted) = (Arc::clone(&answer), Arc::clone(&noted));
                tokio::spawn(async move { serve(wire, wait, &answer, &noted).await });
            }
        });
        Self { url, heads }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The heads of the `POST`s so far, in lower case.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no test panicked here").clone()
    }
}

async fn serve(mut wire: TcpStream, wait: Duration, answer: &[u8], heads: &Mutex<Vec<String>>) {
    let Some(head) = request(&mut wire).await else { return };
    let answer = if head.starts_with("post ") {
        heads.lock().expect("no test panicked here").push(head);
        answer
    } else {
        &b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..]
    };
    tokio::time::sleep(wait).await;
    // Whether the gateway takes it is for the test to see.
    let _ = wire.write_all(answer).await;
}

/// Reads a request to the end of its body; `None` where the other side leaves before.
async fn request(wire: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        if wire.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        if body.len() >= length.map_or(0, |length| length.trim().parse().expect("a length")) {
            return Some(head);
        }
    }
}
