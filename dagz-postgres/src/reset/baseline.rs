//! Records a database's start state inside it, in a schema called `dagz_baseline`.
//!
//! Everything recorded there is copied along when the database is a template: the rows of tables
//! that are not empty, the state of the sequences, and a transaction id, the *mark*, after which
//! no row may be newer. Event triggers note each change of the schema, where the role may create
//! them, and the log of `reset/log.rs` each write. `reset/catalog.rs` reads it back; the main function is
//! [`capture`].

use dagz_core::{Error, ErrorKind, Result};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{
    catalog::{COLUMNS, SEQUENCES, TABLES, TRIGGERS},
    log, schema,
};
use crate::{Config, error, sql};

/// Tells dagz's own schema from one that an application happens to call the same.
const SCHEMA_COMMENT: &str = "start state of this database, kept by dagz";

/// Not called `dagz`, as a role may be: a schema of a role's own name comes first in its search path,
/// and would catch what the role's tests create. What is changed here has a replica identity: without one, nothing in a
/// publication `FOR ALL TABLES` may be.
const SCHEMA: &str = "
CREATE SCHEMA dagz_baseline;
CREATE TABLE dagz_baseline.tables (oid oid, schema text, name text, is_view boolean, rows bigint);
CREATE TABLE dagz_baseline.sequences (
    oid oid, schema text, name text, start bigint, owner oid, last_value bigint, is_called boolean
);
CREATE TABLE dagz_baseline.drift (command text NOT NULL, object text);
CREATE TABLE dagz_baseline.state (
    mark xid8 NOT NULL,
    watched boolean NOT NULL,
    event_triggers text NOT NULL,
    settings text NOT NULL,
    large_objects bigint NOT NULL,
    object_contents text NOT NULL,
    catalogs text NOT NULL,
    has_always_triggers boolean NOT NULL,
    has_triggers boolean NOT NULL,
    is_logged boolean NOT NULL,
    reset_to text NOT NULL,
    event_trigger_count bigint NOT NULL
) WITH (fillfactor = 10);
ALTER TABLE dagz_baseline.tables REPLICA IDENTITY FULL;
ALTER TABLE dagz_baseline.sequences REPLICA IDENTITY FULL;
ALTER TABLE dagz_baseline.state REPLICA IDENTITY FULL;
";

/// Notes changes of the schema, transactionally: one that is rolled back leaves no note, and
/// neither do temporary objects.
const EVENT_TRIGGERS: &str = "
CREATE FUNCTION dagz_baseline.note_command() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO dagz_baseline.drift (command, object)
    SELECT command_tag, object_identity FROM pg_event_trigger_ddl_commands()
    WHERE schema_name IS DISTINCT FROM 'pg_temp' LIMIT 1;
END $$;
CREATE FUNCTION dagz_baseline.note_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO dagz_baseline.drift (command, object)
    SELECT tg_tag, object_identity FROM pg_event_trigger_dropped_objects()
    WHERE original AND NOT is_temporary LIMIT 1;
END $$;
CREATE EVENT TRIGGER dagz_command ON ddl_command_end EXECUTE FUNCTION dagz_baseline.note_command();
CREATE EVENT TRIGGER dagz_drop ON sql_drop EXECUTE FUNCTION dagz_baseline.note_drop();
ALTER EVENT TRIGGER dagz_command ENABLE ALWAYS;
ALTER EVENT TRIGGER dagz_drop ENABLE ALWAYS;
";

/// The event triggers there are, and which of them fire.
pub(super) const EVENT_TRIGGER_STATE: &str = "(SELECT coalesce(string_agg(evtname::text || ' ' || evtenabled::text, ',' ORDER BY evtname), '') FROM pg_event_trigger)";

/// Settings attached to the database, as by `ALTER DATABASE … SET`.
pub(super) const SETTINGS_STATE: &str = "(SELECT coalesce(string_agg(setrole::text || ' ' || setconfig::text, ',' ORDER BY setrole), '') \
      FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))";

/// What is in the large objects, as far as the role may read it; which there are, and whose, their own catalog tells.
pub(super) const OBJECT_CONTENTS: &str = "(SELECT coalesce(encode(sha256(string_agg(sha256(lo_get(o.oid)), ''::bytea ORDER BY o.oid)), 'hex'), '') \
      FROM pg_largeobject_metadata o WHERE pg_has_role(o.lomowner, 'USAGE'))";

/// What a database's present content is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaptureFor {
    /// To be copied; what is attached to the database itself is not.
    Template,
    /// To be reset in place.
    Itself,
}

/// Takes the present content of the database behind `client`, called `name`, as its start state.
pub(crate) async fn capture(
    client: &Client,
    name: &str,
    purpose: CaptureFor,
    config: &Config,
) -> Result<()> {
    let result = capture_in_transaction(client, name, purpose, config).await;
    if result.is_err() {
        // The reason is what matters; a connection that cannot roll back is gone anyway.
        drop(client.batch_execute("ROLLBACK").await);
    }
    result
}

