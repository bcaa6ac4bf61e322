//! Makes a database like another one, by the definitions of its objects and by its rows.
//!
//! The main function is [`objects`]. Foreign keys are off in dagz's sessions, so tables come in any
//! order; rows come before the triggers that would run for them.

use dagz_core::{Error, ErrorKind, Result};
use mysql_async::{Conn, prelude::Queryable as _};

use crate::{
    batch, error,
    reset::baseline::{self, Sequence},
    schema::{Kind, Object, Schema},
    server::SQL_MODE,
    sql,
};

/// How much text goes into one batch; servers take 16 MB at least.
const BATCH: usize = 1 << 18;

/// Makes everything of `source` in the database `name`, which has nothing but its stamp, with the
/// events of these names enabled. The session is in it afterwards.
pub(super) async fn objects(
    conn: &mut Conn,
    source: &Schema,
    name: &str,
    enabled: &[String],
) -> Result<()> {
    conn.query_drop(format!("USE {}", sql::identifier(name)))
        .await
        .map_err(|error| cannot("enter", source, name, error))?;
    // Tables have defaults that are sequences.
    tables(conn, source, name, |kind| kind == Kind::Sequence).await?;
    tables(conn, source, name, Kind::is_table).await?;
    rows(conn, source, name)
        .await
        .map_err(|error| cannot("copy the rows to", source, name, error))?;
    for object in source.of_kind(|kind| matches!(kind, Kind::Routine(_))) {
        program(conn, source, object, name).await?;
    }
    views(conn, source, name).await?;
    for object in source.of_kind(|kind| kind == Kind::Trigger) {
        program(conn, source, object, name).await?;
    }
    for object in source.of_kind(|kind| kind == Kind::Event) {
        let mut event = object.clone();
        if enabled.contains(&event.name) {
            event.create = event.create.map(|create| switched(&create, true));
        }
        program(conn, source, &event, name).await?;
    }
    settings_back(conn, source, name).await
}

/// Disables the events of `source`, which would change it. Not by `ALTER EVENT`, after which an
/// event remembers the settings of the session that altered it.
pub(super) async fn disable_events(conn: &mut Conn, source: &Schema) -> Result<()> {
    let name = &source.database;
    for object in source.of_kind(|kind| kind == Kind::Event) {
        if source.enabled_events.contains(&object.name) {
            let mut event = object.clone();
            event.create = event.create.map(|create| switched(&create, false));
            conn.query_drop(format!("DROP EVENT {}", sql::qualified(name, &event.name)))
                .await
                .map_err(|error| cannot_make(object, source, name, error))?;
            program(conn, source, &event, name).await?;
        }
    }
    settings_back(conn, source, name).await
}

/// The definition of an event with the other status, which the server always spells out.
fn switched(create: &str, is_enabled: bool) -> String {
    let (from, to) = match is_enabled {
        true => (" PRESERVE DISABLE", " PRESERVE ENABLE"),
        false => (" PRESERVE ENABLE", " PRESERVE DISABLE"),
    };
    create.replacen(from, to, 1)
}

async fn settings_back(conn: &mut Conn, source: &Schema, name: &str) -> Result<()> {
    conn.query_drop(format!(
        "SET NAMES utf8mb4; SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00'"
    ))
    .await
    .map_err(|error| cannot("finish", source, name, error))?;
    let Some(comment) = source.comment().filter(|_| source.database != name) else {
        return Ok(());
    };
    let statement = format!(
        "ALTER DATABASE {} COLLATE {} {comment}",
        sql::identifier(name),
        source.collation
    );
    conn.query_drop(statement)
        .await
        .map_err(|error| cannot("finish", source, name, error))
}

/// Makes tables or sequences, many at a time.
pub(super) async fn tables(
    conn: &mut Conn,
    source: &Schema,
    name: &str,
    wanted: impl Fn(Kind) -> bool,
) -> Result<()> {
    let mut batch: Vec<(String, &Object)> = Vec::new();
    let mut size = 0;
    let mut objects = source.of_kind(wanted).peekable();
    while let Some(object) = objects.next() {
        let statement = defined(source, object, name)?;
        size += statement.len();
        batch.push((statement, object));
        if size < BATCH && objects.peek().is_some() {
            continue;
        }
        let text: Vec<_> = batch.iter().map(|(statement, _)| &**statement).collect();
        if let Err(stopped) = batch::run(conn, &text.join(";\n")).await {
            let object = batch[stopped.before.len().min(batch.len() - 1)].1;
            return Err(cannot_make(object, source, name, stopped.error));
        }
        batch.clear();
        size = 0;
    }
    Ok(())
}

