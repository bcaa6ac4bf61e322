//! Scopes: one test's time on one worker, and which threads belong to it.
//!
//! [`Scope::builder`] enters one (`scope/builder.rs`) and returns a [`ScopeGuard`]; dropping that leaves. What the
//! scope has prepared is kept here and decided in `resolve.rs`. Other threads join by
//! [`Scope::attach`], futures on foreign runtimes by [`Scope::carry`], child processes by
//! [`HandOver`](crate::HandOver). `scope/marks.rs` makes sure of marks,
//! `scope/bypass.rs` has what a test asks for beside the usual.

mod builder;
mod bypass;
mod marks;

use std::{
    cell::RefCell,
    collections::HashSet,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Instant,
};

pub use self::{
    builder::ScopeBuilder,
    bypass::{BypassGuard, bypass, manual_init},
    marks::{assert_exclusive, assert_main_worker},
};
use crate::{
    Lease, Settings, Worker, config,
    event::Event,
    handover, kept,
    progress::Progress,
    runtime,
    turn::{Marks, Turn},
};

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// How many scopes of this process are between entering and leaving.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// A handle on one test's time on one worker; cheap to clone, and `Send`.
///
/// ```no_run
/// # fn main() -> dagz_core::Result<()> {
/// let guard = dagz_core::Scope::builder("orders::places_one").enter()?;
/// let scope = guard.scope().clone();
/// std::thread::spawn(move || {
///     scope.run(|| { /* what is opened here is the worker's own */ });
/// })
/// .join()
/// .unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Scope {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) worker: Worker,
    pub(crate) tag: String,
    pub(crate) test: String,
    pub(crate) marks: Marks,
    pub(crate) job: String,
    /// Whether its databases are made anew.
    pub(crate) is_fresh: bool,
    /// What was routed and prepared, and what still runs.
    pub(crate) progress: Progress,
    pub(crate) bypassed: AtomicUsize,
    pub(crate) manual: Mutex<HashSet<(String, String)>>,
    /// Set once the scope's worker is known to child processes.
    pub(crate) handed_over: OnceLock<handover::Shared>,
}

impl Scope {
    /// Starts describing a scope for `test`, the name that errors and logs will show.
    pub fn builder(test: impl Into<String>) -> ScopeBuilder {
        ScopeBuilder {
            test: test.into(),
            marks: Marks::default(),
            should_panic: false,
            worker: None,
        }
    }

    /// The worker it runs on; worker 0 while dagz is off.
    pub fn worker(&self) -> Worker {
        self.inner.worker
    }

    /// The worker and the number of the test on it, `jw03.t017`; `off` while dagz is off.
    pub fn tag(&self) -> &str {
        &self.inner.tag
    }

    /// The test's name.
    pub fn test(&self) -> &str {
        &self.inner.test
    }

    /// Whether the test is marked `main_worker`.
    pub fn is_main_worker(&self) -> bool {
        self.inner.marks.main_worker
    }

    /// Whether the test is marked `exclusive`.
    pub fn is_exclusive(&self) -> bool {
        self.inner.marks.exclusive
    }

    /// Makes this the scope of the calling thread until the guard is dropped.
    pub fn attach(&self) -> AttachGuard {
        let before = CURRENT.with(|current| current.borrow_mut().replace(self.clone()));
        AttachGuard {
            before,
            _not_send: PhantomData,
        }
    }

    /// Calls `body` with this as the scope of the calling thread.
    pub fn run<T>(&self, body: impl FnOnce() -> T) -> T {
        let _attached = self.attach();
        body()
    }

    /// Wraps `future` so that it is in this scope on whichever thread it is polled.
    pub fn carry<F: Future>(&self, future: F) -> Carried<F> {
        Carried {
            scope: self.clone(),
            future: Box::pin(future),
        }
    }

    /// Makes this the scope of the calling thread for as long as the thread lives.
    pub(crate) fn attach_for_good(&self) {
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
    }

    pub(crate) fn new(
        worker: Worker,
        tag: String,
        test: String,
        marks: Marks,
        job: String,
        is_fresh: bool,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                worker,
                tag,
                test,
                marks,
                job,
                is_fresh,
                progress: Progress::default(),
                bypassed: AtomicUsize::new(0),
                manual: Mutex::default(),
                handed_over: OnceLock::new(),
            }),
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("tag", &self.tag())
            .field("test", &self.test())
            .finish_non_exhaustive()
    }
}

/// The scope of this thread, or the one that a parent process handed over to this process.
pub fn current() -> Option<Scope> {
    // A thread that is ending has no scope any more.
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
        .or_else(handover::inherited)
}

/// Whether a test of this process is between entering and leaving its scope.
pub(crate) fn tests_run() -> bool {
    RUNNING.load(Ordering::SeqCst) > 0
}

/// A scope that was entered; dropping it leaves.
///
/// Leaving waits for preparations that still run, tells the drivers, and only then gives the worker
/// back. It happens on panics too. Runtimes and threads of the test must have ended before.
#[derive(Debug)]
pub struct ScopeGuard {
    scope: Scope,
    entered: Instant,
    should_panic: bool,
    passed: Option<bool>,
    hold: Option<(Lease, Turn)>,
    // Holds the guard on the thread that entered, as well.
    attached: Option<AttachGuard>,
}

impl ScopeGuard {
    /// The scope, to be cloned for other threads.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Says for the job's log whether the test passed, where its harness knows better than the usual rule: that
    /// it failed if the guard is dropped by a panic.
    pub fn set_passed(&mut self, passed: bool) {
        self.passed = Some(passed);
    }
}

impl Drop for ScopeGuard {
    fn drop(&mut self) {
        let as_expected = || thread::panicking() == self.should_panic;
        let passed = self.passed.unwrap_or_else(as_expected);
        let targets = self.scope.inner.progress.close();
        if !passed && self.hold.is_some() && keeps_failed() {
            let unprepared = self.scope.inner.progress.unprepared(&targets);
            let used = [&targets[..], &unprepared].concat();
            if !used.is_empty() {
                kept::keep(&self.scope, &used);
            }
        }
        for target in targets {
            if let Some(config) = config::configured(target.driver()) {
                let released = runtime::wait(async move { config.release(&target).await });
                if let Err(error) = released {
                    crate::event::warn(None, &error.report().to_string());
                }
            }
        }
        if self.hold.is_some() {
            Event::new("leave")
                .scope(&self.scope)
                .duration(self.entered.elapsed())
                .outcome(passed)
                .record();
        }
        drop(self.attached.take());
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        // The worker first: whoever waits for a turn needs one as well.
        if let Some((lease, turn)) = self.hold.take() {
            drop(lease);
            drop(turn);
        }
    }
}

fn keeps_failed() -> bool {
    Settings::current().is_ok_and(Settings::keep_failed)
}

/// Makes a scope that of a thread, until dropped; made by [`Scope::attach`].
#[derive(Debug)]
#[must_use = "the thread leaves the scope when this is dropped"]
pub struct AttachGuard {
    before: Option<Scope>,
    // It undoes what it did to this very thread.
    _not_send: PhantomData<*const ()>,
}

impl Drop for AttachGuard {
    fn drop(&mut self) {
        let before = self.before.take();
        // Too late to matter on a thread whose storage is gone already.
        let _ = CURRENT.try_with(|current| *current.borrow_mut() = before);
    }
}

/// A future that is in a scope wherever it is polled; made by [`Scope::carry`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Carried<F> {
    scope: Scope,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let _attached = self.scope.attach();
        self.future.as_mut().poll(context)
    }
}
