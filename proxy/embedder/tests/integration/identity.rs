use serde_json::json;

use crate::model::ModelDirectory;

/// Whether a change to a sound directory changes the identifier.
fn changes(change: impl FnOnce(&ModelDirectory)) -> bool {
    let directory = ModelDirectory::new();
    let before = directory.load().id();
    change(&directory);
    directory.load().id() != before
}

#[test]
fn what_decides_the_vectors_decides_the_identifier() {
    assert!(changes(|model| model.write_tensors(|tensors| {
        let tensor = tensors.get_mut("encoder.layer.1.output.dense.bias").expect("a tensor");
        tensor.1[31] += 1e-3;
    })));
    assert!(changes(|model| {
        let mut tokenizer = crate::model::tokenizer();
        tokenizer["normalizer"]["lowercase"] = json!(false);
        model.write_json("tokenizer.json", &tokenizer);
    }));
    assert!(changes(|model| model.write_config("layer_norm_eps", json!(1e-6))));
    assert!(changes(|model| {
        model.write_json("1_Pooling/config.json", &json!({"pooling_mode_cls_token": true}));
    }));
    assert!(changes(|model| {
        model.write_json("sentence_bert_config.json", &json!({"do_lower_case": true}));
    }));
}

#[test]
fn what_does_not_decide_the_vectors_leaves_the_identifier() {
    assert!(!changes(|_| {}));
    assert!(!changes(|model| model.write("README.md", b"a model")));
    assert!(!changes(|model| model.write_json("tokenizer_config.json", &json!({"a": 1}))));
    // The mean is also what a model without the file gets.
    assert!(!changes(|model| {
        model.write_json("1_Pooling/config.json", &json!({"pooling_mode_mean_tokens": true}));
    }));
    assert!(!changes(|model| {
        model.write_json("sentence_bert_config.json", &json!({"max_seq_length": 8}));
    }));
}
