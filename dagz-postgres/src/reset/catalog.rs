//! What there is to reset in a database.
//!
//! `reset/baseline.rs` reads it from the catalogs of Postgres when the database is made, and notes
//! it there: asking those is slow on a new connection, and under nextest each test's is new. A
//! change of the schema is found as such. [`Catalog::load`] reads the notes in one round trip. `reset/probe.rs` and `reset/repair.rs`
//! turn it into statements. System schemas, `dagz`'s own, temporary objects and tables that belong
//! to an extension are none of it.

use dagz_core::{ErrorKind, Result};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::error;

/// Rows of `dagz_baseline.tables`, as yet without their number of rows.
pub(super) const TABLES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'm', NULL
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND c.relpersistence <> 't'
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'dagz_baseline')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.oid";

/// Rows of `dagz_baseline.sequences`, as yet without their state.
pub(super) const SEQUENCES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, s.seqstart,
       (SELECT d.refobjid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
        AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1), NULL, NULL
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't'
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'dagz_baseline')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.oid";

/// The tables whose files are empty, so that there is no row in them, not even of a transaction
/// that is open. Needs a superuser; tells none while another session has a transaction open, which
/// might write, and commit, before the probe looks.
const UNFILLED: &str = "
SELECT t.oid FROM dagz_baseline.tables t
WHERE (pg_stat_file(pg_relation_filepath(t.oid), true)).size = 0
  AND NOT EXISTS (SELECT FROM pg_stat_get_activity(NULL) a
                  WHERE a.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
                    AND a.xact_start IS NOT NULL)";

/// The columns of a table that can be written, quoted and in order.
pub(super) const COLUMNS: &str = "
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";

/// Whether deleting rows runs code of the user's, which may write anything: with triggers and
/// foreign keys switched off, and with them on.
pub(super) const TRIGGERS: &str = "
    EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('A', 'R'))
        OR EXISTS (SELECT FROM pg_rewrite WHERE ev_type <> '1' AND ev_enabled IN ('A', 'R')),
    EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D')
        OR EXISTS (SELECT FROM pg_rewrite WHERE ev_type = '4' AND ev_enabled <> 'D')";

/// A table, or a materialised view.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_view: bool,
    /// How many rows it has at the start, where it has any.
    pub(super) rows: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// The value it is defined to begin with.
    pub(super) start: i64,
    pub(super) owner: Option<u32>,
    /// The value, and whether that was used already, when the start state was recorded.
    pub(super) recorded: (i64, bool),
}

/// What a database holds, and what the role may do in it.
#[derive(Clone, Debug)]
pub(super) struct Catalog {
    pub(super) database: u32,
    pub(super) connection_limit: i32,
    pub(super) stamp: Option<String>,
    pub(super) tables: Vec<Table>,
    pub(super) sequences: Vec<Sequence>,
    /// Whether event triggers note changes of the schema.
    pub(super) is_watched: bool,
    /// Whether the role is a superuser.
    pub(super) is_superuser: bool,
    /// Whether triggers or rules of the user's fire even on a replica.
    pub(super) has_always_triggers: bool,
    /// Whether writes are noted, and the role may see all that a reset by the log relies on.
    pub(super) is_logged: bool,
    /// Whether a function of the server's reads the state of a sequence, which came with Postgres 18.
    pub(super) reads_sequences: bool,
    /// Whether the role may switch triggers and foreign keys off for a transaction.
    pub(super) may_replicate: bool,
    /// Whether the server can have prepared transactions at all.
    pub(super) has_prepared: bool,
    /// Whether deleting rows may run code of the user's, which may write anything.
    pub(super) has_side_effects: bool,
    /// How many large objects there are at the start.
    pub(super) large_objects: i64,
}

/// The outcome of looking.
pub(super) enum Loaded {
    Catalog(Box<Catalog>),
    /// The start state is not recorded in the database any more.
    NoRecord,
}

