//! What replicas tell each other through a stream in their Redis: which questions have answers, and
//! which answers were wrong. Answers themselves, and what is dropped, they see in Redis.

use std::collections::HashMap;

use redis::streams::StreamId;
use redis::{Cmd, FromRedisValue, Value};

use super::key::Key;
use super::semantic::{EmbedderId, Embedding};

/// The stream.
pub(super) const STREAM: &str = "sluicegate:cache:news";
/// About so many are kept for replicas that come later.
const KEPT: usize = 10_000;
/// Read at one time.
const BATCH: usize = 500;

/// Something that happened to a cache.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The question under this key has an answer; with its place among others, where it is known.
    Put(Key, Option<Embedding>),
    /// The answer under `key` was wrong for the questions of `asked`, at this similarity at most.
    Wrong {
        /// The answer's key.
        key: Key,
        /// The questions' keys.
        asked: Vec<Key>,
        /// The similarity.
        similarity: f64,
    },
}

/// The command that tells `news`.
pub(super) fn written(news: &News, instance: &str) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(STREAM).arg("MAXLEN").arg("~").arg(KEPT).arg("*").arg("from").arg(instance);
    match news {
        News::Put(key, embedding) => {
            command.arg("put").arg(key.to_string());
            if let Some(Embedding { embedder, vector }) = embedding {
                let bytes: Vec<u8> = vector.iter().flat_map(|one| one.to_le_bytes()).collect();
                command.arg("embedder").arg(&embedder[..]).arg("vector").arg(bytes);
            }
        }
        News::Wrong { key, asked, similarity } => {
            let asked: Vec<String> = asked.iter().map(Key::to_string).collect();
            command.arg("wrong").arg(key.to_string());
            command.arg("asked").arg(asked.join(" ")).arg("similarity").arg(similarity.to_string());
        }
    }
    command
}

/// The command that reads what was told after `heard`.
pub(super) fn next(heard: &str) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(BATCH).arg("STREAMS").arg(STREAM).arg(heard);
    command
}

/// The command that reads the last of all that was told.
pub(super) fn last() -> Cmd {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(STREAM).arg("+").arg("-").arg("COUNT").arg(1);
    command
}

/// An entry of the stream that no replica wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// What one of the stream says, if another instance than this said it.
pub(super) fn read(told: &StreamId, instance: &str) -> Result<Option<News>, Garbage> {
    match text(&told.map, "from").ok_or(Garbage)? {
        own if own == instance => Ok(None),
        _ => news(&told.map).map(Some).ok_or(Garbage),
    }
}

fn news(fields: &HashMap<String, Value>) -> Option<News> {
    if let Some(key) = text(fields, "put") {
        return Some(News::Put(Key::parse(&key)?, embedding(fields)));
    }
    let key = Key::parse(&text(fields, "wrong")?)?;
    let asked = text(fields, "asked")?.split(' ').filter_map(Key::parse).collect();
    let similarity = text(fields, "similarity")?.parse().ok()?;
    Some(News::Wrong { key, asked, similarity })
}

fn text(fields: &HashMap<String, Value>, name: &str) -> Option<String> {
    String::from_redis_value_ref(fields.get(name)?).ok()
}

fn embedding(fields: &HashMap<String, Value>) -> Option<Embedding> {
    let bytes = |name: &str| Vec::<u8>::from_redis_value_ref(fields.get(name)?).ok();
    let embedder = EmbedderId::try_from(bytes("embedder")?).ok()?;
    let vector = bytes("vector")?;
    let (numbers, []) = vector.as_chunks::<4>() else { return None };
    let vector = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    Some(Embedding { embedder, vector })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(news: &News) -> StreamId {
        let arguments: Vec<Vec<u8>> = written(news, "one")
            .args_iter()
            .filter_map(|argument| match argument {
                redis::Arg::Simple(bytes) => Some(bytes.to_vec()),
                _ => None,
            })
            .collect();
        let fields = arguments[6..].chunks(2).map(|pair| {
            let name = String::from_utf8(pair[0].clone()).expect("a name");
            (name, Value::BulkString(pair[1].clone()))
        });
        StreamId { id: "1-1".into(), map: fields.collect(), ..StreamId::default() }
    }

    #[test]
    fn what_one_tells_the_others_hear() {
        let key = |text| Key::new(&[1; 32], Some(text));
        let embedding = Embedding { embedder: [7; 16], vector: [0.25, -1.5].into() };
        for news in [
            News::Put(key("a"), None),
            News::Put(key("a"), Some(embedding)),
            News::Wrong { key: key("a"), asked: vec![key("b"), key("c")], similarity: 0.97 },
        ] {
            assert_eq!(read(&sent(&news), "two"), Ok(Some(news.clone())));
            assert_eq!(read(&sent(&news), "one"), Ok(None), "one's own is no news");
        }
    }

    #[test]
    fn garbage_is_no_news() {
        let field = |name: &str, value: &[u8]| (name.to_owned(), Value::BulkString(value.to_vec()));
        for fields in [
            vec![],
            vec![field("from", b"x")],
            vec![field("from", b"x"), field("put", b"no key")],
            vec![field("from", b"x"), field("wrong", &[b'a'; 64])],
            vec![field("from", &[0xff]), field("put", &[b'a'; 64])],
        ] {
            let told = StreamId { map: fields.into_iter().collect(), ..StreamId::default() };
            assert_eq!(read(&told, "two"), Err(Garbage));
        }
    }
}
