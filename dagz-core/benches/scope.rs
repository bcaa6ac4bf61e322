//! What a test pays that touches no database: taking and giving back a lease, and a whole scope.
//!
//! Run with `cargo bench -p dagz-core`. Compare the rows with each other, in one run: a scope is
//! what `#[dagz::test]` adds to a plain `#[test]`, and `thread` is what libtest itself spends on
//! starting one.

use std::{hint::black_box, thread};

use criterion::{Criterion, criterion_group, criterion_main};
use dagz_core::{Lease, Scope, Settings};

fn scope(criterion: &mut Criterion) {
    let state = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings::builder()
        .workers(4)
        .state_dir(state.path())
        .install()
        .expect("settings");

    let mut group = criterion.benchmark_group("without a database");
    group.bench_function("thread", |bencher| {
        bencher.iter(|| thread::spawn(|| black_box(1)).join());
    });
    group.bench_function("lease", |bencher| {
        bencher.iter(|| Lease::acquire(settings, "j1", "bench").expect("a lease"));
    });
    group.bench_function("scope", |bencher| {
        bencher.iter(|| Scope::builder("bench").enter().expect("a scope"));
    });
    group.bench_function("async scope", |bencher| {
        bencher.iter(|| {
            let spec = dagz_core::__private::TestSpec {
                name: "bench",
                main_worker: false,
                exclusive: false,
                should_panic: false,
            };
            let runtime = dagz_core::__private::RuntimeSpec {
                multi_thread: false,
                worker_threads: None,
                start_paused: false,
            };
            dagz_core::__private::run_async(spec, runtime, |_| async { black_box(1) }, |_| false)
        });
    });
    group.finish();
}

criterion_group!(benches, scope);
criterion_main!(benches);
