//! The schema of a database as the server spells it: read, compared, and made again elsewhere.
//!
//! [`Schema::read`] asks for the definition of every object, in two round trips. `provision/clone.rs`
//! runs the definitions in another database, and `reset` compares their [fingerprint](Schema::fingerprint)
//! where a definition may have changed; `schema/counter.rs` takes counters out. dagz's own tables are none of it.

mod counter;

use mysql_async::{Conn, Row};
use sha2::{Digest, Sha256};

use self::counter::without_counter;
use crate::{
    batch::{self, Stopped, text},
    sql,
};

/// The tables by which dagz knows a database of its own.
const MARKS: [&str; 2] = [STAMP_TABLE, STATE_TABLE];

/// Whose the database is, and what it holds at the start.
pub(crate) const STAMP_TABLE: &str = "dagz_stamp";

/// Who used the database last.
pub(crate) const STATE_TABLE: &str = "dagz_state";

/// What dagz's own triggers mention, where there are any, and how their names begin; see `provision/gate.rs`.
pub(crate) const GATE_TABLE: &str = "dagz_gate";

/// What kind of object it is, in the order in which they can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Sequence,
    Table,
    /// A table that keeps former rows.
    VersionedTable,
    /// With the word that comes after `SHOW CREATE`.
    Routine(&'static str),
    View,
    Trigger,
    Event,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Sequence => "SEQUENCE",
            Self::Table | Self::VersionedTable => "TABLE",
            Self::Routine(word) => word,
            Self::View => "VIEW",
            Self::Trigger => "TRIGGER",
            Self::Event => "EVENT",
        }
    }

    pub(crate) fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::VersionedTable)
    }

    /// Where `SHOW CREATE` has the definition, and what it was made under: the `sql_mode`, the
    /// client's character set, the collation, the time zone, the default collation of the database.
    fn columns(self) -> (usize, [Option<usize>; 5]) {
        match self {
            Self::Sequence | Self::Table | Self::VersionedTable => (1, [None; 5]),
            Self::View => (1, [None, Some(2), Some(3), None, None]),
            Self::Routine(_) | Self::Trigger => (2, [Some(1), Some(3), Some(4), None, Some(5)]),
            Self::Event => (3, [Some(1), Some(4), Some(5), Some(2), Some(6)]),
        }
    }
}

/// One object, and the settings that its definition depends on.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// The statement that makes it, as the server tells it; none where the user may not see it.
    pub(crate) create: Option<String>,
    pub(crate) sql_mode: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) collation: Option<String>,
    pub(crate) time_zone: Option<String>,
    pub(crate) database_collation: Option<String>,
}

/// What code of the user's runs when a table's rows change.
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    pub(crate) table: String,
    pub(crate) is_on_insert: bool,
    pub(crate) is_on_delete: bool,
}

/// All objects of a database, in an order in which they can be made.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) database: String,
    pub(crate) charset: String,
    pub(crate) collation: String,
    /// What else the server tells of the database itself: a comment on MariaDB, whether it is read only on MySQL.
    options: String,
    pub(crate) objects: Vec<Object>,
    pub(crate) triggers: Vec<Trigger>,
    /// What dagz's own triggers are, and the table that they mention.
    gate: Vec<String>,
    /// Whether dagz's own tables are there.
    pub(crate) is_stamped: bool,
    /// The events that the server's scheduler may run.
    pub(crate) enabled_events: Vec<String>,
}

