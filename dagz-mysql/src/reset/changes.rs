//! Whether a schema was changed.
//!
//! The server counts the statements that may do so, for all databases together. Where that count moved, the schema is read
//! and compared with the start state by [`Keeper::drift`]. A statement is counted when it begins, so it is waited for first
//! who is at it.

use std::time::{Duration, Instant};

use dagz_core::{Target, driver::Failure};
use mysql_async::{Row, prelude::Queryable as _};

use super::{
    failed, failure,
    keeper::Keeper,
    shape,
    waiting::{self, SESSIONS},
};
use crate::{batch::text, error, schema::Schema, server::Flavour};

/// Counts the statements, of everybody, that may have changed a schema. Temporary tables are counted,
/// too, by MySQL; what matters is that nothing is missing. `COM_…` is in no table of MySQL's. A transaction that is prepared
/// changes no schema; on MariaDB it is another reason to look more closely.
const CHANGES_MARIADB: &str = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
    WHERE VARIABLE_NAME LIKE 'COM\\_ALTER\\_%' OR VARIABLE_NAME LIKE 'COM\\_CREATE\\_%' \
       OR VARIABLE_NAME LIKE 'COM\\_DROP\\_%' OR VARIABLE_NAME IN ('COM_RENAME_TABLE', 'COM_XA_PREPARE')";
const CHANGES_MYSQL: &str = "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Com\\_alter\\_%' \
    OR Variable_name LIKE 'Com\\_create\\_%' OR Variable_name LIKE 'Com\\_drop\\_%' OR Variable_name = 'Com_rename_table'";

/// What is counted there and changes no schema. A database that is created had none, and one that is replaced
/// (`CREATE OR REPLACE`) has lost its stamp.
const NO_CHANGES: [&str; 3] = ["temporary_table", "_user", "create_db"];

/// The statement that counts changes of schemas, to be read by [`count`].
pub(super) fn statement(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => CHANGES_MARIADB,
        Flavour::MySql => CHANGES_MYSQL,
    }
}

/// How many changes of schemas there were, but for those by the statements that it is `blind` to.
pub(super) fn count(rows: &[Row], blind: Option<&str>) -> i64 {
    let counts = rows.iter().filter_map(|row| {
        let name = text(row, 0)?.to_ascii_lowercase();
        let changes_none = NO_CHANGES.iter().any(|end| name.ends_with(end))
            || blind.is_some_and(|blind| name.starts_with(blind));
        let count: i64 = text(row, 1)?.parse().ok()?;
        (!changes_none).then_some(count)
    });
    counts.sum()
}

impl Keeper {
    /// Why the schema is not as at the start; asked only if any on the server was changed. Waits for `patience` for
    /// those who are at it.
    pub(super) async fn drift(
        &mut self,
        target: &Target,
        changes: i64,
        patience: Duration,
    ) -> Result<Option<String>, Failure> {
        if self.changes == Some(changes) {
            return Ok(None);
        }
        let database = target.name();
        self.check_prepared(database).await?;
        let others = self.settle(database, patience).await?;
        if others == Others::Busy && !self.is_noted {
            // Made anew, it has none of those who are at it.
            return Ok(Some("somebody is changing its schema".to_owned()));
        }
        let schema = match Schema::read(&mut self.conn, database).await {
            Ok(schema) => schema,
            Err(error) if error::is_shape_changed(&error) => return Ok(Some(shape(&error))),
            Err(error) => return Err(failure(error, |error| failed(database, error))),
        };
        let is_stamped = schema.is_stamped || self.blind == Some("marks");
        if !is_stamped || schema.fingerprint(self.blind) != self.start.schema {
            return Ok(Some("schema changed".to_owned()));
        }
        self.changes = (others == Others::Idle).then_some(changes);
        Ok(None)
    }

    /// Waits for `patience` until nobody does anything in `database`.
    pub(super) async fn settle(
        &mut self,
        database: &str,
        patience: Duration,
    ) -> Result<Others, Failure> {
        let (started, own) = (Instant::now(), self.sessions());
        loop {
            let sessions: Vec<Row> = match self.conn.query(SESSIONS).await {
                Ok(sessions) => sessions,
                Err(error) => return Err(failure(error, |error| failed(database, error))),
            };
            match waiting::is_busy(&sessions, &own, database) {
                (false, false) => return Ok(Others::Idle),
                (false, true) => return Ok(Others::Unknown),
                (true, _) if started.elapsed() >= patience => return Ok(Others::Busy),
                (true, _) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// What other sessions do in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    Idle,
    /// Somebody waits for a lock, and it is not known where.
    Unknown,
    Busy,
}
