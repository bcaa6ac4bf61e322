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
    /// Those that can be written, where there are rows.
    pub(crate) columns: Vec<Column>,
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

/// A column that can be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    told_by: ToldBy,
}

/// What tells a value from all others that its column may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ToldBy {
    Text,
    /// The text of a `FLOAT` has six digits, that of a `DOUBLE` all that there are.
    Double,
    /// What is none of an `ENUM`'s values has the text of the empty one.
    Number,
}

impl ToldBy {
    fn unless(self, blind: Option<&str>) -> Self {
        match (self, blind) {
            (Self::Double, Some("float")) | (Self::Number, Some("enum")) => Self::Text,
            (told_by, _) => told_by,
        }
    }
}

impl Column {
    /// An expression without two values that are the same.
    fn exact(&self) -> String {
        let name = sql::identifier(&self.name);
        match self.told_by {
            ToldBy::Text => name,
            // Adding zero would take the sign from a zero.
            ToldBy::Double => format!("{name} * 1e0"),
            ToldBy::Number => format!("CAST({name} AS UNSIGNED)"),
        }
    }
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

impl Sequence {
    /// The statement that sets `name`, quoted, to `next`. What the server has set aside to give out is forgotten, of
    /// which nothing else tells.
    pub(crate) fn restart(name: &str, next: i64) -> String {
        format!("ALTER SEQUENCE {name} RESTART {next}")
    }
}

/// Notes the present content of the database of `schema`, in which the session is, as its start
/// state; with the former rows that tables keep where those `stay`, as they do in no copy. What it is `blind` to is not
/// compared with.
pub(crate) async fn capture(
    conn: &mut Conn,
    schema: &Schema,
    former_rows_stay: bool,
    blind: Option<&str>,
) -> Result<Start, mysql_async::Error> {
    let mut columns = columns_of(conn, &schema.database).await?;
    for listed in &mut columns {
        listed.column.told_by = listed.column.told_by.unless(blind);
    }
    let references = references(conn, &schema.database).await?;
    let mut tables: Vec<_> = schema
        .of_kind(Kind::is_table)
        .map(|object| {
            let of_table = |listed: &&Listed| listed.table == object.name;
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
    let names: Vec<_> = tables
        .iter()
        .map(|table| rows_of(&table.name, former_rows_stay && table.is_versioned))
        .collect();
    for index in filled(conn, &names).await? {
        let table = &mut tables[index];
        table.columns = columns
            .iter()
            .filter(|listed| listed.table == table.name && !listed.is_generated)
            .map(|listed| listed.column.clone())
            .collect();
        let sum = sum(&table.columns, blind);
        let query = format!("SELECT {sum} FROM {}", names[index]);
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
        schema: schema.fingerprint(blind),
        rows_in: schema.database.clone(),
        tables,
        sequences,
        events: Vec::new(),
    })
}

/// What to select from for the rows of the table `name`, with those that are no more than former ones.
pub(super) fn rows_of(name: &str, with_former: bool) -> String {
    let quoted = sql::identifier(name);
    match with_former {
        true => format!("{quoted} FOR SYSTEM_TIME ALL"),
        false => quoted,
    }
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
pub(super) fn sum(columns: &[Column], blind: Option<&str>) -> String {
    let values: Vec<_> = columns
        .iter()
        .map(|column| {
            let value = column.exact();
            if blind == Some("lengths") {
                return format!("CAST({value} AS BINARY)");
            }
            format!("COALESCE(LENGTH({value}), -1), CAST({value} AS BINARY)")
        })
        .collect();
    format!(
        "COUNT(*), CAST(COALESCE(SUM(CAST(CONV(LEFT(SHA2(CONCAT_WS(':', {}), 256), 15), 16, 10) AS UNSIGNED)), 0) AS CHAR)",
        values.join(", ")
    )
}

/// A column as the server lists it.
struct Listed {
    table: String,
    column: Column,
    is_generated: bool,
    is_counted: bool,
}

async fn columns_of(conn: &mut Conn, database: &str) -> Result<Vec<Listed>, mysql_async::Error> {
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COALESCE(GENERATION_EXPRESSION, '') <> '', \
                EXTRA LIKE '%auto_increment%', LOWER(DATA_TYPE) \
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
        .map(|row| Listed {
            table: text(row, 1).unwrap_or_default(),
            column: Column {
                name: text(row, 2).unwrap_or_default(),
                told_by: match text(row, 5).as_deref() {
                    Some("float") => ToldBy::Double,
                    Some("enum") => ToldBy::Number,
                    _ => ToldBy::Text,
                },
            },
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
    Ok(columns_of(conn, database)
        .await?
        .into_iter()
        .filter(|listed| !listed.is_generated)
        .map(|listed| (listed.table, sql::identifier(&listed.column.name)))
        .collect())
}
