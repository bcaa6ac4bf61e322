//! The connection on which databases are made and dropped, and the locks that go with it.
//!
//! [`Admin`] sits in no database; `provision/dropping.rs` has how it drops one. Its locks are by database name, and keep
//! processes, also of other machines, from making one database twice. Used by `provision` only.

use std::time::Duration;

use dagz_core::{Error, ErrorKind, Result, Worker};
use mysql_async::{Conn, prelude::Queryable as _};

use super::stamp::{Row, Stamp, birth_mark};
use crate::{
    batch, error,
    error::code,
    reset::{
        lock,
        sessions::{self, Among},
    },
    schema::{STAMP_TABLE, STATE_TABLE},
    server::Server,
    sql,
};

/// How long another process may take to make the same database: as long as migrations may.
const LOCK_PATIENCE: Duration = Duration::from_secs(300);

/// How often a database is looked at again while others drop it, which keeps each look waiting for a second at most.
const LOOKS: usize = 10;

pub(super) struct Admin<'a> {
    server: &'a Server,
    pub(super) conn: Conn,
}

impl<'a> Admin<'a> {
    pub(super) async fn connect(server: &'a Server, worker: Worker) -> Result<Self> {
        Self::connect_as(server, &format!("dagz {worker} init")).await
    }

    pub(super) async fn connect_as(server: &'a Server, name: &str) -> Result<Self> {
        let mut conn = server.maintenance(name).await?;
        let mut answer = conn.ping().await;
        if answer.as_ref().is_err_and(error::is_connection_lost) {
            // A kept one of a server that went away meanwhile; the next is not kept, but new.
            conn = server.maintenance(name).await?;
            answer = conn.ping().await;
        }
        answer.map_err(|error| {
            let message = format!("MySQL at `{}` does not answer any more", server.shown());
            error::statement(ErrorKind::WorkerInit, message, error)
        })?;
        Ok(Self { server, conn })
    }

