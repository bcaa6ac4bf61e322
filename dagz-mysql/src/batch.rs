//! Several statements in one round trip, and the results of each.
//!
//! [`run`] tells what came before an error, too. Used by `provision`, `reset` and `schema.rs`.

use std::borrow::Cow;

use mysql_async::{Conn, Row, Value, prelude::Queryable as _};

/// What one statement of a batch brought.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) rows: Vec<Row>,
    /// How many rows it changed, where it is one that changes rows.
    pub(crate) affected: u64,
}

/// A batch that stopped at a statement that failed, after those that did not.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) before: Vec<Outcome>,
    pub(crate) error: mysql_async::Error,
}

/// Runs the statements of `text`, each of which ends with a semicolon, but for the last.
pub(crate) async fn run(conn: &mut Conn, text: &str) -> Result<Vec<Outcome>, Stopped> {
    let mut before = Vec::new();
    let mut result = match conn.query_iter(text).await {
        Ok(result) => result,
        Err(error) => return Err(Stopped { before, error }),
    };
    loop {
        let affected = result.affected_rows();
        match result.collect::<Row>().await {
            Ok(rows) => before.push(Outcome { rows, affected }),
            Err(error) => return Err(Stopped { before, error }),
        }
        if result.is_empty() {
            // Where a later statement fails, mysql_async ends here as well, and keeps the error for
            // whatever is done next.
            return match result.drop_result().await {
                Ok(()) => Ok(before),
                Err(error) => Err(Stopped { before, error }),
            };
        }
    }
}

/// The column `index` of `row`, if it is there, not NULL, and of that type.
pub(crate) fn column<T: mysql_async::prelude::FromValue>(row: &Row, index: usize) -> Option<T> {
    row.get_opt::<Option<T>, _>(index)?.ok()?
}

/// The column `index` of `row` as text, whatever its character set: names, definitions, comments.
pub(crate) fn text(row: &Row, index: usize) -> Option<String> {
    shown(row, index).map(Cow::into_owned)
}

/// The same as it came, where it is text already.
pub(crate) fn shown(row: &Row, index: usize) -> Option<Cow<'_, str>> {
    match row.as_ref(index)? {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes)),
        _ => None,
    }
}
