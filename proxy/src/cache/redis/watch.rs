//! A connection on which answers are read of which Redis is to tell when they change
//! (<https://redis.io/docs/latest/develop/reference/client-side-caching/>).
//!
//! It is read by whoever is about to rely on a copy, in the moment before: what has reached this machine counts.
//! Answers and changes come in the order in which they happened.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ConnectionAddr, ConnectionInfo};
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::resp::{self, Value};
use super::{PREFIX, generations, name};
use crate::cache::entry::{Entry, Generation};
use crate::cache::key::Key;

/// For so long what was told last is relied on. A network that is cut tells nothing.
const TRUST: Duration = Duration::from_secs(1);
/// Answers asked for at one time: somebody reads them all.
const MAX_ASKED: usize = 16;
/// Bytes that are kept until the rest of a value has come.
const MAX_UNREAD: usize = 4 << 20;

/// The connection.
#[derive(Debug)]
pub(super) struct Watch {
    socket: Socket,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    expected: VecDeque<Expected>,
    /// The generation that was read last.
    generation: Generation,
    /// What changed before is known.
    current: Instant,
    pub(super) opened: Instant,
}

/// What Redis was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Whether it is there, and when.
    Pong(Instant),
    /// The generation that the next answer must have.
    Generation,
    /// The answer under a key; none where it has been dropped meanwhile.
    Answer(Option<Key>),
}

/// What Redis told.
#[derive(Debug)]
pub(super) enum Told {
    /// An answer that it has.
    Has(Arc<Entry>),
    /// The answer under a key has changed.
    Changed(Key),
    /// Any of them may have.
    AllChanged,
}

/// Why Redis tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// It cannot, or may not.
    #[error("{0}")]
    Refused(Arc<str>),
    /// The connection failed.
    #[error("{0}")]
    Failed(ErrorKind),
}

impl From<io::Error> for Trouble {
    fn from(cause: io::Error) -> Self {
        Trouble::Failed(cause.kind())
    }
}

