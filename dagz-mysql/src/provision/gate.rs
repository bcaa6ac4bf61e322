//! Puts the tables of a worker's database behind one lock, where [`Config::write_gate`](crate::Config::write_gate) says so.
//!
//! Each InnoDB table gets triggers that do nothing, and mention the table `dagz_gate`. A server locks what a trigger
//! mentions together with the table that it belongs to, until the transaction ends. So whoever has `dagz_gate` locked
//! keeps everybody from writing rows to any of them, which is what `reset/hold.rs` does, in the time of one lock; what
//! changes a table without a trigger, such as `TRUNCATE`, wants the lock of the schema. [`add`] is called when the
//! database is complete; `schema.rs` knows these triggers from those of the user's.

use std::sync::Once;

use dagz_core::{Error, ErrorKind, Result, event};
use mysql_async::{Conn, prelude::Queryable as _};

use crate::{
    batch, driver, error,
    reset::baseline::Start,
    schema::{GATE_TABLE, Kind, Object, Schema},
    sql,
};

/// What a trigger does: it never reads that table, and would not change it. Who has another table locked for itself
/// shares the lock of what its triggers read, and has that of what they write alone.
const BODY: &str = "IF FALSE THEN DO (SELECT id FROM dagz_gate); END IF";

/// For how many tables the triggers are made in one round trip.
const AT_ONCE: usize = 50;

/// Adds a gate to the database of `schema`, and notes it in `start`, the state of that database. Tells the schema as it
/// is then.
///
/// Where dagz's user may not make triggers there is none, which is warned of: without one, all is as it is without
/// the setting.
///
/// # Errors
/// [`ErrorKind::WorkerInit`] where the server does not do it for another reason.
pub(super) async fn add(conn: &mut Conn, schema: Schema, start: &mut Start) -> Result<Schema> {
    let database = schema.database.clone();
    let failed = |error| {
        let message = format!("cannot add the write gate to database `{database}`");
        error::statement(ErrorKind::WorkerInit, message, error)
    };
    let enter = format!("USE {}", sql::identifier(&database));
    let table =
        format!("CREATE TABLE IF NOT EXISTS {GATE_TABLE} (id TINYINT PRIMARY KEY) ENGINE = InnoDB");
    // A database that is adopted once more has one.
    let former = schema.gate_triggers().map(sql::identifier);
    let former = former.map(|name| format!("DROP TRIGGER {name}"));
    let statements: Vec<_> = [enter, table].into_iter().chain(former).collect();
    conn.query_drop(statements.join("; "))
        .await
        .map_err(failed)?;
    let gated: Vec<_> = schema.objects.iter().filter(|o| can_have(o)).collect();
    let mut number = 0..;
    for objects in gated.chunks(AT_ONCE) {
        let triggers = objects
            .iter()
            .zip(&mut number)
            .flat_map(|(object, number)| triggers(number, &object.name));
        let triggers: Vec<_> = triggers.collect();
        if let Err(stopped) = batch::run(conn, &triggers.join(";\n")).await {
            if error::is_denied(&stopped.error) {
                warn_once(&failed(stopped.error));
                break;
            }
            return Err(failed(stopped.error));
        }
        for table in &mut start.tables {
            table.is_gated |= objects.iter().any(|object| object.name == table.name);
        }
    }
    Schema::read(conn, &database).await.map_err(failed)
}

/// Whether nobody writes to it but by its name, for only then are its triggers asked.
fn can_have(object: &Object) -> bool {
    // Rows of other engines' tables may be those of another one, too, and what is historical goes in ways of its own.
    object.kind == Kind::Table
        && object.create.as_deref().is_some_and(|create| {
            let options = create.rfind("\n) ").unwrap_or_default();
            create[options..].starts_with("\n) ENGINE=InnoDB")
        })
}

/// The statements that make the triggers of `table`.
fn triggers(number: usize, table: &str) -> [String; 3] {
    ["INSERT", "UPDATE", "DELETE"].map(|event| {
        let name = sql::identifier(&format!(
            "{GATE_TABLE}_{number}_{}",
            event.to_ascii_lowercase()
        ));
        let table = sql::identifier(table);
        format!("CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW {BODY}")
    })
}

/// Says once per process why there is none, and what would make one.
fn warn_once(error: &Error) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        let text = format!(
            "{}; all tables are locked between tests instead: `GRANT TRIGGER` to dagz's user, and on a server with a binary log `SET GLOBAL log_bin_trust_function_creators = 1`, then `cargo dagz clean` for databases to be made anew, or leave `write_gate` off",
            error.report()
        );
        event::warn(Some(driver::NAME), &text);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, create: &str, expected: bool) {
        let object = Object {
            kind,
            name: "t".to_owned(),
            create: Some(create.to_owned()),
            sql_mode: None,
            client: None,
            collation: None,
            time_zone: None,
            database_collation: None,
        };
        assert_eq!(can_have(&object), expected, "{create}");
    }

    #[test]
    fn tables_without_a_gate_are_those_that_change_unseen() {
        let engine = "CREATE TABLE `t` (\n  `a` int\n) ENGINE=";
        check(Kind::Table, &format!("{engine}InnoDB"), true);
        check(
            Kind::Table,
            &format!(
                "{engine}InnoDB AUTO_INCREMENT=5\n PARTITION BY HASH (`a`)\n(PARTITION `p` ENGINE = InnoDB)"
            ),
            true,
        );
        check(Kind::VersionedTable, &format!("{engine}InnoDB"), false);
        check(Kind::View, &format!("{engine}InnoDB"), false);
        check(
            Kind::Table,
            &format!("{engine}MyISAM COMMENT='InnoDB'"),
            false,
        );
        check(
            Kind::Table,
            &format!("{engine}MRG_MyISAM UNION=(`u`)"),
            false,
        );
    }
}
