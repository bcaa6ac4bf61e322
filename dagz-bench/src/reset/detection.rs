//! Other ways to find out what a test wrote on MySQL and MariaDB, beside which dagz's own is measured.
//!
//! Each [`Detection`] has a database of its own with the schema of `mysql.rs`, finds the tables that have rows, and
//! deletes those; what triggers cost who writes has rows of its own. None of them is exact. They find rows and nothing
//! else: no counter, no change of a schema, no transaction that is still open; and no trigger is told of what `TRUNCATE` or
//! a foreign key does.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use dagz::mysql::mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable as _};

use super::mysql::rows_of;
use crate::{
    say,
    schedule::{Dirt, Way, ways},
};

/// One statement asks each table for a row.
const ASKED: &str = "exists-delete";

/// Triggers of each table write its number into a table.
const LOGGED: &str = "trigger-log";

/// The server counts what is written to each table, where `performance_schema` is on.
const COUNTED: &str = "io-counts";

/// The test's writes alone, without any of this and with the triggers.
const WRITES: &str = "writes alone";
const WRITES_LOGGED: &str = "writes alone, trigger-log";

/// The table that the triggers write into.
const LOG: &str = "written";

/// One of these ways, with its database.
pub(super) struct Detection {
    strategy: &'static str,
    writes_alone: &'static str,
    conn: Conn,
    database: String,
    /// Asks for a row of each table, and says of which there is one.
    each_table: String,
    /// How often each table had been written to when all was clean.
    counted: BTreeMap<u32, u64>,
}

/// Those that the server at `opts` knows, in databases of `size` tables that `schema` makes.
///
/// # Errors
/// What the server says.
pub(super) async fn all(opts: &OptsBuilder, size: usize, schema: &str) -> Result<Vec<Detection>> {
    let mut elsewhere = Conn::new(Opts::from(opts.clone())).await?;
    let has_counts: Option<bool> = elsewhere.query_first("SELECT @@performance_schema").await?;
    let strategies = match has_counts {
        Some(true) => &[ASKED, LOGGED, COUNTED][..],
        _ => &[ASKED, LOGGED],
    };
    let mut all = Vec::new();
    for strategy in strategies {
        let database = format!("dagz_bench_{}", strategy.replace('-', "_"));
        let make = format!("DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database}");
        elsewhere.query_drop(make).await?;
        let inside = Opts::from(opts.clone().db_name(Some(&database)));
        let mut detection = Detection {
            strategy,
            writes_alone: match *strategy {
                ASKED => WRITES,
                LOGGED => WRITES_LOGGED,
                _ => "",
            },
            conn: Conn::new(inside).await?,
            each_table: rows_of(&database, size),
            database,
            counted: BTreeMap::new(),
        };
        detection.set_up(size, schema).await?;
        all.push(detection);
    }
    Ok(all)
}

impl Detection {
    async fn set_up(&mut self, size: usize, schema: &str) -> Result<()> {
        self.conn.query_drop(schema).await?;
        match self.strategy {
            LOGGED => {
                let started = Instant::now();
                let log = format!("CREATE TABLE {LOG} (number INT PRIMARY KEY)");
                self.conn.query_drop(log).await?;
                for n in 0..size {
                    for event in ["INSERT", "UPDATE", "DELETE"] {
                        let trigger = format!(
                            "CREATE TRIGGER {LOG}_{n}_{event} AFTER {event} ON t{n} FOR EACH ROW INSERT IGNORE INTO {LOG} VALUES ({n})"
                        );
                        self.conn.query_drop(trigger).await?;
                    }
                }
                say::progress(&format!(
                    "reset: the triggers of `{LOGGED}` on {size} tables took {:.1} s to make",
                    started.elapsed().as_secs_f64()
                ));
            }
            COUNTED => self.counted = self.counts().await?,
            _ => {}
        }
        Ok(())
    }

    /// Its database.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// What is measured here.
    pub(super) fn ways(&self) -> Vec<Way> {
        let mut all = ways(self.strategy, &Dirt::ANY);
        if !self.writes_alone.is_empty() {
            all.extend(ways(self.writes_alone, &Dirt::ANY[1..]));
        }
        all
    }

    /// Whether `strategy` is measured here.
    pub(super) fn knows(&self, strategy: &str) -> bool {
        strategy == self.strategy || (strategy == self.writes_alone && !strategy.is_empty())
    }

    /// Does what `writes` says, and cleans it; tells how long the one or the other took, as `way` says.
    pub(super) async fn time(&mut self, way: Way, writes: &str) -> Result<Duration> {
        let started = Instant::now();
        self.conn.query_drop(writes).await?;
        let wrote = started.elapsed();
        let started = Instant::now();
        let dirty = self.dirty().await?;
        if !dirty.is_empty() {
            self.conn.query_drop(self.cleaning(&dirty)).await?;
            if self.strategy == COUNTED {
                // What was deleted is counted, too.
                self.counted = self.counts().await?;
            }
        }
        match way.strategy == self.writes_alone {
            true => Ok(wrote),
            false => Ok(started.elapsed()),
        }
    }

    /// Drops the database.
    pub(super) async fn remove(mut self) -> Result<()> {
        let drop_it = format!("DROP DATABASE {}", self.database);
        Ok(self.conn.query_drop(drop_it).await?)
    }

    async fn dirty(&mut self) -> Result<Vec<u32>> {
        match self.strategy {
            LOGGED => Ok(self.conn.query(format!("SELECT number FROM {LOG}")).await?),
            COUNTED => {
                let counts = self.counts().await?;
                let counted = &self.counted;
                let new = counts
                    .into_iter()
                    .filter(|(number, count)| counted.get(number) != Some(count));
                Ok(new.map(|(number, _)| number).collect())
            }
            _ => Ok(self.conn.query(&self.each_table).await?),
        }
    }

    fn cleaning(&self, dirty: &[u32]) -> String {
        let tables = dirty.iter().map(|number| format!("t{number}"));
        let log = (self.strategy == LOGGED).then(|| LOG.to_owned());
        let deletes: String = tables
            .chain(log)
            .map(|table| format!("DELETE FROM {table}; "))
            .collect();
        format!("SET foreign_key_checks = 0; BEGIN; {deletes}COMMIT; SET foreign_key_checks = 1")
    }

    async fn counts(&mut self) -> Result<BTreeMap<u32, u64>> {
        let counts = format!(
            "SELECT CAST(SUBSTRING(OBJECT_NAME, 2) AS UNSIGNED), COUNT_WRITE FROM performance_schema.table_io_waits_summary_by_table \
             WHERE OBJECT_TYPE = 'TABLE' AND OBJECT_SCHEMA = '{}' AND COUNT_WRITE > 0",
            self.database
        );
        let counts: Vec<(u32, u64)> = self.conn.query(counts).await?;
        Ok(counts.into_iter().collect())
    }
}
