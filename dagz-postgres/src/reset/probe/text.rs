//! The texts of the statements by which a probe looks.

use super::{
    super::{
        baseline::{EVENT_TRIGGER_STATE, OBJECT_CONTENTS, SETTINGS_STATE},
        catalog::Catalog,
        log::WriteLog,
        schema, sessions,
    },
    ProbedSequence, ProbedTable, TableStart,
};

/// Whether sessions or prepared transactions of earlier tests are still there.
pub(super) fn leftovers(catalog: &Catalog, log: &WriteLog) -> String {
    let database = catalog.database;
    let present = format!("pg_stat_get_activity(NULL) a WHERE a.datid = {database}");
    let left = if catalog.is_superuser || log.blind == Some("look hidden") {
        format!("{present} AND {}", sessions::is_leftover("a", "$1"))
    } else {
        let (any, is_left) = (
            sessions::any(&present),
            sessions::is_leftover_of_any("a", "$1"),
        );
        format!("{any} a WHERE {is_left}")
    };
    let left = log.unless_blind("look sessions", &left, "(VALUES ($1)) v WHERE false");
    let prepared = if catalog.has_prepared {
        format!(" OR EXISTS (SELECT FROM pg_prepared_xact() p WHERE p.dbid = {database})")
    } else {
        String::new()
    };
    let prepared = log.unless_blind("look prepared", &prepared, "");
    format!("SELECT EXISTS (SELECT FROM {left}){prepared}")
}

pub(super) fn statement(
    catalog: &Catalog,
    log: &WriteLog,
    tables: &[ProbedTable],
    probed: &[usize],
    sequences: &[ProbedSequence],
) -> String {
    let database = catalog.database;
    let drift = drift(catalog, log);
    let changed = "count(*) <> s.large_objects OR coalesce(bool_or(age(xmin) < s.age), false)";
    let objects = format!("(SELECT {changed} FROM pg_largeobject_metadata)");
    let objects = log.unless_blind("look objects", &objects, "false");
    let contents = match catalog.large_objects {
        0 => String::new(),
        _ => format!(" OR s.object_contents <> {OBJECT_CONTENTS}"),
    };
    let contents = log.unless_blind("look contents", &contents, "");
    let tables: Vec<_> = probed
        .iter()
        .map(|index| table_expression(&tables[*index], log))
        .collect();
    let sequences = moved(sequences, catalog.reads_sequences);
    let sequences = log.unless_blind("look sequences", &sequences, "'{}'::boolean[]");
    format!(
        "SELECT (SELECT description FROM pg_shdescription WHERE objoid = {database} AND classoid = 1262), \
                {drift}, {objects}{contents}, ARRAY[{}]::bigint[], {sequences} \
         FROM (SELECT *, age(mark::xid) AS age FROM dagz_baseline.state OFFSET 0) s",
        tables.join(", ")
    )
}

/// The first reason why the schema is not the recorded one; NULL where there is none.
fn drift(catalog: &Catalog, log: &WriteLog) -> String {
    let (noted, counts, newer) = (
        "WHEN EXISTS (SELECT FROM dagz_baseline.drift) THEN (SELECT concat_ws(' ', command, object) FROM dagz_baseline.drift LIMIT 1)",
        format!("s.catalogs IS DISTINCT FROM {}", schema::counts(log)),
        schema::newer(log),
    );
    let noted = if catalog.is_watched {
        log.unless_blind("look drift", noted, "").to_owned()
    } else {
        let counts = log.unless_blind("look counts", &counts, "false");
        let newer = log.unless_blind("look newer", &newer, "false");
        format!("WHEN {counts} OR {newer} THEN 'the catalogs differ'")
    };
    // One that was dropped and made again may be called as it was.
    let event_triggers = format!(
        "WHEN s.event_triggers <> {EVENT_TRIGGER_STATE} OR EXISTS (SELECT FROM pg_event_trigger WHERE age(xmin) < s.age) \
         THEN 'the event triggers differ'"
    );
    let event_triggers = log.unless_blind("look event_triggers", &event_triggers, "");
    let settings = format!("s.settings <> {SETTINGS_STATE}");
    let settings = log.unless_blind("look settings", &settings, "false");
    format!("CASE {noted} {event_triggers} WHEN {settings} THEN 'ALTER DATABASE … SET' END")
}

/// For each sequence, whether it stands elsewhere than it should. Where the server `reads_sequences`
/// by a function, that takes 1.5 µs each; else each is a query of its own, of 10 µs, since
/// `pg_sequence_last_value` is blind to `setval(…, false)`.
pub(in super::super) fn moved(sequences: &[ProbedSequence], reads_sequences: bool) -> String {
    if !reads_sequences || sequences.is_empty() {
        let moved: Vec<_> = sequences
            .iter()
            .map(|sequence| {
                format!(
                    "(SELECT last_value <> {} OR is_called <> {} FROM {})",
                    sequence.value, sequence.is_called, sequence.name
                )
            })
            .collect();
        return format!("ARRAY[{}]::boolean[]", moved.join(", "));
    }
    let list = |each: &dyn Fn(&ProbedSequence) -> String| {
        let all: Vec<_> = sequences.iter().map(each).collect();
        all.join(",")
    };
    // One that is gone reads as NULLs.
    format!(
        "(SELECT array_agg(coalesce((r.now).last_value <> r.value OR (r.now).is_called <> r.is_called, true) ORDER BY r.place) \
          FROM (SELECT u.*, pg_get_sequence_data(u.oid) AS now \
                FROM unnest('{{{}}}'::oid[], '{{{}}}'::bigint[], '{{{}}}'::boolean[]) \
                     WITH ORDINALITY u (oid, value, is_called, place) OFFSET 0) r)",
        list(&|sequence| sequence.oid.to_string()),
        list(&|sequence| sequence.value.to_string()),
        list(&|sequence| sequence.is_called.to_string()),
    )
}

/// The table's size if it differs from its start, else NULL.
fn table_expression(table: &ProbedTable, log: &WriteLog) -> String {
    let ProbedTable { oid, name, start } = table;
    let rows = match start {
        TableStart::Empty => {
            let is_filled = format!("EXISTS (SELECT FROM ONLY {name})");
            let is_filled = log.unless_blind("look rows", &is_filled, "false");
            return format!("CASE WHEN {is_filled} THEN pg_relation_size({oid}) END");
        }
        TableStart::Rows(rows) => rows,
    };
    let count = format!("count(*) <> {rows}");
    let count = log.unless_blind("look seed_counts", &count, "false");
    let newer = "coalesce(bool_or(age(xmin) < s.age), false)";
    // With one of the two an aggregate stays, and so one row.
    let newer = log.unless_blind("look seeds", newer, "false");
    format!("CASE WHEN (SELECT {count} OR {newer} FROM ONLY {name}) THEN 0::bigint END")
}
