//! For tests of a driver beside its contract: a worker's database that no driver has touched yet, and a runtime.
//!
//! A process has only one driver configured, and tests want one each, so they drive a driver of their own: what
//! [`target`] tells goes straight to its `worker_init` and `prepare`.

use std::{future::Future, sync::Once};

use dagz_core::{
    Access, DbConfig, Endpoint, Scope, ScopeGuard, Settings, Target, Worker, configure,
    history::{Entry, History},
    resolve_blocking,
};

/// Knows names, and nothing of servers.
struct Names {
    limit: usize,
}

impl DbConfig for Names {
    fn driver(&self) -> &'static str {
        "names"
    }

    fn name_limit(&self) -> usize {
        self.limit
    }
}

/// The current worker's database for `base` at `endpoint`, where names have at most `limit` bytes, always the same in
/// one process.
///
/// # Panics
/// When the thread is in no scope.
pub fn target(endpoint: Endpoint, base: &str, limit: usize) -> Target {
    static NAMES: Once = Once::new();
    NAMES.call_once(|| configure(Names { limit }).expect("nobody else knows names"));
    resolve_blocking("names", Access::new(endpoint, base))
        .expect("names are resolved without a server")
        .target()
        .expect("the test is in a scope")
        .clone()
}

/// A base name for `test` that no other checkout uses on this server.
///
/// # Panics
/// When the settings cannot be read.
pub fn base(test: &str) -> String {
    let settings = Settings::current().expect("settings are readable");
    let project = settings.project();
    format!("{test}_{}", &project[project.len().saturating_sub(8)..])
}

/// What this process told the history of `target`'s database, of `kind` only, in the order in which it came.
///
/// # Panics
/// When the history cannot be read.
pub fn events(target: &Target, kind: &str) -> Vec<Entry> {
    let settings = Settings::current().expect("the settings are readable");
    let jobs = History::of(settings).jobs().expect("jobs are readable");
    let mut events = Vec::new();
    for job in jobs {
        events.extend(job.log().read().expect("a log is readable"));
    }
    events.retain(|event| {
        event.kind == kind
            && event.pid == std::process::id()
            && event.database.as_deref() == Some(target.name())
    });
    events
}

/// Enters a scope for `test` on `worker`, which was given back a moment ago; processes beside this one may be faster.
///
/// # Panics
/// When the worker does not become free in time.
pub fn enter_on(worker: Worker, test: &str) -> ScopeGuard {
    let entered = Scope::builder(test).on(worker).enter();
    entered.unwrap_or_else(|error| panic!("{}", error.report()))
}

/// Blocks on `future` with a runtime of the test's own.
///
/// # Panics
/// When no runtime can be started.
pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(future)
}
