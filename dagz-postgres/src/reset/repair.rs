//! Undoes what the probe found, in one batch that is one transaction.
//!
//! [`plan`] turns [`Findings`] into statements, or says that only a new copy of the database will
//! do. Rows are deleted, not truncated: on tables of test size that is faster by an order of
//! magnitude, and spares the next test the making of new files.

use std::fmt::Write as _;

use dagz_core::{ErrorKind, Result};
use tokio_postgres::Client;

use super::{
    answer::numbers,
    catalog::{COLUMNS, Catalog},
    function,
    probe::{Findings, Probe, ProbedSequence, ProbedTable, TableStart},
    sessions,
};
use crate::error;

/// The most tables that are truncated for the sake of one that references make inseparable.
const TRUNCATE_AT_MOST: usize = 8;

/// What to do about the findings.
pub(super) enum Plan {
    /// Run this batch.
    Batch(String),
    /// Make the database anew, for this reason.
    Rebuild(String),
}

/// Decides what undoes `findings`; `lock_timeout` in milliseconds.
pub(super) async fn plan(
    client: &Client,
    catalog: &Catalog,
    probe: &Probe,
    findings: &Findings,
    lock_timeout: u128,
) -> Result<Plan> {
    let (mut filled, mut seeded, mut large) = (Vec::new(), Vec::new(), Vec::new());
    for (index, size) in &findings.tables {
        let table = &probe.tables[*index];
        match table.start {
            TableStart::Empty if *size >= function::LARGE => large.push(table),
            TableStart::Empty => filled.push(table),
            TableStart::Rows(_) => seeded.push(table),
        }
    }
    if findings.large_objects && catalog.large_objects > 0 {
        return Ok(Plan::Rebuild("large objects were changed".to_owned()));
    }
    if let (Some(table), false) = (seeded.first(), catalog.may_replicate) {
        return Ok(Plan::Rebuild(format!(
            "rows of {} were changed, and the role may not set `session_replication_role`",
            table.name
        )));
    }

    let mut batch = format!("SET LOCAL lock_timeout = {lock_timeout};");
    let references = match large.is_empty() {
        true => String::new(),
        false => references(client).await?,
    };
    let truncated = truncations(&references, &probe.tables, &mut filled, &large);
    if !truncated.is_empty() {
        let _ = write!(batch, "TRUNCATE ONLY {};", truncated.join(", ONLY "));
    }
    delete(&mut batch, &filled, catalog.may_replicate);
    for table in &seeded {
        let ProbedTable { oid, name, .. } = table;
        let statements = restoring(client, *oid, name).await.map_err(|error| {
            error::statement(
                ErrorKind::Prepare,
                format!("cannot read the columns of {name}"),
                error,
            )
        })?;
        // Who writes meanwhile has either committed, and is seen, or waits.
        let _ = write!(
            batch,
            "LOCK TABLE ONLY {name} IN SHARE ROW EXCLUSIVE MODE; {statements}"
        );
    }
    if findings.large_objects {
        batch.push_str("SELECT lo_unlink(oid) FROM pg_largeobject_metadata;");
    }
    for index in &findings.sequences {
        batch.push_str(&set_back(&probe.sequences[*index]));
    }
    // What this transaction wrote is the start state: nothing of it is newer than the mark. Which
    // may not pass a transaction that is older and still open: what that writes would be, too.
    if !seeded.is_empty() || !truncated.is_empty() && !catalog.is_watched {
        let _ = write!(
            batch,
            "UPDATE dagz_baseline.state SET mark = pg_current_xact_id() \
             WHERE NOT EXISTS (SELECT FROM pg_stat_get_backend_idset() b WHERE pg_stat_get_backend_dbid(b) = {} \
                               AND pg_stat_get_backend_pid(b) <> pg_backend_pid() \
                               AND CASE WHEN pg_stat_get_backend_activity_start(b) IS NULL \
                                        THEN pg_stat_get_backend_userid(b) <> 0 AND {} \
                                        ELSE pg_stat_get_backend_xact_start(b) IS NOT NULL END);",
            catalog.database,
            // Of sessions of other roles that may be all there is to see; what vacuums by itself has no role.
            sessions::has_transaction("pg_stat_get_backend_pid(b)")
        );
    }
    Ok(Plan::Batch(batch))
}

