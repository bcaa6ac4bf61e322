//! The facade of dagz: the two macros, the words of `dagz_core`, and a module per driver.
//!
//! Almost no code lives here. Users depend on this crate alone; the macros write paths that begin
//! with its name.
#![cfg_attr(feature = "postgres", doc = include_str!("../README.md"))]

#[doc(inline)]
pub use dagz_core::{
    Access, AttachGuard, BypassGuard, Carried, Core, DbConfig, Endpoint, Error, ErrorKind,
    FromScope, HandOver, Lease, Options, Origin, Report, Result, Route, Scope, ScopeBuilder,
    ScopeGuard, Settings, SettingsBuilder, Target, Worker, active, add_worker_init,
    assert_exclusive, assert_main_worker, async_trait, bypass, configure, configured, current,
    event, manual_init, name, resolve, resolve_blocking, runtime,
};

/// Makes a test of a function, and runs it on a worker of its own.
///
/// Before the body, the test waits for a free worker, and the first test of the process runs the
/// [`#[dagz::setup]`](macro@setup) functions. While the body runs, the thread is in the test's
/// [`Scope`]. Afterwards, whether it returned or panicked, the test's runtime ends, the scope is
/// left, and the worker is given back, in this order.
///
/// ```
/// #[dagz::test]
/// # #[rustfmt::test] // keeps the example where there are no tests
/// fn adds() {
///     assert_eq!(1 + 1, 2);
/// }
///
/// #[dagz::test]
/// # #[rustfmt::test] // keeps the example where there are no tests
/// async fn greets() -> Result<(), std::io::Error> {
///     let scope = dagz::current().expect("every test is in a scope");
///     println!("hello from {}", scope.worker());
///     Ok(())
/// }
/// ```
///
/// # Arguments
///
/// An async test may take any number of arguments whose types are [`FromScope`]: the [`Scope`], the
/// [`Worker`], and what the drivers add, such as a connected client. They are made one after the
/// other, in their order; one that cannot be made fails the test with the reason.
///
/// ```
/// #[dagz::test]
/// # #[rustfmt::test] // keeps the example where there are no tests
/// async fn knows_where_it_runs(scope: dagz::Scope, worker: dagz::Worker) {
///     assert_eq!(scope.worker(), worker);
/// }
/// ```
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `main_worker` | runs on the base databases, not rerouted; one such test at a time |
/// | `exclusive` | runs while no other test runs |
/// | `flavor = "multi_thread"` | tokio's runtime of several threads; else `"current_thread"` |
/// | `worker_threads = 2` | how many; else as many as the cores |
/// | `start_paused = true` | tokio's clock stands still until the test advances it |
/// | `crate = "::my::dagz"` | where this crate is found, if not at `::dagz` |
///
/// `flavor`, `worker_threads` and `start_paused` are for async tests, and mean what they mean in
/// `#[tokio::test]`.
///
/// # With other attributes
///
/// `#[should_panic]`, `#[ignore]`, `#[cfg]` and `Result` as the return type work as in any test.
///
/// - **`#[tokio::test]`** is not needed. Below `#[dagz::test]` its options are honoured, and dagz
///   makes the runtime. Above, tokio makes the runtime inside the scope: the body is on the worker,
///   but tasks on other threads of that runtime are not.
/// - **`#[rstest]`** goes above. An argument that dagz shall make is marked `#[ignore]`, which is
///   rstest's word for "leave this to the other macro":
///
///   ```
///   # use rstest::rstest;
///   #[rstest]
///   #[case("ada")]
///   #[case("grace")]
///   #[dagz::test]
///   async fn greets(#[case] name: &str, #[ignore] scope: dagz::Scope) {
///       println!("hello {name}, this is {}", scope.tag());
///   }
///   ```
/// - **`#[test]`** is not needed. Below it changes nothing; above it would make the test run twice.
/// - Other attributes whose name ends in `test` go below, and are then what makes the test.
///
/// Generic functions, methods, and `const`, `unsafe` or `extern` functions are refused.
pub use dagz_macros::test;

/// Runs a function once per process, before the first test's body.
///
/// It is the place to configure drivers and to register [`add_worker_init`] callbacks. The function
/// may be async; it takes nothing and returns [`dagz::Result<()>`](Result). When it fails, every
/// test of the process fails with its error, and no body runs. Of several functions, each runs; in
/// no particular order.
///
/// ```
/// #[dagz::setup]
/// fn ports() -> dagz::Result<()> {
///     dagz::add_worker_init("ports", |worker| {
///         println!("{worker} has port {}", 9000 + worker.number());
///         Ok(())
///     });
///     Ok(())
/// }
/// ```
///
/// Its only option is `crate = "::my::dagz"`, where this crate is found, if not at `::dagz`.
pub use dagz_macros::setup;

#[cfg(feature = "amqp")]
#[doc(inline)]
pub use dagz_amqp as amqp;

#[cfg(feature = "cassandra")]
#[doc(inline)]
pub use dagz_cassandra as cassandra;

#[cfg(feature = "mysql")]
#[doc(inline)]
pub use dagz_mysql as mysql;

#[cfg(feature = "postgres")]
#[doc(inline)]
pub use dagz_postgres as postgres;

#[cfg(feature = "redis")]
#[doc(inline)]
pub use dagz_redis as redis;

// What the macros' code calls; no part of the API.
#[doc(hidden)]
pub use dagz_core::__private;

/// The README of the repository, whose examples have to compile.
#[cfg(all(doctest, feature = "postgres"))]
#[doc = include_str!("../../README.md")]
struct Readme;
