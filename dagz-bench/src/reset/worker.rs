//! dagz on MySQL and MariaDB: what a test writes, and the prepare of the next one.
//!
//! `mysql.rs` has one [`Worker`] for each way in which dagz is set.

use std::time::{Duration, Instant};

use anyhow::Result;
use dagz::mysql::{
    Config, Driver,
    mysql_async::{Conn, OptsBuilder, Row as Session, prelude::Queryable as _},
};
use dagz_core::{DbConfig as _, Target};

use super::mysql::{connect, schema};

/// A test that comes so late does not come at once, however long that look takes; and what that is for each table.
const LATE: Duration = Duration::from_millis(20);
const LATE_FOR_TABLE: Duration = Duration::from_micros(200);

/// What is held for so long is not given back to look once more.
const SETTLED: Duration = Duration::from_millis(5);

/// How long dagz may take for that look.
const LOOKING: Duration = Duration::from_secs(1);

/// One worker's database, and a test's connection to it.
pub(super) struct Worker {
    pub(super) driver: Driver,
    pub(super) target: Target,
    /// A test's own connection.
    test: Conn,
    released: Instant,
    tables: u32,
}

impl Worker {
    /// Makes the database of `target` with `size` tables, and one test's worth of use behind it.
    ///
    /// # Errors
    /// What dagz or the server says.
    pub(super) async fn new(
        opts: &OptsBuilder,
        target: Target,
        size: usize,
        configured: impl FnOnce(Config) -> Config,
    ) -> Result<Self> {
        let base = opts.clone().db_name(Some(target.base()));
        let config = configured(Config::from_opts(base));
        let driver = Driver::new(config.migrate_with("bench", move |opts| async move {
            Conn::new(opts).await?.query_drop(schema(size)).await
        }));
        driver.worker_init(&target).await?;
        driver.prepare(&target).await?;
        driver.release(&target).await;
        Ok(Self {
            test: connect(opts, target.name()).await?,
            driver,
            target,
            released: Instant::now(),
            tables: u32::try_from(size)?,
        })
    }

    /// Does what `writes` says, and tells how long that took, and how long the prepare of the next test, which comes at
    /// once or later. Looks `elsewhere` at what dagz does meanwhile.
    ///
    /// # Errors
    /// What dagz or the server says.
    pub(super) async fn time(
        &mut self,
        writes: &str,
        is_at_once: bool,
        elsewhere: &mut Conn,
    ) -> Result<(Duration, Duration)> {
        if !is_at_once {
            self.come_late(elsewhere).await?;
        }
        self.driver.prepare(&self.target).await?;
        let started = Instant::now();
        self.test.query_drop(writes).await?;
        let wrote = started.elapsed();
        self.release().await;
        if !is_at_once {
            self.wait_until_it_is_held(elsewhere).await?;
        }
        let started = Instant::now();
        self.driver.prepare(&self.target).await?;
        let reset = started.elapsed();
        self.release().await;
        Ok((wrote, reset))
    }

    /// Ends the test's connection, and tells what is left to remove.
    pub(super) fn end(self) -> Target {
        self.target
    }

    /// Ends a test.
    pub(super) async fn release(&mut self) {
        self.driver.release(&self.target).await;
        self.released = Instant::now();
    }

    /// Comes so late that dagz expects the next test to do so as well.
    async fn come_late(&self, elsewhere: &mut Conn) -> Result<()> {
        while self.released.elapsed() < LATE + LATE_FOR_TABLE * self.tables {
            elsewhere.query_drop("SELECT 1").await?;
        }
        Ok(())
    }

    /// Waits until dagz has looked what the test left, as it does behind the back of one that comes a little later:
    /// the session waits by which it keeps others from the schema, and no other does anything in this database. Asked
    /// `elsewhere`, since dagz does not rely on what it saw while anybody does anything here.
    async fn wait_until_it_is_held(&self, elsewhere: &mut Conn) -> Result<()> {
        let fence = format!("CREATE DATABASE IF NOT EXISTS `{}`", self.target.name());
        let started = Instant::now();
        let mut held_since: Option<Instant> = None;
        while started.elapsed() < LOOKING
            && held_since.is_none_or(|since| since.elapsed() < SETTLED)
        {
            let sessions: Vec<Session> = elsewhere.query("SHOW PROCESSLIST").await?;
            let (mut is_closed, mut is_looking) = (false, false);
            for session in &sessions {
                let at = |index| {
                    let text = session.get::<Option<String>, _>(index).flatten();
                    text.unwrap_or_default()
                };
                is_closed |= at(7).contains(&fence) && at(6).starts_with("Waiting for schema");
                is_looking |= at(3) == self.target.name() && at(4) != "Sleep";
            }
            held_since = match is_closed && !is_looking {
                true => Some(held_since.unwrap_or_else(Instant::now)),
                false => None,
            };
        }
        Ok(())
    }
}