impl Schema {
    /// Reads the schema of `database`, in which the session is afterwards.
    pub(crate) async fn read(conn: &mut Conn, database: &str) -> Result<Self, mysql_async::Error> {
        let (literal, quoted) = (sql::literal(database), sql::identifier(database));
        // `@@collation_database` would be what the session saw when it chose the database.
        let names = format!(
            "USE {quoted}; SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME \
             FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal}; SHOW CREATE DATABASE {quoted}; \
             SHOW FULL TABLES; \
             SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES \
             WHERE ROUTINE_SCHEMA = {literal} ORDER BY ROUTINE_TYPE, ROUTINE_NAME; \
             SHOW TRIGGERS; SHOW EVENTS"
        );
        let results = run(conn, &names).await?;
        let mut results = results.iter().map(Vec::as_slice);
        let mut next = || results.next().unwrap_or_default();
        next();
        let is_this = |row: &&Row| text(row, 0).as_deref() == Some(database);
        let defaults = next().iter().find(is_this);
        let create = next().first().and_then(|row| text(row, 1));
        let (mut kinds, mut triggers, mut enabled_events) = (Vec::new(), Vec::new(), Vec::new());
        let (mut marks, mut gate) = (0, Vec::new());
        for row in next() {
            let (name, kind) = (text(row, 0).unwrap_or_default(), text(row, 1));
            let kind = match kind.as_deref() {
                Some("VIEW") => Kind::View,
                Some("SEQUENCE") => Kind::Sequence,
                // A session's own, and none of the database's.
                Some(kind) if kind.starts_with("TEMPORARY") => continue,
                _ => Kind::Table,
            };
            if MARKS.contains(&&*name) {
                marks += 1;
            } else if name == GATE_TABLE {
                gate.push(name);
            } else {
                kinds.push((kind, name));
            }
        }
        for row in next() {
            // The server compares names of databases without minding capitals here.
            if text(row, 0).as_deref() == Some(database) {
                let word = match text(row, 2).as_deref() {
                    Some("PROCEDURE") => "PROCEDURE",
                    Some("PACKAGE") => "PACKAGE",
                    Some("PACKAGE BODY") => "PACKAGE BODY",
                    _ => "FUNCTION",
                };
                kinds.push((Kind::Routine(word), text(row, 1).unwrap_or_default()));
            }
        }
        for row in next() {
            let name = text(row, 0).unwrap_or_default();
            if name.starts_with(GATE_TABLE) {
                gate.push(shown(row));
                continue;
            }
            let event = text(row, 1).unwrap_or_default();
            triggers.push(Trigger {
                table: text(row, 2).unwrap_or_default(),
                is_on_insert: event.contains("INSERT"),
                is_on_delete: event.contains("DELETE"),
            });
            kinds.push((Kind::Trigger, name));
        }
        for row in next() {
            let name = text(row, 1).unwrap_or_default();
            if named(row, "Status").as_deref() == Some("ENABLED") {
                enabled_events.push(name.clone());
            }
            kinds.push((Kind::Event, name));
        }
        gate.sort_unstable();
        // Stable: the triggers of one table stay in the order in which they fire.
        kinds.sort_by_key(|(kind, _)| *kind);
        let of = |index| {
            defaults
                .and_then(|row| text(row, index))
                .unwrap_or_default()
        };
        let (charset, collation) = (of(1), of(2));
        Ok(Self {
            database: database.to_owned(),
            charset,
            collation,
            options: create.map_or_else(String::new, |create| options(&create)),
            objects: definitions(conn, kinds).await?,
            triggers,
            gate,
            is_stamped: marks == MARKS.len(),
            enabled_events,
        })
    }

    pub(crate) fn of_kind(&self, wanted: impl Fn(Kind) -> bool) -> impl Iterator<Item = &Object> {
        self.objects
            .iter()
            .filter(move |object| wanted(object.kind))
    }

    /// The names of dagz's own triggers.
    pub(crate) fn gate_triggers(&self) -> impl Iterator<Item = &str> {
        let names = self
            .gate
            .iter()
            .filter_map(|shown| shown.split('\0').next());
        names.filter(|name| *name != GATE_TABLE)
    }

