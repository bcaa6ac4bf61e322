//! Writes the rows that a table starts with, and finds how they were written at first.
//!
//! A row that was inserted stays when its values are deleted, and one that an `UPDATE` made goes with its last value.
//! The server tells which it is of no row, so [`upserted`] tries it out, once, when the keyspace is made. [`sow`]
//! writes each as it was, for `reset/state.rs`.

use std::collections::BTreeSet;

use scylla::client::session::Session;

use super::rows::{Raw, SeedRow, bytes, columns, keys};
use crate::{
    cql,
    error::Native,
    schema::Table,
    server::{SLOW, all, statement},
};

/// How many requests are on their way at a time.
const AT_ONCE: usize = 32;

/// Finds which of `rows`, all that `table` has, go with their last value, by the positions that they have there.
/// Deletes values, as of `micros`: whoever asks has to [`sow`] them later.
pub(super) async fn upserted(
    session: &Session,
    keyspace: &str,
    table: &Table,
    rows: &[SeedRow],
    micros: i64,
) -> Result<Vec<usize>, Native> {
    let all_columns = columns(table);
    let (key, values) = parts(table);
    let value_of = |row: &SeedRow, name: &String| {
        let at = all_columns.iter().position(|column| column == name)?;
        row.get(at)?.clone()
    };
    let asked: Vec<_> = (0..)
        .zip(rows)
        .filter(|(_, row)| !is_bare(table, row))
        .filter(|(_, row)| values.iter().any(|name| value_of(row, name).is_some()))
        .collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let quoted: Vec<_> = values.iter().map(|name| cql::identifier(name)).collect();
    let text = format!(
        "DELETE {} FROM {} USING TIMESTAMP {micros} WHERE {}",
        quoted.join(", "),
        cql::qualified(keyspace, &table.name),
        equal(&key, " AND ")
    );
    let of_rows = asked.iter().map(|(_, row)| *row).collect();
    execute(session, text, (&all_columns, &key), of_rows).await?;
    let left: BTreeSet<_> = keys(session, keyspace, table, rows.len())
        .await?
        .into_iter()
        .collect();
    let is_left = |row: &SeedRow| {
        let of_row: SeedRow = key.iter().map(|name| value_of(row, name)).collect();
        left.contains(&of_row)
    };
    let gone = asked.into_iter().filter(|(_, row)| !is_left(row));
    Ok(gone.map(|(at, _)| at).collect())
}

/// Writes `rows` at `micros` since the epoch, those at the positions `upserted` so that they go with their last value.
pub(super) async fn sow(
    session: &Session,
    keyspace: &str,
    table: &Table,
    (rows, upserted): (&[SeedRow], &[usize]),
    micros: i64,
) -> Result<(), Native> {
    let all_columns = columns(table);
    let (key, values) = parts(table);
    let to = cql::qualified(keyspace, &table.name);
    // For ever, also where the table has another time to live for what says none.
    let using = format!("USING TIMESTAMP {micros} AND TTL 0");
    let insert = |some: &[String]| {
        let quoted: Vec<_> = some.iter().map(|name| cql::identifier(name)).collect();
        format!(
            "INSERT INTO {to} ({}) VALUES ({}) {using}",
            quoted.join(", "),
            vec!["?"; some.len()].join(", ")
        )
    };
    let numbered = || (0..).zip(rows);
    let is_upserted = |(at, _): &(usize, &SeedRow)| upserted.contains(at);
    let of_rows = numbered()
        .filter(|row| !is_upserted(row) && !is_bare(table, row.1))
        .map(|(_, row)| row)
        .collect();
    let text = insert(&all_columns);
    execute(session, text, (&all_columns, &all_columns), of_rows).await?;

    let of_rows = numbered()
        .filter(|row| !is_upserted(row) && is_bare(table, row.1))
        .map(|(_, row)| row)
        .collect();
    let of_partition: Vec<_> = table.keys.iter().chain(&table.statics).cloned().collect();
    let text = insert(&of_partition);
    execute(session, text, (&all_columns, &of_partition), of_rows).await?;

    let of_rows = numbered().filter(is_upserted).map(|(_, row)| row).collect();
    let set: Vec<_> = values.into_iter().chain(table.statics.clone()).collect();
    let text = format!(
        "UPDATE {to} {using} SET {} WHERE {}",
        equal(&set, ", "),
        equal(&key, " AND ")
    );
    let some: Vec<_> = set.into_iter().chain(key).collect();
    execute(session, text, (&all_columns, &some), of_rows).await
}

/// The columns that tell rows apart, and those that are a row's own.
fn parts(table: &Table) -> (Vec<String>, Vec<String>) {
    let key = table.keys.iter().chain(&table.clustering).cloned();
    let values = table.regular.iter().chain(&table.collections);
    let values = values.filter(|name| !table.statics.contains(name));
    (key.collect(), values.cloned().collect())
}

/// Whether it is a partition with static columns that has no row, and so no clustering key.
fn is_bare(table: &Table, row: &SeedRow) -> bool {
    let all_columns = columns(table);
    let mut values = all_columns.iter().zip(row.iter());
    values.any(|(name, value)| value.is_none() && table.clustering.contains(name))
}

fn equal(names: &[String], between: &str) -> String {
    let equal: Vec<_> = names
        .iter()
        .map(|name| format!("{} = ?", cql::identifier(name)))
        .collect();
    equal.join(between)
}

/// Executes `text` for each of `rows`, which have the columns `all_columns`, with its values of the columns `some`.
async fn execute(
    session: &Session,
    text: String,
    (all_columns, some): (&[String], &[String]),
    rows: Vec<&SeedRow>,
) -> Result<(), Native> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = &session.prepare(statement(text, SLOW)).await?;
    let writes = rows.into_iter().map(|row| async move {
        let value = |name: &String| {
            let at = all_columns.iter().position(|column| column == name)?;
            row.get(at)?.as_deref().map(bytes)
        };
        let values: Vec<_> = some.iter().map(|name| Raw(value(name))).collect();
        session.execute_unpaged(statement, values).await?;
        Ok::<_, Native>(())
    });
    all(AT_ONCE, writes.collect()).await.map(drop)
}
