//! The connection on which databases are made and dropped, and the locks that go with it.
//!
//! [`Admin`] sits in the maintenance database. Its advisory locks are by database name, and keep
//! processes, also of other machines, from making one database twice. Used by `provision` only.

use std::time::{Duration, Instant};

use dagz_core::{Error, ErrorKind, Result, Worker};
use sha2::{Digest, Sha256};
use tokio_postgres::{Client, error::SqlState};

use super::stamp::{DROPPED_HALF, Stamp, birth_mark};
use crate::{error, server::Server, sql};

/// How long another process may take to make the same database: as long as migrations may.
const LOCK_PATIENCE: Duration = Duration::from_secs(300);

/// How long a template may be busy, beyond the five seconds that Postgres itself waits.
const TEMPLATE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a session that dagz may not end can take to close.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// What `pg_database` says of a database.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) oid: u32,
    pub(crate) comment: Option<String>,
    pub(crate) connection_limit: i32,
}

impl Row {
    /// Whether it is not what an interrupted drop has left.
    pub(super) fn is_whole(&self) -> bool {
        self.connection_limit != DROPPED_HALF
    }
}

pub(super) struct Admin<'a> {
    server: &'a Server,
    client: Client,
    /// `server_version_num`
    pub(super) version: i32,
    /// Whether the server may lose data in a crash, which makes copying files the faster way.
    is_fast_and_loose: bool,
}

impl<'a> Admin<'a> {
    pub(super) async fn connect(server: &'a Server, worker: Worker) -> Result<Self> {
        Self::connect_as(server, &format!("dagz {worker} init")).await
    }

    pub(super) async fn connect_as(server: &'a Server, name: &str) -> Result<Self> {
        let mut client = server.maintenance(name).await?;
        let mut settings = settings(&client).await;
        if settings.as_ref().is_err_and(error::is_connection_lost) {
            // A kept one of a server that went away meanwhile; the next is not kept, but new.
            client = server.maintenance(name).await?;
            settings = self::settings(&client).await;
        }
        let row = settings.map_err(|error| {
            let place = server.shown();
            let message = format!("cannot ask Postgres at `{place}` for its settings");
            error::statement(ErrorKind::WorkerInit, message, error)
        })?;
        Ok(Self {
            server,
            version: row.get(0),
            is_fast_and_loose: row.get(1),
            client,
        })
    }

