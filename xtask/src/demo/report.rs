//! The demo's figures: as a table, as one JSON object, and judged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::suite::{Mode, Run};

/// All runs, and the server's round trip.
#[derive(Debug, Default)]
pub(crate) struct Report {
    runs: Vec<Run>,
    pub(super) floor: Duration,
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Json {
    tests: u64,
    failed: u64,
    workers: usize,
    databases: usize,
    foreign_values: u64,
    today_seconds: f64,
    serial_seconds: f64,
    parallel_seconds: f64,
    prepare_p50_us: u128,
    prepare_p95_us: u128,
    floor_us: f64,
}

impl Report {
    /// Takes in one run.
    pub(super) fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// Tests of one run of the suite.
    pub(crate) fn tests(&self) -> u64 {
        let tests = |run: &Run| run.passed + run.failed;
        self.runs.iter().map(tests).max().unwrap_or(0)
    }

    /// Failed tests over all runs.
    fn failed(&self) -> u64 {
        self.runs.iter().map(|run| run.failed).sum()
    }

    /// Workers that the parallel run really had.
    pub(crate) fn workers(&self) -> usize {
        let parallel = self.of(|mode| matches!(mode, Mode::Parallel(_)));
        parallel.map(|run| run.events.workers).max().unwrap_or(0)
    }

    /// Databases of workers that the parallel run made.
    fn databases(&self) -> usize {
        let parallel = self.of(|mode| matches!(mode, Mode::Parallel(_)));
        parallel.map(|run| run.databases.workers).max().unwrap_or(0)
    }

    /// Rows that a test saw and another worker wrote, over all runs.
    pub(crate) fn foreign_values(&self) -> u64 {
        self.runs.iter().map(|run| run.audit.foreign).sum()
    }

    /// An error where a test failed, a foreign row was seen, or the check itself saw nothing.
    pub(crate) fn judge(&self) -> Result<()> {
        let failed = self.failed();
        ensure!(failed == 0, "{failed} tests failed");
        for run in &self.runs {
            let title = run.mode.title();
            ensure!(run.passed > 0, "no test ran ({title})");
            ensure!(
                run.passed == self.tests(),
                "{} tests ran ({title}), {} in another run",
                run.passed,
                self.tests()
            );
            ensure!(
                run.audit.tests > 0 && run.audit.writes > 0,
                "the audit saw no writes ({title}), so it proves nothing"
            );
            if run.mode != Mode::Today {
                ensure!(
                    run.databases.workers > 0 && !run.events.prepares.is_empty(),
                    "no database was made or prepared ({title})"
                );
            }
        }
        let foreign = self.foreign_values();
        ensure!(
            foreign == 0,
            "{foreign} rows were seen by tests of other workers"
        );
        Ok(())
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> Result<String> {
        let seconds = |wanted: fn(Mode) -> bool| -> Result<f64> {
            let wall = self.median_wall(wanted).context("a run is missing")?;
            Ok((wall.as_secs_f64() * 1e3).round() / 1e3)
        };
        let prepares = self.prepares(|mode| matches!(mode, Mode::Parallel(_)));
        let json = Json {
            tests: self.tests(),
            failed: self.failed(),
            workers: self.workers(),
            databases: self.databases(),
            foreign_values: self.foreign_values(),
            today_seconds: seconds(|mode| mode == Mode::Today)?,
            serial_seconds: seconds(|mode| mode == Mode::Serial)?,
            parallel_seconds: seconds(|mode| matches!(mode, Mode::Parallel(_)))?,
            prepare_p50_us: percentile(&prepares, 50).as_micros(),
            prepare_p95_us: percentile(&prepares, 95).as_micros(),
            floor_us: (self.floor.as_secs_f64() * 1e7).round() / 10.0,
        };
        serde_json::to_string(&json).context("failed to write JSON")
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header([
            "",
            "tests",
            "failed",
            "workers",
            "databases",
            "wall",
            "speed-up",
            "preparing",
            "p50",
            "p95",
            "foreign",
        ]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let today = self.median_wall(|mode| mode == Mode::Today);
        let mut modes: Vec<Mode> = Vec::new();
        for run in &self.runs {
            if !modes.contains(&run.mode) {
                modes.push(run.mode);
            }
        }
        for mode in &modes {
            let runs: Vec<_> = self.of(|other| other == *mode).collect();
            let (Some(run), Some(wall)) = (runs.first(), self.median_wall(|other| other == *mode))
            else {
                continue;
            };
            let prepares = self.prepares(|other| other == *mode);
            let count = |count: usize| match mode {
                Mode::Today => "-".to_owned(),
                _ => count.to_string(),
            };
            let time = |time: Duration| match mode {
                Mode::Today => "-".to_owned(),
                _ => milliseconds(time),
            };
            let speed_up = today.map_or(1.0, |today| today.as_secs_f64() / wall.as_secs_f64());
            let runs_count = u32::try_from(runs.len()).unwrap_or(1);
            table.add_row([
                mode.title(),
                (run.passed + run.failed).to_string(),
                runs.iter().map(|run| run.failed).sum::<u64>().to_string(),
                count(run.events.workers),
                count(run.databases.workers),
                format!("{:.2} s", wall.as_secs_f64()),
                format!("{speed_up:.1} ×"),
                time(prepares.iter().sum::<Duration>() / runs_count),
                time(percentile(&prepares, 50)),
                time(percentile(&prepares, 95)),
                runs.iter()
                    .map(|run| run.audit.foreign)
                    .sum::<u64>()
                    .to_string(),
            ]);
        }
        let mut text = table.to_string();
        for mode in modes {
            for run in self.of(|other| other == mode).take(1) {
                let audit = run.audit;
                text.push_str(&format!(
                    "\n{}: {} writes of {} tests audited, {} foreign",
                    mode.title(),
                    audit.writes,
                    audit.tests,
                    audit.foreign
                ));
                if mode != Mode::Today {
                    text.push_str(&format!(
                        "; {} making {} databases and {} templates",
                        milliseconds(run.events.making),
                        run.databases.workers,
                        run.databases.templates
                    ));
                }
            }
        }
        text.push_str(&format!(
            "\nfloor: a bare prepared SELECT 1 takes {} µs; the audit (triggers, a connection per test) is part of every time",
            self.floor.as_micros()
        ));
        text
    }

    fn of(&self, wanted: impl Fn(Mode) -> bool) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| wanted(run.mode))
    }