    pub(super) fn server(&self) -> &'a Server {
        self.server
    }

    /// Waits until no other process makes or drops the database `name`.
    pub(super) async fn lock(&mut self, name: &str) -> Result<()> {
        self.lock_within(name, LOCK_PATIENCE).await
    }

    pub(super) async fn lock_within(&mut self, name: &str, patience: Duration) -> Result<()> {
        if self.has_locked(name, patience).await? {
            return Ok(());
        }
        let key = lock::key("make", name);
        let holder = lock::holder(&mut self.conn, &key).await;
        Err(Error::new(
            ErrorKind::InUse,
            format!(
                "another process has been making database `{name}` at `{}` for {} s: {holder}; see what it waits for, or end it",
                self.server.shown(),
                patience.as_secs()
            ),
        ))
    }

    /// Whether no other process makes or drops the database `name`, and none will before the lock is given back.
    pub(super) async fn try_lock(&mut self, name: &str) -> Result<bool> {
        self.has_locked(name, Duration::ZERO).await
    }

    async fn has_locked(&mut self, name: &str, patience: Duration) -> Result<bool> {
        lock::take(&mut self.conn, &lock::key("make", name), patience)
            .await
            .map_err(|error| self.failed(format!("cannot lock database `{name}`"), error))
    }

    /// Gives a template's lock back before the end.
    pub(super) async fn unlock_early(&mut self, name: &str) {
        // A connection that cannot unlock is gone, and its locks with it.
        drop(lock::give_back(&mut self.conn, &lock::key("make", name)).await);
    }

    /// Gives the lock back, and the connection to whoever needs one next.
    pub(super) async fn finish(mut self, name: &str) {
        let given_back = lock::give_back(&mut self.conn, &lock::key("make", name)).await;
        if given_back.is_ok() {
            self.keep().await;
        }
    }

    /// Gives the connection, which holds no lock, to whoever needs one next.
    pub(super) async fn keep(mut self) {
        // Out of the database that was made last, whose next drop would end whoever is in it.
        if self.conn.query_drop("USE information_schema").await.is_ok() {
            self.server.keep(self.conn);
        }
    }

    /// What there is of the database `name`.
    pub(super) async fn row(&mut self, name: &str) -> Result<Option<Row>> {
        let row = look(&mut self.conn, name).await;
        row.map_err(|error| self.failed(format!("cannot look up database `{name}`"), error))
    }

    /// Creates `name`, carrying the birth mark and then `stamp`, with these defaults, or the
    /// server's.
    pub(super) async fn create_database(
        &mut self,
        name: &str,
        stamp: &Stamp,
        defaults: Option<(&str, &str)>,
    ) -> Result<()> {
        let quoted = sql::identifier(name);
        let (charset, collation) = birth_mark(&stamp.project, name);
        let statement =
            format!("CREATE DATABASE {quoted} CHARACTER SET {charset} COLLATE {collation}");
        self.conn
            .query_drop(statement)
            .await
            .map_err(|error| self.not_created(name, error))?;
        let defaults = match defaults {
            Some((charset, collation)) => format!("CHARACTER SET {charset} COLLATE {collation}"),
            None => {
                let server: Option<(String, String)> = self
                    .conn
                    .query_first("SELECT @@character_set_server, @@collation_server")
                    .await
                    .map_err(|error| self.not_created(name, error))?;
                let (charset, collation) = server.unwrap_or_default();
                format!("CHARACTER SET {charset} COLLATE {collation}")
            }
        };
        self.stamp(name, stamp, "").await?;
        self.conn
            .query_drop(format!("ALTER DATABASE {quoted} {defaults}"))
            .await
            .map_err(|error| self.not_created(name, error))
    }

    fn not_created(&self, name: &str, error: mysql_async::Error) -> Error {
        let endpoint = self.server.shown();
        let message = if error::is_denied(&error) {
            let account = self.account();
            format!(
                "user `{account}` may not create database `{name}` at `{endpoint}`: {}",
                self.server.grant(name)
            )
        } else if error::has_code(&error, code::DATABASE_EXISTS) {
            format!(
                "database `{name}` at `{endpoint}` was made by somebody else in this very moment"
            )
        } else {
            format!("cannot create database `{name}` at `{endpoint}`")
        };
        self.failed(message, error)
    }

    /// The user that dagz connects as, without a host.
    pub(super) fn account(&self) -> String {
        let account = self
            .server
            .facts()
            .map(|facts| facts.account.as_str())
            .unwrap_or_default();
        let user = account.rsplit_once('@').map_or(account, |(user, _)| user);
        user.to_owned()
    }

    /// Writes the stamp of `name`, and what it holds at the start, at once.
    pub(super) async fn stamp(&mut self, name: &str, stamp: &Stamp, start: &str) -> Result<()> {
        let statements = format!(
            "CREATE TABLE IF NOT EXISTS {table} (id TINYINT PRIMARY KEY, stamp LONGTEXT NOT NULL, start LONGTEXT NOT NULL) \
             ENGINE = InnoDB CHARACTER SET utf8mb4; \
             CREATE TABLE IF NOT EXISTS {state} (id TINYINT PRIMARY KEY, test VARCHAR(500) NOT NULL, changes BIGINT NOT NULL, \
             newest BIGINT UNSIGNED) \
             ENGINE = MEMORY CHARACTER SET utf8mb4; \
             REPLACE INTO {table} VALUES (1, {stamp}, {start})",
            table = sql::qualified(name, STAMP_TABLE),
            state = sql::qualified(name, STATE_TABLE),
            stamp = sql::literal(&stamp.to_json()),
            start = sql::literal(start),
        );
        match batch::run(&mut self.conn, &statements).await {
            Ok(_) => Ok(()),
            Err(stopped) => {
                let message = if error::is_denied(&stopped.error) {
                    format!(
                        "user `{}` may not stamp database `{name}`: {}",
                        self.account(),
                        self.server.grant(name)
                    )
                } else {
                    format!("cannot stamp database `{name}`")
                };
                Err(self.failed(message, stopped.error))
            }
        }
    }

    /// Ends all sessions in `name` but dagz's own that hold its lock.
    pub(super) async fn end_sessions(&mut self, name: &str) -> Result<()> {
        let facts = self.server.facts()?;
        sessions::end_all(&mut self.conn, facts, name, Among::Inside).await
    }

    pub(super) fn failed(&self, message: String, error: mysql_async::Error) -> Error {
        error::statement(ErrorKind::WorkerInit, message, error)
    }
}

/// What the server says of the database `name`, as far as the user may see it.
pub(crate) async fn look(conn: &mut Conn, name: &str) -> Result<Option<Row>, mysql_async::Error> {
    let mut again = 0..LOOKS;
    loop {
        match look_once(conn, name).await {
            // Whoever drops it in this very moment may wait for us as we do for them, and one of both is told.
            Err(error)
                if (error::is_busy(&error) || error::has_code(&error, code::DEADLOCK))
                    && again.next().is_some() => {}
            outcome => return outcome,
        }
    }
}

async fn look_once(conn: &mut Conn, name: &str) -> Result<Option<Row>, mysql_async::Error> {
    let literal = sql::literal(name);
    let schemata: Vec<(String, String)> = conn
        .query(format!(
            "SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal}"
        ))
        .await?;
    // The server may compare these names without minding capitals.
    let Some((_, collation)) = schemata.into_iter().find(|(found, _)| found == name) else {
        return Ok(None);
    };
    let stamp = conn
        .query_first::<String, _>(format!(
            "SELECT stamp FROM {} WHERE id = 1",
            sql::qualified(name, STAMP_TABLE)
        ))
        .await;
    let stamp = match stamp {
        Ok(stamp) => stamp,
        // Somebody else's, whatever it is.
        Err(error) if error::is_shape_changed(&error) || error::is_denied(&error) => None,
        Err(error) => return Err(error),
    };
    let is_empty = match &stamp {
        Some(_) => false,
        None => {
            let objects: Option<u64> = conn
                .query_first(format!(
                    "SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal}) \
                          + (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {literal}) \
                          + (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {literal})"
                ))
                .await?;
            objects == Some(0)
        }
    };
    Ok(Some(Row {
        stamp,
        collation,
        is_empty,
    }))
}
