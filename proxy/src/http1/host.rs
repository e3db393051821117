//! Which host a request is for. Whoever stands before the gateway may have read another one out of a head
//! that names several.

use http::Version;
use http::uri::Authority;

use super::{HeadError, RequestHead};

/// Refuses a head of HTTP/1 that names no host, several, or what is no host (RFC 9112, 3.2).
///
/// # Errors
/// When it does.
pub fn check(head: &RequestHead) -> Result<(), HeadError> {
    let mut hosts = head.fields.get_all("host");
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if head.version < Version::HTTP_11 => return Ok(()),
        (None, _) => return Err(HeadError::Malformed("an HTTP/1.1 request needs a `Host`")),
        (Some(_), Some(_)) => return Err(HeadError::Malformed("there is more than one `Host`")),
        (Some(host), None) => host,
    };
    if !is_host(host) {
        return Err(HeadError::Malformed("the `Host` is not the name of a host"));
    }
    match &head.authority {
        Some(target) if !target.as_bytes().eq_ignore_ascii_case(host) => {
            Err(HeadError::Malformed("the target is at another host than the `Host`"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether `value` is a host with or without a port, or empty, as where a URI has none.
fn is_host(value: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let name = value.iter().take_while(|byte| plain(byte)).count();
    match &value[name..] {
        [] => return true,
        [b':', port @ ..] if name > 0 => return port.iter().all(u8::is_ascii_digit),
        _ => {}
    }
    // Of other forms, such as `[::1]:80`.
    let Ok(authority) = Authority::try_from(value) else { return false };
    // What remains of one with user information does not start with a colon.
    let port = authority.as_str().strip_prefix(authority.host());
    let digits = port.map(|port| port.strip_prefix(':').unwrap_or(port));
    digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(target: &str, fields: &str) -> bool {
        let text = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
        let (head, _) = RequestHead::parse(text.as_bytes()).expect("a head").expect("all of it");
        check(&head).is_ok()
    }

    #[test]
    fn a_request_names_one_host() {
        for host in ["", "a", "my_box.local:8080", "[::1]:80", "[::1]", "127.0.0.1:", "ü"] {
            assert_eq!(checked("/", &format!("Host: {host}\r\n")), host != "ü", "{host}");
        }
        for host in ["a b", "a/b", "user@a", "a:b", "[::1", ":80x", "a:80:90", "a?b"] {
            assert!(!checked("/", &format!("Host: {host}\r\n")), "{host}");
        }
        assert!(!checked("/", "") && !checked("/", "Host: a\r\nHost: a\r\n"));
    }

    #[test]
    fn a_target_of_absolute_form_is_at_that_host() {
        assert!(checked("http://Gate:8080/x", "Host: gate:8080\r\n"));
        assert!(!checked("http://other/x", "Host: gate\r\n"));
        assert!(!checked("http://user@gate/x", "Host: gate\r\n"));
    }
}
