//! Reads a request's body once, whole and bounded: by its own limit, by the bytes the process may
//! hold for all requests, and by time.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};

use crate::config::raw::Limits;
use crate::error::{Error, Kind};
use crate::http1::BodyError;
use crate::session::{Session, expects_continue};

/// Bytes decoded before the limits are looked at again.
const DECODE_STEP: usize = 256 * 1024;
/// Bytes a second that a body must come at on average; slower, and it is a slow loris.
const LEAST_RATE: usize = 8 * 1024;
/// Room reserved at first for a body whose announced length nothing has proved yet.
const FIRST_ROOM: usize = 1024 * 1024;
/// When to come back when the memory for bodies is used up.
const BUDGET_RETRY: Duration = Duration::from_secs(1);

/// The bytes of request bodies the process may hold at one time.
#[derive(Debug, Default)]
pub struct Budget {
    used: AtomicUsize,
}

/// A share of the [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Arc<Budget>,
    /// The most that all shares together may be.
    limit: usize,
    bytes: usize,
}

impl Budget {
    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// No share so far, of `limit` bytes in all.
    fn reserve(self: &Arc<Self>, limit: usize) -> Reserved {
        Reserved { budget: Arc::clone(self), limit, bytes: 0 }
    }
}

impl Reserved {
    /// Makes the share `total` bytes, unless it is more already.
    ///
    /// # Errors
    /// When that is too much for the whole process. The share counts until it is dropped all the same.
    pub fn grow_to(&mut self, total: usize) -> Result<(), Error> {
        let more = total.saturating_sub(self.bytes);
        let before = self.budget.used.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if before + more > self.limit {
            let message = "the gateway holds as many request bytes as it may; try again shortly";
            return Err(Error::new(Kind::Overloaded, message).retry_after(BUDGET_RETRY));
        }
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A whole body and its share of the budget.
#[derive(Debug)]
pub struct Body {
    /// The decoded bytes.
    pub bytes: Bytes,
    /// Held as long as the bytes are.
    pub reserved: Reserved,
}

/// Why there is no body.
#[derive(Debug)]
pub enum ReadError {
    /// The client can be told.
    Refused(Error),
    /// The client left.
    ClientGone,
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        ReadError::Refused(error)
    }
}

/// How a body is coded (RFC 9110, 8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// Reads the body of `session`.
pub async fn read(
    session: &mut Session,
    limits: &Limits,
    budget: &Arc<Budget>,
) -> Result<Body, ReadError> {
    let limit = limits.body.len();
    let coding = coding(session)?;
    let fields = &session.head.fields;
    let announced = fields.text("content-length").and_then(|text| text.parse().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit).into());
    }
    let mut reserved = budget.reserve(limits.bodies_in_flight.len());
    if expects_continue(&session.head) && session.ask_for_body().await.is_err() {
        return Err(ReadError::ClientGone);
    }
    let pause = limits.body_timeout.0;
    let mut started = None;
    let mut collected = Collected::new(announced);
    loop {
        // What is there already costs no look at the clock.
        let read = match session.read().now_or_never() {
            Some(read) => read,
            None => {
                let now = Instant::now();
                // A trickle keeps within the pause, but not within the least rate.
                let earned = Duration::from_secs((collected.len() / LEAST_RATE) as u64);
                let slowest = *started.get_or_insert(now) + pause + earned;
                let read = timeout_at((now + pause).min(slowest), session.read()).await;
                read.map_err(|_| {
                    let message = "the request's body did not arrive in time";
                    Error::new(Kind::RequestTimeout, message).close()
                })?
            }
        };
        let Some(chunk) = read.transpose().map_err(|cause| unreadable(&cause))? else { break };
        let total = collected.len() + chunk.len();
        if total > limit {
            return Err(too_large(limit).into());
        }
        // What has arrived counts, not what was announced: a promise takes no memory.
        reserved.grow_to(total)?;
        collected.push(chunk);
    }
    let bytes = collected.finish();
    if coding == Coding::Identity {
        return Ok(Body { bytes, reserved });
    }
    Ok(decode(Body { bytes, reserved }, coding, limit).await?)
}

/// Chunks as they come; a body of one chunk is never copied.
struct Collected {
    single: Option<Bytes>,
    many: BytesMut,
    announced: Option<usize>,
}

impl Collected {
    fn new(announced: Option<usize>) -> Self {
        Self { single: None, many: BytesMut::new(), announced }
    }

    fn len(&self) -> usize {
        self.many.len() + self.single.as_ref().map_or(0, Bytes::len)
    }

