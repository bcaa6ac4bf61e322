//! Records a database's start state, to be kept in its stamp.
//!
//! [`capture`] notes which tables have rows, a checksum of those, where counters and sequences
//! stand, and a fingerprint of the schema. The rows themselves stay where they are: in the template.

use mysql_async::{Conn, prelude::Queryable as _};
use serde::{Deserialize, Serialize};

use crate::{
    batch::{self, column, text},
    schema::{Kind, Schema},
    sql,
};

/// How many tables one statement looks into.
pub(super) const AT_ONCE: usize = 200;

/// What a database holds at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// [`Schema::fingerprint`]
    pub(crate) schema: String,
    /// The database that holds the rows, where there are any.
    pub(crate) rows_in: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) sequences: Vec<Sequence>,
    /// The events that are enabled in copies, though not in a template.
    pub(crate) events: Vec<String>,
}

/// A table, and what it holds at the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// The columns that can be written, where there are rows.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: u64,
    pub(crate) checksum: String,
    /// The next value of its `AUTO_INCREMENT` column, if it has one.
    pub(crate) counter: Option<u64>,
    /// Whether it keeps former rows, which no statement takes away.
    pub(crate) is_versioned: bool,
    pub(crate) has_insert_trigger: bool,
    pub(crate) has_delete_trigger: bool,
    /// Whether who writes to it shares the lock of `dagz_gate`.
    #[serde(default)]
    pub(crate) is_gated: bool,
    /// The other tables that refer to it by foreign keys.
    pub(crate) referring: Vec<String>,
}

/// A sequence of MariaDB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    pub(crate) name: String,
    pub(crate) start: i64,
    pub(crate) next: i64,
}

impl Start {
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Notes the present content of the database of `schema`, in which the session is, as its start
/// state.
pub(crate) async fn capture(conn: &mut Conn, schema: &Schema) -> Result<Start, mysql_async::Error> {
    let columns = columns(conn, &schema.database).await?;
    let references = references(conn, &schema.database).await?;
    let mut tables: Vec<_> = schema
        .of_kind(Kind::is_table)
        .map(|object| {
            let of_table = |column: &&Column| column.table == object.name;
            let triggers = || schema.triggers.iter().filter(|t| t.table == object.name);
            let has_counter = columns.iter().filter(of_table).any(|c| c.is_counted);
            Table {
                name: object.name.clone(),
                columns: Vec::new(),
                rows: 0,
                checksum: String::new(),
                counter: has_counter.then(|| schema.counter(object).unwrap_or(1)),
                is_versioned: object.kind == Kind::VersionedTable,
                has_insert_trigger: triggers().any(|trigger| trigger.is_on_insert),
                has_delete_trigger: triggers().any(|trigger| trigger.is_on_delete),
                is_gated: false,
                referring: references
                    .iter()
                    .filter(|(_, referred)| *referred == object.name)
                    .map(|(referring, _)| referring.clone())
                    .collect(),
            }
        })
        .collect();
    let names: Vec<_> = tables.iter().map(|t| sql::identifier(&t.name)).collect();
    for index in filled(conn, &names).await? {
        let table = &mut tables[index];
        table.columns = columns
            .iter()
            .filter(|column| column.table == table.name && !column.is_generated)
            .map(|column| column.name.clone())
            .collect();
        let query = format!("SELECT {} FROM {}", sum(&table.columns), names[index]);
        let found: Option<(u64, String)> = conn.query_first(query).await?;
        (table.rows, table.checksum) = found.unwrap_or_default();
    }
    let mut sequences = Vec::new();
    for object in schema.of_kind(|kind| kind == Kind::Sequence) {
        let query = format!(
            "SELECT start_value, next_not_cached_value FROM {}",
            sql::identifier(&object.name)
        );
        let state: Option<(i64, i64)> = conn.query_first(query).await?;
        let (start, next) = state.unwrap_or_default();
        sequences.push(Sequence {
            name: object.name.clone(),
            start,
            next,
        });
    }
    Ok(Start {
        schema: schema.fingerprint(),
        rows_in: schema.database.clone(),
        tables,
        sequences,
        events: Vec::new(),
    })
}

/// Those of the quoted `tables` that have rows, as indexes.
pub(crate) async fn filled(
    conn: &mut Conn,
    tables: &[String],
) -> Result<Vec<usize>, mysql_async::Error> {
    let probes = probes(tables.iter().map(String::as_str).enumerate());
    let mut found = Vec::new();
    for probe in probes {
        found.extend(conn.query::<usize, _>(probe).await?);
    }
    Ok(found)
}

/// Statements that answer with the numbers of those tables that have rows.
pub(super) fn probes<'a>(tables: impl Iterator<Item = (usize, &'a str)>) -> Vec<String> {
    let probes: Vec<_> = tables
        .map(|(index, table)| format!("(SELECT {index} FROM {table} LIMIT 1)"))
        .collect();
    probes
        .chunks(AT_ONCE)
        .map(|probes| probes.join(" UNION ALL "))
        .collect()
}

