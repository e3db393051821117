use super::*;

fn request(text: &str) -> Result<RequestHead, HeadError> {
    let (head, length) = RequestHead::parse(text.as_bytes())?.expect("all of it");
    assert_eq!(length, text.find("\r\n\r\n").expect("an end") + 4);
    Ok(head)
}

fn reply(text: &str) -> ReplyHead {
    ReplyHead::parse(text.as_bytes()).expect("valid").expect("all of it").0
}

fn framing(fields: &str) -> Result<Framing, HeadError> {
    request(&format!("POST / HTTP/1.1\r\n{fields}\r\n"))?.framing()
}

#[test]
fn a_request_is_taken_apart() {
    let head =
        request("POST /v1/x?a=b HTTP/1.1\r\nHost: g\r\nX-A:  b \r\n\r\nbody").expect("valid");
    assert_eq!((head.method, head.version), (Method::POST, Version::HTTP_11));
    assert_eq!((&*head.path, head.query.as_deref()), ("/v1/x", Some("a=b")));
    assert_eq!(
        (head.fields.get("host"), head.fields.get("x-a")),
        (Some(&b"g"[..]), Some(&b"b"[..]))
    );
}

#[test]
fn a_head_is_waited_for_up_to_its_bound() {
    assert!(matches!(RequestHead::parse(b"GET / HTTP/1.1\r\nHost: g\r\n"), Ok(None)));
    assert!(matches!(RequestHead::parse(b""), Ok(None)));
    let endless = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD));
    assert_eq!(RequestHead::parse(endless.as_bytes()).err(), Some(HeadError::TooLarge));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
    assert_eq!(RequestHead::parse(many.as_bytes()).err(), Some(HeadError::TooLarge));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for wrong in [
        "GET / HTTP/1.1\nHost: g\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: g\n\r\n",
        "GET / HTTP/1.1\r\nHost : g\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: g\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET host:80 HTTP/1.1\r\n\r\n",
        "G@T / HTTP/1.1 \r\n\r\n",
    ] {
        let parsed = RequestHead::parse(wrong.as_bytes());
        assert!(matches!(parsed, Err(HeadError::Malformed(_))), "{wrong:?}: {parsed:?}");
    }
}

#[test]
fn a_body_ends_in_one_way() {
    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(framing("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    for wrong in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: \r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 9999999999999999999\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \r\n",
    ] {
        assert!(framing(wrong).is_err(), "{wrong:?}");
    }
    let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").expect("a head");
    assert!(old.framing().is_err());
}

#[test]
fn targets_of_every_form_are_known() {
    for (target, path, query, authority) in [
        ("/", "/", None, None),
        ("/a?b?c", "/a", Some("b?c"), None),
        ("/a?", "/a", Some(""), None),
        ("/a#f", "/a", None, None),
        ("*", "*", None, None),
        ("//double", "//double", None, None),
        ("http://g/a", "/a", None, Some("g")),
        ("HTTPS://g:8?x", "/", Some("x"), Some("g:8")),
        ("http://g", "/", None, Some("g")),
    ] {
        let head = request(&format!("GET {target} HTTP/1.1\r\n\r\n")).expect(target);
        let found = (&*head.path, head.query.as_deref(), head.authority.as_deref());
        assert_eq!(found, (path, query, authority), "{target}");
    }
}

#[test]
fn connections_are_kept_as_their_version_has_it() {
    let keeps = |version: &str, fields: &str| {
        request(&format!("GET / HTTP/{version}\r\n{fields}\r\n")).expect("valid").keeps_alive()
    };
    assert!(keeps("1.1", "") && keeps("1.1", "Connection: x, keep-alive\r\n"));
    assert!(!keeps("1.1", "Connection: keep-alive, CLOSE\r\n"));
    assert!(!keeps("1.0", "") && keeps("1.0", "Connection: Keep-Alive\r\n"));
}

#[test]
fn an_answers_body_ends_as_rfc_9112_has_it() {
    for (head, framing, keep_alive) in [
        ("200 OK\r\nContent-Length: 5", Framing::Length(5), true),
        ("200 OK\r\nTransfer-Encoding: chunked", Framing::Chunked, true),
        ("200 OK\r\nTransfer-Encoding: gzip, chunked", Framing::Chunked, true),
        ("200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", Framing::Chunked, false),
        ("200 OK\r\nTransfer-Encoding: chunked,", Framing::Chunked, true),
        ("200 OK\r\nTransfer-Encoding: gzip", Framing::Close, false),
        ("200 OK\r\nContent-Length: 5\r\nContent-Length: 5", Framing::Length(5), true),
        ("101 Switching Protocols\r\nUpgrade: x", Framing::Length(0), false),
        ("200 OK\r\nX: y", Framing::Close, false),
        ("204 No Content\r\nContent-Length: 5", Framing::Length(0), true),
        ("304 Not Modified\r\nX: y", Framing::Length(0), true),
        ("100 Continue\r\nX: y", Framing::Length(0), true),
        ("200 OK\r\nContent-Length: 5\r\nConnection: close", Framing::Length(5), false),
    ] {
        let reply = reply(&format!("HTTP/1.1 {head}\r\n\r\n"));
        assert_eq!((reply.framing, reply.keep_alive), (framing, keep_alive), "{head}");
    }
    assert!(!reply("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n").keep_alive);
    for wrong in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 99 Odd\r\n\r\n",
        "not http\r\n\r\n",
    ] {
        assert!(ReplyHead::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
}
