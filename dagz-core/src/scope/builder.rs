//! How a scope is entered: [`ScopeBuilder`].
//!
//! It waits for the turn (`turn.rs`) and the lease (`lease.rs`), runs the project's set-up (`setup.rs`) and makes the
//! scope (`scope.rs`) the calling thread's.

use std::{sync::atomic::Ordering, time::Instant};

use super::{CURRENT, RUNNING, Scope, ScopeGuard};
use crate::{
    Error, ErrorKind, Lease, Result, Settings, Worker,
    again::{self, Again},
    event::Event,
    job::Job,
    kept, once, setup,
    turn::{Marks, Turn},
};

/// Describes a scope that is about to be entered; made by [`Scope::builder`].
#[derive(Clone, Debug)]
#[must_use = "a scope begins when it is entered"]
pub struct ScopeBuilder {
    pub(super) test: String,
    pub(super) marks: Marks,
    pub(super) should_panic: bool,
    pub(super) worker: Option<Worker>,
}

impl ScopeBuilder {
    /// Marks the test: it runs un-rerouted on the base databases, one such test at a time.
    pub fn main_worker(mut self, marked: bool) -> Self {
        self.marks.main_worker = marked;
        self
    }

    /// Marks the test: it runs while no other test of the node runs.
    pub fn exclusive(mut self, marked: bool) -> Self {
        self.marks.exclusive = marked;
        self
    }

    /// Says that the test passes by panicking, for the job's log.
    pub fn should_panic(mut self, expected: bool) -> Self {
        self.should_panic = expected;
        self
    }

    /// Runs the test on `worker` and no other, for a harness whose tests follow each other there.
    pub fn on(mut self, worker: Worker) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Waits for a worker, runs the set-up that has not run yet, and makes the scope that of the
    /// calling thread, which it blocks meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NestedScope`] when the thread is in a scope; [`ErrorKind::LeaseTimeout`] when
    /// nothing became free in time; [`ErrorKind::Setup`] and [`ErrorKind::WorkerInit`] when the
    /// project's set-up or a callback failed, then and for every later test;
    /// [`ErrorKind::Settings`], also for a worker that this node does not have, and [`ErrorKind::Io`].
    pub fn enter(self) -> Result<ScopeGuard> {
        let test = self.test.clone();
        let entered = self.try_enter();
        if let Err(error) = &entered {
            Event::of(error)
                .test(&test)
                .outcome(false)
                .binary()
                .record();
        }
        entered
    }

    fn try_enter(self) -> Result<ScopeGuard> {
        let Self {
            test,
            marks,
            should_panic,
            worker,
        } = self;
        let outer = CURRENT.with(|current| current.borrow().clone());
        if let Some(outer) = outer {
            return Err(Error::new(
                ErrorKind::NestedScope,
                format!(
                    "`{test}` was entered inside `{}`, on the same thread; a test has one scope: use the outer one, `dagz::current()`",
                    outer.test()
                ),
            ));
        }
        let settings = Settings::current()?;
        let (scope, hold) = if settings.active() {
            let job = Job::current()?;
            let start = Instant::now();
            let turn = Turn::take(settings, marks, job.id(), &test)?;
            let again = Again::of_this_process()?;
            let wanted = match (worker, again) {
                (Some(worker), _) => Some(kept::of_the_pool(settings, worker)?),
                // One that is kept as the test left it is nobody's; others have run tests, too.
                (None, Some(Again::Worker)) => again::last_worker(job, &test)?
                    .filter(|worker| !kept::is_kept(settings, *worker)),
                _ => None,
            };
            let lease = match wanted {
                Some(worker) => Lease::acquire_worker(settings, worker, job.id(), &test)?,
                None => Lease::acquire(settings, job.id(), &test)?,
            };
            let tag = format!("{}.t{:03}", lease.worker(), lease.count());
            let is_fresh = again == Some(Again::Fresh);
            let id = job.id().to_owned();
            let scope = Scope::new(lease.worker(), tag, test, marks, id, is_fresh);
            Event::new("lease")
                .scope(&scope)
                .duration(start.elapsed())
                .begins(marks, again)
                .record();
            (scope, Some((lease, turn)))
        } else {
            let scope = Scope::new(
                Worker::new(0),
                "off".into(),
                test,
                marks,
                String::new(),
                false,
            );
            (scope, None)
        };
        setup::run_once()?;
        if hold.is_some() {
            once::run_callbacks(scope.worker())?;
        }
        RUNNING.fetch_add(1, Ordering::SeqCst);
        let attached = scope.attach();
        Ok(ScopeGuard {
            entered: Instant::now(),
            scope,
            should_panic,
            passed: None,
            hold,
            attached: Some(attached),
        })
    }
}
