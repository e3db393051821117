//! The parts of a message's content: texts, images and sounds.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::Refusal;
use super::super::json::{Keys, is_string, members, text};
use super::super::message::Message;
use super::{invalid_format, refused};

/// One part of a message's content, a message of its own for Ollama.
pub(super) fn part_of(part: &RawValue) -> Result<Message<'_>, Refusal> {
    let fields = ["type", "text", "image_url", "input_audio"];
    let [kind, words, image, audio] =
        members(part.get(), Keys::Exact, fields).map_err(|_| invalid_format())?;
    match kind.and_then(text).as_deref() {
        Some("text") => {
            let content = words.filter(|words| is_string(words)).ok_or_else(invalid_format)?;
            Ok(Message { content: Some(content).into(), ..Message::default() })
        }
        Some("image_url") => {
            let image = image.ok_or_else(invalid_format)?;
            let url = if is_string(image) {
                Some(image)
            } else {
                let [url] =
                    members(image.get(), Keys::Exact, ["url"]).map_err(|_| invalid_format())?;
                url
            };
            let url = url.and_then(text).ok_or_else(invalid_format)?;
            Ok(Message { images: vec![image_data(url)?], ..Message::default() })
        }
        Some("input_audio") => {
            let invalid = || refused("invalid input_audio format");
            let audio = audio.ok_or_else(invalid)?;
            let [data] = members(audio.get(), Keys::Exact, ["data"]).map_err(|_| invalid())?;
            let missing = || refused("invalid input_audio format: missing data");
            let data = data.and_then(text).ok_or_else(missing)?;
            let data = base64(data).ok_or_else(|| refused("invalid input_audio base64 data"))?;
            Ok(Message { images: vec![data], ..Message::default() })
        }
        Some(_) | None => Err(invalid_format()),
    }
}

/// The base64 of a data URL.
pub fn image_data(url: Cow<'_, str>) -> Result<Cow<'_, str>, Refusal> {
    const KINDS: [&str; 5] = [
        "data:;base64,",
        "data:image/jpeg;base64,",
        "data:image/jpg;base64,",
        "data:image/png;base64,",
        "data:image/webp;base64,",
    ];
    if url.starts_with("http://") || url.starts_with("https://") {
        return Err(refused(
            "image URLs are not currently supported, please use base64 encoded data instead",
        ));
    }
    let invalid = || refused("invalid image input");
    let head = KINDS.iter().find(|kind| url.starts_with(**kind)).ok_or_else(invalid)?.len();
    let data = match url {
        Cow::Borrowed(url) => Cow::Borrowed(&url[head..]),
        Cow::Owned(url) => Cow::Owned(url[head..].to_owned()),
    };
    base64(data).ok_or_else(invalid)
}

/// `data` when it is what Go decodes as base64: padded, with or without line ends.
pub fn base64(data: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let data =
        if data.contains(['\r', '\n']) { Cow::Owned(data.replace(['\r', '\n'], "")) } else { data };
    let digits = data.trim_end_matches('=');
    let valid = data.len().is_multiple_of(4)
        && data.len() - digits.len() <= 2
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    valid.then_some(data)
}
