//! The forward pass of a BERT encoder: a vector for each token of each text of a batch.
//!
//! As in "BERT: Pre-training of Deep Bidirectional Transformers" (Devlin et al., 2018) and
//! transformers' `BertModel`, without dropout (which is for training) and without the pooler (which
//! sentence embeddings do not use).

use candle_core::{D, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::{Activation, Embedding, LayerNorm, Linear, Module};

use crate::LoadError;
use crate::batch::Batch;
use crate::config::Config;
use crate::weights::Weights;

/// A BERT encoder with its weights.
pub(crate) struct Bert {
    embeddings: Embeddings,
    layers: Vec<Layer>,
}

impl Bert {
    /// Takes the weights of every layer, or says which does not fit.
    pub(crate) fn new(weights: &Weights<'_>, config: &Config) -> Result<Self, LoadError> {
        let embeddings = Embeddings::new(weights, config)?;
        let layers = (0..config.layers)
            .map(|index| Layer::new(weights, &format!("encoder.layer.{index}"), config))
            .collect::<Result<_, _>>()?;
        Ok(Self { embeddings, layers })
    }

    /// Vectors of shape (texts, tokens, hidden size). Those of padding are to be left out.
    pub(crate) fn forward(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let bias = batch.attention_bias()?;
        let embedded = self.embeddings.forward(batch)?;
        self.layers.iter().try_fold(embedded, |hidden, layer| layer.forward(&hidden, &bias))
    }
}

/// What a token is, where it stands and which segment it belongs to, added up.
struct Embeddings {
    words: Embedding,
    positions: Embedding,
    segments: Embedding,
    norm: LayerNorm,
}

impl Embeddings {
    fn new(weights: &Weights<'_>, config: &Config) -> Result<Self, LoadError> {
        let table = |name: &str, rows| {
            weights.embedding(&format!("embeddings.{name}_embeddings"), rows, config.hidden_size)
        };
        Ok(Self {
            words: table("word", config.vocabulary)?,
            positions: table("position", config.positions)?,
            segments: table("token_type", config.segments)?,
            norm: weights.norm("embeddings.LayerNorm", config.hidden_size, config.norm_epsilon)?,
        })
    }

    fn forward(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let positions = self.positions.embeddings().narrow(0, 0, batch.ids.dim(1)?)?;
        let sum = (self.words.forward(&batch.ids)? + self.segments.forward(&batch.segments)?)?;
        self.norm.forward(&sum.broadcast_add(&positions)?)
    }
}

/// Attention, then a feed-forward part; the input is added to the output of each and normalised.
struct Layer {
    attention: Attention,
    attention_norm: LayerNorm,
    widen: Linear,
    activation: Activation,
    narrow: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn new(weights: &Weights<'_>, name: &str, config: &Config) -> Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let norm = |part: &str| {
            weights.norm(&format!("{name}.{part}.LayerNorm"), hidden, config.norm_epsilon)
        };
        Ok(Self {
            attention: Attention::new(weights, &format!("{name}.attention"), config)?,
            attention_norm: norm("attention.output")?,
            widen: weights.linear(&format!("{name}.intermediate.dense"), hidden, wide)?,
            activation: config.activation,
            narrow: weights.linear(&format!("{name}.output.dense"), wide, hidden)?,
            norm: norm("output")?,
        })
    }

    fn forward(&self, hidden: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let attended = self.attention.forward(hidden, bias)?;
        let hidden = self.attention_norm.forward(&(attended + hidden)?)?;
        let wide = self.activation.forward(&self.widen.forward(&hidden)?)?;
        self.norm.forward(&(self.narrow.forward(&wide)? + hidden)?)
    }
}

/// Multi-head self-attention.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    /// One over the square root of a head's width.
    scale: f64,
}

impl Attention {
    fn new(weights: &Weights<'_>, name: &str, config: &Config) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let linear = |part: &str| weights.linear(&format!("{name}.{part}"), hidden, hidden);
        Ok(Self {
            query: linear("self.query")?,
            key: linear("self.key")?,
            value: linear("self.value")?,
            output: linear("output.dense")?,
            heads: config.heads,
            scale: ((hidden / config.heads) as f64).sqrt().recip(),
        })
    }

    /// `bias` is added to the scores: it keeps padding from being attended to.
    fn forward(&self, hidden: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let query = (self.split(self.query.forward(hidden)?)? * self.scale)?;
        let key = self.split(self.key.forward(hidden)?)?;
        let value = self.split(self.value.forward(hidden)?)?;
        let scores = query.matmul(&key.t()?)?.broadcast_add(bias)?;
        let context = softmax_last_dim(&scores)?.matmul(&value)?;
        self.output.forward(&context.transpose(1, 2)?.flatten_from(D::Minus2)?)
    }

    /// From (texts, tokens, hidden size) to (texts, heads, tokens, width of a head).
    fn split(&self, hidden: Tensor) -> candle_core::Result<Tensor> {
        let (texts, tokens, width) = hidden.dims3()?;
        hidden
            .reshape((texts, tokens, self.heads, width / self.heads))?
            .transpose(1, 2)?
            .contiguous()
    }
}
