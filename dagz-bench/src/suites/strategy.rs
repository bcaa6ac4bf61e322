//! [`Strategy`]: the ways to run the suite, in the order they are run.

/// A way to run the suite, on so many workers or threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strategy {
    pub(super) name: &'static str,
    pub(super) program: Program,
    pub(super) workers: usize,
    pub(super) is_dear: bool,
}

/// The test binary of a strategy, and who starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Dagz,
    Sqlx,
    ByHand,
    NextestDagz,
    NextestByHand,
}

impl Program {
    /// Whether each test is a process of its own.
    pub(super) fn is_nextest(self) -> bool {
        matches!(self, Self::NextestDagz | Self::NextestByHand)
    }

    /// Whether it is dagz that isolates.
    pub(super) fn is_dagz(self) -> bool {
        matches!(self, Self::Dagz | Self::NextestDagz)
    }
}

/// A transaction per test, each on a connection of its own.
pub(super) const TRANSACTION: &str = "transaction";

/// The same on connections that outlive their tests.
pub(super) const TRANSACTION_KEPT: &str = "transaction, kept connection";

/// A transaction per test, each test a process.
pub(super) const TRANSACTION_NEXTEST: &str = "transaction, nextest";

/// What only the first run of a project pays: the template, and a clone per worker.
pub(super) const FIRST: Strategy = Strategy {
    name: "dagz, first run",
    program: Program::Dagz,
    workers: 8,
    is_dear: true,
};

/// All, in the order they run, round by round.
pub(super) fn all() -> Vec<Strategy> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Those who are told how many run at once are measured on each; by default a harness has as many threads as there
    // are cores, and so have the others, unless they share one database.
    let (any, default, serial) = ([1, 2, 4, 8].as_slice(), [cores], [1]);
    let mut all = Vec::new();
    let mut add = |name, program, workers: &[usize], is_dear| {
        all.extend(workers.iter().map(|workers| Strategy {
            name,
            program,
            workers: *workers,
            is_dear,
        }));
    };
    add("dagz", Program::Dagz, any, false);
    add(TRANSACTION, Program::ByHand, any, false);
    add(TRANSACTION_KEPT, Program::ByHand, any, false);
    add("dagz-nextest", Program::NextestDagz, any, true);
    add(TRANSACTION_NEXTEST, Program::NextestByHand, &default, true);
    add("count-truncate", Program::ByHand, &serial, true);
    add("template-clone", Program::ByHand, &default, true);
    add("truncate-all", Program::ByHand, &serial, true);
    add("sqlx-test", Program::Sqlx, &default, true);
    all
}
