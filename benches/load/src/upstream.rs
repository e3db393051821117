//! The fixed upstream: 597 bytes of JSON, or events, as the request's body asks for.
//!
//! `"stream":true` gets `events` events (64 unless `"events":N`), each written by itself,
//! `"pace":MS` milliseconds apart.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Connections that wait to be accepted: with fewer, a burst would be measured by its retransmissions.
const BACKLOG: u32 = 4096;
/// Events of a stream unless the request says otherwise.
const EVENTS: u64 = 64;

pub(crate) async fn run(listen: SocketAddr) -> io::Result<()> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG)?;
    eprintln!("upstream http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that hangs up ends its own task only.
        tokio::spawn(async move { drop(serve(stream).await) });
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let whole = whole_answer();
    let mut unread = Vec::with_capacity(64 * 1024);
    loop {
        let Some(head) = fill_to(&mut stream, &mut unread, b"\r\n\r\n").await? else {
            return Ok(());
        };
        let length = content_length(&unread[..head]);
        let small = length <= 64 * 1024;
        while small && unread.len() < head + length {
            if stream.read_buf(&mut unread).await? == 0 {
                return Ok(());
            }
        }
        if !small {
            skip(&mut stream, (head + length).saturating_sub(unread.len())).await?;
            unread.truncate(head);
        }
        let request = &unread[..unread.len().min(head + length)];
        if request.starts_with(b"GET /v1/models") {
            stream.write_all(&models()).await?;
        } else if request.starts_with(b"GET /api/tags") {
            stream.write_all(&tags()).await?;
        } else if request.starts_with(b"GET") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n{\"version\":\"0.12.3\"}").await?;
        } else if memmem::find(request, b"\"stream\":true").is_some() {
            let (events, pace) = (number(request, b"\"events\":"), number(request, b"\"pace\":"));
            send_events(&mut stream, events.unwrap_or(EVENTS), pace).await?;
        } else {
            stream.write_all(&whole).await?;
        }
        let used = unread.len().min(head + length);
        unread.drain(..used);
    }
}

/// Reads until `end` has come; the offset after it, or `None` at the end of the connection.
async fn fill_to(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    end: &[u8],
) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = memmem::find(unread, end) {
            return Ok(Some(at + end.len()));
        }
        if stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
}

async fn skip(stream: &mut TcpStream, mut left: usize) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    while left > 0 {
        let most = left.min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= read;
    }
    Ok(())
}

fn content_length(head: &[u8]) -> usize {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let line = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn number(body: &[u8], key: &[u8]) -> Option<u64> {
    let rest = &body[memmem::find(body, key)? + key.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

fn whole_answer() -> Vec<u8> {
    let text = "x".repeat(300);
    let body = format!(
        "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\
         \"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":99,\"total_tokens\":108}}}}"
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn models() -> Vec<u8> {
    json(
        r#"{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"library"}]}"#,
    )
}

fn tags() -> Vec<u8> {
    json(r#"{"models":[{"name":"m:latest","model":"m:latest","digest":"0123456789abcdef"}]}"#)
}

fn json(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

async fn send_events(stream: &mut TcpStream, events: u64, pace: Option<u64>) -> io::Result<()> {
    let token = |delta: &str, finish: &str| {
        chunk(&format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"system_fingerprint\":\"fp_ollama\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        ))
    };
    let event = token("{\"content\":\" token\"}", "null");
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    let start = Instant::now();
    for number in 0..events {
        if let Some(pace) = pace {
            sleep_until(start + Duration::from_millis(pace * number)).await;
        }
        stream.write_all(&event).await?;
    }
    let mut last = token("{}", "\"stop\"");
    last.extend(chunk("data: [DONE]\n\n"));
    last.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&last).await
}
