//! A keyspace's definition, as the server describes it: read, told apart from another, and copied.
//!
//! [`Schema::read`] asks `DESCRIBE KEYSPACE`, which answers with statements in the order of their dependencies,
//! and the system's tables for what a reset must know of each [`Table`]. That answer is of one moment; the tables
//! may be of another, where a keyspace is being made or dropped. So whose a keyspace is stands in the answer alone.

use scylla::client::session::Session;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    cql,
    error::Native,
    server::{ask, rows},
};

/// The table, in each of dagz's keyspaces, whose comment is the stamp, and whose rows are the start state.
pub(crate) const STAMP_TABLE: &str = "dagz_stamp";

/// One statement of a definition.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) statement: String,
}

/// A table, as far as a reset must know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// The columns of the partition key, in order.
    pub(crate) keys: Vec<String>,
    pub(crate) clustering: Vec<String>,
    /// The columns that are a partition's, and not a row's.
    pub(crate) statics: Vec<String>,
    /// The columns that have a time to live, static ones too,
    pub(crate) regular: Vec<String>,
    /// and those of whose elements each has one.
    pub(crate) collections: Vec<String>,
    pub(crate) is_counter: bool,
    /// The materialised views that follow it.
    pub(crate) views: Vec<String>,
}

/// What is in a keyspace, but for dagz's own table.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) keyspace: String,
    pub(crate) objects: Vec<Object>,
    pub(crate) tables: Vec<Table>,
    /// The columns that tables had once. What is written to one that is there again may be hidden, and it cannot be
    /// there again with another type.
    pub(crate) dropped: Vec<String>,
    /// What the comment of dagz's table says; none without such a table.
    pub(crate) stamp: Option<String>,
}

impl Schema {
    /// Reads the definition of `keyspace`; none where there is no such keyspace.
    pub(crate) async fn read(session: &Session, keyspace: &str) -> Result<Option<Self>, Native> {
        let named = cql::literal(keyspace);
        let describe = format!("DESCRIBE KEYSPACE {}", cql::identifier(keyspace));
        let columns = format!(
            "SELECT table_name, column_name, kind, position, type FROM system_schema.columns WHERE keyspace_name = {named}"
        );
        let views = format!(
            "SELECT view_name, base_table_name FROM system_schema.views WHERE keyspace_name = {named}"
        );
        let dropped = format!(
            "SELECT JSON table_name, column_name, dropped_time, kind, type FROM system_schema.dropped_columns WHERE keyspace_name = {named}"
        );
        let (described, columns, views, dropped) = futures_util::join!(
            ask(session, describe),
            ask(session, columns),
            ask(session, views),
            ask(session, dropped)
        );
        let described = match described {
            Err(error) if error.is_missing() => return Ok(None),
            described => rows::<(String, String, String, String)>(described?)?,
        };
        let (stamps, objects): (Vec<_>, Vec<_>) = described
            .into_iter()
            .map(|(_, kind, name, statement)| Object {
                kind,
                name,
                statement,
            })
            .partition(|object| object.kind == "table" && object.name == STAMP_TABLE);
        let views: Vec<(String, String)> = rows(views?)?;
        let dropped: Vec<(String,)> = rows(dropped?)?;
        Ok(Some(Self {
            keyspace: keyspace.to_owned(),
            objects,
            tables: tables(rows(columns?)?, &views),
            dropped: dropped.into_iter().map(|(text,)| text).collect(),
            stamp: stamps
                .first()
                .map(|stamp| cql::comment(&stamp.statement).unwrap_or_default()),
        }))
    }

    /// The same without what is of such a kind, so that tests can see that something depends on it.
    pub(crate) fn without(mut self, blind: Option<&'static str>) -> Self {
        if let Some(kind) = blind {
            self.objects.retain(|object| object.kind != kind);
            if kind == "dropped" {
                self.dropped.clear();
            }
        }
        self
    }

