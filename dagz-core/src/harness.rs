//! What `#[dagz::test]` and `#[dagz::setup]` expand to; not for use by hand.
//!
//! The attribute macros live in `dagz-macros`. A harness of one's own uses
//! [`Scope::builder`](crate::Scope::builder) instead.

use std::{future::Future, thread, time::Duration};

use tokio::runtime::{Builder, Runtime};

pub use inventory;

pub use crate::setup::Setup;
use crate::{FromScope, Result, Scope, ScopeGuard, event, runtime};

/// How long a test's runtime may take to end, once its body has.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// The test as its attribute describes it.
#[derive(Debug)]
pub struct TestSpec {
    /// Its path; the thread's name is preferred where libtest gave one, since it names rstest's cases.
    pub name: &'static str,
    /// `#[dagz::test(main_worker)]`
    pub main_worker: bool,
    /// `#[dagz::test(exclusive)]`
    pub exclusive: bool,
    /// `#[should_panic]`
    pub should_panic: bool,
}

/// Asks whether what a test returned is an error.
///
/// The macros write `(&Probe(&result)).is_failure()`, where the type of the result is known: a `Result` answers
/// by [`OfResult`], which the compiler finds first, and everything else by [`OfAnything`].
#[derive(Debug)]
pub struct Probe<'a, T>(pub &'a T);

/// See [`Probe`].
pub trait OfResult {
    /// Whether it is an `Err`.
    fn is_failure(&self) -> bool;
}

impl<T, E> OfResult for Probe<'_, std::result::Result<T, E>> {
    fn is_failure(&self) -> bool {
        self.0.is_err()
    }
}

/// See [`Probe`].
pub trait OfAnything {
    /// Always `false`: a test that returns anything else fails by panicking.
    fn is_failure(&self) -> bool;
}

impl<T> OfAnything for &Probe<'_, T> {
    fn is_failure(&self) -> bool {
        false
    }
}

/// The runtime of an async test, in tokio's own words.
#[derive(Debug)]
pub struct RuntimeSpec {
    /// `flavor = "multi_thread"`
    pub multi_thread: bool,
    /// `worker_threads = N`
    pub worker_threads: Option<usize>,
    /// `start_paused = true`
    pub start_paused: bool,
}

/// Runs a sync test in a scope of its own; `is_failure` asks a [`Probe`].
///
/// # Panics
///
/// When the scope cannot be entered, and when the body does; the scope is left first.
#[track_caller]
pub fn run_sync<T>(
    spec: TestSpec,
    body: impl FnOnce() -> T,
    is_failure: impl FnOnce(&T) -> bool,
) -> T {
    let mut scope = enter(spec);
    let result = body();
    if is_failure(&result) {
        scope.set_passed(false);
    }
    result
}

/// Runs an async test in a scope of its own, on a runtime whose every thread is in that scope and
/// which ends before the scope is left; `is_failure` asks a [`Probe`].
///
/// # Panics
///
/// When the scope cannot be entered or the runtime not started, and when the body does.
#[track_caller]
pub fn run_async<T, F>(
    spec: TestSpec,
    runtime: RuntimeSpec,
    body: impl FnOnce(Scope) -> F,
    is_failure: impl FnOnce(&T) -> bool,
) -> T
where
    F: Future<Output = T>,
{
    let mut guard = enter(spec);
    let scope = guard.scope().clone();
    // Dropped before the guard, on panics too.
    let own = OwnRuntime(Some(build(&runtime, &scope)));
    let Some(started) = &own.0 else {
        unreachable!("the runtime is only taken when it is dropped")
    };
    let result = started.block_on(body(scope));
    if is_failure(&result) {
        guard.set_passed(false);
    }
    result
}

/// Makes an argument of a test.
///
/// # Panics
///
/// With the error's whole chain when it cannot be made.
pub async fn argument<T, Marker>(scope: &Scope) -> T
where
    T: FromScope<Marker>,
{
    match T::from_scope(scope).await {
        Ok(argument) => argument,
        Err(error) => panic!("{}", error.report()),
    }
}

/// Runs an async set-up function, on the control runtime.
///
/// # Errors
///
/// The function's own.
pub fn setup_async<F>(setup: F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    runtime::wait(setup)?
}

#[track_caller]
fn enter(spec: TestSpec) -> ScopeGuard {
    let thread = thread::current();
    let name = thread
        .name()
        .filter(|name| *name != "main")
        .unwrap_or(spec.name);
    let entered = Scope::builder(name)
        .main_worker(spec.main_worker)
        .exclusive(spec.exclusive)
        .should_panic(spec.should_panic)
        .enter();
    match entered {
        Ok(guard) => guard,
        Err(error) => panic!("{}", error.report()),
    }
}

#[track_caller]
fn build(spec: &RuntimeSpec, scope: &Scope) -> Runtime {
    let mut builder = if spec.multi_thread {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    if let Some(threads) = spec.worker_threads {
        builder.worker_threads(threads);
    }
    let scope = scope.clone();
    let built = builder
        .enable_all()
        .start_paused(spec.start_paused)
        .on_thread_start(move || scope.attach_for_good())
        .build();
    match built {
        Ok(runtime) => runtime,
        Err(error) => panic!("starting the test's runtime failed: {error}"),
    }
}

struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            let start = std::time::Instant::now();
            runtime.shutdown_timeout(SHUTDOWN);
            if start.elapsed() >= SHUTDOWN {
                event::warn(
                    None,
                    "a blocking task of the test still ran 10s after its body had ended; its worker is given back without it",
                );
            }
        }
    }
}
