//! What is kept between two pieces of an answer, as bytes: a version, the parts, and the text held
//! back. Bytes that cannot be read count as none.

use crate::fence::Fence;
use crate::json::Json;
use crate::opening::Opening;

const VERSION: u8 = 1;

/// What is kept between two pieces of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The opening phrase.
    pub(crate) opening: Opening,
    /// The code fence it is in.
    pub(crate) fence: Fence,
    /// The brackets it is in.
    pub(crate) json: Json,
}

impl State {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        self.fence.encode(&mut bytes);
        self.json.encode(&mut bytes);
        match &self.opening {
            Opening::Over => bytes.push(0),
            Opening::Held(text) => {
                bytes.push(1);
                bytes.extend(text.as_bytes());
            }
        }
        bytes
    }

    /// From bytes; afresh where these are none, or cannot be read.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.iter().copied();
        if rest.next()? != VERSION {
            return None;
        }
        let fence = Fence::decode(&mut rest)?;
        let json = Json::decode(&mut rest)?;
        let opening = match rest.next()? {
            0 => Opening::Over,
            1 => Opening::Held(
                std::str::from_utf8(&bytes[bytes.len() - rest.len()..]).ok()?.to_owned(),
            ),
            _ => return None,
        };
        Some(Self { opening, fence, json })
    }
}
