//! Random workloads: whether a reset undoes them all, or a mutant of it does not.
//!
//! A driver's `tests/random….rs` knows what a test may do to its server, and how two states of a database are compared.
//! [`counterexample`] makes the workloads, and tells the smallest that is not undone, with the seed that makes the same
//! ones again; [`assert_needed`] is for the mutants. [`Interleaved`] is a workload of several connections.

use std::{
    cell::Cell,
    env, fmt,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
    sync::OnceLock,
    time::Duration,
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};
use tokio::{runtime::Handle, task::block_in_place, time::timeout};

/// What proptest calls the seed of all that is random.
const SEED: &str = "PROPTEST_RNG_SEED";

/// Much longer than any workload and its reset take, however busy the machine is.
const ROUND: Duration = Duration::from_secs(120);

/// Of so many workloads or more, some that change something are expected.
const HANDFUL: u32 = 30;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// A workload that is not undone, among so many. There should be none, so it is made smaller before it is told.
    Unexpected(u32),
    /// A workload that is not undone, which a mutant should have.
    Expected,
}

/// A workload that is not undone, in words.
#[derive(Debug)]
pub struct Counterexample {
    text: String,
    /// Whether there was another state, and not an error.
    is_difference: bool,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How many workloads, or schemas, a test makes: `few`, unless `DAGZ_TEST_CASES` says how many.
pub fn cases(few: u32) -> u32 {
    let told = env::var("DAGZ_TEST_CASES").ok();
    told.and_then(|told| told.parse().ok()).unwrap_or(few)
}

/// Makes random values for `test`: others than for another test, and the same ones where `PROPTEST_RNG_SEED` is set.
pub fn runner(test: &str) -> TestRunner {
    TestRunner::new(config(test))
}

/// Tells the workload for which `round` fails, if there is such, and the seed that makes the same ones once more. To say
/// that the state is another one, it returns an error; what else goes wrong, it panics of.
///
/// All rounds of a test are one after the other, on one database: so a failure may be what an earlier one left, and the
/// seed is that of all.
///
/// # Panics
/// Outside a runtime of several threads.
pub fn counterexample<S: Strategy>(
    test: &str,
    search: Search,
    workloads: &S,
    round: impl AsyncFn(S::Value) -> Result<(), TestCaseError>,
) -> Option<Counterexample> {
    let (cases, max_shrink_iters) = match search {
        Search::Unexpected(cases) => (cases, 100),
        Search::Expected => (1_000, 0),
    };
    let mut runner = TestRunner::new(Config {
        cases,
        max_shrink_iters,
        // In milliseconds. A round that does not end is not tried a hundred times.
        max_shrink_time: 60_000,
        ..config(test)
    });
    let is_difference = Cell::new(false);
    let outcome = block_in_place(|| {
        runner.run(workloads, |workload| {
            is_difference.set(false);
            let round = async { timeout(ROUND, round(workload)).await };
            let done = Handle::current().block_on(round);
            let done = done.unwrap_or_else(|_| panic!("not done after {ROUND:?}"));
            is_difference.set(done.is_err());
            done
        })
    });
    let error = outcome.err()?;
    Some(Counterexample {
        text: format!("{error}\nthe same workloads once more: {SEED}={}", seed()),
        is_difference: is_difference.get(),
    })
}

/// Fails unless someone who is blind to `detection` leaves another state after some workload. `at_random` looks for one in
/// databases of the name that it is told: up to five times, since an error shows nothing and may come first.
///
/// # Panics
/// Where no workload needs the detection, or all that is found are errors.
pub fn assert_needed(
    test: &str,
    detection: &str,
    at_random: impl Fn(&str) -> Option<Counterexample>,
) {
    let mut errors = String::new();
    for number in 0..5 {
        let found = at_random(&format!("{test}_{number}"));
        let found = found.unwrap_or_else(|| panic!("nobody needs `{detection}`"));
        if found.is_difference {
            return;
        }
        errors = found.text;
    }
    panic!("without `{detection}` there are only errors, the last one: {errors}");
}

/// Fails unless someone who is blind to `detection` cannot begin the next test after some workload, with an error that says
/// one of `reasons`. It is for what nothing else would come of.
///
/// # Panics
/// Where no workload needs the detection, or another error comes first.
pub fn assert_needed_to_begin(
    test: &str,
    detection: &str,
    reasons: &[&str],
    at_random: impl Fn(&str) -> Option<Counterexample>,
) {
    let found = at_random(test).unwrap_or_else(|| panic!("nobody needs `{detection}`"));
    assert!(
        !found.is_difference && reasons.iter().any(|reason| found.text.contains(reason)),
        "without `{detection}` another thing happens: {found}"
    );
}

/// Fails unless more than one in `one_in` of `all` workloads `changed` anything, as too little would be shown by them. Of
/// fewer than 30 it cannot be told.
///
/// # Panics
/// Where too few did.
pub fn assert_telling(changed: u32, all: u32, one_in: u32) {
    assert!(
        all < HANDFUL || changed * one_in > all,
        "only {changed} of {all} workloads changed anything"
    );
}

fn config(test: &str) -> Config {
    let mut hasher = DefaultHasher::new();
    (seed(), test).hash(&mut hasher);
    Config {
        rng_seed: RngSeed::Fixed(hasher.finish()),
        // It would keep the last workload alone.
        failure_persistence: None,
        ..Config::default()
    }
}

/// What everything random in this process is made from.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(()),
    })
}

