//! How many tests ran: read from the summaries that libtest and nextest print.
//!
//! The exit code says whether all passed, but not whether there were any; a run of no tests must not look like
//! one of a thousand.

use std::fmt;
use std::ops::AddAssign;

/// Sums over the test binaries of one run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Passed and failed ones.
    pub(crate) run: u64,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Not run, by an attribute or a filter.
    pub(crate) skipped: u64,
}

impl Totals {
    /// Adds what `line` says, if it is a summary.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            // `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s`
            let Some((_, counts)) = rest.split_once(". ") else {
                return;
            };
            for (count, word) in counts.split("; ").filter_map(count) {
                match word {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" | "filtered out" => self.skipped += count,
                    _ => continue,
                }
            }
        } else if let Some(rest) = line.trim_start().strip_prefix("Summary [") {
            // `   0.010s] 12/20 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped`
            let Some((_, counts)) = rest.split_once("run: ") else {
                return;
            };
            for (count, word) in counts.split(", ").filter_map(count) {
                if word.starts_with("passed") {
                    self.passed += count;
                } else if word == "skipped" {
                    self.skipped += count;
                } else if word.ends_with("failed") || word == "timed out" {
                    self.failed += count;
                }
            }
        }
        self.run = self.passed + self.failed;
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.run += other.run;
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// `3` and `passed` of `3 passed`.
fn count(text: &str) -> Option<(u64, &str)> {
    let (count, word) = text.split_once(' ')?;
    Some((count.parse().ok()?, word))
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} tests run: {} passed, {} failed; {} skipped",
            self.run, self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], passed: u64, failed: u64, skipped: u64) {
        let mut totals = Totals::default();
        for line in lines {
            totals.read(line);
        }
        let expected = Totals {
            run: passed + failed,
            passed,
            failed,
            skipped,
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn libtest() {
        check(
            &[
                "running 4 tests",
                "test a ... ok",
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
                "test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.25s",
            ],
            10,
            1,
            3,
        );
    }

    #[test]
    fn nextest() {
        check(
            &["     Summary [   0.010s] 3 tests run: 3 passed, 0 skipped"],
            3,
            0,
            0,
        );
        check(
            &[
                "     Summary [  61.500s] 12/20 tests run: 9 passed (1 slow, 1 flaky), 1 failed, 1 exec failed, 1 timed out, 3 skipped",
            ],
            9,
            3,
            3,
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        check(
            &[
                "",
                "a test result: ok. 3 passed",
                "Summary",
                "test result: odd",
            ],
            0,
            0,
            0,
        );
    }
}