/// How many rows there are, and a sum over them in which no two changes make up for each other.
///
/// `CHECKSUM TABLE` is quicker and adds 32 bits per row, in such a way that two rows that swap a
/// value often sum up to what they did before.
pub(super) fn sum(columns: &[String]) -> String {
    let values: Vec<_> = columns
        .iter()
        .map(|name| {
            let name = sql::identifier(name);
            format!("COALESCE(LENGTH({name}), -1), CAST({name} AS BINARY)")
        })
        .collect();
    format!(
        "COUNT(*), CAST(COALESCE(SUM(CAST(CONV(LEFT(SHA2(CONCAT_WS(':', {}), 256), 15), 16, 10) AS UNSIGNED)), 0) AS CHAR)",
        values.join(", ")
    )
}

struct Column {
    table: String,
    name: String,
    is_generated: bool,
    is_counted: bool,
}

async fn columns(conn: &mut Conn, database: &str) -> Result<Vec<Column>, mysql_async::Error> {
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COALESCE(GENERATION_EXPRESSION, '') <> '', \
                EXTRA LIKE '%auto_increment%' \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} ORDER BY TABLE_NAME, ORDINAL_POSITION",
        sql::literal(database)
    );
    let outcomes = batch::run(conn, &query)
        .await
        .map_err(|stopped| stopped.error)?;
    Ok(outcomes
        .iter()
        .flat_map(|outcome| &outcome.rows)
        .filter(|row| text(row, 0).as_deref() == Some(database))
        .map(|row| Column {
            table: text(row, 1).unwrap_or_default(),
            name: text(row, 2).unwrap_or_default(),
            is_generated: column(row, 3).unwrap_or_default(),
            is_counted: column(row, 4).unwrap_or_default(),
        })
        .collect())
}

/// The foreign keys of `database` from one table to another, as who refers to whom.
async fn references(
    conn: &mut Conn,
    database: &str,
) -> Result<Vec<(String, String)>, mysql_async::Error> {
    let literal = sql::literal(database);
    let query = format!(
        "SELECT DISTINCT CONSTRAINT_SCHEMA, UNIQUE_CONSTRAINT_SCHEMA, TABLE_NAME, REFERENCED_TABLE_NAME \
         FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE CONSTRAINT_SCHEMA = {literal} AND UNIQUE_CONSTRAINT_SCHEMA = {literal} \
         ORDER BY TABLE_NAME, REFERENCED_TABLE_NAME"
    );
    let outcomes = batch::run(conn, &query)
        .await
        .map_err(|stopped| stopped.error)?;
    let rows = outcomes.iter().flat_map(|outcome| &outcome.rows);
    Ok(rows
        .filter(|row| {
            [0, 1].map(|index| text(row, index)) == [0, 1].map(|_| Some(database.to_owned()))
        })
        .map(|row| [2, 3].map(|index| text(row, index).unwrap_or_default()))
        .filter(|[referring, referred]| referring != referred)
        .map(|[referring, referred]| (referring, referred))
        .collect())
}

/// The columns of `database` that can be written, table by table, each quoted and in order.
pub(crate) async fn writable(
    conn: &mut Conn,
    database: &str,
) -> Result<Vec<(String, String)>, mysql_async::Error> {
    Ok(columns(conn, database)
        .await?
        .into_iter()
        .filter(|column| !column.is_generated)
        .map(|column| (column.table, sql::identifier(&column.name)))
        .collect())
}
