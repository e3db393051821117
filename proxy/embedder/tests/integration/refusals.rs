use std::fs::{self, File};

use serde_json::{Value, json};
use sluicegate_local_embedder::{EmbedError, LoadError, Model};

use crate::model::{ModelDirectory, serialise, tensors, tokenizer};

#[test]
fn a_missing_file_is_named_with_what_to_do() {
    for (name, hint) in [
        ("config.json", "config.json is missing"),
        ("tokenizer.json", "vocab.txt alone is not enough"),
        ("model.safetensors", "AutoModel.from_pretrained(DIR).save_pretrained(DIR)"),
    ] {
        let directory = ModelDirectory::new();
        directory.remove(name);
        let error = directory.try_load().expect_err("a file is missing");
        assert!(matches!(&error, LoadError::Missing { path, .. } if *path == directory.file(name)));
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn a_place_that_is_no_directory_is_refused() {
    let directory = ModelDirectory::new();
    let error = Model::load(&directory.file("none")).expect_err("nothing there");
    assert!(error.to_string().ends_with("none is missing"), "{error}");
    let error = Model::load(&directory.file("config.json")).expect_err("a file");
    assert!(error.to_string().ends_with("it is not a directory"), "{error}");
    directory.remove("config.json");
    fs::create_dir(directory.file("config.json")).expect("a folder");
    assert!(directory.refusal().ends_with("it is not a regular file"));
}

#[test]
fn a_file_beyond_its_bound_is_not_read() {
    for (name, limit) in
        [("config.json", 1_u64 << 20), ("tokenizer.json", 64 << 20), ("model.safetensors", 2 << 30)]
    {
        let directory = ModelDirectory::new();
        // A sparse file: it takes no room on disk.
        let file = File::create(directory.file(name)).expect("a file");
        file.set_len(limit + 1).expect("a length");
        let refusal = directory.refusal();
        let why = format!("{name} is {} bytes long; at most {limit} are read", limit + 1);
        assert!(refusal.ends_with(&why), "{refusal}");
    }
}

#[test]
fn a_configuration_that_is_not_supported_says_why() {
    for (key, value, why) in [
        ("model_type", json!("distilbert"), "model_type is \"distilbert\"; only \"bert\""),
        ("model_type", Value::Null, "it has no model_type"),
        ("hidden_act", json!("swish"), "hidden_act is \"swish\""),
        ("position_embedding_type", json!("relative_key"), "only \"absolute\" is supported"),
        ("is_decoder", json!(true), "only encoders"),
        ("num_attention_heads", json!(5), "cannot be shared by 5 attention heads"),
        ("num_attention_heads", json!(0), "num_attention_heads is 0"),
        ("num_hidden_layers", json!(0), "num_hidden_layers is 0"),
        ("layer_norm_eps", json!(0.0), "is not between 0 and 1"),
        ("hidden_size", json!(-32), "invalid value"),
        ("hidden_size", json!("32"), "invalid type"),
        ("vocab_size", json!(10), "tokenizer.json cannot be used: it has a token"),
    ] {
        let directory = ModelDirectory::new();
        directory.write_config(key, value);
        let refusal = directory.refusal();
        assert!(refusal.contains(why), "{refusal}");
        assert!(refusal.starts_with(directory.path().to_str().expect("a plain path")));
    }
    let directory = ModelDirectory::new();
    directory.write("config.json", b"{\"model_type\": \"bert\"}");
    assert!(directory.refusal().contains("missing field"));
}

#[test]
fn weights_of_another_shape_are_refused() {
    for (key, value, tensor) in [
        ("hidden_size", json!(36), "embeddings.word_embeddings.weight has shape"),
        ("intermediate_size", json!(65), "encoder.layer.0.intermediate.dense.weight has shape"),
        ("num_hidden_layers", json!(3), "encoder.layer.2.attention.self.query.weight is missing"),
        ("max_position_embeddings", json!(25), "embeddings.position_embeddings.weight has shape"),
        ("type_vocab_size", json!(1), "embeddings.token_type_embeddings.weight has shape"),
        // Numbers that no multiplication may be done with.
        ("intermediate_size", json!(u64::MAX), "encoder.layer.0.intermediate.dense.weight has"),
        ("num_hidden_layers", json!(u64::MAX), "encoder.layer.2.attention.self.query.weight is"),
    ] {
        let directory = ModelDirectory::new();
        directory.write_config(key, value);
        let refusal = directory.refusal();
        assert!(refusal.contains(tensor), "{refusal}");
    }
    let directory = ModelDirectory::new();
    directory.write_tensors(|tensors| {
        tensors.remove("encoder.layer.1.output.LayerNorm.bias");
    });
    let refusal = directory.refusal();
    assert!(refusal.ends_with("encoder.layer.1.output.LayerNorm.bias is missing"), "{refusal}");
    directory.write_tensors(|tensors| tensors.retain(|name, _| !name.contains("word")));
    assert!(directory.refusal().contains("not a BERT encoder"));
}

#[test]
fn weights_that_are_cut_short_are_refused_wherever_the_cut_is() {
    let directory = ModelDirectory::new();
    let whole = serialise(&tensors());
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("8 bytes")) as usize;
    let cuts = (0..64).chain(header - 8..header + 8).chain((0..whole.len()).step_by(1009));
    for length in cuts.chain([whole.len() - 4, whole.len() - 1]) {
        directory.write("model.safetensors", &whole[..length]);
        let refusal = directory.refusal();
        assert!(refusal.contains("not a whole safetensors file"), "{length}: {refusal}");
    }
}

#[test]
fn damage_to_the_head_of_the_weights_never_panics() {
    let directory = ModelDirectory::new();
    let whole = serialise(&tensors());
    for at in (0..2000).step_by(3) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x15;
        directory.write("model.safetensors", &damaged);
        // Some changes only touch the name of an unread key and are harmless.
        let _outcome = directory.try_load().map(|model| model.embed(&["the fox".to_owned()]));
    }
}