    pub(super) fn server(&self) -> &Server {
        self.server
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until no other process makes or drops the database `name`.
    pub(super) async fn lock(&self, name: &str) -> Result<()> {
        self.lock_within(name, LOCK_PATIENCE).await
    }

    pub(super) async fn lock_within(&self, name: &str, patience: Duration) -> Result<()> {
        let (started, mut pause) = (Instant::now(), Duration::from_millis(5));
        loop {
            if self.try_lock(name).await? {
                return Ok(());
            }
            if started.elapsed() > patience {
                return Err(self.held(name, patience).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Whether no other process makes or drops the database `name`, and none will before the lock is given back.
    pub(super) async fn try_lock(&self, name: &str) -> Result<bool> {
        let row = self
            .client
            .query_one("SELECT pg_try_advisory_lock($1)", &[&lock_key(name)])
            .await
            .map_err(|error| self.failed(format!("cannot lock database `{name}`"), error))?;
        Ok(row.get(0))
    }

    /// The error for a lock that somebody else keeps, naming them.
    async fn held(&self, name: &str, patience: Duration) -> Error {
        let key = lock_key(name).to_be_bytes();
        let half = |at: usize| u32::from_be_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]]);
        let holder = self
            .client
            .query_opt(
                "SELECT format('pid %s, `%s`, from %s, since %s', a.pid, a.application_name, \
                        coalesce(a.client_addr::text, 'this machine'), a.backend_start) \
                 FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
                   AND l.classid = $1 AND l.objid = $2 LIMIT 1",
                &[&half(0), &half(4)],
            )
            .await
            .ok()
            .flatten()
            .map_or_else(|| "nobody any more".to_owned(), |row| row.get(0));
        Error::new(
            ErrorKind::InUse,
            format!(
                "another process has been making database `{name}` at `{}` for {} s: {holder}; see what it waits for, or end it",
                self.server.shown(),
                patience.as_secs()
            ),
        )
    }

    async fn unlock(&self, name: &str) -> bool {
        self.client
            .query_one("SELECT pg_advisory_unlock($1)", &[&lock_key(name)])
            .await
            .is_ok()
    }

    /// Gives a template's lock back before the end.
    pub(super) async fn unlock_early(&self, name: &str) {
        // A connection that cannot unlock is gone, and its locks with it.
        let _unlocked = self.unlock(name).await;
    }

    /// Gives the lock back, and the connection to whoever needs one next.
    pub(super) async fn finish(self, name: &str) {
        if self.unlock(name).await {
            self.keep();
        }
    }

    /// Gives the connection, which holds no lock, to whoever needs one next.
    pub(super) fn keep(self) {
        self.server.keep(self.client);
    }

    /// What there is of the database `name`.
    pub(super) async fn row(&self, name: &str) -> Result<Option<Row>> {
        let row = self
            .client
            .query_opt(
                "SELECT oid, shobj_description(oid, 'pg_database'), datconnlimit \
                 FROM pg_database WHERE datname = $1",
                &[&name],
            )
            .await
            .map_err(|error| self.failed(format!("cannot look up database `{name}`"), error))?;
        Ok(row.map(|row| Row {
            oid: row.get(0),
            comment: row.get(1),
            connection_limit: row.get(2),
        }))
    }

    /// Creates `name`, carrying the birth mark, as a copy of `template` or of the server's default.
    pub(super) async fn create_database(
        &self,
        project: &str,
        name: &str,
        template: Option<&str>,
    ) -> Result<Row> {
        let mut statement = format!("CREATE DATABASE {}", sql::identifier(name));
        if let Some(template) = template {
            statement += &format!(" TEMPLATE {}", sql::identifier(template));
        }
        statement += &format!(" CONNECTION LIMIT {}", birth_mark(project, name));
        if self.is_fast_and_loose && self.version >= 150_000 {
            statement += " STRATEGY file_copy";
        }
        let started = Instant::now();
        loop {
            match self.client.batch_execute(&statement).await {
                Ok(()) => break,
                Err(error)
                    if error::has_code(&error, &SqlState::OBJECT_IN_USE)
                        && started.elapsed() < TEMPLATE_PATIENCE => {}
                Err(error) => return Err(self.not_created(name, template, error)),
            }
        }
        self.row(name).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::WorkerInit,
                format!("database `{name}` vanished while it was being made"),
            )
        })
    }

    fn not_created(
        &self,
        name: &str,
        template: Option<&str>,
        error: tokio_postgres::Error,
    ) -> Error {
        let endpoint = self.server.shown();
        let message = if error::has_code(&error, &SqlState::INSUFFICIENT_PRIVILEGE) {
            let user = self.server.user();
            format!(
                "user `{user}` may not create database `{name}` at `{endpoint}`: `ALTER ROLE {} CREATEDB`",
                sql::identifier(&user)
            )
        } else if error::has_code(&error, &SqlState::OBJECT_IN_USE) {
            let template = template.unwrap_or("template1");
            format!(
                "cannot copy database `{template}` at `{endpoint}` to `{name}` while others are connected to it; close those sessions, or tell dagz how to make the schema by `.migrations(..)`"
            )
        } else if error::has_code(&error, &SqlState::DUPLICATE_DATABASE) {
            format!(
                "database `{name}` at `{endpoint}` was made by somebody else in this very moment"
            )
        } else {
            format!("cannot create database `{name}` at `{endpoint}`")
        };
        self.failed(message, error)
    }

    /// Writes the stamp of `name`, and takes away its birth mark, at once.
    pub(super) async fn stamp(&self, name: &str, stamp: &Stamp) -> Result<()> {
        let mut statements = format!(
            "COMMENT ON DATABASE {name} IS {stamp}",
            name = sql::identifier(name),
            stamp = sql::literal(&stamp.to_json()),
        );
        if self
            .row(name)
            .await?
            .is_some_and(|row| row.connection_limit == birth_mark(&stamp.project, name))
        {
            statements += &format!(
                "; ALTER DATABASE {} CONNECTION LIMIT -1",
                sql::identifier(name)
            );
        }
        self.client
            .batch_execute(&statements)
            .await
            .map_err(|error| {
                let message = if error::has_code(&error, &SqlState::INSUFFICIENT_PRIVILEGE) {
                    format!(
                        "user `{user}` may not stamp database `{name}`: `ALTER DATABASE {} OWNER TO {}`",
                        sql::identifier(name),
                        sql::identifier(&self.server.user()),
                        user = self.server.user(),
                    )
                } else {
                    format!("cannot stamp database `{name}`")
                };
                self.failed(message, error)
            })
    }

    /// Turns the complete database `name` into a template: nobody can connect to it any more, so
    /// that it never changes and can always be copied.
    pub(super) async fn seal_template(&self, name: &str, stamp: &Stamp) -> Result<()> {
        let quoted = sql::identifier(name);
        self.client
            .batch_execute(&format!(
                "ALTER DATABASE {quoted} IS_TEMPLATE true ALLOW_CONNECTIONS false"
            ))
            .await
            .map_err(|error| self.failed(format!("cannot seal template `{name}`"), error))?;
        self.end_sessions(name).await?;
        self.stamp(name, stamp).await
    }

    /// Ends all sessions in `name`, a template that is being finished: the code that filled it may
    /// have left a pool behind.
    async fn end_sessions(&self, name: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let row = self
                .client
                .query_one(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1",
                    &[&name],
                )
                .await
                .map_err(|error| {
                    self.failed(format!("cannot end the sessions in template `{name}`"), error)
                })?;
            if row.get::<_, i64>(0) == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(Error::new(
            ErrorKind::WorkerInit,
            format!("sessions in template `{name}` do not end; close what the migrations opened"),
        ))
    }

    /// Drops `name`, which the caller has proved to be dagz's own, with whatever is connected to
    /// it. `fence` is a session in it that keeps others out until it is gone.
    pub(super) async fn drop_database(&self, name: &str, fence: Option<Client>) -> Result<()> {
        if let Some(fence) = &fence {
            // One of these would block the drop for good.
            crate::reset::roll_back_prepared(fence).await?;
        }
        let statement = format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            sql::identifier(name)
        );
        let started = Instant::now();
        loop {
            match self.client.batch_execute(&statement).await {
                Ok(()) => break,
                // Sessions of stronger roles cannot be ended, but may be closing just now.
                Err(error)
                    if error::has_code(&error, &SqlState::INSUFFICIENT_PRIVILEGE)
                        && started.elapsed() < CLOSING_PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(self.not_dropped(name, error)),
            }
        }
        drop(fence);
        Ok(())
    }

    fn not_dropped(&self, name: &str, error: tokio_postgres::Error) -> Error {
        let endpoint = self.server.shown();
        let message = if error::has_code(&error, &SqlState::INSUFFICIENT_PRIVILEGE) {
            format!(
                "user `{}` may not drop database `{name}` at `{endpoint}`: close the sessions of other roles in it, and see who owns it",
                self.server.user()
            )
        } else {
            format!("cannot drop database `{name}` at `{endpoint}`")
        };
        self.failed(message, error)
    }

    /// Drops the template `name`, which the caller has proved to be dagz's own.
    pub(super) async fn drop_template(&self, name: &str) -> Result<()> {
        let unsealed = self
            .client
            .batch_execute(&format!(
                "ALTER DATABASE {} IS_TEMPLATE false",
                sql::identifier(name)
            ))
            .await;
        match unsealed {
            // What an interrupted drop has left can only be dropped.
            Err(error)
                if !error::has_code(&error, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
                    && !error::has_code(&error, &SqlState::INVALID_CATALOG_NAME) =>
            {
                Err(self.failed(format!("cannot drop template `{name}`"), error))
            }
            _ => self.drop_database(name, None).await,
        }
    }

    pub(super) fn failed(&self, message: String, error: tokio_postgres::Error) -> Error {
        error::statement(ErrorKind::WorkerInit, message, error)
    }
}

async fn settings(client: &Client) -> Result<tokio_postgres::Row, tokio_postgres::Error> {
    let statement =
        "SELECT current_setting('server_version_num')::int, current_setting('fsync') = 'off'";
    client.query_one(statement, &[]).await
}

fn lock_key(name: &str) -> i64 {
    let hash = Sha256::new()
        .chain_update("dagz database\n")
        .chain_update(name)
        .finalize();
    i64::from_be_bytes([
        hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7],
    ])
}
