//! The nearest are those an exact search finds, and only what may be compared is.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const SCOPE: Scope = [1; 32];
const EMBEDDER: EmbedderId = [2; 16];

fn rows(vectors: &[Vec<f32>]) -> Rows<usize> {
    let mut rows = Rows::new(vectors.len());
    for (at, vector) in vectors.iter().enumerate() {
        assert_eq!(rows.insert(SCOPE, EMBEDDER, vector, at), Ok(None));
    }
    rows
}

fn exact(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

/// The answer is the top of an exact search, but for cosines closer than `error`.
fn assert_nearest(vectors: &[Vec<f32>], rows: &Rows<usize>, query: &[f32], error: f64) {
    let found = rows.nearest(SCOPE, EMBEDDER, query, 3).expect("a vector");
    let mut best: Vec<f64> = vectors.iter().map(|vector| exact(vector, query)).collect();
    for (at, cosine) in &found {
        assert!((best[*at] - f64::from(*cosine)).abs() < error, "{} {cosine}", best[*at]);
    }
    best.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(found.len(), vectors.len().min(3));
    for ((_, cosine), best) in found.iter().zip(best) {
        assert!((f64::from(*cosine) - best).abs() < error, "{found:?} {best}");
    }
}

fn gaussian(random: &mut fastrand::Rng, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| (0..8).map(|_| random.f32() - 0.5).sum()).collect()
}

#[test]
fn the_best_of_an_exact_search_are_found() {
    let mut random = fastrand::Rng::with_seed(3);
    // The last of these are closer to each other than 8 bits can tell.
    for (dimensions, spread) in [(384, 1.0), (384, 0.3), (384, 0.03), (384, 0.003), (1024, 0.1)] {
        let centre = gaussian(&mut random, dimensions);
        let mut near = |spread: f32| -> Vec<f32> {
            let noise = gaussian(&mut random, dimensions);
            centre.iter().zip(noise).map(|(c, n)| c * (1.0 - spread) + n * spread).collect()
        };
        let vectors: Vec<Vec<f32>> = (0..500).map(|_| near(spread)).collect();
        let rows = rows(&vectors);
        for _ in 0..20 {
            assert_nearest(&vectors, &rows, &near(spread), 2e-5);
        }
        assert_nearest(&vectors, &rows, &near(1.0), 2e-5);
        let itself = rows.nearest(SCOPE, EMBEDDER, &vectors[7], 1).expect("a vector");
        assert!(itself[0].1 > 0.999_98 && itself[0].1 < 1.000_02, "{itself:?}");
    }
}

#[test]
fn vectors_of_few_large_numbers_and_of_any_length_are_exact_too() {
    let mut random = fastrand::Rng::with_seed(5);
    for dimensions in [1, 2, 15, 16, 17, 100, 4096, MAX_DIMENSIONS] {
        let vectors: Vec<Vec<f32>> = (0..20)
            .map(|_| {
                let mut vector = gaussian(&mut random, dimensions);
                vector[0] *= 1000.0;
                vector.iter_mut().for_each(|x| *x *= 1e-20);
                vector
            })
            .collect();
        let rows = rows(&vectors);
        let error = 1e-4 + dimensions as f64 * 1e-8;
        for query in &vectors {
            assert_nearest(&vectors, &rows, query, error);
        }
        assert_nearest(&vectors, &rows, &vec![1e30; dimensions], error);
        assert_nearest(&vectors, &rows, &vec![-1.0; dimensions], error);
    }
}

#[test]
fn another_scope_embedder_or_length_is_never_compared() {
    let mut rows = Rows::new(10);
    rows.insert(SCOPE, EMBEDDER, &[1.0, 0.0], "a").expect("inserts");
    let nearest = |rows: &Rows<&'static str>, scope, embedder, vector: &[f32]| {
        rows.nearest(scope, embedder, vector, 3).map(|found| found.len())
    };
    assert_eq!(nearest(&rows, SCOPE, EMBEDDER, &[1.0, 0.0]), Ok(1));
    assert_eq!(nearest(&rows, [9; 32], EMBEDDER, &[1.0, 0.0]), Ok(0));
    assert_eq!(nearest(&rows, SCOPE, [9; 16], &[1.0, 0.0]), Ok(0));
    let refused = VectorError::Dimensions { expected: 2, found: 3 };
    assert_eq!(nearest(&rows, SCOPE, EMBEDDER, &[1.0, 0.0, 0.0]), Err(refused));
    assert_eq!(rows.insert(SCOPE, EMBEDDER, &[1.0, 0.0, 0.0], "a"), Err(refused));
    assert_eq!(nearest(&rows, SCOPE, EMBEDDER, &[1.0, 0.0]), Ok(1), "nothing has changed");
    assert_eq!(rows.nearest(SCOPE, EMBEDDER, &[1.0, 0.0], 0), Ok(vec![]));
}