impl Catalog {
    /// Reads what is noted in the database behind `client`, a server of this major version. Not by
    /// `shobj_description`, which takes a new session half a millisecond.
    pub(super) async fn load(client: &Client, database: &str, major: u32) -> Result<Loaded> {
        let may_replicate = if major >= 15 {
            "has_parameter_privilege('session_replication_role', 'SET')"
        } else {
            "current_setting('is_superuser') = 'on'"
        };
        let query = format!(
            "SELECT d.oid, d.datconnlimit, \
                    (SELECT s.description FROM pg_shdescription s WHERE s.objoid = d.oid AND s.classoid = 1262), {may_replicate}, \
                    current_setting('max_prepared_transactions')::int > 0, \
                    current_setting('is_superuser') = 'on' \
             FROM pg_database d WHERE d.datname = current_database();
             SELECT watched, large_objects, has_always_triggers, has_triggers, is_logged FROM dagz_baseline.state;
             SELECT oid, schema, name, is_view, rows FROM dagz_baseline.tables;
             SELECT oid, schema, name, start, owner, last_value, is_called FROM dagz_baseline.sequences"
        );
        let messages = match client.simple_query(&query).await {
            Ok(messages) => messages,
            Err(error) if error::is_shape_changed(&error) => return Ok(Loaded::NoRecord),
            Err(error) => {
                return Err(error::statement(
                    ErrorKind::Prepare,
                    format!("cannot read the start state of database `{database}`"),
                    error,
                ));
            }
        };
        Ok(
            Self::from_results(&results(messages), major).map_or(Loaded::NoRecord, |catalog| {
                Loaded::Catalog(Box::new(catalog))
            }),
        )
    }

    /// The tables that certainly are empty; `None` where the role may not know.
    pub(super) async fn unfilled(client: &Client) -> Option<Vec<u32>> {
        let messages = client.simple_query(UNFILLED).await.ok()?;
        let rows = results(messages);
        rows.first()?.iter().map(|row| number(row, 0)).collect()
    }

    fn from_results(results: &[Vec<SimpleQueryRow>], major: u32) -> Option<Self> {
        let [facts, state, tables, sequences] = results else {
            return None;
        };
        let (facts, state) = (facts.first()?, state.first()?);
        let may_replicate = is_true(facts, 3);
        let table = |row: &SimpleQueryRow| {
            Some(Table {
                oid: number(row, 0)?,
                schema: row.get(1)?.to_owned(),
                name: row.get(2)?.to_owned(),
                is_view: is_true(row, 3),
                rows: number(row, 4),
            })
        };
        let sequence = |row: &SimpleQueryRow| {
            Some(Sequence {
                oid: number(row, 0)?,
                schema: row.get(1)?.to_owned(),
                name: row.get(2)?.to_owned(),
                start: number(row, 3)?,
                owner: number(row, 4),
                recorded: (number(row, 5)?, is_true(row, 6)),
            })
        };
        Some(Self {
            database: number(facts, 0)?,
            connection_limit: number(facts, 1)?,
            stamp: facts.get(2).map(str::to_owned),
            may_replicate,
            reads_sequences: major >= 18,
            has_prepared: is_true(facts, 4),
            is_watched: is_true(state, 0),
            is_superuser: is_true(facts, 5),
            has_always_triggers: is_true(state, 2),
            is_logged: is_true(state, 4) && is_true(facts, 5),
            large_objects: number(state, 1)?,
            has_side_effects: is_true(state, if may_replicate { 2 } else { 3 }),
            tables: tables.iter().map(table).collect::<Option<_>>()?,
            sequences: sequences.iter().map(sequence).collect::<Option<_>>()?,
        })
    }
}

/// The rows of each statement of a batch.
fn results(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<SimpleQueryRow>> {
    let mut results = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(row),
            SimpleQueryMessage::CommandComplete(_) => results.push(std::mem::take(&mut rows)),
            _ => {}
        }
    }
    results
}

fn number<T: std::str::FromStr>(row: &SimpleQueryRow, column: usize) -> Option<T> {
    row.get(column)?.parse().ok()
}

fn is_true(row: &SimpleQueryRow, column: usize) -> bool {
    row.get(column) == Some("t")
}
