//! [`Row`]: what one strategy cost under one condition, as it is printed, compared and drawn.
//!
//! The program prints a row per line, as JSON; `xtask/src/bench` reads them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    /// `reset`, `suite`, `overhead` or `scale`.
    pub(crate) group: &'static str,
    /// The kind of server, with its version.
    pub(crate) backend: String,
    /// Who did it, and how.
    pub(crate) strategy: String,
    /// How many tables there were; or keys, or queues.
    pub(crate) tables: usize,
    /// How many of them a test had written to.
    pub(crate) dirty: usize,
    /// The median, in microseconds.
    pub(crate) median_us: f64,
    /// What 95 of 100 did not exceed.
    pub(crate) p95_us: f64,
    /// What the row is compared with, in microseconds, of the same run.
    pub(crate) floor_us: f64,
    /// How many times that.
    pub(crate) ratio: f64,
    /// How often it was measured.
    pub(crate) samples: usize,
    /// On how many workers, or threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<usize>,
    /// How many tests ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tests: Option<usize>,
    /// Time of processors that the tests used, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<f64>,
    /// Time of processors that the server used for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_ms: Option<f64>,
    /// The most connections that were open at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<i64>,
    /// What the server wrote to its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wal_bytes: Option<i64>,
    /// How many numbers the server gave to new tables, files and other objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) objects: Option<i64>,
    /// Until each worker had its database, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready_ms: Option<f64>,
    /// Memory, where the row is about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<i64>,
}

impl Row {
    /// A row of `times`, beside `floor`.
    ///
    /// # Errors
    /// Where nothing was measured.
    pub(crate) fn of(
        group: &'static str,
        backend: &str,
        strategy: &str,
        times: &[Duration],
        floor: &[Duration],
    ) -> Result<Self> {
        let (median, floor) = (quantile(times, 0.5), quantile(floor, 0.5));
        let median = median.with_context(|| format!("`{strategy}` was never measured"))?;
        let floor = floor.context("the floor was never measured")?;
        let p95 = quantile(times, 0.95).unwrap_or(median);
        Ok(Self {
            group,
            backend: backend.to_owned(),
            strategy: strategy.to_owned(),
            median_us: micros(median),
            p95_us: micros(p95),
            floor_us: micros(floor),
            ratio: median.as_secs_f64() / floor.as_secs_f64(),
            samples: times.len(),
            ..Self::default()
        })
    }

    /// Hands the row to whoever reads the program's output.
    pub(crate) fn tell(&self) -> Result<()> {
        crate::say::row(&serde_json::to_string(self)?);
        Ok(())
    }
}

/// The `share` of `times` that is not exceeded.
pub(crate) fn quantile(times: &[Duration], share: f64) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied()
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let times: Vec<_> = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(quantile(&times, 0.5), Some(Duration::from_micros(51)));
        assert_eq!(quantile(&times, 0.95), Some(Duration::from_micros(96)));
        assert_eq!(quantile(&times[..1], 0.95), Some(times[0]));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_row_is_a_ratio() {
        let times = [300, 100, 200].map(Duration::from_micros);
        let floor = [50, 40, 60].map(Duration::from_micros);
        let row = Row::of("reset", "x", "way", &times, &floor).unwrap();
        assert_eq!((row.median_us, row.floor_us, row.ratio), (200.0, 50.0, 4.0));
        assert!(Row::of("reset", "x", "way", &[], &floor).is_err());
    }
}