/// How many connections an [`Interleaved`] workload has.
pub const CONNECTIONS: usize = 3;

/// What several connections of a test do, each statement by one of them.
#[derive(Clone, Debug)]
pub struct Interleaved {
    /// What is done until the test ends: the connection's number, and the statement.
    pub statements: Vec<(usize, String)>,
    /// Of each connection, whether it is still there at the reset, transaction and all.
    pub stays: [bool; CONNECTIONS],
    /// What is done only after what can be found out behind a test may have been found out, if it is waited for that.
    pub late: Option<Vec<(usize, String)>>,
}

/// Workloads of such statements.
pub fn interleaved<S>(statement: impl Fn() -> S) -> impl Strategy<Value = Interleaved>
where
    S: Strategy<Value = String>,
{
    let some = |most: usize| vec((0..CONNECTIONS, statement()), 0..most);
    let stays = prop::array::uniform3(prop::bool::weighted(0.2));
    (some(16), stays, prop::option::of(some(3))).prop_map(|(statements, stays, late)| Interleaved {
        statements,
        stays,
        late,
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, panic::AssertUnwindSafe};

    use super::*;
    use crate::site::run;

    /// The numbers that `test` meets, and what is said where all from `limit` on fail.
    fn met(test: &str, limit: u32) -> (Vec<u32>, Option<Counterexample>) {
        let met = RefCell::new(Vec::new());
        let said = run(async {
            counterexample(
                test,
                Search::Unexpected(40),
                &(0..1_000_u32),
                async |number| {
                    met.borrow_mut().push(number);
                    prop_assert!(number < limit, "too large");
                    Ok(())
                },
            )
        });
        (met.into_inner(), said)
    }

    #[test]
    fn what_changes_little_tells_nothing() {
        assert_telling(21, 40, 2);
        assert_telling(0, 3, 2);
        let too_few = std::panic::catch_unwind(|| assert_telling(20, 40, 2));
        assert!(too_few.is_err());
    }

    #[test]
    fn a_test_meets_the_same_and_another_one_does_not() {
        let (first, said) = met("one", 1_000);
        assert_eq!((first.len(), said.is_none()), (40, true));
        assert_eq!(met("one", 1_000).0, first);
        assert_ne!(met("other", 1_000).0, first);
    }

    #[test]
    fn the_smallest_is_told_with_its_seed() {
        let (_, said) = met("one", 100);
        let said = said.unwrap().to_string();
        assert!(said.contains("too large"), "{said}");
        assert!(said.contains("minimal failing input: 100"), "{said}");
        let seed = format!("PROPTEST_RNG_SEED={}", seed());
        assert!(said.ends_with(&seed), "{said}");
    }

    #[test]
    fn a_mutant_is_not_made_smaller() {
        let rounds = RefCell::new(0);
        let said = run(async {
            counterexample(
                "mutant",
                Search::Expected,
                &(0..1_000_u32),
                async |number| {
                    *rounds.borrow_mut() += u32::from(number >= 500);
                    prop_assert!(number < 500);
                    Ok(())
                },
            )
        });
        assert!(said.is_some_and(|found| found.is_difference));
        assert_eq!(rounds.into_inner(), 1);
    }

    #[test]
    fn an_error_does_not_show_that_anybody_needs_it() {
        let looked = Cell::new(0);
        let found = |is_difference| {
            looked.set(looked.get() + 1);
            let text = "cannot reset".to_owned();
            Some(Counterexample {
                text,
                is_difference,
            })
        };
        assert_needed("test", "rows", |name| found(name == "test_3"));
        assert_eq!(looked.get(), 4);
        let only_errors = || assert_needed("test", "rows", |_| found(false));
        assert!(std::panic::catch_unwind(AssertUnwindSafe(only_errors)).is_err());
        let nothing = || assert_needed("test", "rows", |_| None);
        assert!(std::panic::catch_unwind(nothing).is_err());
    }

    #[test]
    fn a_panic_is_an_error() {
        let said = run(async {
            counterexample("panics", Search::Expected, &(0..9_u32), async |_| {
                panic!("cannot reset")
            })
        });
        let said = said.unwrap();
        assert!(
            !said.is_difference && said.text.contains("cannot reset"),
            "{said}"
        );
    }
}