fn delete(batch: &mut String, tables: &[&ProbedTable], may_replicate: bool) {
    if may_replicate {
        for table in tables {
            let _ = write!(batch, "DELETE FROM ONLY {};", table.name);
        }
    } else if !tables.is_empty() {
        // Foreign keys are checked at the end of a statement, so one statement may delete from
        // all tables in any order, cycles included.
        let parts: Vec<_> = tables
            .iter()
            .enumerate()
            .map(|(index, table)| format!("d{index} AS (DELETE FROM ONLY {})", table.name))
            .collect();
        let _ = write!(batch, "WITH {} SELECT;", parts.join(", "));
    }
}

/// What puts a sequence back.
pub(super) fn set_back(sequence: &ProbedSequence) -> String {
    format!(
        "SELECT setval({}::regclass, {}, {});",
        sequence.oid, sequence.value, sequence.is_called
    )
}

/// What puts the recorded rows of a table back: those that a test wrote go, those that it removed or
/// changed come.
pub(super) async fn restoring(
    client: &Client,
    oid: u32,
    name: &str,
) -> Result<String, tokio_postgres::Error> {
    let row = client
        .query_one(
            &format!(
                "SELECT ({}), (SELECT CASE WHEN bool_and(a.attgenerated = '') THEN string_agg(format('t.%1$I = b.%1$I', a.attname), ' AND ') END \
                               FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
                               WHERE i.indrelid = $1 AND i.indisprimary)",
                COLUMNS.trim()
            ),
            &[&oid],
        )
        .await?;
    let (columns, key): (Option<String>, Option<String>) = (row.get(0), row.get(1));
    let columns = columns.unwrap_or_default();
    let list = if columns.is_empty() {
        String::new()
    } else {
        format!(" ({columns}) OVERRIDING SYSTEM VALUE")
    };
    let (which, missing) = match key {
        // What is left after this are rows that nobody touched, so the key tells what is missing.
        Some(key) => (
            " WHERE age(xmin) < (SELECT age(mark::xid) FROM dagz_baseline.state)",
            format!(" b WHERE NOT EXISTS (SELECT FROM ONLY {name} t WHERE {key})"),
        ),
        None => ("", String::new()),
    };
    Ok(format!(
        "DELETE FROM ONLY {name}{which}; INSERT INTO {name}{list} SELECT {columns} FROM dagz_baseline.rows_{oid}{missing};"
    ))
}

/// Tells the foreign keys from one table to another: for each whom it refers to, and who does.
pub(super) const REFERENCES: &str = "SELECT string_agg(concat_ws(',', c.confrelid, c.conrelid), ',') \
    FROM pg_constraint c WHERE c.contype = 'f' AND c.conrelid <> c.confrelid";

async fn references(client: &Client) -> Result<String> {
    let row = client.query_one(REFERENCES, &[]).await;
    let told = row.and_then(|row| row.try_get::<_, Option<String>>(0));
    let told = told.map_err(|error| {
        error::statement(ErrorKind::Prepare, "cannot read the foreign keys", error)
    })?;
    Ok(told.unwrap_or_default())
}

/// The tables to truncate so that the `large` ones become empty; those for which that would empty
/// others, too, join `filled`, to be deleted from. `references` is what [`REFERENCES`] told.
pub(super) fn truncations<'a>(
    references: &str,
    tables: &'a [ProbedTable],
    filled: &mut Vec<&'a ProbedTable>,
    large: &[&'a ProbedTable],
) -> Vec<String> {
    let references: Vec<u32> = numbers(references);
    let mut truncated: Vec<u32> = Vec::new();
    for table in large {
        // Everything that references it, and so on: Postgres truncates only all of them at once.
        let mut together = vec![table.oid];
        let mut next = 0;
        while next < together.len() {
            for pair in references.chunks_exact(2) {
                if pair[0] == together[next] && !together.contains(&pair[1]) {
                    together.push(pair[1]);
                }
            }
            next += 1;
        }
        let are_all_to_be_empty = together.iter().all(|oid| {
            tables
                .iter()
                .any(|table| table.oid == *oid && table.start == TableStart::Empty)
        });
        if are_all_to_be_empty && together.len() <= TRUNCATE_AT_MOST {
            truncated.extend(together);
        } else {
            filled.push(table);
        }
    }
    filled.retain(|table| !truncated.contains(&table.oid));
    tables
        .iter()
        .filter(|table| truncated.contains(&table.oid))
        .map(|table| table.name.clone())
        .collect()
}

/// The error for a batch that failed for no reason that is dealt with.
pub(super) fn failed(database: &str, error: tokio_postgres::Error) -> dagz_core::Error {
    error::statement(
        ErrorKind::Prepare,
        format!("cannot reset database `{database}`"),
        error,
    )
}
