//! How a database and all that is in it are defined, as text to be compared.

use dagz_mysql::mysql_async::{Conn, prelude::Queryable as _};

use super::rows;

/// What is shown of each kind of object that has no `SHOW CREATE` here.
const PROGRAMS: [&str; 3] = [
    "SELECT ROUTINE_TYPE, ROUTINE_NAME, DTD_IDENTIFIER, ROUTINE_DEFINITION, ROUTINE_COMMENT, SQL_DATA_ACCESS, IS_DETERMINISTIC, \
            SECURITY_TYPE, SQL_MODE, DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION \
     FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() ORDER BY 1, 2",
    "SELECT TRIGGER_NAME, EVENT_MANIPULATION, EVENT_OBJECT_TABLE, ACTION_ORDER, ACTION_TIMING, ACTION_STATEMENT, \
            SQL_MODE, DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION \
     FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY 1",
    "SELECT EVENT_NAME, EVENT_DEFINITION, STATUS, INTERVAL_VALUE, INTERVAL_FIELD, STARTS, ENDS, ON_COMPLETION, EVENT_COMMENT, \
            SQL_MODE, DEFINER, TIME_ZONE, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION \
     FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE() ORDER BY 1",
];

/// The definitions of everything but dagz's own tables, without what counters say.
pub(crate) async fn definitions(conn: &mut Conn) -> Vec<String> {
    let database: Option<String> = conn.query_first("SELECT DATABASE()").await.unwrap();
    let database = database.unwrap_or_default();
    let mut found = rows(conn, &format!("SHOW CREATE DATABASE `{database}`")).await;
    let relations: Vec<(String, String)> = conn.query("SHOW FULL TABLES").await.unwrap();
    for (name, kind) in relations {
        if name.starts_with("dagz_") {
            continue;
        }
        let word = match kind.as_str() {
            "VIEW" | "SEQUENCE" => &*kind,
            _ => "TABLE",
        };
        let show = format!("SHOW CREATE {word} `{}`", name.replace('`', "``"));
        let shown = rows(conn, &show).await;
        found.extend(shown.iter().map(|create| without_counter(create)));
    }
    for query in PROGRAMS {
        found.extend(rows(conn, query).await);
    }
    found
}

/// The same, without where the table's counter stands.
fn without_counter(create: &str) -> String {
    const COUNTER: &str = " AUTO_INCREMENT=";
    match create.split_once(COUNTER) {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{before}{rest}")
        }
        None => create.to_owned(),
    }
}