async fn capture_in_transaction(
    client: &Client,
    name: &str,
    purpose: CaptureFor,
    config: &Config,
) -> Result<()> {
    let failed = |error| {
        error::statement(
            ErrorKind::WorkerInit,
            format!("cannot record the start state of database `{name}`"),
            error,
        )
    };
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .map_err(failed)?;
    drop_former(client, name).await?;
    client
        .batch_execute(&format!(
            "{SCHEMA} {} COMMENT ON SCHEMA dagz_baseline IS {}",
            log::SCHEMA,
            sql::literal(SCHEMA_COMMENT)
        ))
        .await
        .map_err(failed)?;
    client
        .batch_execute(&format!(
            "INSERT INTO dagz_baseline.tables {TABLES}; INSERT INTO dagz_baseline.sequences {SEQUENCES}"
        ))
        .await
        .map_err(failed)?;
    let list = |table| format!("SELECT oid, schema, name FROM dagz_baseline.{table} ORDER BY oid");
    for row in client.query(&list("tables"), &[]).await.map_err(failed)? {
        let (oid, table) = relation(&row);
        copy_table(client, oid, &table).await.map_err(failed)?;
    }
    let sequences = client
        .query(&list("sequences"), &[])
        .await
        .map_err(failed)?;
    let states: String = sequences
        .iter()
        .map(|row| {
            let (oid, sequence) = relation(row);
            format!(
                "UPDATE dagz_baseline.sequences SET (last_value, is_called) = (SELECT last_value, is_called FROM {sequence}) \
                 WHERE oid = {oid};"
            )
        })
        .collect();
    client.batch_execute(&states).await.map_err(failed)?;
    let row = client
        .query_one(log::IS_POSSIBLE, &[])
        .await
        .map_err(failed)?;
    let (is_possible, is_watched): (bool, bool) = (row.get(0), row.get(1));
    let is_logged = is_possible && is_watched && config.write_log.is_on;
    // The user's own, before there are dagz's.
    let triggers = client
        .query_one(&format!("SELECT {TRIGGERS}"), &[])
        .await
        .map_err(failed)?;
    let (has_always_triggers, has_triggers): (bool, bool) = (triggers.get(0), triggers.get(1));
    if is_logged {
        log::install(client, config).await.map_err(failed)?;
    }
    if is_watched {
        client.batch_execute(EVENT_TRIGGERS).await.map_err(failed)?;
    }
    let settings = match purpose {
        CaptureFor::Template => "''",
        CaptureFor::Itself => SETTINGS_STATE,
    };
    let counts = schema::counts(&config.write_log);
    client
        .batch_execute(&format!(
            "INSERT INTO dagz_baseline.state SELECT pg_current_xact_id(), {is_watched}, {EVENT_TRIGGER_STATE}, \
             {settings}, (SELECT count(*) FROM pg_largeobject_metadata), {OBJECT_CONTENTS}, {counts}, \
             {has_always_triggers}, {has_triggers}, {is_logged}, 'baseline', (SELECT count(*) FROM pg_event_trigger);
             COMMIT"
        ))
        .await
        .map_err(failed)
}

/// Drops what an earlier adoption recorded.
async fn drop_former(client: &Client, name: &str) -> Result<()> {
    let comment = client
        .query_opt(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'dagz_baseline'",
            &[],
        )
        .await
        .map_err(|error| {
            error::statement(
                ErrorKind::WorkerInit,
                format!("cannot look into database `{name}`"),
                error,
            )
        })?
        .map(|row| row.get::<_, Option<String>>(0));
    match comment {
        None => Ok(()),
        Some(Some(comment)) if comment == SCHEMA_COMMENT => client
            .batch_execute("DROP SCHEMA dagz_baseline CASCADE")
            .await
            .map_err(|error| {
                error::statement(
                    ErrorKind::WorkerInit,
                    format!("cannot replace the recorded start state of database `{name}`"),
                    error,
                )
            }),
        Some(_) => Err(Error::new(
            ErrorKind::Refused,
            format!(
                "refusing to record a start state in database `{name}`: it has a schema `dagz_baseline` that dagz did not make; rename that schema"
            ),
        )),
    }
}

/// The `oid` and the quoted name of a row that lists a relation.
fn relation(row: &tokio_postgres::Row) -> (u32, String) {
    let (oid, schema, name): (u32, String, String) = (row.get(0), row.get(1), row.get(2));
    (oid, sql::qualified(&schema, &name))
}

/// Copies a table that is not empty.
async fn copy_table(client: &Client, oid: u32, table: &str) -> Result<(), tokio_postgres::Error> {
    let messages = client
        .simple_query(&format!("SELECT EXISTS (SELECT FROM ONLY {table})"))
        .await?;
    let is_filled = messages.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
        _ => false,
    });
    if !is_filled {
        return Ok(());
    }
    let columns = client
        .query_one(COLUMNS, &[&oid])
        .await?
        .get::<_, Option<String>>(0)
        .unwrap_or_default();
    client
        .batch_execute(&format!(
            "CREATE TABLE dagz_baseline.rows_{oid} AS SELECT {columns} FROM ONLY {table}; \
             UPDATE dagz_baseline.tables SET rows = (SELECT count(*) FROM dagz_baseline.rows_{oid}) WHERE oid = {oid}"
        ))
        .await
}