    fn median_wall(&self, wanted: impl Fn(Mode) -> bool) -> Option<Duration> {
        let mut walls: Vec<_> = self.of(wanted).map(|run| run.wall).collect();
        walls.sort_unstable();
        walls.get(walls.len() / 2).copied()
    }

    fn prepares(&self, wanted: impl Fn(Mode) -> bool) -> Vec<Duration> {
        let mut all: Vec<_> = self
            .of(wanted)
            .flat_map(|run| run.events.prepares.iter().copied())
            .collect();
        all.sort_unstable();
        all
    }
}

/// The value below which `percent` of the sorted `values` lie; nothing of nothing.
fn percentile(values: &[Duration], percent: usize) -> Duration {
    let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(rank).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    if milliseconds < 10.0 {
        format!("{milliseconds:.2} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::super::databases::Made;
    use super::super::events::Events;
    use super::super::suite::Audit;
    use super::*;

    fn report() -> Report {
        let run = |mode, seconds: u64| Run {
            mode,
            passed: 120,
            failed: 0,
            wall: Duration::from_secs(seconds),
            audit: Audit {
                tests: 100,
                writes: 500,
                foreign: 0,
            },
            events: Events {
                prepares: (1..=100).map(Duration::from_micros).collect(),
                making: Duration::from_millis(300),
                workers: 4,
            },
            databases: Made {
                workers: 4,
                templates: 1,
            },
        };
        Report {
            runs: vec![
                run(Mode::Today, 20),
                run(Mode::Serial, 5),
                run(Mode::Parallel(4), 2),
            ],
            floor: Duration::from_nanos(122_400),
        }
    }

    #[test]
    fn one_object_with_all_figures() {
        let expected = r#"{"tests":120,"failed":0,"workers":4,"databases":4,"foreign_values":0,"today_seconds":20.0,"serial_seconds":5.0,"parallel_seconds":2.0,"prepare_p50_us":50,"prepare_p95_us":95,"floor_us":122.4}"#;
        assert_eq!(report().json().unwrap(), expected);
        assert!(report().table().contains("10.0 ×"), "{}", report().table());
        report().judge().unwrap();
    }

    #[test]
    fn what_must_not_be_is_an_error() {
        #[track_caller]
        fn check(break_it: impl Fn(&mut Report), expected: &str) {
            let mut report = report();
            break_it(&mut report);
            let error = report.judge().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check(
            |report| report.runs[2].audit.foreign = 1,
            "1 rows were seen",
        );
        check(|report| report.runs[1].failed = 2, "2 tests failed");
        check(|report| report.runs[0].passed = 119, "119 tests ran");
        check(
            |report| report.runs[1].audit.writes = 0,
            "audit saw no writes",
        );
        check(
            |report| report.runs[2].databases.workers = 0,
            "no database was made",
        );
        check(
            |report| report.runs[2].events.prepares.clear(),
            "no database was made",
        );
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<_> = [1, 2, 3, 4].map(Duration::from_secs).into();
        assert_eq!(percentile(&values, 50), Duration::from_secs(2));
        assert_eq!(percentile(&values, 95), Duration::from_secs(4));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
