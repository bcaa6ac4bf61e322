//! The one path: every access of every driver goes through [`resolve`], in nine steps.
//!
//! 1. active?
//! 2. configured?
//! 3. bypassed?
//! 4. to be rerouted?
//! 5. in a scope?
//! 6. rewrite
//! 7. `worker_init`, once per worker and job
//! 8. `prepare`, once per scope and database
//! 9. the worker's name, to the driver, in a [`Route`]
//!
//! The first five need no server and are decided at once, by [`decide`]; the next three run on the
//! control runtime, in [`open`].

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{
    Access, DbConfig, Error, ErrorKind, Result, Scope, Settings, Target, Worker,
    config::configured, event, event::Event, handover, job::Job, once::once, progress::Key,
    runtime, scope, slow,
};

/// The answer to an access: the name to open.
#[derive(Clone, Debug)]
pub struct Route {
    name: String,
    target: Option<Target>,
}

impl Route {
    /// The name to open.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The worker's database behind the name; `None` when the name passed unchanged.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    fn unchanged(access: Access) -> Self {
        Self {
            name: access.name,
            target: None,
        }
    }
}

impl From<Target> for Route {
    fn from(target: Target) -> Self {
        Self {
            name: target.name().to_owned(),
            target: Some(target),
        }
    }
}

/// Answers an access with the worker's own database, existing, initialised and clean.
///
/// May be called from any runtime. The work goes on when the caller stops waiting, and the scope is
/// not left before it is done.
///
/// # Errors
///
/// [`ErrorKind::Unconfigured`], [`ErrorKind::OutsideScope`], [`ErrorKind::ForeignWorker`],
/// [`ErrorKind::InvalidName`], and whatever the driver reports, each naming the database, the
/// worker and what to do.
pub async fn resolve(driver: &'static str, access: Access) -> Result<Route> {
    match decide(driver, access)? {
        Decision::Answered(route) => Ok(route),
        Decision::Open(work) => runtime::run(open(work)).await?.map(Route::from),
    }
}

/// [`resolve`] for code that is not async; blocks this thread, inside a runtime too.
///
/// # Errors
///
/// Those of [`resolve`].
pub fn resolve_blocking(driver: &'static str, access: Access) -> Result<Route> {
    match decide(driver, access)? {
        Decision::Answered(route) => Ok(route),
        Decision::Open(work) => runtime::wait(open(work))?.map(Route::from),
    }
}

enum Decision {
    Answered(Route),
    Open(Work),
}

/// What is needed to open a worker's database, away from the thread that asked.
struct Work {
    config: Arc<dyn DbConfig>,
    running: Running,
    access: Access,
}

/// Keeps a scope from being left while work for it runs.
struct Running(Scope);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.inner.progress.end();
    }
}

/// Steps 1 to 5, which need no server; what they refuse is on record like what fails later.
fn decide(driver: &'static str, access: Access) -> Result<Decision> {
    let name = access.name.clone();
    decided(driver, access).inspect_err(|error| {
        Event::of(error).driver(driver).database(&name).record();
    })
}

fn decided(driver: &'static str, access: Access) -> Result<Decision> {
    let unchanged = |access| Ok(Decision::Answered(Route::unchanged(access)));
    let settings = Settings::current()?;

    if !settings.active() {
        return unchanged(access);
    }

    let config = configured(driver).ok_or_else(|| {
        Error::new(
            ErrorKind::Unconfigured,
            format!("connection attempted without configuration: call dagz::{driver}::configure(..) first"),
        )
    })?;
    let options = config.options();

    let scope = scope::current();
    if let Some(scope) = &scope {
        let bypassed = scope.inner.bypassed.load(Ordering::SeqCst) > 0;
        if bypassed || scope.is_main_worker() && options.main_worker_bypass {
            record_route(driver, &access.name, "bypassed");
            return unchanged(access);
        }
    }
    if options.single_worker_disable && settings.workers() == 1 && settings.node_total() == 1 {
        return unchanged(access);
    }

    let name = &access.name;
    if name.is_empty() || config.is_system(name) {
        record_route(driver, name, "not rerouted");
        return unchanged(access);
    }
    if !config.reroute(name) {
        record_route(driver, name, "left out");
        return unchanged(access);
    }

    let Some(scope) = scope else {
        outside(driver, name, options.strict || settings.strict())?;
        return unchanged(access);
    };
    match config.worker_of(name) {
        Some(owner) if owner == scope.worker() => return unchanged(access),
        Some(owner) => return Err(foreign(driver, name, owner, &scope)),
        None => {}
    }

    let progress = &scope.inner.progress;
    if let Some(target) = progress.route(scope.test(), driver, &access)? {
        handover::still_ours(&scope)?;
        Event::new("route")
            .target(&target)
            .detail(name.as_str())
            .record();
        return Ok(Decision::Answered(target.into()));
    }
    progress.begin(scope.test())?;
    Ok(Decision::Open(Work {
        config,
        running: Running(scope),
        access,
    }))
}

fn record_route(driver: &'static str, name: &str, detail: &str) {
    Event::new("route")
        .driver(driver)
        .database(name)
        .detail(detail)
        .record();
}

/// Step 5 for a thread that is in no scope.
fn outside(driver: &'static str, name: &str, strict: bool) -> Result<()> {
    if scope::tests_run() {
        return Err(Error::new(
            ErrorKind::OutsideScope,
            format!(
                "the {driver} database `{name}` was opened outside a test while tests run in this process; carry the test's scope there: `let scope = dagz::current()` in the test, then `scope.run(..)` in the thread or `scope.carry(..)` around the task's future"
            ),
        ));
    }
    if strict {
        return Err(Error::new(
            ErrorKind::OutsideScope,
            format!(
                "the {driver} database `{name}` was opened outside a test, and `strict` is on; open it inside `#[dagz::test]`"
            ),
        ));
    }
    static WARNED: Mutex<Option<HashSet<(&str, String)>>> = Mutex::new(None);
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned
        .get_or_insert_default()
        .insert((driver, name.to_owned()))
    {
        event::warn(
            Some(driver),
            &format!("accessing dagz_{driver} database outside a test worker: {name}"),
        );
    }
    Ok(())
}

