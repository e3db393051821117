//! All work stays on the caller's thread where the caller has built a pool of that thread alone.
//! In a binary of its own, since it counts the threads of the process.

#![cfg(target_os = "linux")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")
)]

#[path = "integration/model.rs"]
#[allow(dead_code, reason = "the other binary uses the rest")]
mod model;

#[test]
fn a_pool_of_the_calling_thread_keeps_the_work_there() {
    let model = model::ModelDirectory::new().load();
    // Enough for products and sums that a library would share among threads.
    let texts = vec!["the quick brown fox jumped over the lazy dog ".repeat(2); 400];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    let _pool = pool.expect("a pool of this thread");
    let before = threads();
    let vectors = model.embed(&texts).expect("vectors");
    assert_eq!(vectors.len(), texts.len());
    assert_eq!(threads(), before, "threads were started");
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("the process's threads").count()
}