/// Copies the rows of all tables that have any, and the state of the sequences.
async fn rows(conn: &mut Conn, source: &Schema, name: &str) -> Result<(), mysql_async::Error> {
    let tables: Vec<_> = source.of_kind(Kind::is_table).collect();
    let qualified: Vec<_> = tables
        .iter()
        .map(|table| sql::qualified(&source.database, &table.name))
        .collect();
    let filled = baseline::filled(conn, &qualified).await?;
    if !filled.is_empty() {
        let columns = baseline::writable(conn, &source.database).await?;
        for index in filled {
            let table = tables[index];
            let columns: Vec<_> = columns
                .iter()
                .filter(|(of, _)| *of == table.name)
                .map(|(_, column)| &**column)
                .collect();
            let columns = columns.join(", ");
            conn.query_drop(format!(
                "INSERT INTO {} ({columns}) SELECT {columns} FROM {}",
                sql::qualified(name, &table.name),
                qualified[index]
            ))
            .await?;
        }
    }
    for sequence in source.of_kind(|kind| kind == Kind::Sequence) {
        let next: Option<i64> = conn
            .query_first(format!(
                "SELECT next_not_cached_value FROM {}",
                sql::qualified(&source.database, &sequence.name)
            ))
            .await?;
        if let Some(next) = next {
            let name = sql::qualified(name, &sequence.name);
            conn.query_drop(Sequence::restart(&name, next)).await?;
        }
    }
    Ok(())
}

/// Makes the views, each after those that it needs, which no catalog tells.
async fn views(conn: &mut Conn, source: &Schema, name: &str) -> Result<()> {
    let mut left: Vec<_> = source.of_kind(|kind| kind == Kind::View).collect();
    while !left.is_empty() {
        let before = left.len();
        let (mut later, mut reason) = (Vec::new(), None);
        for view in left {
            match program(conn, source, view, name).await {
                Ok(()) => {}
                Err(error) => {
                    later.push(view);
                    reason.get_or_insert(error);
                }
            }
        }
        if later.len() == before
            && let Some(error) = reason
        {
            return Err(error);
        }
        left = later;
    }
    Ok(())
}

/// Makes an object under the settings that it was made under at first.
async fn program(conn: &mut Conn, source: &Schema, object: &Object, name: &str) -> Result<()> {
    let statement = defined(source, object, name)?;
    let mut settings = Vec::new();
    let mut set = |variable: &str, value: &Option<String>| {
        if let Some(value) = value {
            settings.push(format!("{variable} = {}", sql::literal(value)));
        }
    };
    set("sql_mode", &object.sql_mode);
    set("time_zone", &object.time_zone);
    // The text is sent as UTF-8, and must not be taken for anything else.
    let client = object.client.as_deref().unwrap_or_default();
    if client.starts_with("utf8") || statement.is_ascii() {
        set("character_set_client", &object.client);
        set("collation_connection", &object.collation);
    }
    let settings = match settings.is_empty() {
        true => "DO 0".to_owned(),
        false => format!("SET SESSION {}", settings.join(", ")),
    };
    conn.query_drop(settings)
        .await
        .map_err(|error| cannot_make(object, source, name, error))?;
    // Some objects remember the database's defaults of their day.
    let defaults = |collation| {
        format!(
            "ALTER DATABASE {} COLLATE {collation}",
            sql::identifier(name)
        )
    };
    let then = object.database_collation.as_ref();
    let then = then.filter(|collation| **collation != source.collation);
    let mut statements = vec![statement];
    if let Some(then) = then {
        statements.insert(0, defaults(then));
        statements.push(defaults(&source.collation));
    }
    for statement in statements {
        conn.query_drop(statement)
            .await
            .map_err(|error| cannot_make(object, source, name, error))?;
    }
    Ok(())
}

fn defined(source: &Schema, object: &Object, name: &str) -> Result<String> {
    let definition = match object.kind.is_table() {
        // With its counter, which is a part of what is copied.
        true => source.definition_with_counter(object),
        false => source.definition(object),
    };
    definition.ok_or_else(|| {
        Error::new(
            ErrorKind::AccessDenied,
            format!(
                "cannot copy `{}` of database `{}` to `{name}`: this user may not see its definition; `GRANT SHOW_ROUTINE ON *.*` (MySQL), or let it own what it copies",
                object.name, source.database
            ),
        )
    })
}

fn cannot_make(object: &Object, source: &Schema, name: &str, error: mysql_async::Error) -> Error {
    let remedy = if error::is_denied(&error) {
        ": it has another definer, or the server's log asks for more rights; `GRANT SET_ANY_DEFINER ON *.*` (MySQL 8.2), `GRANT SET USER ON *.*` (MariaDB), or define it by the user of the tests"
    } else {
        ""
    };
    error::statement(
        ErrorKind::WorkerInit,
        format!(
            "cannot make `{}` of database `{}` in `{name}`{remedy}",
            object.name, source.database
        ),
        error,
    )
}

fn cannot(what: &str, source: &Schema, name: &str, error: mysql_async::Error) -> Error {
    error::statement(
        ErrorKind::WorkerInit,
        format!(
            "cannot {what} database `{name}`, as a copy of `{}`",
            source.database
        ),
        error,
    )
}
