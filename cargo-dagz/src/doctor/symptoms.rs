//! What ailed the last job, by its events: the symptoms that suites show when they begin to run in parallel.
//!
//! Each has a row only where the job shows it; `cargo dagz logs` has the events behind it.

use std::collections::{BTreeMap, BTreeSet};

use dagz_core::{
    ErrorKind, Result, Settings,
    history::{Entry, History, Job, Kept},
};

use super::Row;

/// So many names are told at most.
const NAMES: usize = 3;

/// Looks at the last job of the workspace, if there is one, and at what is kept of failed tests.
pub(super) fn look(settings: &Settings) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kept in Kept::all(settings)? {
        rows.push(Row::good(
            kept.job(),
            "kept",
            format!(
                "{} as `{}` left it; `cargo dagz logs {} --failed` tells how to look",
                kept.worker(),
                kept.test(),
                kept.job()
            ),
        ));
    }
    let Some(job) = History::of(settings).job("latest")? else {
        return Ok(rows);
    };
    let entries = job.log().read()?;
    let found = of(&job, &entries);
    if found.is_empty() {
        rows.push(Row::good(job.id(), "symptoms", "none that is known"));
    }
    rows.extend(found);
    Ok(rows)
}

fn of(job: &Job, entries: &[Entry]) -> Vec<Row> {
    [
        idle(job, entries),
        shared(job, entries),
        already_there(job, entries),
        waited_in_vain(job, entries),
        timed_out(job, entries),
        two_on_one(job, entries),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Workers that no test took, though there were tests enough.
fn idle(job: &Job, entries: &[Entry]) -> Option<Row> {
    let leases = || entries.iter().filter(|entry| entry.kind == "lease");
    let used: BTreeSet<_> = leases().filter_map(Entry::worker).collect();
    let (used, workers) = (used.len(), job.workers() as usize);
    (used > 0 && used < workers && leases().count() >= workers).then(|| {
        Row::odd(
            job.id(),
            "idle workers",
            format!(
                "{used} of {workers} were used by {} tests",
                leases().count()
            ),
            format!(
                "fewer tests ran at once than there are workers: `cargo dagz test --workers {workers}` runs as many; a mark (`exclusive`, `main_worker`), `--test-threads` or a group of nextest keeps tests waiting"
            ),
        )
    })
}

/// Base databases that several tests used: what passes alone and fails under load.
fn shared(job: &Job, entries: &[Entry]) -> Option<Row> {
    let mut bases: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == "route") {
        let is_base = matches!(entry.detail.as_deref(), Some("bypassed" | "left out"));
        if let (true, Some(driver), Some(database), Some(test)) =
            (is_base, &entry.driver, &entry.database, &entry.test)
        {
            let base = format!("{driver} `{database}`");
            bases.entry(base).or_default().insert(test);
        }
    }
    bases.retain(|_, tests| tests.len() > 1);
    let (base, tests) = bases.first_key_value()?;
    Some(Row::odd(
        job.id(),
        "shared database",
        format!("{base} was used as it is by {}", names(tests)),
        "tests that share a base database pass alone and fail under load: take out the `bypass()` or the `reroute_if` that lets them, or mark them `main_worker`, so that they run one at a time",
    ))
}

/// Set-up that met what it had made.
fn already_there(job: &Job, entries: &[Entry]) -> Option<Row> {
    let (what, tests) = errors(entries, |entry, text| {
        entry.kind == "error" && text.contains("already exists")
    })?;
    Some(Row::bad(
        job.id(),
        "already exists",
        format!("{what}, in {}", names(&tests)),
        "the set-up ran on what was there: make the schema in one place, `migrations`, `migrate_with` or `worker_init`, which dagz runs once per worker, and take it out of tests and helpers; what a killed run left goes by `cargo dagz clean`",
    ))
}

/// Tests that got no worker in time.
fn waited_in_vain(job: &Job, entries: &[Entry]) -> Option<Row> {
    let (what, tests) = errors(entries, |entry, _| {
        entry.cause() == Some(ErrorKind::LeaseTimeout)
    })?;
    Some(Row::bad(
        job.id(),
        "no worker in time",
        format!("{what}, in {}", names(&tests)),
        "more tests run at once than there are workers: raise `DAGZ_WORKERS`, run fewer (`cargo dagz test --workers N` sets both), or raise `DAGZ_LEASE_TIMEOUT`",
    ))
}

/// Servers that did not keep up.
fn timed_out(job: &Job, entries: &[Entry]) -> Option<Row> {
    let (what, tests) = errors(entries, |entry, text| {
        let words = [
            "timed out",
            "timeout",
            "time-out",
            "too many c",
            "remaining connection slots",
        ];
        entry.kind == "error"
            && entry.cause() != Some(ErrorKind::LeaseTimeout)
            && words.iter().any(|word| text.contains(word))
    })?;
    Some(Row::bad(
        job.id(),
        "time-outs",
        format!("{what}, in {}", names(&tests)),
        "the server did not keep up with so many at once: see its rows `connections` and `time-outs`, make the tests' pools smaller, or run with fewer workers (`DAGZ_WORKERS`)",
    ))
}

/// Two workers, or two runs, on one database.
fn two_on_one(job: &Job, entries: &[Entry]) -> Option<Row> {
    let (what, tests) = errors(entries, |entry, _| {
        matches!(
            entry.cause(),
            Some(ErrorKind::ForeignWorker | ErrorKind::InUse)
        )
    })?;
    Some(Row::bad(
        job.id(),
        "one database for two",
        format!("{what}, in {}", names(&tests)),
        "a pool or an address is kept from one test to the next, as in a `static`: open the base name in each test; if it is another run's, give each checkout its own `DAGZ_PROJECT` and each machine its `DAGZ_NODE_INDEX`",
    ))
}

/// What the first event says for which `is_it`, and the tests of all of them.
fn errors(
    entries: &[Entry],
    is_it: impl Fn(&Entry, &str) -> bool,
) -> Option<(String, BTreeSet<&str>)> {
    let mut first = None;
    let mut tests = BTreeSet::new();
    for entry in entries {
        let text = entry.detail.as_deref().unwrap_or_default();
        if is_it(entry, &text.to_lowercase()) {
            first.get_or_insert_with(|| text.to_owned());
            tests.extend(entry.test.as_deref());
        }
    }
    Some((first?, tests))
}

/// `a`, `b` and 3 more.
fn names(tests: &BTreeSet<&str>) -> String {
    let mut told: Vec<_> = tests
        .iter()
        .take(NAMES)
        .map(|test| format!("`{test}`"))
        .collect();
    match tests.len() {
        0 => "no test".to_owned(),
        count if count > NAMES => format!("{} and {} more", told.join(", "), count - NAMES),
        1 => told.remove(0),
        _ => {
            let last = told.pop().unwrap_or_default();
            format!("{} and {last}", told.join(", "))
        }
    }
}