impl Watch {
    /// Connects, and asks to be told.
    ///
    /// # Errors
    /// When there is no connection, or Redis refuses.
    pub(super) async fn open(to: &ConnectionInfo) -> Result<Self, Trouble> {
        let opened = Instant::now();
        match to.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let unread = greet(&mut stream, to).await?;
                Ok(Self::over(stream.into_std()?.into(), opened, unread))
            }
            ConnectionAddr::Unix(path) => {
                let mut stream = UnixStream::connect(path).await?;
                let unread = greet(&mut stream, to).await?;
                Ok(Self::over(stream.into_std()?.into(), opened, unread))
            }
            _ => Err(Trouble::Refused("over TLS it is not asked to".into())),
        }
    }

    /// `socket` does not block; Redis tells of what changes after it was `opened`, and `unread` has come of it.
    pub(super) fn over(socket: Socket, opened: Instant, unread: Vec<u8>) -> Self {
        let (unsent, expected) = (Vec::new(), VecDeque::new());
        let generation = [0; 3];
        Self { socket, unread, unsent, expected, generation, current: opened, opened }
    }

    /// Whether what was told last can be relied on.
    pub(super) fn is_current(&self) -> bool {
        self.current.elapsed() < TRUST
    }

    /// Whether Redis has not told all that it was asked for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Asks for the answer under `key`, of `owner` by `model`, and to be told when it changes.
    ///
    /// # Errors
    /// When the connection has failed.
    pub(super) fn ask(&mut self, key: &Key, owner: &str, model: &str) -> io::Result<()> {
        let asked = Expected::Answer(Some(*key));
        if self.expected.len() >= 2 * MAX_ASKED || self.expected.contains(&asked) {
            return Ok(());
        }
        self.expected.extend([Expected::Generation, asked]);
        self.send(&[generations(owner, model), Cmd::get(name(key))])
    }

    /// Asks whether Redis is there, unless it has been asked for something already.
    ///
    /// # Errors
    /// When it does not answer, or the connection has failed.
    pub(super) fn ping(&mut self) -> io::Result<()> {
        let pinged = |one: &Expected| match one {
            Expected::Pong(asked) => Some(*asked),
            Expected::Generation | Expected::Answer(_) => None,
        };
        match self.expected.iter().find_map(pinged) {
            Some(asked) if asked.elapsed() > TRUST => Err(ErrorKind::TimedOut.into()),
            Some(_) => Ok(()),
            None => {
                self.expected.push_back(Expected::Pong(Instant::now()));
                self.send(&[Cmd::ping()])
            }
        }
    }

    /// The answers asked for that `dropped` is true of are not to be told.
    pub(super) fn give_up(&mut self, dropped: impl Fn(&Key) -> bool) {
        for one in &mut self.expected {
            if let Expected::Answer(key) = one {
                *key = key.filter(|key| !dropped(key));
            }
        }
    }

    /// Calls `each` with all that Redis has told meanwhile, without a wait.
    ///
    /// # Errors
    /// When the connection has ended, or makes no sense.
    pub(super) fn take_in(&mut self, mut each: impl FnMut(Told)) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.flush()?;
        }
        // With the greeting's answers something may have come.
        self.read(&mut each)?;
        let mut part = [0; 8192];
        loop {
            match (&self.socket).read(&mut part) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.unread.extend_from_slice(&part[..length]),
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
                Err(cause) => return Err(cause),
            }
            self.read(&mut each)?;
            if self.unread.len() > MAX_UNREAD {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }

    /// Reads the values that have come whole.
    fn read(&mut self, each: &mut impl FnMut(Told)) -> io::Result<()> {
        let (unread, mut taken) = (std::mem::take(&mut self.unread), 0);
        while let Some((value, length)) =
            resp::read(&unread[taken..]).map_err(|_| ErrorKind::InvalidData)?
        {
            self.tell(&value, each)?;
            taken += length;
        }
        self.unread = unread;
        self.unread.drain(..taken);
        Ok(())
    }

    fn tell(&mut self, value: &Value<'_>, each: &mut impl FnMut(Told)) -> io::Result<()> {
        if let Value::Push(parts) = value {
            let mut all = false;
            changes(parts, &mut |told| {
                all |= matches!(told, Told::AllChanged);
                each(told);
            });
            // One whose generation was read before is judged by one that is no more, and Redis has told of its end.
            if all {
                self.give_up(|_| true);
            }
            return Ok(());
        }
        match (self.expected.pop_front(), value) {
            (None, _) => return Err(ErrorKind::InvalidData.into()),
            (Some(Expected::Pong(asked)), _) => self.current = asked,
            (Some(Expected::Generation), Value::List(numbers)) => {
                self.generation = generation(numbers).ok_or(ErrorKind::InvalidData)?;
            }
            (Some(Expected::Answer(Some(key))), Value::Text(bytes)) => {
                if let Ok(entry) = Entry::decode(key, bytes)
                    && entry.facts.generation == self.generation
                {
                    each(Told::Has(Arc::new(entry)));
                }
            }
            // Dropped meanwhile, or of another type.
            (Some(Expected::Answer(_)), _) => {}
            (Some(Expected::Generation), _) => return Err(ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    fn send(&mut self, commands: &[Cmd]) -> io::Result<()> {
        commands.iter().for_each(|command| command.write_packed_command(&mut self.unsent));
        self.flush()
    }

    /// Sends what can be sent without a wait.
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match (&self.socket).write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }
}

/// Asks to be told; gives what came beyond the answers.
async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    to: &ConnectionInfo,
) -> Result<Vec<u8>, Trouble> {
    let settings = to.redis_settings();
    let mut hello = redis::cmd("HELLO");
    hello.arg(3);
    if let Some(password) = settings.password() {
        hello.arg("AUTH").arg(settings.username().unwrap_or("default")).arg(password);
    }
    let mut track = redis::cmd("CLIENT");
    track.arg("TRACKING").arg("ON");
    let mut commands = vec![hello, track];
    // Not everybody who may read may choose.
    if settings.db() != 0 {
        let mut select = redis::cmd("SELECT");
        select.arg(settings.db());
        commands.push(select);
    }
    let mut unread = Vec::new();
    for command in commands {
        stream.write_all(&command.get_packed_command()).await?;
        let length = loop {
            let read = resp::read(&unread).map_err(|_| Trouble::Failed(ErrorKind::InvalidData))?;
            match read {
                Some((Value::Refusal(why), _)) => {
                    return Err(Trouble::Refused(String::from_utf8_lossy(why).into()));
                }
                Some((_, length)) => break length,
                None => {}
            }
            if stream.read_buf(&mut unread).await? == 0 {
                return Err(Trouble::Failed(ErrorKind::UnexpectedEof));
            }
        };
        unread.drain(..length);
    }
    Ok(unread)
}

/// The changes that a push tells of.
fn changes(push: &[Value<'_>], each: &mut impl FnMut(Told)) {
    match push {
        [Value::Text(b"invalidate"), Value::List(names)] => {
            names.iter().for_each(|name| each(changed(name)));
        }
        // The database was emptied.
        [Value::Text(b"invalidate"), _] => each(Told::AllChanged),
        _ => {}
    }
}

/// What changes with the value called `name`: all where it is the generations, and no answer.
fn changed(name: &Value<'_>) -> Told {
    let Value::Text(name) = name else { return Told::AllChanged };
    let key = name.strip_prefix(PREFIX.as_bytes()).and_then(|key| std::str::from_utf8(key).ok());
    key.and_then(Key::parse).map_or(Told::AllChanged, Told::Changed)
}

fn generation(numbers: &[Value<'_>]) -> Option<Generation> {
    let number = |value: &Value<'_>| match value {
        Value::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        Value::Null => Some(0),
        _ => None,
    };
    let numbers: Option<Vec<u64>> = numbers.iter().map(number).collect();
    numbers?.try_into().ok()
}
