//! What got slower since another run: by ratio to the floor of its own run, since machines differ and their days, too.

use anyhow::{Result, bail, ensure};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use super::row::Row;

/// From here on a ratio has not moved but broken.
const BROKEN: f64 = 2.0;

/// From here on it is worth a line.
const WORTH_TELLING: f64 = 1.2;

/// Prints what got slower since `before`, and fails where anything of dagz's own broke.
///
/// What others do is told, and fails nothing: it is not ours to repair.
pub(crate) fn judge(before: &[Row], now: &[Row]) -> Result<()> {
    let changes = changes(before, now);
    ensure!(
        !changes.is_empty(),
        "nothing that was measured now was measured then, so nothing can be compared"
    );
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["what got slower", "then, × floor", "now, × floor", "times"]);
    let mut is_any = false;
    let mut broken = Vec::new();
    for Change {
        key,
        then,
        now,
        is_own,
    } in &changes
    {
        let times = now / then;
        if times >= WORTH_TELLING {
            is_any = true;
            let numbers = [then, now, &times].map(|number| format!("{number:.1}"));
            let [then, now, times] = numbers;
            table.add_row([key.clone(), then, now, times]);
        }
        if times > BROKEN && *is_own {
            broken.push(key.as_str());
        }
    }
    match is_any {
        true => eprintln!("{table}"),
        false => eprintln!("nothing got slower, of {} figures", changes.len()),
    }
    if !broken.is_empty() {
        bail!(
            "more than {BROKEN} times as slow by ratio as before: {}",
            broken.join("; ")
        );
    }
    Ok(())
}

struct Change {
    key: String,
    then: f64,
    now: f64,
    is_own: bool,
}

fn changes(before: &[Row], now: &[Row]) -> Vec<Change> {
    let then_of = |key: &str| before.iter().find(|row| row.key() == key);
    let changes = now.iter().filter_map(|row| {
        let key = row.key();
        let (then, now) = (figure(then_of(&key)?), figure(row));
        Some(Change {
            key,
            then,
            now,
            is_own: row.strategy.starts_with("dagz"),
        })
    });
    changes.collect()
}

/// What is compared of a row: its ratio; of one about memory, which has no floor, the memory.
fn figure(row: &Row) -> f64 {
    row.bytes.map_or(row.ratio, |bytes| bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a run of all groups leaves it, with fewer sizes.
    const WHOLE_RUN: &str = include_str!("whole_run.json");

    fn row(strategy: &str, ratio: f64) -> Row {
        Row {
            strategy: strategy.to_owned(),
            ratio,
            ..Row::default()
        }
    }

    #[test]
    fn twice_as_slow_is_not_broken_and_more_is() {
        judge(&[row("dagz", 3.0)], &[row("dagz", 6.0)]).unwrap();
        let error = judge(&[row("dagz", 3.0)], &[row("dagz", 6.1)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "more than 2 times as slow by ratio as before:   dagz, 0 of 0 dirty"
        );
    }

    #[test]
    fn others_may_get_slower() {
        judge(&[row("truncate-all", 3.0)], &[row("truncate-all", 60.0)]).unwrap();
    }

    #[test]
    fn a_whole_run_is_compared_with_itself_and_with_a_slower_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.json");
        std::fs::write(&path, WHOLE_RUN).unwrap();
        let before = super::super::row::read(&path).unwrap();
        let groups: std::collections::BTreeSet<_> =
            before.iter().map(|row| row.group.as_str()).collect();
        assert_eq!(groups.len(), 4, "{groups:?}");
        // No two figures of a run have one key: each is compared, with its own.
        let keys: std::collections::BTreeSet<_> = before.iter().map(Row::key).collect();
        assert_eq!(keys.len(), before.len());
        let same = changes(&before, &before);
        assert!(same.iter().all(|change| change.now == change.then));
        judge(&before, &before).unwrap();
        for group in groups {
            let mut now = before.clone();
            let own = now.iter_mut().find(|row| {
                row.group == group && row.strategy.starts_with("dagz") && row.bytes.is_none()
            });
            let own = own.unwrap();
            own.ratio *= 2.5;
            let key = own.key();
            let error = judge(&before, &now).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("more than 2 times as slow by ratio as before: {key}")
            );
        }
    }

    #[test]
    fn memory_is_compared_by_bytes() {
        let memory = |bytes| Row {
            bytes: Some(bytes),
            ..row("dagz, memory per worker", 0.0)
        };
        judge(&[memory(80_000)], &[memory(160_000)]).unwrap();
        let error = judge(&[memory(80_000)], &[memory(170_000)]).unwrap_err();
        assert!(error.to_string().contains("memory per worker"), "{error}");
    }

    #[test]
    fn versions_of_a_server_compare_and_sizes_do_not() {
        let old = Row {
            backend: "postgres 15.18".to_owned(),
            tables: 50,
            ..row("dagz", 3.0)
        };
        let new = Row {
            backend: "postgres 18.4".to_owned(),
            ..old.clone()
        };
        assert_eq!(changes(std::slice::from_ref(&old), &[new]).len(), 1);
        let larger = Row {
            tables: 200,
            ..old.clone()
        };
        let error = judge(&[old], &[larger]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("nothing that was measured now")
        );
    }
}
