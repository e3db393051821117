//! The heads of requests and answers: read strictly, and what they say of body and connection.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};

use super::body::Framing;
use super::fields::{Fields, Line};

/// The longest head read, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most fields in a head.
const MAX_FIELDS: usize = 256;

/// Why a head cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is no head of HTTP/1, or one that could be read in two ways.
    #[error("{0}")]
    Malformed(&'static str),
    /// It has too many fields, or too long ones.
    #[error("the head is too large")]
    TooLarge,
}

impl From<httparse::Error> for HeadError {
    fn from(cause: httparse::Error) -> Self {
        match cause {
            httparse::Error::TooManyHeaders => HeadError::TooLarge,
            httparse::Error::HeaderName => HeadError::Malformed("invalid header name"),
            httparse::Error::HeaderValue => HeadError::Malformed("invalid header value"),
            httparse::Error::NewLine => HeadError::Malformed("invalid line end"),
            httparse::Error::Status => HeadError::Malformed("invalid status"),
            httparse::Error::Token => HeadError::Malformed("invalid token"),
            httparse::Error::Version => HeadError::Malformed("invalid HTTP version"),
        }
    }
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// The path, decoded in no way.
    pub path: Box<str>,
    /// What follows the path's `?`.
    pub query: Option<Box<str>>,
    /// The host in a target of absolute form.
    pub authority: Option<Box<str>>,
    /// The fields.
    pub fields: Fields,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct ReplyHead {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub fields: Fields,
    /// How its body ends.
    pub framing: Framing,
    /// Whether another exchange may follow on its connection.
    pub keep_alive: bool,
}

impl RequestHead {
    /// Reads one from the start of `input`; `None` while it is not all there. Gives its length.
    ///
    /// # Errors
    /// When it is malformed or too large.
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        let status = ParserConfig::default().parse_request_with_uninit_headers(
            &mut parsed,
            input,
            &mut headers,
        )?;
        let Status::Complete(length) = status else { return incomplete(input) };
        let head = &input[..length];
        if has_bare_line_feed(head) {
            return Err(HeadError::Malformed("a line ends in a bare line feed"));
        }
        let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
            .map_err(|_| HeadError::Malformed("invalid method"))?;
        let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        let target = Target::parse(parsed.path.unwrap_or_default())?;
        let fields = fields(head, parsed.headers);
        let head = Self {
            method,
            version,
            path: target.path.into(),
            query: target.query.map(Into::into),
            authority: target.authority.map(Into::into),
            fields,
        };
        Ok(Some((head, length)))
    }

    /// How its body ends.
    ///
    /// # Errors
    /// When it says so in two ways, or in one that is not known (RFC 9112, 6.1 and 6.3).
    pub fn framing(&self) -> Result<Framing, HeadError> {
        let malformed = |why| Err(HeadError::Malformed(why));
        let mut codings = self.fields.get_all("transfer-encoding");
        let length = length(&self.fields)?;
        if self.fields.get_all("content-length").count() > 1 {
            return malformed("more than one content-length");
        }
        match (codings.next(), codings.next(), length) {
            (None, _, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (Some(_), _, Some(_)) => malformed("both transfer-encoding and content-length"),
            (Some(_), Some(_), None) => malformed("more than one transfer-encoding"),
            (Some(_), None, None) if self.version < Version::HTTP_11 => {
                malformed("transfer-encoding in HTTP/1.0")
            }
            (Some(one), None, None) if one.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (Some(_), None, None) => malformed("unknown transfer-encoding"),
        }
    }

    /// Whether its connection may carry another request after it.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.fields)
    }
}

