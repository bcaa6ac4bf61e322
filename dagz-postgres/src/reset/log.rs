//! The log of writes: which tables tests wrote to, noted inside the database by statement triggers.
//!
//! `reset/baseline.rs` installs it ([`install`]) when the start state is recorded, so that clones
//! have it, too. Each `INSERT`, `UPDATE`, `DELETE`, `TRUNCATE` or `COPY` leaves a row with the table
//! in `dagz_baseline.writes`, in its own transaction: what is rolled back leaves none. That replaces
//! looking into every table. `reset/function.rs` is the server's side of reading it, `reset/quick.rs`
//! the client's.
//!
//! The log has no index and no constraint, which would make tests wait for each other, and it is a
//! logged table even of unlogged ones, whose rows a crash takes.

use tokio_postgres::Client;

use super::{function, repair};
use crate::{Config, sql};

/// Which writes are noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteLog {
    pub(crate) is_on: bool,
    /// Tables whose writes are not noted, as `table` or `schema.table`.
    pub(crate) except: Vec<String>,
    /// The detection that tests switch off, to see that others notice.
    pub(crate) blind: Option<&'static str>,
}

impl Default for WriteLog {
    fn default() -> Self {
        Self {
            is_on: true,
            except: Vec::new(),
            blind: None,
        }
    }
}

impl WriteLog {
    /// What tells a template with this log from others; nothing by default.
    pub(crate) fn fingerprint(&self) -> String {
        if *self == Self::default() {
            String::new()
        } else {
            format!(" {self:?}")
        }
    }

    /// `text`, or `otherwise` where `detection` is switched off.
    pub(super) fn unless_blind<'a>(
        &self,
        detection: &str,
        text: &'a str,
        otherwise: &'a str,
    ) -> &'a str {
        if self.blind == Some(detection) {
            otherwise
        } else {
            text
        }
    }

    fn leaves_out(&self, schema: &str, name: &str) -> bool {
        self.except
            .iter()
            .any(|except| is_named(except, schema, name))
    }
}

/// Whether `pattern`, as `table` or `schema.table`, names this table.
pub(super) fn is_named(pattern: &str, schema: &str, name: &str) -> bool {
    pattern == name
        || pattern
            .split_once('.')
            .is_some_and(|(first, second)| first == schema && second == name)
}

/// What is recorded for the log, whether or not there is one.
///
/// `covers` says which tables with rows of their own an entry stands for: a statement on a
/// partitioned table or on a parent fires only the trigger of that, and writes to the others.
pub(super) const SCHEMA: &str = "
CREATE TABLE dagz_baseline.writes (relation oid NOT NULL);
CREATE TABLE dagz_baseline.covers (relation oid, tbl oid, is_seeded boolean);
CREATE INDEX ON dagz_baseline.covers (relation);
CREATE INDEX ON dagz_baseline.sequences (owner);
CREATE INDEX ON dagz_baseline.sequences (oid);
ALTER TABLE dagz_baseline.writes REPLICA IDENTITY FULL;
";

/// Runs in the session of the test, with its settings and search path, hence every name qualified; and with its
/// rights, which [`RIGHTS`] gives to everybody, since a function that runs with its owner's takes half as long again.
/// That what a reset writes is not noted is asked here and not in the triggers, where each statement would parse it.
const NOTE: &str = "
CREATE FUNCTION dagz_baseline.note_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (pg_catalog.current_setting('dagz.resets', true) OPERATOR(pg_catalog.=) 'on') IS NOT TRUE THEN
        INSERT INTO dagz_baseline.writes VALUES (TG_RELID);
    END IF;
    RETURN NULL;
END $$;
";

const RIGHTS: &str = "
GRANT USAGE ON SCHEMA dagz_baseline TO PUBLIC;
GRANT INSERT ON dagz_baseline.writes TO PUBLIC;
";

/// What a session that resets says of itself: what it writes needs no note.
pub(super) const IS_RESET: &str = "SET dagz.resets = 'on'";

/// Every relation that a statement can write to, with whether a crash empties it, and what statements on which, or
/// whether statements on it, write to others, too.
const RELATIONS: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.relpersistence = 'u', t.rows,
       ARRAY(WITH RECURSIVE above (oid) AS (
                 SELECT inhparent FROM pg_inherits WHERE inhrelid = c.oid
                 UNION SELECT i.inhparent FROM above JOIN pg_inherits i ON i.inhrelid = above.oid)
             SELECT oid FROM above),
       EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN dagz_baseline.tables t ON t.oid = c.oid
WHERE c.relkind = 'p' AND c.relpersistence <> 't'
   OR t.oid IS NOT NULL AND NOT t.is_view
ORDER BY c.oid";

const COVERS: &str = "
INSERT INTO dagz_baseline.covers
WITH RECURSIVE descends (relation, child) AS (
    SELECT oid, oid FROM pg_class WHERE relkind IN ('r', 'p')
    UNION SELECT d.relation, i.inhrelid FROM descends d JOIN pg_inherits i ON i.inhparent = d.child
)
SELECT d.relation, t.oid, t.rows IS NOT NULL FROM descends d JOIN dagz_baseline.tables t ON t.oid = d.child
WHERE NOT t.is_view";

