//! A matrix of unit vectors in 16 bits a number, kept as two planes of 8: the high one is scanned,
//! the low one is read only for rows that may be among the best.
//!
//! Which rows may be is known, not guessed: the scan's score differs from the full one by no more
//! than the length of what the row's low plane holds plus what rounding the query lost
//! (Cauchy–Schwarz, all vectors being of length 1). A row whose scan score plus that bound is below
//! the last of the best so far cannot be among them.

use super::VectorError;

/// The largest number of the high plane.
const HIGH: f32 = 127.0;
/// What one of the high plane counts in the low plane.
const STEP: f32 = 256.0;
/// Numbers handled together, so that the compiler uses vector registers. For SSE2, which every
/// x86-64 has, 32 made the scan twice as fast as 16; with AVX2 it is as good as any.
const LANES: usize = 32;
/// What sums of 32-bit floats may be off by, with room to spare.
const ROUNDING: f32 = 1e-5;

/// Rows of one length.
#[derive(Debug)]
pub(super) struct Matrix {
    dimensions: usize,
    high: Vec<i8>,
    low: Vec<i8>,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// What one of the low plane is worth.
    scale: f32,
    /// Length of what the low plane holds.
    rest: f32,
}

/// A unit vector to compare rows with.
#[derive(Debug)]
pub(super) struct Query<'a> {
    exact: &'a [f32],
    rounded: Vec<i16>,
    /// What one of `rounded` is worth.
    scale: f32,
    /// Length of what rounding lost.
    lost: f32,
}

impl<'a> Query<'a> {
    /// `unit` is not empty, has length 1 and at most [`super::MAX_DIMENSIONS`] numbers.
    pub(super) fn new(unit: &'a [f32]) -> Self {
        // As fine as the sum over all dimensions allows in 32 bits.
        let finest = (i32::MAX as f32 * 0.99) / (HIGH * unit.len() as f32);
        let scale = largest(unit) / finest.min(f32::from(i16::MAX)).floor();
        let rounded: Vec<i16> = unit.iter().map(|x| (x / scale).round() as i16).collect();
        let lost = unit.iter().zip(&rounded).map(|(x, r)| x - f32::from(*r) * scale);
        let lost = lost.map(|x| x * x).sum::<f32>().sqrt();
        Self { exact: unit, rounded, scale, lost }
    }
}

impl Matrix {
    pub(super) fn new(dimensions: usize) -> Self {
        Self { dimensions, high: Vec::new(), low: Vec::new(), rows: Vec::new() }
    }

    /// Refuses a vector of another length.
    pub(super) fn fits(&self, found: usize) -> Result<(), VectorError> {
        let expected = self.dimensions;
        if found == expected { Ok(()) } else { Err(VectorError::Dimensions { expected, found }) }
    }

    /// Memory that is held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.high.capacity() + self.low.capacity() + self.rows.capacity() * size_of::<Row>()
    }

    /// Adds a unit vector of the matrix's length.
    pub(super) fn push(&mut self, unit: &[f32]) {
        let scale = largest(unit) / (HIGH * STEP);
        let mut rest = 0.0;
        for x in unit {
            let whole = (x / scale).round() as i32;
            // Rounded to the nearest step, so that the low part fits 8 bits with its sign.
            let high = (whole + 128) >> 8;
            let low = whole - (high << 8);
            self.high.push(high as i8);
            self.low.push(low as i8);
            rest += (low * low) as f32;
        }
        self.rows.push(Row { scale, rest: rest.sqrt() * scale });
    }

    /// Removes a row; the last takes its place.
    pub(super) fn swap_remove(&mut self, row: usize) {
        let Some(last) = self.rows.len().checked_sub(1).filter(|last| row <= *last) else { return };
        let (from, to) = (last * self.dimensions, row * self.dimensions);
        for plane in [&mut self.high, &mut self.low] {
            plane.copy_within(from..from + self.dimensions, to);
            plane.truncate(from);
        }
        self.rows.swap_remove(row);
    }

    /// Gives back memory that removed rows left.
    pub(super) fn shrink(&mut self) {
        self.rows.shrink_to(self.rows.len() * 2);
        self.high.shrink_to(self.high.len() * 2);
        self.low.shrink_to(self.low.len() * 2);
    }

    /// The best rows, at most `count`, best first, each with its cosine.
    pub(super) fn nearest(&self, query: &Query<'_>, count: usize) -> Vec<(usize, f32)> {
        let mut best: Vec<(usize, f32)> = Vec::with_capacity(count.min(self.rows.len()) + 1);
        if count == 0 {
            return best;
        }
        let slack = query.lost + ROUNDING;
        let mut least = f32::NEG_INFINITY;
        let planes =
            self.high.chunks_exact(self.dimensions).zip(self.low.chunks_exact(self.dimensions));
        for (at, (row, (high, low))) in self.rows.iter().zip(planes).enumerate() {
            let scanned = scan(high, &query.rounded) as f32 * (STEP * row.scale * query.scale);
            // The high plane of a unit vector is at most `1 + rest` long.
            if scanned + row.rest + slack * (1.0 + row.rest) < least {
                continue;
            }
            let cosine = score(high, low, query.exact) * row.scale;
            if best.len() == count && cosine <= least {
                continue;
            }
            let place = best.partition_point(|(_, other)| *other >= cosine);
            best.insert(place, (at, cosine));
            best.truncate(count);
            if best.len() == count {
                least = best.last().map_or(least, |(_, cosine)| *cosine);
            }
        }
        best
    }
}

/// The largest number, by amount.
fn largest(unit: &[f32]) -> f32 {
    unit.iter().fold(0.0, |most, x| most.max(x.abs()))
}

fn scan(high: &[i8], query: &[i16]) -> i32 {
    let (rows, row_end) = high.as_chunks::<LANES>();
    let (queries, query_end) = query.as_chunks::<LANES>();
    let mut sum = 0;
    for (row, query) in rows.iter().zip(queries) {
        for (r, q) in row.iter().zip(query) {
            sum += i32::from(*r) * i32::from(*q);
        }
    }
    let end = row_end.iter().zip(query_end).map(|(r, q)| i32::from(*r) * i32::from(*q));
    sum + end.sum::<i32>()
}

fn score(high: &[i8], low: &[i8], query: &[f32]) -> f32 {
    let whole = |high: i8, low: i8| (i32::from(high) * 256 + i32::from(low)) as f32;
    let (highs, high_end) = high.as_chunks::<LANES>();
    let (lows, low_end) = low.as_chunks::<LANES>();
    let (queries, query_end) = query.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for ((high, low), query) in highs.iter().zip(lows).zip(queries) {
        for (((sum, h), l), q) in sums.iter_mut().zip(high).zip(low).zip(query) {
            *sum += whole(*h, *l) * q;
        }
    }
    let end = high_end.iter().zip(low_end).zip(query_end).map(|((h, l), q)| whole(*h, *l) * q);
    sums.iter().sum::<f32>() + end.sum::<f32>()
}