impl ReplyHead {
    /// Reads one from the start of `input`; `None` while it is not all there. Gives its length.
    ///
    /// # Errors
    /// When it is malformed or too large.
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let status = ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            input,
            &mut headers,
        )?;
        let Status::Complete(size) = status else { return incomplete(input) };
        let status = StatusCode::from_u16(parsed.code.unwrap_or_default())
            .map_err(|_| HeadError::Malformed("invalid status"))?;
        let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        let fields = fields(&input[..size], parsed.headers);
        let bodiless = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = length(&fields)?;
        let coded = fields.has("transfer-encoding");
        if coded && version < Version::HTTP_11 {
            return Err(HeadError::Malformed("transfer-encoding in HTTP/1.0"));
        }
        let coding = fields.tokens("transfer-encoding").rfind(|one| !one.is_empty());
        let chunked = coding.map(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        let framing = match chunked {
            _ if bodiless => Framing::Length(0),
            Some(true) => Framing::Chunked,
            Some(false) => Framing::Close,
            None => length.map_or(Framing::Close, Framing::Length),
        };
        // Both were given: whoever stands between may have gone by the other (RFC 9112, 6.3).
        let doubtful = length.is_some() && coded;
        let switched = status == StatusCode::SWITCHING_PROTOCOLS;
        let ends = doubtful || switched || matches!(framing, Framing::Close);
        let keep_alive = keeps_alive(version, &fields) && !ends;
        Ok(Some((Self { status, fields, framing, keep_alive }, size)))
    }
}

/// Whether a line ends in a bare LF. httparse, as RFC 9112 (2.2) allows, takes one as a line end; others
/// on the way may not.
pub(super) fn has_bare_line_feed(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', text).any(|at| at == 0 || text[at - 1] != b'\r')
}

fn incomplete<T>(input: &[u8]) -> Result<Option<T>, HeadError> {
    if input.len() >= MAX_HEAD { Err(HeadError::TooLarge) } else { Ok(None) }
}

/// The fields of `head`, with their names in lower case.
fn fields(head: &[u8], headers: &[Header<'_>]) -> Fields {
    let mut text = head.to_vec();
    let range = |part: &[u8]| {
        let start = (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        // An empty value need not stand inside the head.
        let start = if part.is_empty() { 0 } else { start };
        start as u32..(start + part.len()) as u32
    };
    let lines = headers
        .iter()
        .map(|header| {
            let line = Line { name: range(header.name.as_bytes()), value: range(header.value) };
            text[line.name.start as usize..line.name.end as usize].make_ascii_lowercase();
            line
        })
        .collect();
    Fields::new(Bytes::from(text), lines)
}

/// `Content-Length` (RFC 9110, 8.6): digits, the same wherever it is repeated.
fn length(fields: &Fields) -> Result<Option<u64>, HeadError> {
    let mut lengths = fields.get_all("content-length");
    let Some(given) = lengths.next() else { return Ok(None) };
    let wrong = HeadError::Malformed("invalid content-length");
    // Up to here no number overflows.
    if lengths.any(|other| other != given) || given.is_empty() || given.len() > 18 {
        return Err(wrong);
    }
    let mut length = 0;
    for byte in given {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(wrong);
        }
        length = length * 10 + u64::from(digit);
    }
    Ok(Some(length))
}

/// RFC 9112, 9.3.
fn keeps_alive(version: Version, fields: &Fields) -> bool {
    match version {
        Version::HTTP_11 => !fields.lists("connection", "close"),
        _ => fields.lists("connection", "keep-alive") && !fields.lists("connection", "close"),
    }
}

/// A request's target (RFC 9112, 3.2), without the fragment that none should have.
struct Target<'a> {
    path: &'a str,
    query: Option<&'a str>,
    authority: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn parse(target: &'a str) -> Result<Self, HeadError> {
        let target = target.split('#').next().unwrap_or_default();
        let (authority, rest) = match absolute(target) {
            None => (None, target),
            Some(range) => (Some(&target[range.clone()]), &target[range.end..]),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        match (path, authority) {
            ("", Some(_)) => Ok(Self { path: "/", query, authority }),
            ("*", None) => Ok(Self { path, query, authority }),
            _ if path.starts_with('/') => Ok(Self { path, query, authority }),
            _ => Err(HeadError::Malformed("invalid target")),
        }
    }
}

/// Where the host stands in a target of absolute form.
fn absolute(target: &str) -> Option<Range<usize>> {
    if target.starts_with('/') {
        return None;
    }
    let start = target.find("://")? + 3;
    let scheme = &target[..start - 3];
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let end = target[start..].find(['/', '?']).map_or(target.len(), |at| start + at);
    Some(start..end)
}

#[cfg(test)]
mod tests;