/// The same where descendants are left out, for tests.
const COVERS_SELF: &str = "
INSERT INTO dagz_baseline.covers
SELECT t.oid, t.oid, t.rows IS NOT NULL FROM dagz_baseline.tables t WHERE NOT t.is_view";

/// Whether the log can be relied upon here: code of the user's that runs even while triggers are
/// off would write during a reset, and nobody could tell its entries from the reset's own.
pub(super) const IS_POSSIBLE: &str = "SELECT NOT EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('A', 'R')) \
        AND NOT EXISTS (SELECT FROM pg_rewrite WHERE ev_type <> '1' AND ev_enabled IN ('A', 'R')), \
     current_setting('is_superuser') = 'on'";

/// Installs the log, in the transaction that records the start state: before the event triggers
/// exist, which would note it as a change of the schema.
pub(super) async fn install(client: &Client, config: &Config) -> Result<(), tokio_postgres::Error> {
    let log = &config.write_log;
    let mut batch = log
        .unless_blind(
            "writes",
            NOTE,
            "CREATE FUNCTION dagz_baseline.note_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';",
        )
        .to_owned();
    batch.push_str(RIGHTS);
    batch.push_str(log.unless_blind("descendants", COVERS, COVERS_SELF));
    batch.push(';');
    let enable = log.unless_blind("replica", "ENABLE ALWAYS", "ENABLE");
    let mut unnoted = Vec::new();
    let relations = client.query(RELATIONS, &[]).await?;
    let left_out: Vec<u32> = relations
        .iter()
        .filter(|row| log.leaves_out(row.get(1), row.get(2)))
        .map(|row| row.get(0))
        .collect();
    for row in &relations {
        let (oid, schema, name): (u32, String, String) = (row.get(0), row.get(1), row.get(2));
        let (is_partitioned, is_unlogged, rows): (bool, bool, Option<i64>) =
            (row.get(3), row.get(4), row.get(5));
        let (above, is_parent): (Vec<u32>, bool) = (row.get(6), row.get(7));
        let table = sql::qualified(&schema, &name);
        if !is_partitioned {
            batch.push_str(&emptying(oid, &table));
            if rows.is_some() {
                batch.push_str(&restoring(client, oid, &table).await?);
            }
        }
        // With a parent go all its descendants: a statement on it writes to them, and fires none of their triggers.
        let is_left_out =
            left_out.contains(&oid) || above.iter().any(|parent| left_out.contains(parent));
        // A crash empties an unlogged table, seed rows and all, and no trigger tells. It needs one for its descendants.
        let is_looked_into = is_left_out || is_unlogged && rows.is_some();
        if is_looked_into && !is_partitioned {
            unnoted.push(differs(oid, &table, rows));
        }
        if !is_looked_into || is_parent && !is_left_out {
            batch.push_str(&format!(
                "CREATE TRIGGER dagz_write BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} \
                 FOR EACH STATEMENT EXECUTE FUNCTION dagz_baseline.note_write(); \
                 ALTER TABLE {table} {enable} TRIGGER dagz_write;"
            ));
        }
    }
    let unnoted = log
        .unless_blind("unnoted", &unnoted.join(", "), "")
        .to_owned();
    batch.push_str(&format!(
        "CREATE FUNCTION dagz_baseline.unnoted(is_baseline boolean) RETURNS oid[] LANGUAGE plpgsql AS $$ \
         BEGIN RETURN pg_catalog.array_remove(ARRAY[{unnoted}]::oid[], NULL); END $$;"
    ));
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_largeobject_metadata), current_setting('server_version_num')::int >= 180000",
            &[],
        )
        .await?;
    let traits = function::Traits {
        has_unnoted: !unnoted.is_empty(),
        has_objects: row.get(0),
        reads_sequences: row.get(1),
    };
    batch.push_str(&function::text(log, &traits));
    client
        .batch_execute("SET LOCAL check_function_bodies = off")
        .await?;
    client.batch_execute(&batch).await
}

/// A function per table: its statement is planned once per session, which a statement that the
/// reset puts together would be each time.
fn emptying(oid: u32, table: &str) -> String {
    format!(
        "CREATE FUNCTION dagz_baseline.clear_{oid}() RETURNS void LANGUAGE plpgsql AS {}; ",
        sql::literal(&format!("BEGIN DELETE FROM ONLY {table}; END"))
    )
}

async fn restoring(
    client: &Client,
    oid: u32,
    table: &str,
) -> Result<String, tokio_postgres::Error> {
    let statements = repair::restoring(client, oid, table).await?;
    Ok(format!(
        "CREATE FUNCTION dagz_baseline.restore_{oid}() RETURNS void LANGUAGE plpgsql AS {}; ",
        sql::literal(&format!("BEGIN {statements} END"))
    ))
}

/// The table's oid if it is not as at the start.
fn differs(oid: u32, table: &str, rows: Option<i64>) -> String {
    let is_filled = format!("EXISTS (SELECT FROM ONLY {table})");
    let condition = match rows {
        None => is_filled,
        Some(rows) => format!(
            "CASE WHEN is_baseline THEN (SELECT count(*) <> {rows} \
                OR coalesce(bool_or(age(t.xmin) < (SELECT age(s.mark::xid) FROM dagz_baseline.state s)), false) FROM ONLY {table} t) \
             ELSE {is_filled} END"
        ),
    };
    format!("CASE WHEN {condition} THEN {oid}::oid END")
}
