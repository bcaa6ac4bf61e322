//! Random workloads: whether a reset undoes them all, or a mutant of it does not.
//!
//! A driver's `tests/random….rs` knows what a test may do to its server, and how two states of a database are compared.
//! [`counterexample`] makes the workloads, and tells the smallest that is not undone, with the seed that makes the same
//! ones again. [`Interleaved`] is a workload of several connections.

use std::{
    env,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
    sync::OnceLock,
    time::Duration,
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner},
};
use tokio::{runtime::Handle, task::block_in_place, time::timeout};

/// What proptest calls the seed of all that is random.
const SEED: &str = "PROPTEST_RNG_SEED";

/// Much longer than any workload and its reset take, however busy the machine is.
const ROUND: Duration = Duration::from_secs(120);

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// A workload that is not undone, among so many. There should be none, so it is made smaller before it is told.
    Unexpected(u32),
    /// A workload that is not undone, which a mutant should have.
    Expected,
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

/// Tells the workload for which `round` fails, if there is such, and the seed that makes the same ones once more.
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
) -> Option<String> {
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
    let outcome = block_in_place(|| {
        runner.run(workloads, |workload| {
            let round = async { timeout(ROUND, round(workload)).await };
            let done = Handle::current().block_on(round);
            done.unwrap_or_else(|_| Err(TestCaseError::fail(format!("not done after {ROUND:?}"))))
        })
    });
    outcome.err().map(|error| explained(&error))
}

fn explained(error: &TestError<impl std::fmt::Debug>) -> String {
    format!("{error}\nthe same workloads once more: {SEED}={}", seed())
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
    use std::cell::RefCell;

    use super::*;
    use crate::site::run;

    /// The numbers that `test` meets, and what is said where all from `limit` on fail.
    fn met(test: &str, limit: u32) -> (Vec<u32>, Option<String>) {
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
    fn a_test_meets_the_same_and_another_one_does_not() {
        let (first, said) = met("one", 1_000);
        assert_eq!((first.len(), said), (40, None));
        assert_eq!(met("one", 1_000).0, first);
        assert_ne!(met("other", 1_000).0, first);
    }

    #[test]
    fn the_smallest_is_told_with_its_seed() {
        let (_, said) = met("one", 100);
        let said = said.unwrap();
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
        assert!(said.is_some());
        assert_eq!(rounds.into_inner(), 1);
    }
}