    /// Whether there is nothing in it but the keyspace itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.stamp.is_none() && self.objects.iter().all(|object| object.kind == "keyspace")
    }

    /// What tells this definition from others of the same keyspace.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let statements = self.objects.iter().map(|object| &object.statement);
        for text in statements.chain(&self.dropped) {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
        dagz_core::migrations::hexadecimal(&hash.finalize())
    }

    /// The options with which the keyspace was made: `replication = {…} AND …`.
    pub(crate) fn options(&self) -> Option<&str> {
        let keyspace = self
            .objects
            .iter()
            .find(|object| object.kind == "keyspace")?;
        let (_, options) = keyspace.statement.split_once(" WITH ")?;
        Some(options.trim().trim_end_matches(';'))
    }

    /// The statements that make the same in the keyspace `to`, which exists.
    pub(crate) fn statements_for<'a>(&'a self, to: &'a str) -> impl Iterator<Item = String> + 'a {
        self.objects
            .iter()
            .filter(|object| object.kind != "keyspace")
            .map(move |object| {
                let statement = object.statement.trim().trim_end_matches(';');
                cql::moved(statement, &self.keyspace, to)
            })
    }

    /// The statements that drop what this has more than the definition whose statements are `known`, or
    /// none where something else differs, or cannot be dropped by its name.
    pub(crate) fn extras(&self, known: &[String]) -> Option<Vec<String>> {
        let extra = |object: &&Object| !known.contains(&digest(&object.statement));
        let extras: Vec<_> = self.objects.iter().filter(extra).collect();
        if self.objects.len() - extras.len() != known.len() {
            return None;
        }
        let drops = extras.into_iter().rev().map(|object| {
            let kind = match &*object.kind {
                "table" => "TABLE",
                "type" => "TYPE",
                "index" => "INDEX",
                "materialized_view" => "MATERIALIZED VIEW",
                _ => return None,
            };
            // Described names are quoted where they must be.
            let keyspace = cql::identifier(&self.keyspace);
            Some(format!("DROP {kind} IF EXISTS {keyspace}.{}", object.name))
        });
        drops.collect()
    }

    /// What [`extras`](Self::extras) knows a definition by.
    pub(crate) fn digests(&self) -> Vec<String> {
        self.objects
            .iter()
            .map(|object| digest(&object.statement))
            .collect()
    }
}

fn digest(statement: &str) -> String {
    dagz_core::name::short_hash(statement)
}

type Column = (String, String, String, i32, String);

fn tables(columns: Vec<Column>, views: &[(String, String)]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut columns = columns;
    columns.sort_by(|left, right| (&left.0, left.3).cmp(&(&right.0, right.3)));
    for (table, column, kind, _, of_type) in columns {
        let is_view = views.iter().any(|(view, _)| *view == table);
        if table == STAMP_TABLE || is_view {
            continue;
        }
        if tables.last().is_none_or(|last| last.name != table) {
            let of_table = views.iter().filter(|(_, base)| *base == table);
            tables.push(Table {
                views: of_table.map(|(view, _)| view.clone()).collect(),
                name: table,
                ..Table::default()
            });
        }
        let Some(last) = tables.last_mut() else {
            continue;
        };
        last.is_counter |= of_type == "counter";
        if kind == "static" {
            last.statics.push(column.clone());
        }
        match &*kind {
            "partition_key" => last.keys.push(column),
            "clustering" => last.clustering.push(column),
            _ if is_collection(&of_type) => last.collections.push(column),
            _ => last.regular.push(column),
        }
    }
    tables
}

/// Whether a column of this type is written element by element: a collection, or a user's type, that is not
/// frozen.
fn is_collection(of_type: &str) -> bool {
    const NATIVE: [&str; 21] = [
        "ascii",
        "bigint",
        "blob",
        "boolean",
        "counter",
        "date",
        "decimal",
        "double",
        "duration",
        "float",
        "inet",
        "int",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timeuuid",
        "tinyint",
        "uuid",
        "varchar",
        "varint",
    ];
    let is_whole = ["frozen<", "tuple<", "vector<", "'"]
        .iter()
        .any(|start| of_type.starts_with(start));
    !is_whole && !NATIVE.contains(&of_type)
}