    fn push(&mut self, chunk: Bytes) {
        if self.many.is_empty() && self.single.is_none() {
            self.single = Some(chunk);
            return;
        }
        if let Some(first) = self.single.take() {
            let room = self.announced.unwrap_or(0).clamp(first.len() + chunk.len(), FIRST_ROOM);
            self.many.reserve(room.max(first.len() + chunk.len()));
            self.many.extend_from_slice(&first);
        }
        self.many.extend_from_slice(&chunk);
    }

    fn finish(self) -> Bytes {
        self.single.unwrap_or_else(|| self.many.freeze())
    }
}

fn coding(session: &Session) -> Result<Coding, Error> {
    let Some(given) = session.head.fields.get("content-encoding") else {
        return Ok(Coding::Identity);
    };
    match given {
        given if given.eq_ignore_ascii_case(b"identity") || given.is_empty() => {
            Ok(Coding::Identity)
        }
        given if given.eq_ignore_ascii_case(b"gzip") => Ok(Coding::Gzip),
        given if given.eq_ignore_ascii_case(b"zstd") => Ok(Coding::Zstd),
        _ => Err(Error::new(
            Kind::UnsupportedEncoding,
            "this content-encoding is not understood; send the body plain, or as gzip or zstd",
        )),
    }
}

fn unreadable(cause: &BodyError) -> ReadError {
    match cause {
        BodyError::Malformed(why) => {
            let message = format!("the request's body is framed wrongly: {why}");
            ReadError::Refused(Error::new(Kind::InvalidRequest, message).close())
        }
        BodyError::CutOff | BodyError::Io(_) => ReadError::ClientGone,
    }
}

fn too_large(limit: usize) -> Error {
    Error::new(Kind::BodyTooLarge, format!("the request's body is larger than {limit} bytes"))
}

/// Decodes on a thread of its own: a small body may decode to a large one, and other requests are
/// to go on meanwhile.
async fn decode(coded: Body, coding: Coding, limit: usize) -> Result<Body, Error> {
    tokio::task::spawn_blocking(move || decode_bounded(coded, coding, limit))
        .await
        .map_err(|_| Error::new(Kind::Internal, "decoding the body failed"))?
}

/// Decodes step by step, each within the limit and the process's budget, so that a bomb stops
/// before it grows.
fn decode_bounded(coded: Body, coding: Coding, limit: usize) -> Result<Body, Error> {
    let broken = |_| Error::new(Kind::InvalidRequest, "the body's content-encoding is broken");
    let Body { bytes, mut reserved } = coded;
    let mut decoder: Box<dyn Read + '_> = match coding {
        Coding::Identity => Box::new(&bytes[..]),
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&bytes[..])),
        Coding::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(&bytes[..]).map_err(broken)?)
        }
    };
    let mut out = Vec::new();
    loop {
        // Both forms are held while one is made of the other.
        reserved.grow_to(bytes.len() + out.len() + DECODE_STEP)?;
        let read = (&mut decoder).take(DECODE_STEP as u64).read_to_end(&mut out).map_err(broken)?;
        if out.len() > limit {
            return Err(too_large(limit));
        }
        if read < DECODE_STEP {
            break;
        }
    }
    drop(decoder);
    Ok(Body { bytes: Bytes::from(out), reserved })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn decoded(coded: Vec<u8>, coding: Coding, process_limit: usize) -> Result<Bytes, Error> {
        let reserved = Arc::new(Budget::default()).reserve(process_limit);
        let body = Body { bytes: coded.into(), reserved };
        decode_bounded(body, coding, 1000).map(|body| body.bytes)
    }

    #[test]
    fn both_codings_are_decoded() {
        let plain = b"{\"model\":\"m\"}".as_slice();
        let zstd = zstd::encode_all(plain, 1).expect("in memory");
        assert_eq!(decoded(gzip(plain), Coding::Gzip, 1 << 30).expect("fits"), plain);
        assert_eq!(decoded(zstd, Coding::Zstd, 1 << 30).expect("fits"), plain);
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![b' '; 1 << 20]);
        let error = decoded(bomb.clone(), Coding::Gzip, 1 << 30).expect_err("too large");
        assert_eq!(error.kind, Kind::BodyTooLarge);
        let error = decoded(bomb, Coding::Gzip, 100_000).expect_err("no memory for it");
        assert_eq!(error.kind, Kind::Overloaded);
        let broken = decoded(b"not gzip".to_vec(), Coding::Gzip, 1 << 30).expect_err("broken");
        assert_eq!(broken.kind, Kind::InvalidRequest);
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Arc::new(Budget::default());
        let mut first = budget.reserve(100);
        first.grow_to(60).expect("fits");
        assert!(budget.reserve(100).grow_to(60).is_err());
        drop(first);
        assert_eq!(budget.used(), 0);
        budget.reserve(100).grow_to(100).expect("fits again");
    }
}
