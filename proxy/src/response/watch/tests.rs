//! Streams as real servers send them.

use super::*;

fn chunks(hide_usage: bool, events: &[&str]) -> (Watch, Vec<Verdict>) {
    let mut watch = Watch::new(Grammar::Chunks, hide_usage);
    let verdicts =
        events.iter().map(|data| watch.inspect(format!("data: {data}\n\n").as_bytes())).collect();
    (watch, verdicts)
}

const ROLE: &str =
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const TEXT: &str = r#"{"choices":[{"index":0,"delta":{"content":"say \"finish_reason\": \"stop\", \"usage\":{}"},"finish_reason":null}]}"#;
const FINISH_CHUNK: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason": "stop"}]}"#;
const USAGE_CHUNK: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;

#[test]
fn content_finish_usage_and_done_are_seen_in_their_turn() {
    let (watch, _) = chunks(true, &[ROLE]);
    assert!(!watch.content && !watch.is_complete());
    let (watch, _) = chunks(true, &[ROLE, TEXT]);
    assert!(watch.content && !watch.is_complete(), "text that quotes the keys is only text");
    let (watch, verdicts) = chunks(true, &[ROLE, TEXT, FINISH_CHUNK, USAGE_CHUNK, "[DONE]"]);
    assert!(watch.finished && watch.done);
    assert_eq!(watch.usage.and_then(|usage| usage.completion_tokens), Some(5));
    assert_eq!(verdicts[3], Verdict::Drop);
}

#[test]
fn usage_the_client_asked_for_passes() {
    let (watch, verdicts) = chunks(false, &[TEXT, USAGE_CHUNK]);
    assert_eq!(verdicts[1], Verdict::Pass);
    assert!(watch.usage.is_some());
}

#[test]
fn usage_inside_a_chunk_with_choices_becomes_null() {
    let event = r#"{"choices":[{"text":"x"}],"usage":{"prompt_tokens":0},"id":9007199254740993}"#;
    let (_, verdicts) = chunks(true, &[event]);
    let expected =
        "data: {\"choices\":[{\"text\":\"x\"}],\"usage\":null,\"id\":9007199254740993}\n\n";
    assert_eq!(verdicts[0], Verdict::Replace(Bytes::from_static(expected.as_bytes())));
}

#[test]
fn an_event_without_its_usage_keeps_its_lines_and_fields() {
    for end in ["\n", "\r\n", "\r"] {
        let event = [
            "event: chunk",
            "data: {\"choices\":[{\"text\":\"x\"}],",
            "id: 7",
            "data:\"usage\":{",
            "data: \"prompt_tokens\":1}",
            "data: }",
            ": a comment",
            "",
            "",
        ];
        let verdict = Watch::new(Grammar::Chunks, true).inspect(event.join(end).as_bytes());
        let expected = "event: chunk\nid: 7\n: a comment\n\
             data: {\"choices\":[{\"text\":\"x\"}],\ndata: \"usage\":null\ndata: }\n\n";
        assert_eq!(verdict, Verdict::Replace(Bytes::from_static(expected.as_bytes())), "{end:?}");
    }
}

