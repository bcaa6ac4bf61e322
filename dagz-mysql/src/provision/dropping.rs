//! Drops databases, such that one that is not dropped to its end still tells whose it is.
//!
//! MariaDB drops one table after the other, and stops where a transaction that was prepared has locked rows; it also leaves
//! the directory of a database where a trigger's file has outlived its table. What is left without a stamp would be nobody's,
//! and be refused by every later run. So the stamp goes last, after it was made that of a half-made database. MySQL drops all
//! or nothing. A part of [`Admin`].

use std::time::{Duration, Instant};

use dagz_core::{ErrorKind, Result};
use mysql_async::prelude::Queryable as _;

use super::{admin::Admin, stamp::Stamp};
use crate::{
    error,
    error::code,
    reset::{
        prepared::REMEDY,
        sessions::{self, Among},
    },
    schema::STAMP_TABLE,
    server::Flavour,
    sql,
};

/// How long a drop may wait for sessions that were told to end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Admin<'_> {
    /// Drops `name`, which the caller has proved to be dagz's own, and which nobody is using.
    pub(super) async fn drop_database(&mut self, name: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let stamp = self.row(name).await?.and_then(|row| row.stamp);
        // Whatever is still connected to it would hold the drop up, or write after it.
        self.end_sessions(name).await?;
        loop {
            let Err(error) = self.drop_stamp_last(name).await else {
                return Ok(());
            };
            let is_busy = error::is_busy(&error);
            if is_busy && Instant::now() < deadline {
                self.end_sessions(name).await?;
                // Only now those elsewhere: until a drop has waited in vain, whoever holds a lock may
                // be another process that looks at the stamp for a moment.
                let facts = self.server().facts()?;
                sessions::end_all(&mut self.conn, facts, name, Among::Holding).await?;
                continue;
            }
            self.stamp_what_is_left(name, stamp.as_deref()).await;
            let endpoint = self.server().shown();
            let message = if error::is_denied(&error) {
                format!(
                    "user `{}` may not drop database `{name}` at `{endpoint}`: {}",
                    self.account(),
                    self.server().grant(name)
                )
            } else if is_busy {
                format!(
                    "cannot drop database `{name}` at `{endpoint}`, in which somebody holds locks: if it is a transaction that was prepared, {REMEDY}"
                )
            } else {
                format!("cannot drop database `{name}` at `{endpoint}`")
            };
            return Err(match is_busy {
                true => error::statement(ErrorKind::InUse, message, error),
                false => self.failed(message, error),
            });
        }
    }

    async fn drop_stamp_last(&mut self, name: &str) -> Result<(), mysql_async::Error> {
        let quoted = sql::identifier(name);
        let drop = format!("DROP DATABASE IF EXISTS {quoted}");
        let is_mariadb = self
            .server()
            .facts()
            .is_ok_and(|facts| facts.flavour == Flavour::MariaDb);
        if !is_mariadb {
            return match self.conn.query_drop(&drop).await {
                // As a test may have made it.
                Err(error) if error::has_code(&error, code::DATABASE_IS_READ_ONLY) => {
                    let writable = format!("ALTER DATABASE {quoted} READ ONLY = 0; {drop}");
                    self.conn.query_drop(writable).await
                }
                outcome => outcome,
            };
        }
        let unready = format!(
            "UPDATE {} SET stamp = JSON_SET(stamp, '$.ready', FALSE) WHERE id = 1",
            sql::qualified(name, STAMP_TABLE)
        );
        match self.conn.query_drop(unready).await {
            // What has none is empty.
            Err(error) if !error::is_shape_changed(&error) => return Err(error),
            _ => {}
        }
        let literal = sql::literal(name);
        let own = format!("TRIGGER_SCHEMA = {literal}");
        let mut triggers = self.trigger_names(&own).await?;
        let tables = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {literal} AND TABLE_TYPE <> 'VIEW'"
        );
        let tables: Vec<(String, String)> = self.conn.query(tables).await?;
        let tables: Vec<_> = tables
            .iter()
            .filter(|(schema, table)| schema == name && table != STAMP_TABLE)
            .map(|(schema, table)| sql::qualified(schema, table))
            .collect();
        if !tables.is_empty() {
            let tables = format!("DROP TABLE IF EXISTS {}", tables.join(", "));
            self.conn.query_drop(tables).await?;
        }
        match self.conn.query_drop(&drop).await {
            Err(error) if error::has_code(&error, code::DIRECTORY_IS_NOT_EMPTY) => {
                // Whoever was killed before may have left one that nothing tells of any more, but what this is a copy of.
                let stem = name.rsplit_once('_').map_or(name, |(stem, _)| stem);
                let kin = format!(
                    "LEFT(TRIGGER_SCHEMA, {}) = {}",
                    stem.chars().count(),
                    sql::literal(stem)
                );
                triggers.extend(self.trigger_names(&kin).await?);
                for trigger in triggers {
                    let orphan =
                        format!("DROP TRIGGER IF EXISTS {}", sql::qualified(name, &trigger));
                    // Most are gone with their tables.
                    std::mem::drop(self.conn.query_drop(orphan).await);
                }
                self.conn.query_drop(&drop).await
            }
            outcome => outcome,
        }
    }

    /// The names of the triggers `of` certain databases.
    async fn trigger_names(&mut self, of: &str) -> Result<Vec<String>, mysql_async::Error> {
        let names =
            format!("SELECT DISTINCT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE {of}");
        self.conn.query(names).await
    }

    /// Gives its stamp back to `name` where nothing but its name was left of it, so that it is known the next time.
    async fn stamp_what_is_left(&mut self, name: &str, stamp: Option<&str>) {
        let Some(Ok(mut stamp)) = stamp.map(serde_json::from_str::<Stamp>) else {
            return;
        };
        stamp.ready = false;
        if let Ok(Some(row)) = self.row(name).await
            && row.stamp.is_none()
            && row.is_empty
        {
            // The reason why it was not dropped is worth more.
            drop(self.stamp(name, &stamp, "").await);
        }
    }
}