fn foreign(driver: &'static str, name: &str, owner: Worker, scope: &Scope) -> Error {
    Error::new(
        ErrorKind::ForeignWorker,
        format!(
            "the {driver} database `{name}` belongs to worker {owner}, but `{}` runs on {}; open the base name instead, and see whether a pool or URL is kept from one test to the next",
            scope.test(),
            scope.worker()
        ),
    )
}

/// Steps 6 to 8, on the control runtime.
async fn open(work: Work) -> Result<Target> {
    let Work {
        config,
        running,
        access,
    } = work;
    let scope = &running.0;
    let driver = config.driver();
    handover::still_ours(scope)?;

    let name = config.rewrite(scope.worker(), &access.name)?;
    let what = |doing: &'static str| {
        format!(
            "{doing} the {driver} database `{name}` at `{}` for `{}` on {}",
            access.endpoint,
            scope.test(),
            scope.worker()
        )
    };
    let failed = |doing: &'static str| {
        let text = format!("{} failed", what(doing));
        move |error: Error| Error::new(error.kind(), text).with_source(error)
    };
    let tell = |doing: &'static str| {
        let what = what(doing);
        move |taken: Duration| {
            event::warn(Some(driver), &format!("{what} has taken {taken:?} so far"));
        }
    };
    let endpoint = config
        .identify(&access.endpoint)
        .await
        .map_err(failed("reaching"))?;
    let target = Target {
        driver,
        worker: scope.worker(),
        endpoint,
        base: access.name.clone(),
        name: name.clone(),
        tag: scope.tag().to_owned(),
        test: scope.test().to_owned(),
        job: scope.inner.job.clone(),
        project: Settings::current()?.project().to_owned(),
        is_fresh: scope.inner.is_fresh,
    };
    check_name(&*config, &target)?;

    let key: Key = (driver, target.endpoint.clone(), name.clone());
    let cell = scope.inner.progress.cell(key.clone());
    let ready = cell.get_or_init(|| async {
        slow::watched(init(&*config, &target), slow::FIRST, tell("initialising"))
            .await
            .map_err(failed("initialising"))?;
        let prepare = prepare(&*config, &target, scope, &key);
        slow::watched(prepare, slow::FIRST, tell("preparing"))
            .await
            .map_err(failed("preparing"))
    });
    if let Err(error) = ready.await {
        Event::of(error).target(&target).record();
        return Err(error.clone());
    }
    Event::new("route")
        .target(&target)
        .detail(access.name.as_str())
        .record();
    scope.inner.progress.routed(access, target.clone());
    Ok(target)
}

/// A `rewrite` that a user wrote is not trusted to keep workers and bases apart.
fn check_name(config: &dyn DbConfig, target: &Target) -> Result<()> {
    let Target {
        driver,
        worker,
        base,
        name,
        ..
    } = target;
    let invalid = |why: String| {
        Err(Error::new(
            ErrorKind::InvalidName,
            format!("the {driver} database `{base}` cannot be rerouted for {worker}: {why}"),
        ))
    };
    let limit = config.name_limit();
    if name.len() > limit {
        return invalid(format!(
            "`{name}` has {} bytes, and the server takes {limit}",
            name.len()
        ));
    }
    let neighbour = Worker::new(worker.number() + 1);
    if name == base || config.rewrite(neighbour, base)? == *name {
        return invalid(format!(
            "`rewrite` gives `{name}` for other workers too; make the worker a part of it"
        ));
    }
    static BASES: Mutex<Option<HashMap<Key, String>>> = Mutex::new(None);
    let mut bases = BASES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = bases
        .get_or_insert_default()
        .entry((driver, target.endpoint.clone(), name.clone()))
        .or_insert_with(|| base.clone());
    if known != base {
        return invalid(format!(
            "`rewrite` gives `{name}` for `{known}` too; make the base a part of it"
        ));
    }
    Ok(())
}

/// Step 7.
async fn init(config: &dyn DbConfig, target: &Target) -> Result<()> {
    let job = Job::current()?;
    let mut key = format!(
        "{}\n{}\n{}\n{}",
        target.driver,
        target.endpoint.id(),
        target.name,
        config.fingerprint()
    );
    if target.is_fresh() {
        // Each such test has a database of its own, and shares it with its child processes only.
        key.push_str(&format!("\n{}", target.tag()));
    }
    once(job.directory(), target.worker, &key, async {
        let start = Instant::now();
        let result = config.worker_init(target).await;
        Event::new("init")
            .target(target)
            .duration(start.elapsed())
            .record();
        result
    })
    .await
}

/// Step 8.
async fn prepare(config: &dyn DbConfig, target: &Target, scope: &Scope, key: &Key) -> Result<()> {
    let manual = (target.driver.to_owned(), target.base.clone());
    let skipped = scope
        .inner
        .manual
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .contains(&manual);
    if skipped {
        return Ok(());
    }
    handover::prepare_once(scope, key, async {
        let start = Instant::now();
        // Even a preparation that fails half-way may hold something to be released.
        scope.inner.progress.prepared(target.clone());
        config.prepare(target).await?;
        Event::new("prepare")
            .target(target)
            .duration(start.elapsed())
            .record();
        Ok(())
    })
    .await
}
