//! Texts that go through the network together, padded to the longest of them.

use std::ops::Range;

use candle_core::{DType, Device, IndexOp, Result, Tensor};

use crate::sentence::Pooling;
use crate::tokens::Tokens;

/// Most tokens of a batch, padding included. It bounds memory: the scores of attention take
/// `heads * longest * BATCH_TOKENS * 4` bytes, 100 MB for 12 heads and texts of 512 tokens. Larger
/// batches are no faster on a CPU.
const BATCH_TOKENS: usize = 4096;

/// Cuts a list of token counts, in ascending order, into ranges of at most [`BATCH_TOKENS`].
/// A text that is longer by itself is alone in its range.
pub(crate) fn ranges(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for (index, length) in lengths.iter().enumerate() {
        if index > start && (index + 1 - start) * length > BATCH_TOKENS {
            ranges.push(start..index);
            start = index;
        }
    }
    if start < lengths.len() {
        ranges.push(start..lengths.len());
    }
    ranges
}

/// The input of the network. Tensors are of shape (texts, tokens).
pub(crate) struct Batch {
    /// Rows of the table of word vectors.
    pub(crate) ids: Tensor,
    /// Rows of the table of segment vectors.
    pub(crate) segments: Tensor,
    /// 1 for a token, 0 for padding.
    mask: Tensor,
}

impl Batch {
    /// Pads texts on the right. Which token is the padding is of no matter: nothing attends to it.
    pub(crate) fn new(texts: &[&Tokens]) -> Result<Self> {
        let length = texts.iter().map(|text| text.ids.len()).max().unwrap_or_default();
        let shape = (texts.len(), length);
        let padded = |values: fn(&Tokens) -> &[u32]| {
            let row = |text| values(text).iter().copied().chain(std::iter::repeat(0)).take(length);
            Tensor::from_iter(texts.iter().flat_map(|text| row(*text)), &Device::Cpu)?
                .reshape(shape)
        };
        let kept = texts.iter().flat_map(|text| (0..length).map(|at| at < text.ids.len()));
        let mask = Tensor::from_iter(kept.map(|kept| f32::from(u8::from(kept))), &Device::Cpu)?;
        Ok(Self {
            ids: padded(|text| &text.ids)?,
            segments: padded(|text| &text.segments)?,
            mask: mask.reshape(shape)?,
        })
    }

    /// What is added to the scores of attention, of shape (texts, 1, 1, tokens): nothing for a
    /// token, and so much below zero for padding that its share is exactly 0. An embedding hence
    /// does not depend on the texts beside it.
    pub(crate) fn attention_bias(&self) -> Result<Tensor> {
        let padding = self.mask.affine(-1.0, 1.0)?;
        (padding * f64::from(f32::MIN))?.unsqueeze(1)?.unsqueeze(1)
    }

    /// One vector for each text, of `hidden`'s vectors for its tokens.
    pub(crate) fn pool(&self, hidden: &Tensor, pooling: Pooling) -> Result<Vec<Vec<f32>>> {
        let pooled = match pooling {
            Pooling::Cls => hidden.i((.., 0))?,
            Pooling::Mean => {
                let sum = hidden.broadcast_mul(&self.mask.unsqueeze(2)?)?.sum(1)?;
                sum.broadcast_div(&self.mask.sum_keepdim(1)?)?
            }
        };
        pooled.to_dtype(DType::F32)?.to_vec2()
    }
}

/// The vector of length 1 in the same direction, or nothing where there is no direction.
pub(crate) fn normalise(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !norm.is_finite() || norm == 0.0 {
        return None;
    }
    for value in &mut vector {
        *value = (f64::from(*value) / norm) as f32;
    }
    Some(vector)
}

#[cfg(test)]
mod tests {
    use super::{normalise, ranges};

    #[test]
    fn every_text_is_in_one_batch_of_bounded_size() {
        assert!(ranges(&[]).is_empty());
        assert_eq!(ranges(&[1, 2, 3]).len(), 1);
        assert_eq!(ranges(&[5000, 6000]), [0..1, 1..2]);
        let lengths: Vec<usize> = (1..=512).collect();
        let mut next = 0;
        for range in ranges(&lengths) {
            assert_eq!(range.start, next);
            assert!(range.len() * lengths[range.end - 1] <= super::BATCH_TOKENS);
            next = range.end;
        }
        assert_eq!(next, lengths.len());
    }

    #[test]
    fn only_a_vector_with_a_direction_is_normalised() {
        assert_eq!(normalise(vec![3.0, -4.0]), Some(vec![0.6, -0.8]));
        assert_eq!(normalise(vec![0.0, 0.0]), None);
        assert_eq!(normalise(vec![f32::NAN, 1.0]), None);
        assert_eq!(normalise(vec![f32::INFINITY, 1.0]), None);
        // The square of neither is a normal f32.
        assert_eq!(normalise(vec![1e30]), Some(vec![1.0]));
        assert_eq!(normalise(vec![1e-30]), Some(vec![1.0]));
    }
}
