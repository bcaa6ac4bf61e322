//! [`Row`]: a figure as `dagz-bench` prints it, and files of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What one strategy cost under one condition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) group: String,
    pub(crate) backend: String,
    pub(crate) strategy: String,
    pub(crate) tables: u64,
    pub(crate) dirty: u64,
    pub(crate) median_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) floor_us: f64,
    pub(crate) ratio: f64,
    #[serde(default)]
    pub(crate) samples: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tests: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wal_bytes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) objects: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<i64>,
}

impl Row {
    /// The kind of server, without its version: figures outlive versions.
    pub(crate) fn kind(&self) -> &str {
        self.backend.split(' ').next().unwrap_or_default()
    }

    /// What makes two rows of two runs comparable.
    pub(crate) fn key(&self) -> String {
        let mut key = format!("{} {} {}", self.group, self.kind(), self.strategy);
        key.push_str(&format!(", {} of {} dirty", self.dirty, self.tables));
        if let Some(workers) = self.workers {
            key.push_str(&format!(", {workers} workers"));
        }
        if let Some(tests) = self.tests {
            key.push_str(&format!(", {tests} tests"));
        }
        key
    }
}

/// The rows in a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "`{}` is not what `cargo xtask bench` writes",
            path.display()
        )
    })
}

/// A row per line, so that a change of one is a change of one line.
pub(crate) fn text(rows: &[Row]) -> Result<String> {
    let lines: Vec<_> = rows
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()?;
    Ok(format!("[\n{}\n]", lines.join(",\n")))
}

/// Writes the rows to a file.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    fs::write(path, format!("{}\n", text(rows)?))
        .with_context(|| format!("failed to write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.json");
        let rows = [
            Row {
                group: "reset".to_owned(),
                backend: "postgres 15.18".to_owned(),
                ratio: 3.5,
                ..Row::default()
            },
            Row {
                workers: Some(4),
                ..Row::default()
            },
        ];
        write(&path, &rows).unwrap();
        assert_eq!(read(&path).unwrap(), rows);
        fs::write(&path, "{}").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("is not what `cargo xtask bench` writes"),
            "{error}"
        );
    }
}