    /// The same for two databases whose objects are defined alike, wherever their counters stand; but for those of the
    /// kind that is to be `blind` to.
    pub(crate) fn fingerprint(&self, blind: Option<&str>) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        if blind != Some("DATABASE") {
            for part in [&self.charset, &self.collation, &self.options] {
                add(part);
            }
        }
        let objects = self.objects.iter();
        for object in objects.filter(|object| blind != Some(object.kind.word())) {
            let Object {
                kind,
                name,
                sql_mode,
                client,
                collation,
                time_zone,
                database_collation,
                ..
            } = object;
            add(kind.word());
            add(name);
            add(&self.definition(object).unwrap_or_default());
            if blind != Some("settings") {
                for setting in [sql_mode, client, collation, time_zone, database_collation] {
                    add(setting.as_deref().unwrap_or_default());
                }
            }
        }
        if blind != Some("gate") {
            self.gate.iter().for_each(|part| add(part));
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The statement that makes `object`, without its counter and the name of this database: the
    /// server qualifies the sequences and functions that others use, as it does nothing else.
    pub(crate) fn definition(&self, object: &Object) -> Option<String> {
        let create = self.definition_with_counter(object)?;
        Some(match object.kind.is_table() {
            true => without_counter(&create).0,
            false => create,
        })
    }

    /// [`definition`](Self::definition), and for a table where its counter stands.
    pub(crate) fn definition_with_counter(&self, object: &Object) -> Option<String> {
        let mut create = object.create.clone()?;
        let qualifies = |kind| matches!(kind, Kind::Sequence | Kind::Routine(_));
        for other in self.of_kind(qualifies) {
            create = create.replace(
                &sql::qualified(&self.database, &other.name),
                &sql::identifier(&other.name),
            );
        }
        Some(create)
    }

    /// The words that give another database the comment of this one, which MariaDB knows and MySQL does not.
    pub(crate) fn comment(&self) -> Option<&str> {
        let options = Some(&*self.options);
        options.filter(|options| options.starts_with("COMMENT "))
    }

    /// Where the counter of `table` stands; `None` where it has none or never used it.
    pub(crate) fn counter(&self, table: &Object) -> Option<u64> {
        without_counter(table.create.as_deref()?).1
    }
}

/// What the statement that makes a database says after its name and its character set.
fn options(create: &str) -> String {
    let end = create.find(" */").map_or(create.len(), |at| at + 3);
    create[end..].trim().to_owned()
}

/// The definitions of the objects of these names.
async fn definitions(
    conn: &mut Conn,
    kinds: Vec<(Kind, String)>,
) -> Result<Vec<Object>, mysql_async::Error> {
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let statements: Vec<_> = kinds
        .iter()
        .map(|(kind, name)| format!("SHOW CREATE {} {}", kind.word(), sql::identifier(name)))
        .collect();
    let results = run(conn, &statements.join(";")).await?;
    Ok(kinds
        .into_iter()
        .zip(results)
        .map(|((kind, name), rows)| {
            let (create, settings) = kind.columns();
            let row = rows.first();
            let at = |index| row.and_then(|row| text(row, index));
            let [sql_mode, client, collation, time_zone, database_collation] =
                settings.map(|column| column.and_then(at));
            let create = at(create);
            // Nothing else that is shown to everybody tells.
            let is_versioned = kind == Kind::Table
                && create.as_deref().is_some_and(|create| {
                    let options = create.rfind("\n) ").unwrap_or(create.len());
                    create[options..].contains(" WITH SYSTEM VERSIONING")
                });
            Object {
                kind: if is_versioned {
                    Kind::VersionedTable
                } else {
                    kind
                },
                name,
                create,
                sql_mode,
                client,
                collation,
                time_zone,
                database_collation,
            }
        })
        .collect())
}

async fn run(conn: &mut Conn, text: &str) -> Result<Vec<Vec<Row>>, mysql_async::Error> {
    match batch::run(conn, text).await {
        Ok(outcomes) => Ok(outcomes.into_iter().map(|outcome| outcome.rows).collect()),
        Err(Stopped { error, .. }) => Err(error),
    }
}

/// All that is shown of a trigger, but for when it was made.
fn shown(row: &Row) -> String {
    let columns = row.columns_ref().iter().enumerate();
    let told = columns.filter(|(_, column)| column.name_str() != "Created");
    let values = told.map(|(index, _)| text(row, index).unwrap_or_default());
    values.collect::<Vec<_>>().join("\0")
}

fn named(row: &Row, name: &str) -> Option<String> {
    let index = row
        .columns_ref()
        .iter()
        .position(|column| column.name_str() == name)?;
    text(row, index)
}
