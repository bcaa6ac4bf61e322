//! Rows as tables for people: what a group's rows have in common is a column, what none of them has is left out.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use super::Group;
use super::row::Row;

/// The table of a group.
pub(crate) fn of(group: Group, rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    type Column = (&'static str, fn(&Row) -> Option<String>);
    let columns: [Column; 15] = [
        ("server", |row| Some(row.backend.clone())),
        ("strategy", |row| Some(row.strategy.clone())),
        ("workers", |row| row.workers.map(|count| count.to_string())),
        ("tests", |row| row.tests.map(|count| count.to_string())),
        ("tables", |row| Some(row.tables.to_string())),
        ("dirty", |row| Some(row.dirty.to_string())),
        ("median", |row| time_unless_memory(row, row.median_us)),
        ("95 %", |row| time_unless_memory(row, row.p95_us)),
        ("× floor", |row| {
            row.bytes.is_none().then(|| ratio(row.ratio))
        }),
        ("CPU, tests", |row| row.cpu_ms.map(|ms| time(ms * 1e3))),
        ("CPU, server", |row| {
            row.server_cpu_ms.map(|ms| time(ms * 1e3))
        }),
        ("connections", |row| {
            row.connections.map(|count| count.to_string())
        }),
        ("workers ready after", |row| {
            row.ready_ms.map(|ms| time(ms * 1e3))
        }),
        ("WAL", |row| row.wal_bytes.map(bytes)),
        ("objects", |row| row.objects.map(|count| count.to_string())),
    ];
    let is_shown = |name: &str, of: fn(&Row) -> Option<String>| {
        let is_about_tables = matches!(name, "tables" | "dirty");
        rows.iter().any(|row| of(row).is_some()) && !(is_about_tables && group == Group::Scale)
    };
    let memory: Column = ("memory", |row| row.bytes.map(bytes));
    let mut shown: Vec<_> = columns.into_iter().chain([memory]).collect();
    shown.retain(|(name, of)| is_shown(name, *of));
    table.set_header(shown.iter().map(|(name, _)| *name));
    for row in rows {
        table.add_row(shown.iter().map(|(_, of)| of(row).unwrap_or_default()));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn time_unless_memory(row: &Row, us: f64) -> Option<String> {
    row.bytes.is_none().then(|| time(us))
}

/// Microseconds, for people.
pub(super) fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 100.0 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

fn bytes(bytes: i64) -> String {
    let bytes = bytes as f64;
    match bytes {
        bytes if bytes < 1e3 => format!("{bytes:.0} B"),
        bytes if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        let times = [87.4, 1_234.0, 54_321.0, 654_321.0, 12_345_678.0].map(time);
        assert_eq!(times, ["87 µs", "1.23 ms", "54.3 ms", "654 ms", "12.3 s"]);
        assert_eq!([0.73, 99.9, 654.3].map(ratio), ["0.7", "99.9", "654"]);
        assert_eq!(
            [999, 12_345, 54_321_000].map(bytes),
            ["999 B", "12.3 kB", "54.3 MB"]
        );
    }

    #[test]
    fn columns_that_nobody_fills_are_left_out() {
        let row = Row {
            strategy: "dagz".to_owned(),
            median_us: 400.0,
            ratio: 3.2,
            ..Row::default()
        };
        let text = of(Group::Reset, &[row]).to_string();
        assert!(text.contains("400 µs"), "{text}");
        assert!(!text.contains("WAL") && !text.contains("workers"), "{text}");
    }
}