#[test]
fn weights_that_are_no_numbers_give_an_error_not_a_vector() {
    for value in [f32::NAN, f32::INFINITY] {
        let directory = ModelDirectory::new();
        directory.write_tensors(|tensors| {
            let tensor = tensors.get_mut("encoder.layer.1.output.LayerNorm.bias").expect("it");
            tensor.1[3] = value;
        });
        let error = directory.load().embed(&["the fox".to_owned()]).expect_err("no vector");
        assert!(matches!(error, EmbedError::NotFinite { index: 0 }), "{error}");
    }
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused() {
    let sound = tokenizer().to_string();
    for content in ["", "{}", "[]", "garbage", "\u{0}", &sound[..sound.len() / 2], "{\"model\":1}"]
    {
        let directory = ModelDirectory::new();
        directory.write("tokenizer.json", content.as_bytes());
        let refusal = directory.refusal();
        assert!(refusal.contains("tokenizer.json cannot be used: not a tokenizer"), "{refusal}");
    }
}

#[test]
fn a_text_without_tokens_is_refused() {
    let model = ModelDirectory::new().load();
    for text in ["", " ", "\t\r\n", "\u{200b}"] {
        let error = model.embed(&["the".to_owned(), text.to_owned()]).expect_err("no tokens");
        assert!(matches!(error, EmbedError::Empty { index: 1 }), "{text:?}: {error}");
    }
}

#[test]
fn a_text_that_is_too_long_is_refused_not_cut() {
    let model = ModelDirectory::new().load();
    let text = |words| vec!["fox".to_owned(), "dog ".repeat(words)];
    model.embed(&text(22)).expect("22 words and two special tokens");
    let error = model.embed(&text(23)).expect_err("too long");
    assert!(matches!(error, EmbedError::TooLong { index: 1, tokens: 25, limit: 24 }), "{error}");
    let error = model.embed(&text(100_000)).expect_err("far too long");
    assert!(matches!(error, EmbedError::TooLong { tokens: 100_002, .. }), "{error}");
}