#[test]
fn counts_under_both_names_are_hidden_too() {
    let both = r#"{"choices":[],"usage":{"prompt_tokens":1,"input_tokens":1,"completion_tokens":2,"output_tokens":2}}"#;
    let (watch, verdicts) = chunks(true, &[both]);
    assert_eq!(verdicts[0], Verdict::Drop);
    assert_eq!(watch.usage.and_then(|usage| usage.completion_tokens), Some(2));
    let (_, verdicts) = chunks(true, &[r#"{"choices":[],"usage":{"prompt_tokens":1.5}}"#]);
    assert_eq!(verdicts[0], Verdict::Drop);
}

#[test]
fn of_two_choices_both_must_finish() {
    let second = r#"{"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":null}]}"#;
    let (watch, _) = chunks(true, &[TEXT, FINISH_CHUNK, second]);
    assert!(!watch.is_complete());
    let second_done = r#"{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#;
    let (watch, _) = chunks(true, &[TEXT, second_done]);
    assert!(!watch.is_complete(), "the first goes on");
    let (watch, _) = chunks(true, &[TEXT, second_done, FINISH_CHUNK, "[DONE]"]);
    assert!(watch.is_complete());
    let (watch, _) =
        chunks(true, &[r#"{"choices":[{"delta":{"content":""},"finish_reason":""}]}"#]);
    assert!(!watch.is_complete() && !watch.content, "an empty reason is none");
}

#[test]
fn a_failed_response_is_an_error() {
    let mut watch = Watch::new(Grammar::Responses, false);
    watch.inspect(b"event: response.failed\ndata: {\"type\":\"response.failed\"}\n\n");
    assert!(watch.error.is_some() && !watch.content);
}

#[test]
fn plain_events_are_found_together_up_to_the_first_special_one() {
    let event = |data: &str| format!("data: {data}\n\n");
    let text = event(TEXT);
    let (watch, _) = chunks(true, &[TEXT]);
    for special in [FINISH_CHUNK, USAGE_CHUNK, "[DONE]", r#"{"error":{"message":"x"}}"#] {
        let stream = text.repeat(3) + &event(special) + &text;
        assert_eq!(watch.plain_prefix(stream.as_bytes()), 3 * text.len(), "{special}");
    }
    let cut = text.repeat(2) + &text[..20];
    assert_eq!(watch.plain_prefix(cut.as_bytes()), 2 * text.len());
    let (before_content, _) = chunks(true, &[ROLE]);
    assert_eq!(before_content.plain_prefix(text.as_bytes()), 0);
    let (finished, _) = chunks(true, &[TEXT, FINISH_CHUNK]);
    assert_eq!(finished.plain_prefix(text.as_bytes()), 0, "another choice goes on");
}

#[test]
fn a_crashed_runners_empty_chunk_is_no_end() {
    let crash =
        r#"{"model":"","choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}"#;
    let (watch, _) = chunks(true, &[ROLE, TEXT, crash]);
    assert!(!watch.is_complete());
}

#[test]
fn errors_inside_the_stream_are_seen() {
    let (watch, _) = chunks(true, &[r#"{"error":{"message":"boom"}}"#]);
    assert_eq!(watch.error.as_deref(), Some("boom"));
    let (watch, _) = chunks(true, &[r#"{"error":null,"choices":[{"delta":{"content":"x"}}]}"#]);
    assert!(watch.error.is_none() && watch.content);
}

#[test]
fn comments_and_strange_data_pass() {
    let mut watch = Watch::new(Grammar::Chunks, true);
    assert_eq!(watch.inspect(b": PROCESSING\n\n"), Verdict::Pass);
    assert!(!watch.content);
    assert_eq!(watch.inspect(b"data: not json\n\n"), Verdict::Pass);
    assert!(watch.content);
}

#[test]
fn responses_end_with_their_final_event() {
    let mut watch = Watch::new(Grammar::Responses, false);
    watch.inspect(b"event: response.created\ndata: {\"type\":\"response.created\"}\n\n");
    assert!(!watch.content);
    watch.inspect(b"event: response.output_text.delta\ndata: {\"delta\":\"x\"}\n\n");
    assert!(watch.content && !watch.is_complete());
    watch.inspect(
        b"event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
    );
    assert!(watch.done);
    assert_eq!(watch.usage.and_then(|usage| usage.completion_tokens), Some(2));
}

#[test]
fn messages_end_with_message_stop() {
    let mut watch = Watch::new(Grammar::Messages, false);
    let start =
        r#"{"type":"message_start","message":{"usage":{"input_tokens":11,"output_tokens":1}}}"#;
    watch.inspect(format!("event: message_start\ndata: {start}\n\n").as_bytes());
    let begun = Usage { prompt_tokens: Some(11), completion_tokens: None };
    assert_eq!(watch.usage, Some(begun), "as if the client left now");
    assert!(!watch.content);
    watch.inspect(b"event: content_block_delta\r\ndata: {}\r\n\r\n");
    assert!(watch.content);
    watch.inspect(b"data: {\"type\":\"message_stop\"}\n\n");
    assert!(watch.done);
}

#[test]
fn native_lines_end_with_done() {
    let mut watch = Watch::new(Grammar::Native, false);
    watch.inspect(
        b"{\"message\":{\"tool_calls\":[{\"arguments\":{\"done\":true}}]},\"done\":false}\n",
    );
    assert!(watch.content && !watch.is_complete(), "a nested key is not the end");
    watch.inspect(b"{\"done\":true,\"prompt_eval_count\":1,\"eval_count\":2}\n");
    assert!(watch.done && watch.usage.is_some());
    let mut failed = Watch::new(Grammar::Native, false);
    failed.inspect(b"{\"error\":\"boom\"}\n");
    assert_eq!(failed.error.as_deref(), Some("boom"));
}

#[test]
fn failures_are_told_in_each_grammar() {
    let told = |grammar| {
        let bytes = Watch::new(grammar, false).failure("cut", "upstream_truncated");
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    };
    assert!(told(Grammar::Chunks).starts_with("data: {\"error\":{\"message\":\"cut\""));
    let responses = told(Grammar::Responses);
    let head = "event: error\ndata: {\"type\":\"error\",\"sequence_number\":";
    assert!(responses.starts_with(&format!("{head}0,\"error\":{{")), "{responses}");
    let mut begun = Watch::new(Grammar::Responses, false);
    begun.inspect(b"event: response.created\ndata: {\"response\":{\"id\":\"resp_1\"}}\n\n");
    let responses = begun.failure("cut \"off\"", "upstream_truncated");
    let mut seen = Watch::new(Grammar::Responses, false);
    let responses = String::from_utf8_lossy(&responses).into_owned();
    let (failed, error) = responses.split_once("\n\n").expect("two events");
    seen.inspect(format!("{failed}\n\n").as_bytes());
    assert_eq!(seen.error.as_deref(), Some("cut \"off\""));
    assert!(error.starts_with(&format!("{head}2,")), "{error}");
    let failed = failed.strip_prefix("event: response.failed\ndata: ").expect("the first");
    let failed: serde_json::Value = serde_json::from_str(failed).expect("JSON");
    assert_eq!(failed["sequence_number"], 1);
    assert_eq!(failed["response"]["id"], "resp_1");
    assert_eq!(failed["response"]["error"]["code"], "upstream_truncated");
    assert!(told(Grammar::Messages).contains("\"type\":\"api_error\""));
    assert_eq!(told(Grammar::Native), "{\"error\":\"cut\"}\n");
}