#[test]
fn a_vector_without_a_direction_is_refused() {
    let mut rows = Rows::new(10);
    rows.insert(SCOPE, EMBEDDER, &[1.0, 0.0], 1).expect("inserts");
    let bad: [&[f32]; 6] =
        [&[], &[0.0, 0.0], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[-0.0, 0.0], &[1.0, f32::NAN]];
    for vector in bad {
        assert_eq!(rows.insert(SCOPE, EMBEDDER, vector, 2), Err(VectorError::Direction));
        assert_eq!(rows.nearest(SCOPE, EMBEDDER, vector, 3), Err(VectorError::Direction));
    }
    let long = vec![1.0; MAX_DIMENSIONS + 1];
    assert_eq!(rows.insert(SCOPE, EMBEDDER, &long, 2), Err(VectorError::TooLong));
    for extreme in [[f32::MAX, f32::MAX], [f32::MIN_POSITIVE, 0.0], [1e-45, 1e-45]] {
        rows.insert(SCOPE, EMBEDDER, &extreme, 3).expect("it has a direction");
        let found = rows.nearest(SCOPE, EMBEDDER, &extreme, 1).expect("a vector");
        assert!(found[0].1 > 0.999);
    }
}

#[test]
fn the_oldest_row_goes_first_and_memory_does_not_grow() {
    let mut rows = Rows::new(100);
    let mut most = 0;
    for number in 0..10_000_u32 {
        let scope = [(number % 7) as u8; 32];
        let evicted = rows.insert(scope, EMBEDDER, &[1.0, number as f32], number);
        assert_eq!(evicted, Ok(number.checked_sub(100)));
        // Replaced: it is the newest then, and there are no more of them.
        assert_eq!(rows.insert(scope, EMBEDDER, &[2.0, number as f32], number), Ok(None));
        assert_eq!(rows.len(), 100.min(number as usize + 1));
        if number == 1_000 {
            most = rows.bytes();
        }
    }
    assert!(rows.bytes() <= most * 2, "{most} -> {}", rows.bytes());
    for number in 9_900..10_000 {
        assert!(rows.remove(&number) && !rows.remove(&number));
    }
    assert!(rows.is_empty() && rows.groups.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_what_a_map_would_be(
        steps in prop::collection::vec((0..4_u8, 0..30_u8, 0..3_u8, -9..9_i8, -9..9_i8), 1..150)
    ) {
        let mut rows = Rows::new(12);
        let mut known: HashMap<u8, (u8, [f32; 2])> = HashMap::new();
        for (step, key, scope, x, y) in steps {
            let vector = [f32::from(x), f32::from(y) + 0.5];
            if step == 0 {
                assert_eq!(rows.remove(&key), known.remove(&key).is_some());
            } else {
                let evicted = rows.insert([scope; 32], EMBEDDER, &vector, key).expect("inserts");
                assert!(evicted.is_none_or(|evicted| known.remove(&evicted).is_some()));
                known.insert(key, (scope, vector));
            }
            assert_eq!(rows.len(), known.len());
            for scope in 0..3 {
                let found = rows.nearest([scope; 32], EMBEDDER, &vector, 99).expect("a vector");
                let here = known.values().filter(|(other, _)| *other == scope).count();
                assert_eq!(found.len(), here);
                assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
                for (key, cosine) in found {
                    let (other, row) = known[&key];
                    assert_eq!(other, scope);
                    assert!((exact(&row, &vector) - f64::from(cosine)).abs() < 1e-4);
                }
            }
        }
    }
}
