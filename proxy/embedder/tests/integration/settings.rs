use serde_json::{Value, json};

use crate::model::{ModelDirectory, distance, embed};

fn pooling(settings: &Value) -> ModelDirectory {
    let directory = ModelDirectory::new();
    directory.write_json("1_Pooling/config.json", settings);
    directory
}

#[test]
fn both_forms_of_the_pooling_file_are_read() {
    let embed = |settings| embed(&pooling(&settings).load(), "the quick fox");
    let mean = embed(json!({"word_embedding_dimension": 32, "pooling_mode_cls_token": false,
                            "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false}));
    let cls = embed(json!({"pooling_mode_cls_token": true, "include_prompt": true}));
    assert_eq!(embed(json!({"embedding_dimension": 32, "pooling_mode": "mean"})), mean);
    assert_eq!(embed(json!({"embedding_dimension": 32, "pooling_mode": "cls"})), cls);
    assert!(distance(&mean, &cls) > 0.01);
}

#[test]
fn other_pooling_is_refused() {
    for (settings, why) in [
        (json!({"pooling_mode_max_tokens": true}), "pooling max_tokens is not supported"),
        (json!({"pooling_mode": "lasttoken"}), "pooling lasttoken is not supported"),
        (json!({"pooling_mode": ["mean", "cls"]}), "of several modes is not supported"),
        (
            json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}),
            "pooling cls_token + mean_tokens is not supported",
        ),
        (json!({"pooling_mode_mean_tokens": false}), "names no pooling mode"),
        (json!({"pooling_mode": "mean", "word_embedding_dimension": 384}), "vectors of 384"),
        (json!([1]), "invalid type"),
    ] {
        let refusal = pooling(&settings).refusal();
        assert!(refusal.contains("1_Pooling/config.json cannot be used: "), "{refusal}");
        assert!(refusal.contains(why), "{refusal}");
    }
}

#[test]
fn only_steps_that_are_done_may_be_listed() {
    let step =
        |class: &str, path: &str| json!({"idx": 0, "name": "0", "path": path, "type": class});
    let transformer = step("sentence_transformers.models.Transformer", "");
    let pooling = step("sentence_transformers.models.Pooling", "1_Pooling");
    let with = |steps: Value| {
        let directory = ModelDirectory::new();
        directory.write_json("modules.json", &steps);
        directory.write_json("1_Pooling/config.json", &json!({"pooling_mode": "mean"}));
        directory
    };
    let normalize = step("sentence_transformers.base.modules.Normalize", "2_Normalize");
    with(json!([transformer, pooling, normalize])).load();
    let dense = step("sentence_transformers.models.Dense", "2_Dense");
    let refusal = with(json!([transformer, pooling, dense])).refusal();
    assert!(refusal.ends_with("sentence_transformers.models.Dense is not supported"), "{refusal}");
    let elsewhere = step("sentence_transformers.models.Transformer", "0_Transformer");
    let refusal = with(json!([elsewhere, pooling])).refusal();
    assert!(refusal.contains("\"0_Transformer\", which is not the usual place"), "{refusal}");
    let incomplete = with(json!([transformer, pooling]));
    incomplete.remove("1_Pooling/config.json");
    let refusal = incomplete.refusal();
    assert!(refusal.ends_with("is missing, though modules.json names it; download it too"));
}

#[test]
fn the_longest_text_is_the_model_s_to_say() {
    let with = |settings: Value| {
        let directory = ModelDirectory::new();
        directory.write_json("sentence_bert_config.json", &settings);
        directory
    };
    assert_eq!(with(json!({"max_seq_length": 8, "do_lower_case": false})).load().max_tokens(), 8);
    assert_eq!(with(json!({"max_seq_length": null})).load().max_tokens(), 24);
    for length in [0, 25] {
        let refusal = with(json!({"max_seq_length": length})).refusal();
        let why = format!("max_seq_length is {length}, config.json allows 1 to 24");
        assert!(refusal.ends_with(&why), "{refusal}");
    }
    assert!(with(json!({"max_seq_length": -1})).refusal().contains("sentence_bert_config.json"));
}

#[test]
fn lower_case_comes_before_the_tokenizer() {
    let directory = ModelDirectory::new();
    let mut tokenizer = crate::model::tokenizer();
    tokenizer["normalizer"]["lowercase"] = json!(false);
    directory.write_json("tokenizer.json", &tokenizer);
    let both = |directory: &ModelDirectory| {
        let model = directory.load();
        distance(&embed(&model, "PARIS"), &embed(&model, "paris"))
    };
    assert!(both(&directory) > 0.01);
    directory.write_json("sentence_bert_config.json", &json!({"do_lower_case": true}));
    assert!(both(&directory) < f32::EPSILON);
}
