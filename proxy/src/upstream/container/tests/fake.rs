//! An engine that plays one container and one image, on a Unix socket of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

pub const IMAGE: &str = "ollama/ollama:latest";
pub const NAME: &str = "sluicegate-fallback";

#[derive(Default)]
pub struct World {
    /// Calls that change something or cost something, as `METHOD /path`.
    pub calls: Vec<String>,
    pub container: Option<One>,
    pub image_missing: bool,
    /// Calls whose line contains this are answered this late.
    pub slow: Option<(&'static str, Duration)>,
    /// A container that starts ends at once, with this status and log.
    pub exits: Option<(i64, String)>,
    /// Somebody makes this one just before the next create.
    pub rival: Option<One>,
}

#[derive(Clone, Default)]
pub struct One {
    pub id: String,
    pub image: String,
    pub labels: Value,
    pub running: bool,
    pub exit_code: i64,
    pub log: String,
    pub body: Value,
}

impl One {
    pub fn foreign(image: &str, running: bool) -> Self {
        Self { id: "foreign".into(), image: image.into(), running, ..Self::default() }
    }
}

pub struct Fake {
    dir: tempfile::TempDir,
    world: Arc<Mutex<World>>,
}

impl Fake {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("engine.sock")).expect("listens");
        let world = Arc::new(Mutex::new(World::default()));
        let served = Arc::clone(&world);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Self { dir, world }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    pub fn shared(&self) -> Arc<Mutex<World>> {
        Arc::clone(&self.world)
    }

    /// How many calls contained this.
    pub fn count(&self, what: &str) -> usize {
        self.world().calls.iter().filter(|call| call.contains(what)).count()
    }
}

async fn serve(stream: UnixStream, world: Arc<Mutex<World>>) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).await.expect("a request");
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.expect("a header");
        let header = header.trim().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
        if header.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    // The version that was agreed on comes first.
    let path = path.strip_prefix("/v1.41").or(path.strip_prefix("/v1.53")).unwrap_or(path);
    let call = format!("{method} {path}");
    let slow = world.lock().slow;
    if let Some((what, delay)) = slow
        && call.contains(what)
    {
        tokio::time::sleep(delay).await;
    }
    let (status, answer) = world.lock().answer(&call, &body);
    let length = answer.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n"
    );
    // A client that gave up waiting is gone.
    let _ = stream.write_all(&[head.as_bytes(), &answer].concat()).await;
}

impl World {
    fn answer(&mut self, call: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.calls.push(call.to_owned());
        let (status, value) = match call.split(['?', ' ']).collect::<Vec<_>>()[..] {
            ["GET", "/version", ..] => (200, json!({ "ApiVersion": "1.41", "Version": "20.10" })),
            ["POST", "/containers/create", ..] => self.create(body),
            [method, path, ..] => match (&mut self.container, path.rsplit('/').next()) {
                (None, _) => (404, json!({ "message": "No such container" })),
                (Some(one), Some("json")) => (200, one.inspected()),
                (Some(one), Some("logs")) => return (200, one.frames()),
                (Some(one), Some("start")) => {
                    one.running = self.exits.is_none();
                    if let Some((code, log)) = &self.exits {
                        (one.exit_code, one.log) = (*code, log.clone());
                    }
                    (204, Value::Null)
                }
                (Some(one), Some("stop")) => {
                    one.running = false;
                    (204, Value::Null)
                }
                (Some(_), _) if method == "DELETE" => {
                    self.container = None;
                    (204, Value::Null)
                }
                (Some(_), _) => (400, json!({ "message": "not played" })),
            },
            _ => (400, json!({ "message": "not played" })),
        };
        let answer = if value.is_null() { String::new() } else { value.to_string() };
        (status, answer.into_bytes())
    }

    fn create(&mut self, body: &[u8]) -> (u16, Value) {
        if let Some(rival) = self.rival.take() {
            self.container = Some(rival);
        }
        if self.image_missing {
            return (404, json!({ "message": "No such image: ollama/ollama:latest" }));
        }
        if self.container.is_some() {
            return (409, json!({ "message": "Conflict. The container name is in use" }));
        }
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let id = format!("made{}", self.calls.len());
        let (image, labels) = (text(&body["Image"]), body["Labels"].clone());
        self.container = Some(One { id: id.clone(), image, labels, body, ..One::default() });
        (201, json!({ "Id": id, "Warnings": [] }))
    }
}

impl One {
    fn inspected(&self) -> Value {
        json!({
            "Id": self.id,
            "Config": { "Image": self.image, "Labels": self.labels },
            "State": { "Running": self.running, "ExitCode": self.exit_code },
        })
    }

    /// The log as the engine sends it: a stream number and a length before each piece.
    fn frames(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        for line in self.log.split_inclusive('\n') {
            let length = u32::try_from(line.len()).expect("short");
            frames.extend_from_slice(&[2, 0, 0, 0]);
            frames.extend_from_slice(&length.to_be_bytes());
            frames.extend_from_slice(line.as_bytes());
        }
        frames
    }
}
