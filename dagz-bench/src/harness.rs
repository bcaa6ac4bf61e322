//! A test as `#[dagz::test]` makes it, from a closure: what the macro expands to, for measurements that make their
//! own.

use std::future::Future;

use anyhow::Result;
use dagz::__private::{RuntimeSpec, TestSpec, run_async, run_sync};
use dagz_core::Scope;

/// An async test, on a runtime and a worker of its own.
pub(crate) fn test<F>(body: impl FnOnce(Scope) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    run_async(spec(), runtime(), body, Result::is_err)
}

/// A test that is not async and does nothing.
pub(crate) fn empty_test() {
    run_sync(spec(), || (), |()| false);
}

/// An async test that does nothing.
pub(crate) fn empty_async_test() {
    run_async(spec(), runtime(), |_| async {}, |()| false);
}

fn runtime() -> RuntimeSpec {
    RuntimeSpec {
        multi_thread: false,
        worker_threads: None,
        start_paused: false,
    }
}

fn spec() -> TestSpec {
    TestSpec {
        name: "bench",
        main_worker: false,
        exclusive: false,
        should_panic: false,
    }
}
