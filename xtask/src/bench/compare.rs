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
        let then = then_of(&key)?.ratio;
        Some(Change {
            key,
            then,
            now: row.ratio,
            is_own: row.strategy.starts_with("dagz"),
        })
    });
    changes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
