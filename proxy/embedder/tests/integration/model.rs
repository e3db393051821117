//! A BERT of two layers whose weights come of a formula, the one in `tests/reference.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use sluicegate_local_embedder::{LoadError, Model};
use tempfile::TempDir;

const HIDDEN: usize = 32;
const WIDE: usize = 64;
const LAYERS: usize = 2;
const POSITIONS: usize = 24;

/// Tensors by name: their shape and numbers.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A model directory of a test's own, removed with it.
pub struct ModelDirectory(TempDir);

impl ModelDirectory {
    /// A complete and sound directory.
    pub fn new() -> Self {
        let directory = Self(TempDir::new().expect("a temporary directory"));
        directory.write_json("config.json", &config());
        directory.write_json("tokenizer.json", &tokenizer());
        directory.write("model.safetensors", &serialise(&tensors()));
        directory
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    pub fn write_json(&self, name: &str, content: &Value) {
        self.write(name, content.to_string().as_bytes());
    }

    /// `config.json` with one key changed.
    pub fn write_config(&self, key: &str, value: Value) {
        let mut config = config();
        config[key] = value;
        self.write_json("config.json", &config);
    }

    /// `model.safetensors` after a change to the tensors.
    pub fn write_tensors(&self, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = tensors();
        change(&mut tensors);
        self.write("model.safetensors", &serialise(&tensors));
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).expect("the file was there");
    }

    pub fn load(&self) -> Model {
        self.try_load().expect("a sound directory")
    }

    pub fn try_load(&self) -> Result<Model, LoadError> {
        Model::load(self.path())
    }

    /// Why the directory is refused, in words.
    pub fn refusal(&self) -> String {
        self.try_load().expect_err("an unfit directory").to_string()
    }
}

/// The vector of one text.
pub fn embed(model: &Model, text: &str) -> Vec<f32> {
    model.embed(&[text.to_owned()]).expect("a vector").remove(0)
}

/// The largest difference between two vectors' numbers.
pub fn distance(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(l, r)| (l - r).abs()).fold(0.0, f32::max)
}

/// The file format's bytes.
pub fn serialise(tensors: &Tensors) -> Vec<u8> {
    let bytes: BTreeMap<&str, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, values))| (&**name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(name, (shape, _))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &bytes[&**name]);
        (name, view.expect("numbers that fill the shape"))
    });
    safetensors::serialize(views, None).expect("serialisable tensors")
}

/// Every tensor of the model.
pub fn tensors() -> Tensors {
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[usize]| {
        // So that normalisation keeps rather than destroys: its factors are about 1.
        let base = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let values = (0..shape.iter().product::<usize>() as u64).map(|i| base + number(&name, i));
        tensors.insert(name.clone(), (shape.to_vec(), values.collect()));
    };
    add("embeddings.word_embeddings.weight".into(), &[vocabulary().count(), HIDDEN]);
    add("embeddings.position_embeddings.weight".into(), &[POSITIONS, HIDDEN]);
    add("embeddings.token_type_embeddings.weight".into(), &[2, HIDDEN]);
    let mut parts = vec![("embeddings.LayerNorm".to_owned(), vec![HIDDEN])];
    for layer in (0..LAYERS).map(|index| format!("encoder.layer.{index}")) {
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            parts.push((format!("{layer}.attention.{part}"), vec![HIDDEN, HIDDEN]));
        }
        parts.push((format!("{layer}.attention.output.LayerNorm"), vec![HIDDEN]));
        parts.push((format!("{layer}.intermediate.dense"), vec![WIDE, HIDDEN]));
        parts.push((format!("{layer}.output.dense"), vec![HIDDEN, WIDE]));
        parts.push((format!("{layer}.output.LayerNorm"), vec![HIDDEN]));
    }
    for (name, shape) in parts {
        add(format!("{name}.weight"), &shape);
        add(format!("{name}.bias"), &shape[..1]);
    }
    tensors
}

/// Element `index` of a tensor, in [-0.5, 0.5): the top 24 bits of splitmix64, which f32 holds
/// exactly, seeded with the FNV-1a hash of the tensor's name.
fn number(name: &str, index: u64) -> f32 {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / (1 << 24) as f32 - 0.5
}

fn vocabulary() -> impl Iterator<Item = &'static str> {
    include_str!("../vocabulary.txt").split_whitespace()
}

/// `config.json`, with keys that are not about the encoder among the others, as real ones have.
pub fn config() -> Value {
    json!({
        "architectures": ["BertModel"], "model_type": "bert", "transformers_version": "4.8.2",
        "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "vocab_size": vocabulary().count(),
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "position_embedding_type": "absolute",
    })
}

/// `tokenizer.json` as BERT's tokenizer is saved, with truncation and padding on as in the real
/// all-MiniLM-L6-v2, where they have to be ignored.
pub fn tokenizer() -> Value {
    let ids: BTreeMap<&str, usize> = vocabulary().zip(0..).collect();
    let special = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let named = |name: &str| json!({"id": name, "ids": [ids[name]], "tokens": [name]});
    let added: Vec<Value> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .iter()
        .map(|name| {
            json!({"id": ids[name], "content": name, "special": true, "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": {"max_length": 6, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
                       "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
            "pair": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]"),
                     {"Sequence": {"id": "B", "type_id": 1}}, special("[SEP]")],
            "special_tokens": {"[CLS]": named("[CLS]"), "[SEP]": named("[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    })
}
