//! `config.json`: the shape of the network, checked before any weight is read.

use std::path::Path;

use candle_nn::Activation;
use serde::Deserialize;
use serde_json::Value;

use crate::LoadError;
use crate::directory::{parse, unfit};

/// The shape of a BERT encoder. Every number is at least 1.
pub(crate) struct Config {
    /// Length of a token's vector, and of the embedding.
    pub(crate) hidden_size: usize,
    /// Width of the feed-forward part of a layer.
    pub(crate) intermediate_size: usize,
    /// Layers of the encoder.
    pub(crate) layers: usize,
    /// Attention heads of a layer; a divisor of `hidden_size`.
    pub(crate) heads: usize,
    /// Rows of the table of word vectors.
    pub(crate) vocabulary: usize,
    /// Rows of the table of position vectors: no text can have more tokens.
    pub(crate) positions: usize,
    /// Rows of the table of segment vectors.
    pub(crate) segments: usize,
    /// Keeps layer normalisation from dividing by zero.
    pub(crate) norm_epsilon: f64,
    /// Between the two halves of the feed-forward part.
    pub(crate) activation: Activation,
}

/// The keys of `config.json` that decide the result, as Hugging Face names them. The others are
/// about training, or about heads on top of the encoder, and are left alone.
#[derive(Deserialize)]
struct Raw {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_segments")]
    type_vocab_size: usize,
    #[serde(default = "default_epsilon")]
    layer_norm_eps: f64,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

// What transformers' `BertConfig` takes for a key that is left out.

fn default_segments() -> usize {
    2
}

fn default_epsilon() -> f64 {
    1e-12
}

fn default_activation() -> String {
    "gelu".to_owned()
}

impl Config {
    /// Reads the content of `config.json`; `path` is for the error.
    pub(crate) fn read(path: &Path, content: &[u8]) -> Result<Self, LoadError> {
        let keys: Value = parse(path, content)?;
        // First, since another architecture also names its other keys differently.
        match keys.get("model_type").and_then(Value::as_str) {
            Some("bert") => {}
            Some(other) => {
                let why = format!("model_type is {other:?}; only \"bert\" is supported");
                return Err(unfit(path, why));
            }
            None => return Err(unfit(path, "it has no model_type; \"bert\" is expected")),
        }
        let raw: Raw = serde_json::from_value(keys).map_err(|cause| unfit(path, cause))?;
        raw.check().and_then(|()| raw.into_config()).map_err(|why| unfit(path, why))
    }
}

impl Raw {
    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("{name} is 0"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
            return Err(format!(
                "hidden_size {hidden} cannot be shared by {heads} attention heads"
            ));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(format!("layer_norm_eps {} is not between 0 and 1", self.layer_norm_eps));
        }
        if let Some(other) = self.position_embedding_type.as_deref().filter(|t| *t != "absolute") {
            return Err(format!(
                "position_embedding_type is {other:?}; only \"absolute\" is supported"
            ));
        }
        if self.is_decoder {
            return Err("is_decoder is true; only encoders give sentence embeddings here".into());
        }
        Ok(())
    }

    fn into_config(self) -> Result<Config, String> {
        let activation = match self.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::NewGelu,
            "relu" => Activation::Relu,
            other => {
                let known = "\"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\" and \"relu\"";
                return Err(format!("hidden_act is {other:?}; {known} are supported"));
            }
        };
        Ok(Config {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
            segments: self.type_vocab_size,
            norm_epsilon: self.layer_norm_eps,
            activation,
        })
    }
}
