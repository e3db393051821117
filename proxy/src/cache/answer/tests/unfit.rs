//! What is not stored, and why.

use super::*;

fn stream(chunks: &[&str]) -> Result<Answer, Unfit> {
    Answer::of_stream(Form::Chat, sse(chunks).as_bytes(), None)
}

fn body(choice: &str) -> Result<Answer, Unfit> {
    Answer::of_whole(Form::Chat, format!(r#"{{"choices":[{choice}]}}"#).as_bytes())
}

#[test]
fn cut_streams() {
    let text = delta(0, r#"{"content":"x"}"#);
    let whole = sse(&[&text, &finish(0, "stop")]);
    let cut = whole.replace("data: [DONE]\n\n", "");
    assert_eq!(Answer::of_stream(Form::Chat, cut.as_bytes(), None), Err(Unfit::Incomplete));
    assert_eq!(Answer::of_stream(Form::Chat, b"", None), Err(Unfit::Incomplete));
    assert_eq!(stream(&[&text]), Err(Unfit::Incomplete));
    // One of two choices was not finished.
    let other = delta(1, r#"{"content":"x"}"#);
    assert_eq!(stream(&[&text, &other, &finish(0, "stop")]), Err(Unfit::Incomplete));
    for end in 0..cut.len() {
        let cut = Answer::of_stream(Form::Chat, &cut.as_bytes()[..end], None);
        assert!(matches!(cut, Err(Unfit::Incomplete | Unfit::Unreadable)), "{cut:?}");
    }
    assert_eq!(body(r#"{"message":{"content":"x"},"finish_reason":null}"#), Err(Unfit::Incomplete));
    assert_eq!(body(r#"{"message":{"content":"x"}}"#), Err(Unfit::Incomplete));
}

#[test]
fn limits_and_filters() {
    let text = delta(0, r#"{"content":"x"}"#);
    for reason in ["length", "content_filter", "error", "load"] {
        assert_eq!(stream(&[&text, &finish(0, reason)]), Err(Unfit::Finish));
        let choice = format!(r#"{{"message":{{"content":"x"}},"finish_reason":"{reason}"}}"#);
        assert_eq!(body(&choice), Err(Unfit::Finish));
    }
}

#[test]
fn nothing_said() {
    assert_eq!(stream(&[&delta(0, ROLE), &finish(0, "stop")]), Err(Unfit::Empty));
    let thought = delta(0, r#"{"reasoning":"hm","content":""}"#);
    assert_eq!(stream(&[&thought, &finish(0, "stop")]), Err(Unfit::Empty));
    assert_eq!(stream(&[USAGE]), Err(Unfit::Empty));
    assert_eq!(Answer::of_stream(Form::Chat, b"data: [DONE]\n\n", None), Err(Unfit::Empty));
    for message in [r#"{"content":""}"#, r#"{"content":null,"tool_calls":[]}"#, "{}"] {
        let choice = format!(r#"{{"message":{message},"finish_reason":"stop"}}"#);
        assert_eq!(body(&choice), Err(Unfit::Empty));
    }
    assert_eq!(body(""), Err(Unfit::Empty));
    assert_eq!(Answer::of_whole(Form::Chat, b"{\"choices\":null}"), Err(Unfit::Empty));
    assert_eq!(Answer::of_whole(Form::Raw, b"{\"data\":[]}"), Err(Unfit::Empty));
}

#[test]
fn errors() {
    let text = delta(0, r#"{"content":"x"}"#);
    let fine = sse(&[&text, &finish(0, "stop")]);
    for error in [
        "data: {\"error\":{\"message\":\"m\"}}\n\n",
        "data: {\"error\":\"m\"}\n\n",
        "event: error\ndata: {}\n\n",
        "data: {\"object\":\"error\",\"message\":\"m\"}\n\n",
    ] {
        let events = fine.replacen("\n\n", &format!("\n\n{error}"), 1);
        assert_eq!(Answer::of_stream(Form::Chat, events.as_bytes(), None), Err(Unfit::Error));
    }
    assert!(Answer::of_stream(Form::Chat, fine.as_bytes(), None).is_ok());
    let error = b"{\"error\":{\"message\":\"m\"}}";
    for form in [Form::Chat, Form::Completions, Form::Raw] {
        assert_eq!(Answer::of_whole(form, error), Err(Unfit::Error));
    }
    // As some servers send it with every answer.
    let null = br#"{"error":null,"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#;
    assert!(Answer::of_whole(Form::Chat, null).is_ok());
}

#[test]
fn not_what_was_expected() {
    let finish = finish(0, "stop");
    for strange in [
        delta(0, r#"{"content":"\ud800"}"#),
        delta(0, r#"{"content":"a","content":"b"}"#),
        delta(0, r#"{"tool_calls":[1]}"#),
        delta(0, r#"{"tool_calls":{}}"#),
        delta(0, "[]"),
        r#""choices":{}"#.to_owned(),
        r#""choices":[1]"#.to_owned(),
        r#""choices":[{"index":-1}]"#.to_owned(),
        r#""choices":[{"index":0,"token_ids":[1]}]"#.to_owned(),
        r#""choices":[{"index":0,"finish_reason":1}]"#.to_owned(),
    ] {
        assert_eq!(stream(&[&strange, &finish]), Err(Unfit::Unreadable), "{strange}");
    }
    // Text that becomes something else: no two clients agree.
    let (text, list) = (delta(0, r#"{"content":"x"}"#), delta(0, r#"{"content":[1]}"#));
    assert_eq!(stream(&[&text, &list, &finish]), Err(Unfit::Unreadable));
    for strange in ["", "{", "[]", "1", "null", "{}x", "\"\u{0}\"", "{\"id\":\"a\",\"id\":\"b\"}"] {
        for form in [Form::Chat, Form::Completions, Form::Raw] {
            let answer = Answer::of_whole(form, strange.as_bytes());
            assert_eq!(answer, Err(Unfit::Unreadable), "{strange}");
        }
    }
    assert_eq!(Answer::of_whole(Form::Chat, b"{\"choices\":[\xff]}"), Err(Unfit::Unreadable));
    assert_eq!(Answer::of_stream(Form::Raw, b"data: [DONE]\n\n", None), Err(Unfit::Unreadable));
    assert_eq!(Answer::of_whole(Form::Raw, b"{\"data\":{}}"), Err(Unfit::Unreadable));
    let twice = r#"{"index":0,"message":{"content":"x"},"finish_reason":"stop"}"#;
    assert_eq!(body(&format!("{twice},{twice}")), Err(Unfit::Unreadable));
}

#[test]
fn too_large() {
    let long = "x".repeat(MAX_BYTES);
    let text = delta(0, &format!(r#"{{"content":"{long}"}}"#));
    assert_eq!(stream(&[&text, &finish(0, "stop")]), Err(Unfit::TooLarge));
    let choice = format!(r#"{{"message":{{"content":"{long}"}},"finish_reason":"stop"}}"#);
    assert_eq!(body(&choice), Err(Unfit::TooLarge));
    let many: Vec<String> = (0..200).map(|at| delta(at, ROLE)).collect();
    let many: Vec<&str> = many.iter().map(|chunk| &**chunk).collect();
    assert_eq!(stream(&many), Err(Unfit::TooLarge));
    // Long on the wire, short in itself.
    let token = delta(0, r#"{"content":"x"}"#);
    let mut tokens = vec![&*token; 20_000];
    let end = finish(0, "stop");
    tokens.push(&end);
    assert_eq!(stream(&tokens).expect("fit").text().len(), 20_000);
}

#[test]
fn nesting_does_not_exhaust_the_stack() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let text = delta(0, &format!(r#"{{"content":"x","deep":{deep}}}"#));
    let answer = stream(&[&text, &finish(0, "stop")]).expect("fit");
    assert_eq!(Answer::decode(&answer.encode()).as_ref(), Ok(&answer));
    assert!(filled(&answer.whole()).contains(&deep));
    let choice = format!(r#"{{"message":{{"content":"x","d":{deep}}},"finish_reason":"stop"}}"#);
    let answer = body(&choice).expect("fit");
    assert!(filled(&answer.stream(false)).contains(&deep));
    for open in ["[", "{\"a\":"] {
        let open = open.repeat(200_000);
        assert!(Answer::of_whole(Form::Chat, open.as_bytes()).is_err());
        assert!(Answer::decode(open.as_bytes()).is_err());
    }
}

#[test]
fn damage_is_seen() {
    let answer = Answer::of_text(Form::Chat, "m", "t");
    let bytes = answer.encode();
    for at in 0..bytes.len() {
        assert!(Answer::decode(&bytes[..at]).is_err());
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(Answer::decode(&flipped).is_err());
        }
    }
    assert!(Answer::decode(&[bytes, b" ".to_vec()].concat()).is_err());
}
