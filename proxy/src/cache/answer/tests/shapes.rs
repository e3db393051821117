//! Unknown members, other framings, and answers that were not generated.

use super::*;

#[test]
fn unknown_members_at_every_level() {
    let big = "123456789012345678901234567890";
    let answer = of_chunks(&[
        // Azure's first chunk.
        &format!(r#""choices":[],"filters":[{big}]"#),
        &format!(
            r#""every":{big},"choices":[{{"index":0,"every":1.0,"delta":{{"role":"assistant","content":"x","some":{{"a":1E2}}}},"finish_reason":null}}]"#
        ),
        &format!(
            r#""every":{big},"last":1e400,"choices":[{{"index":0,"every":1.0,"stop_reason":null,"delta":{{"tool_calls":[{{"index":0,"extra":{big},"function":{{"name":"f","arguments":"","more":-0}}}}]}},"finish_reason":"stop"}}]"#
        ),
    ]);
    assert_eq!(
        chunks(&answer, false),
        [
            format!(
                r#""filters":[{big}],"every":{big},"choices":[{{"index":0,"delta":{{"role":"assistant"}},"every":1.0,"finish_reason":null}}]"#
            ),
            format!(
                r#""every":{big},"choices":[{{"index":0,"delta":{{"content":"x","some":{{"a":1E2}}}},"every":1.0,"finish_reason":null}}]"#
            ),
            format!(
                r#""every":{big},"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":0,"extra":{big},"function":{{"name":"f","arguments":"","more":-0}}}}]}},"every":1.0,"finish_reason":null}}]"#
            ),
            format!(
                r#""every":{big},"last":1e400,"choices":[{{"index":0,"delta":{{}},"every":1.0,"stop_reason":null,"finish_reason":"stop"}}]"#
            ),
        ]
    );
    let body = whole(&answer);
    for kept in [
        "\"filters\":[1234",
        "\"every\":1234",
        "1e400",
        "\"stop_reason\":null",
        "\"some\":{\"a\":1E2}",
        "\"more\":-0",
        "\"extra\":1234",
    ] {
        assert!(body.contains(kept), "{kept} in {body}");
    }
}

#[test]
fn audio_and_indexed_entries_are_put_together() {
    let details = |text: &str| {
        format!(r#"{{"reasoning":"{text}","details":[{{"index":0,"type":"t","text":"{text}"}}]}}"#)
    };
    let answer = of_chunks(&[
        &delta(0, r#"{"role":"assistant","audio":{"id":"au","transcript":"Hel"}}"#),
        &delta(0, r#"{"audio":{"id":"au","transcript":"lo","data":"AA"}}"#),
        &delta(0, r#"{"audio":{"expires_at":17}}"#),
        &delta(0, &details("a")),
        &delta(0, &details("a")),
        &delta(0, &details("b")),
        &finish(0, "stop"),
    ]);
    assert!(whole(&answer).contains(
        r#""audio":{"id":"au","transcript":"Hello","data":"AA","expires_at":17},"reasoning":"aab","details":[{"index":0,"type":"t","text":"aab"}]"#
    ));
    let replay = chunks(&answer, false);
    // Pieces of sound are played one by one.
    assert_eq!(replay[3], delta(0, r#"{"audio":{"expires_at":17}}"#));
    assert_eq!(
        replay[4],
        delta(0, r#"{"reasoning":"aab","details":[{"index":0,"type":"t","text":"a"}]}"#)
    );
    assert_eq!(replay[6], delta(0, r#"{"details":[{"index":0,"type":"t","text":"b"}]}"#));
}

#[test]
fn framing_does_not_matter() {
    let chunks = [delta(0, ROLE), delta(0, r#"{"content":"x"}"#), finish(0, "stop")];
    let plain = sse(&chunks.each_ref().map(|chunk| &**chunk));
    let answer = Answer::of_stream(Form::Chat, plain.as_bytes(), None).expect("fit");
    let framings = [
        plain.replace('\n', "\r\n"),
        plain.replace('\n', "\r"),
        plain.replace("data: ", "data:"),
        format!(
            ": hello\n\n\n\nevent: message\nid: 3\nretry: 5\n{}",
            plain.replace("\n\n", "\n\n: ping\n\n")
        ),
        plain.replace(",\"system", ",\ndata: \"system").replace("[{", "[\ndata: {"),
        plain.trim_end().to_owned(),
        plain.clone() + "data: after the end\n\n",
        format!("\u{feff}{plain}"),
    ];
    for framing in framings {
        let other = Answer::of_stream(Form::Chat, framing.as_bytes(), None);
        assert_eq!(other.as_ref(), Ok(&answer), "{framing}");
    }
}

#[test]
fn values_over_several_lines_fit_into_events() {
    let body = "{\"id\":\"x\",\"created\":null,\"model\":\"m\",\"a\":{\r\n \"b\":1\n},\n\"choices\":[{\n\"message\":{\"content\":\"t\",\"l\":[\n1\n]},\"finish_reason\":\"stop\"}]}";
    let answer = of_body(Form::Chat, body);
    let stream = filled(&answer.stream(true));
    assert!(!stream.replace("\n\n", "").contains(['\n', '\r']), "{stream}");
    assert!(stream.contains("\"l\":[1]") && stream.contains("\"a\":{ \"b\":1}"));
    assert!(whole(&answer).starts_with("{\"id\":\"chatcmpl-new1\",\"created\":1800000000,"));
}

#[test]
fn written_answers() {
    for form in [Form::Chat, Form::Completions] {
        for text in ["Hi \"you\"\n", ""] {
            let answer = Answer::of_text(form, "m\"x", text);
            assert_eq!(Answer::decode(&answer.encode()).as_ref(), Ok(&answer));
            assert_eq!(answer.text(), text);
            assert_eq!(answer.usage_counts(), (Some(0), Some(0)));
            assert_eq!(answer.model(), "m\"x");
            whole(&answer);
            assert!(filled(&answer.stream(false)).ends_with("data: [DONE]\n\n"));
        }
    }
}

#[test]
fn raw_bodies_are_not_touched() {
    let body = r#"{"object":"list","id":"embd-1","created":3,"data":[{"index":0,"embedding":"AAAA"}],"model":"e","usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    let answer = of_body(Form::Raw, body);
    assert_eq!(whole(&answer), body);
    assert_eq!(answer.stream(true), answer.whole());
    assert_eq!((answer.model(), answer.usage_counts()), ("e", (Some(2), None)));
    assert_eq!(answer.text(), body);
}

#[test]
fn ids_cannot_leave_their_string() {
    let answer = Answer::of_text(Form::Chat, "m", "t");
    let filled = answer.whole().fill("a\",\"x\":\"b\né", 1);
    assert!(filled.starts_with(b"{\"id\":\"chatcmpl-axb\","), "{filled:?}");
}
