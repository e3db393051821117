use super::super::entry::tests::entry as fixture;
use super::*;
use crate::config::cache::{EmbedderConfig, Vectors};

/// A text's vector is given with it: `text|x,y`.
#[derive(Debug)]
struct Written;

#[async_trait]
impl Embedder for Written {
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Embedding>, String> {
        if texts.iter().any(|text| text.starts_with("broken")) {
            return Err("broken".into());
        }
        if texts.iter().any(|text| text.starts_with("slow")) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(texts.iter().map(|text| vector(&[text.len() as f32, 1.0])).collect())
    }
}

fn vector(vector: &[f32]) -> Embedding {
    Embedding { embedder: [1; 16], vector: vector.into() }
}

fn config(path: Option<&std::path::Path>) -> SemanticConfig {
    SemanticConfig {
        embedder: EmbedderConfig::Upstream { upstream: 0, model: "m".into() },
        threshold: 0.95,
        vectors: Vectors::Memory,
        path: path.map(std::path::Path::to_path_buf),
        entries: 10,
        size: 64 << 20,
        deadline: Duration::from_millis(50),
    }
}

fn semantic(path: Option<&std::path::Path>) -> Semantic {
    Semantic::new(&config(path), Arc::new(Written), 1_000).expect("opened")
}

const SCOPE: Scope = [5; 32];

fn entry(text: &str) -> Entry {
    let mut entry = fixture(text, "an answer");
    entry.facts.stored = super::super::now();
    entry
}

const STORED: &str = "Who invented the steam engine?";
const ASKED: &str = "Who is the inventor of the steam engine?";

#[tokio::test]
async fn candidates_must_be_near_and_pass_the_guard() {
    let semantic = semantic(None);
    semantic.remember(SCOPE, &entry(STORED), &vector(&[1.0, 0.0]));
    let find = |text: &str, at: &[f32]| semantic.find(&SCOPE, text, &vector(at), 0.95);
    let near = find(ASKED, &[1.0, 0.1]).expect("found");
    assert_eq!(near[0].key, entry(STORED).key);
    assert!((0.99..1.0).contains(&near[0].similarity));
    assert_eq!(find(ASKED, &[1.0, 1.0]), Err("unlike"));
    assert!(find("Who invented the petrol engine?", &[1.0, 0.0]).is_err());
    assert_eq!(semantic.find(&[6; 32], ASKED, &vector(&[1.0, 0.0]), 0.95), Err("absent"));
    let other = Embedding { embedder: [2; 16], ..vector(&[1.0, 0.0]) };
    assert_eq!(semantic.find(&SCOPE, ASKED, &other, 0.95), Err("absent"));
}

#[tokio::test]
async fn whoever_finds_candidates_they_are_judged() {
    let semantic = semantic(None);
    let key = entry(STORED).key;
    let judge = |text: &str, stored: &str, similarity| {
        semantic.judge(text, 0.95, [(Near { key, similarity }, stored)].into_iter())
    };
    assert_eq!(judge(ASKED, STORED, 0.96), Ok(vec![Near { key, similarity: 0.96 }]));
    for similarity in [0.94, -1.0, f64::NAN] {
        assert_eq!(judge(ASKED, STORED, similarity), Err("unlike"));
    }
    assert!(judge("Who never invented the steam engine?", STORED, 1.0).is_err());
    assert_eq!(judge(ASKED, "", 1.0), Err("absent"));
    semantic.raise(key, 0.97);
    assert_eq!(judge(ASKED, STORED, 0.97), Err("unlike"));
    assert!(judge(ASKED, STORED, 0.98).is_ok());
}

#[tokio::test]
async fn a_wrong_answer_takes_a_greater_likeness_from_then_on() {
    let semantic = semantic(None);
    let stored = entry(STORED);
    semantic.raise(stored.key, 0.99);
    semantic.remember(SCOPE, &stored, &vector(&[1.0, 0.0]));
    let find = |at: &[f32]| semantic.find(&SCOPE, ASKED, &vector(at), 0.95);
    assert_eq!(find(&[1.0, 0.2]), Err("unlike"));
    assert!(find(&[1.0, 0.01]).is_ok());
}

#[tokio::test]
async fn what_is_on_disk_is_there_after_a_restart_and_what_was_dropped_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let (kept, dropped) = (entry(STORED), entry("What is the boiling point of water?"));
    {
        let semantic = semantic(Some(dir.path()));
        semantic.remember(SCOPE, &kept, &vector(&[1.0, 0.0]));
        semantic.remember(SCOPE, &dropped, &vector(&[0.0, 1.0]));
        semantic.forget(&dropped.key);
        assert_eq!(semantic.read(&kept.key).await.expect("read").answer.text(), "an answer");
    }
    let semantic = self::semantic(Some(dir.path()));
    // The thread that wrote lets go of the directory at its own time.
    while semantic.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        semantic.keep();
    }
    assert_eq!(semantic.len(), 1);
    assert!(semantic.find(&SCOPE, ASKED, &vector(&[1.0, 0.0]), 0.95).is_ok());
    assert_eq!(semantic.read(&kept.key).await.expect("read").facts, kept.facts);
    semantic.forget_all(&Selection::Owner("bob".into()));
    assert_eq!(semantic.len(), 1);
    semantic.forget_all(&Selection::Owner("alice".into()));
    assert!(semantic.is_empty() && semantic.read(&kept.key).await.is_none());
}

#[tokio::test]
async fn a_slow_or_broken_embedder_is_a_miss() {
    let semantic = semantic(None);
    let hurried = Some(Duration::from_millis(50));
    assert_eq!(semantic.embed("slow", hurried).await, Err("embedder_slow"));
    assert_eq!(semantic.embed("fine", Some(Duration::from_secs(5))).await, Ok(vector(&[4.0, 1.0])));
    for _ in 0..4 {
        assert_eq!(
            semantic.embed("broken", Some(Duration::from_secs(5))).await,
            Err("embedder_failed")
        );
    }
    // It is left alone for a while.
    assert_eq!(semantic.embed("fine", Some(Duration::from_secs(5))).await, Err("embedder_failed"));
}
