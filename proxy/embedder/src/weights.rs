//! `model.safetensors`: every tensor checked against the shape that `config.json` asks for.

use std::path::PathBuf;

use candle_core::safetensors::SliceSafetensors;
use candle_core::{DType, Device, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear};

use crate::LoadError;
use crate::directory::unfit;

/// The tensor that every BERT has, by which the prefix of the names is recognised.
const WITNESS: &str = "embeddings.word_embeddings.weight";

/// Prefixes of tensor names: none where the encoder was saved alone, `bert.` where it was saved
/// with a head on top.
const PREFIXES: [&str; 2] = ["", "bert."];

/// The tensors of a BERT encoder, by the names of transformers' `BertModel`.
pub(crate) struct Weights<'a> {
    path: PathBuf,
    tensors: SliceSafetensors<'a>,
    prefix: &'static str,
}

impl<'a> Weights<'a> {
    /// Reads the table of contents; `path` is for errors.
    pub(crate) fn read(path: PathBuf, content: &'a [u8]) -> Result<Self, LoadError> {
        let tensors = SliceSafetensors::new(content)
            .map_err(|cause| unfit(&path, format!("not a whole safetensors file ({cause})")))?;
        let found = |prefix: &&str| tensors.get(&format!("{prefix}{WITNESS}")).is_ok();
        let Some(prefix) = PREFIXES.into_iter().find(found) else {
            return Err(unfit(&path, format!("it has no tensor {WITNESS}: not a BERT encoder")));
        };
        Ok(Self { path, tensors, prefix })
    }

    /// A table of vectors, one in each of `rows`.
    pub(crate) fn embedding(
        &self,
        name: &str,
        rows: usize,
        width: usize,
    ) -> Result<Embedding, LoadError> {
        let table = self.tensor(&format!("{name}.weight"), &[rows, width])?;
        Ok(Embedding::new(table, width))
    }

    /// A linear layer with bias.
    pub(crate) fn linear(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Linear, LoadError> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = self.tensor(&format!("{name}.bias"), &[outputs])?;
        Ok(Linear::new(weight, Some(bias)))
    }

    /// A layer normalisation. Weights converted from TensorFlow call its tensors gamma and beta.
    pub(crate) fn norm(
        &self,
        name: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<LayerNorm, LoadError> {
        let either = |new: &str, old: &str| {
            let old = format!("{name}.{old}");
            if self.has(&old) {
                self.tensor(&old, &[width])
            } else {
                self.tensor(&format!("{name}.{new}"), &[width])
            }
        };
        Ok(LayerNorm::new(either("weight", "gamma")?, either("bias", "beta")?, epsilon))
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.get(&format!("{}{name}", self.prefix)).is_ok()
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let name = format!("{}{name}", self.prefix);
        let refuse = |why: String| unfit(&self.path, format!("tensor {name} {why}"));
        let view = self.tensors.get(&name).map_err(|_| refuse("is missing".to_owned()))?;
        if view.shape() != shape {
            let found = view.shape();
            return Err(refuse(format!("has shape {found:?}, config.json asks for {shape:?}")));
        }
        let failed = |cause: candle_core::Error| refuse(format!("cannot be read: {cause}"));
        let tensor = self.tensors.load(&name, &Device::Cpu).map_err(failed)?;
        // Half precision is widened: vectors are computed in f32 throughout.
        match tensor.dtype() {
            DType::F32 => Ok(tensor),
            DType::F16 | DType::BF16 => tensor.to_dtype(DType::F32).map_err(failed),
            other => Err(refuse(format!("is of {}; f32, f16 or bf16 is needed", other.as_str()))),
        }
    }
}
