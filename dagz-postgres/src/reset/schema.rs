//! Whether the schema changed, where no event trigger tells: a role that is no superuser may create none.
//!
//! What describes a schema are rows of catalogs. An object that is new or was altered has rows that are newer than the
//! mark ([`newer`]), one that was dropped leaves fewer than there were ([`counts`]); `reset/baseline.rs` records how
//! many there are, and `reset/probe.rs` asks.

use super::log::WriteLog;

/// The catalogs, temporary objects aside. Each tells of some change that no other does, such as of another label of an
/// enum. Those that are not here only a superuser can change, or change with these, as defaults do with their columns.
const CATALOGS: [(&str, &str); 27] = [
    ("pg_class", "pg_class a WHERE a.relpersistence <> 't'"),
    (
        "pg_attribute",
        "pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relpersistence <> 't'",
    ),
    (
        "pg_namespace",
        "pg_namespace a WHERE a.nspname NOT LIKE 'pg\\_%temp\\_%'",
    ),
    ("pg_proc", "pg_proc a WHERE true"),
    (
        "pg_constraint",
        "pg_constraint a LEFT JOIN pg_class c ON c.oid = a.conrelid WHERE c.relpersistence IS DISTINCT FROM 't'",
    ),
    (
        "pg_index",
        "pg_index a JOIN pg_class c ON c.oid = a.indrelid WHERE c.relpersistence <> 't'",
    ),
    (
        "pg_trigger",
        "pg_trigger a JOIN pg_class c ON c.oid = a.tgrelid WHERE c.relpersistence <> 't'",
    ),
    (
        "pg_rewrite",
        "pg_rewrite a JOIN pg_class c ON c.oid = a.ev_class WHERE c.relpersistence <> 't'",
    ),
    (
        "pg_policy",
        "pg_policy a JOIN pg_class c ON c.oid = a.polrelid WHERE c.relpersistence <> 't'",
    ),
    (
        "pg_sequence",
        "pg_sequence a JOIN pg_class c ON c.oid = a.seqrelid WHERE c.relpersistence <> 't'",
    ),
    (
        "pg_inherits",
        "pg_inherits a JOIN pg_class c ON c.oid = a.inhrelid WHERE c.relpersistence <> 't'",
    ),
    (
        "pg_type",
        "pg_type a JOIN pg_namespace n ON n.oid = a.typnamespace WHERE n.nspname NOT LIKE 'pg\\_%temp\\_%'",
    ),
    ("pg_enum", "pg_enum a WHERE true"),
    ("pg_extension", "pg_extension a WHERE true"),
    ("pg_description", "pg_description a WHERE true"),
    ("pg_default_acl", "pg_default_acl a WHERE true"),
    ("pg_publication", "pg_publication a WHERE true"),
    ("pg_publication_rel", "pg_publication_rel a WHERE true"),
    ("pg_cast", "pg_cast a WHERE true"),
    ("pg_operator", "pg_operator a WHERE true"),
    ("pg_collation", "pg_collation a WHERE true"),
    ("pg_conversion", "pg_conversion a WHERE true"),
    ("pg_ts_config", "pg_ts_config a WHERE true"),
    ("pg_ts_config_map", "pg_ts_config_map a WHERE true"),
    ("pg_ts_dict", "pg_ts_dict a WHERE true"),
    ("pg_statistic_ext", "pg_statistic_ext a WHERE true"),
    ("pg_foreign_server", "pg_foreign_server a WHERE true"),
];

fn catalogs(log: &WriteLog) -> impl Iterator<Item = &'static str> {
    let blind = log.blind;
    CATALOGS
        .iter()
        .filter(move |(name, _)| blind != Some(*name))
        .map(|(_, rows)| *rows)
}

/// How many rows each of them has, as a text.
pub(super) fn counts(log: &WriteLog) -> String {
    let counts: Vec<_> = catalogs(log)
        .map(|rows| format!("(SELECT count(*) FROM {rows})"))
        .collect();
    format!("(SELECT concat_ws(' ', {}))", counts.join(", "))
}

/// Whether one of them has a row that is newer than the mark, whose age is in `s.age`.
pub(super) fn newer(log: &WriteLog) -> String {
    let newer: Vec<_> = catalogs(log)
        .map(|rows| format!("EXISTS (SELECT FROM {rows} AND age(a.xmin) < s.age)"))
        .collect();
    format!("({})", newer.join(" OR "))
}
