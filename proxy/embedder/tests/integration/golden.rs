use serde::Deserialize;
use serde_json::json;
use sluicegate_local_embedder::Model;

use crate::model::{ModelDirectory, distance, embed};

/// Most that a number of a vector may be off: the reference computes in f64, the crate in f32.
const TOLERANCE: f32 = 1e-5;

/// A line of `tests/golden.json`, made by `tests/reference.py`.
#[derive(Deserialize)]
struct Golden {
    text: String,
    tokens: usize,
    mean: Vec<f32>,
    cls: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("../golden.json")).expect("golden values")
}

fn assert_near(text: &str, left: &[f32], right: &[f32]) {
    let off = distance(left, right);
    assert!(off <= TOLERANCE, "{text:?} is off by {off}");
}

#[test]
fn mean_pooling_agrees_with_the_reference() {
    let model = ModelDirectory::new().load();
    assert_eq!(model.dimensions(), 32);
    assert_eq!(model.max_tokens(), 24);
    for case in golden() {
        assert_near(&case.text, &embed(&model, &case.text), &case.mean);
    }
}

#[test]
fn cls_pooling_agrees_with_the_reference() {
    let directory = ModelDirectory::new();
    directory.write_json("1_Pooling/config.json", &json!({"pooling_mode_cls_token": true}));
    let model = directory.load();
    for case in golden() {
        assert_near(&case.text, &embed(&model, &case.text), &case.cls);
    }
}

#[test]
fn the_reference_counts_the_same_tokens() {
    for case in golden() {
        let directory = ModelDirectory::new();
        let allow = |tokens| {
            let settings = json!({"max_seq_length": tokens});
            directory.write_json("sentence_bert_config.json", &settings);
            directory.load().embed(std::slice::from_ref(&case.text))
        };
        assert!(allow(case.tokens).is_ok(), "{:?}", case.text);
        let error = allow(case.tokens - 1).expect_err("one token too many").to_string();
        assert!(error.contains(&format!("has {} tokens", case.tokens)), "{error}");
    }
}

#[test]
fn a_vector_does_not_depend_on_the_batch() {
    let model = ModelDirectory::new().load();
    let texts: Vec<String> = golden().into_iter().map(|case| case.text).collect();
    // More texts than fit a batch, of every length, neither sorted nor in one order.
    let many: Vec<String> = texts.iter().cycle().take(400).cloned().collect();
    let vectors = model.embed(&many).expect("vectors");
    for (text, vector) in many.iter().zip(&vectors) {
        assert_near(text, vector, &embed(&model, text));
    }
}

#[test]
fn vectors_have_length_one() {
    let model = ModelDirectory::new().load();
    for case in golden() {
        let norm = embed(&model, &case.text).iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-6, "{norm}");
    }
}

#[test]
fn names_of_other_exports_give_the_same_vectors() {
    let expected = embed(&ModelDirectory::new().load(), "weather in paris");
    let directory = ModelDirectory::new();
    directory.write_tensors(|tensors| {
        *tensors = std::mem::take(tensors)
            .into_iter()
            .map(|(name, tensor)| {
                let old = name
                    .replace("LayerNorm.weight", "LayerNorm.gamma")
                    .replace("LayerNorm.bias", "LayerNorm.beta");
                (format!("bert.{old}"), tensor)
            })
            .collect();
        tensors.insert("cls.predictions.bias".into(), (vec![1], vec![0.0]));
    });
    assert_eq!(embed(&directory.load(), "weather in paris"), expected);
}

#[test]
fn a_model_may_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Model>();
}

#[test]
fn no_texts_give_no_vectors() {
    assert!(ModelDirectory::new().load().embed(&[]).expect("nothing to do").is_empty());
}
