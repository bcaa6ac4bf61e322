//! The stamp: the mark, on the server, that a database was made by dagz, and for which project.
//!
//! It is the database's comment, as JSON; comments are not cloned with a template, nor do they
//! survive a rename or a restore unnoticed, since the name and the oid are part of them. Before
//! the comment can be written, a *birth mark* tells that dagz was making the database: a
//! connection limit derived from project and name, set by `CREATE DATABASE` itself. Nothing is
//! reset or dropped unless [`owner`] says that it is [`Owner::Ours`] or [`Owner::HalfMade`].

use std::time::{SystemTime, UNIX_EPOCH};

use dagz_core::{Error, ErrorKind, Target};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::admin::Row;

/// The connection limit by which Postgres marks what an interrupted `DROP DATABASE` has left.
pub(super) const DROPPED_HALF: i32 = -2;

/// The version of the stamp's format.
const FORMAT: u32 = 1;

/// What a stamped database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Template,
    Worker,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The format.
    dagz: u32,
    pub(crate) project: String,
    pub(crate) job: String,
    pub(crate) worker: u32,
    pub(crate) base: String,
    name: String,
    oid: u32,
    pub(crate) fingerprint: String,
    pub(crate) role: Role,
    pub(crate) ready: bool,
    /// Seconds since the epoch.
    pub(crate) made: u64,
}

impl Stamp {
    /// The stamp of a complete database that was made for `target`'s job; `row` is its own.
    pub(crate) fn new(target: &Target, role: Role, row: &Row, fingerprint: &str) -> Self {
        Self {
            dagz: FORMAT,
            project: target.project().to_owned(),
            job: target.job().to_owned(),
            worker: target.worker().number(),
            base: target.base().to_owned(),
            name: target.name().to_owned(),
            oid: row.oid,
            fingerprint: fingerprint.to_owned(),
            role,
            ready: true,
            made: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
        }
    }

    /// The same stamp for a database of another name: a template's is not the target's.
    #[must_use]
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Whose a database is, as far as the server can prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Made, or adopted, by dagz for this project.
    Ours(Box<Stamp>),
    /// Made by dagz for this project, which did not come to the end of it.
    HalfMade,
    /// What is left of a drop that was interrupted: nobody can connect to it any more, and all
    /// that Postgres can do with it is to drop it.
    HalfDropped,
    /// Made by dagz for another project.
    Foreign(String),
    /// Carries the stamp of another database: it was renamed, or restored from a dump.
    Moved(String),
    /// Carries a stamp of a later dagz.
    Later(u32),
    /// Nothing says that dagz made it.
    Unstamped,
}

/// Whose the database `name` is, described by `row`, in the eyes of `project`.
pub(crate) fn owner(project: &str, name: &str, row: &Row) -> Owner {
    match row.comment.as_deref().and_then(parse) {
        Some(Parsed::Later(format)) => Owner::Later(format),
        Some(Parsed::Stamp(stamp)) if stamp.project != project => Owner::Foreign(stamp.project),
        Some(Parsed::Stamp(stamp)) if stamp.name != name || stamp.oid != row.oid => {
            Owner::Moved(stamp.name)
        }
        Some(Parsed::Stamp(stamp)) => Owner::Ours(stamp),
        None if row.connection_limit == DROPPED_HALF => Owner::HalfDropped,
        None if row.comment.is_none() && row.connection_limit == birth_mark(project, name) => {
            Owner::HalfMade
        }
        None => Owner::Unstamped,
    }
}

enum Parsed {
    Stamp(Box<Stamp>),
    Later(u32),
}

fn parse(comment: &str) -> Option<Parsed> {
    #[derive(Deserialize)]
    struct Format {
        dagz: u32,
    }
    let Format { dagz } = serde_json::from_str(comment).ok()?;
    if dagz > FORMAT {
        return Some(Parsed::Later(dagz));
    }
    serde_json::from_str(comment).ok().map(Parsed::Stamp)
}

/// The connection limit that a database is born with: above any real limit, below the type's end.
pub(crate) fn birth_mark(project: &str, name: &str) -> i32 {
    let hash = Sha256::new()
        .chain_update("dagz birth mark\n")
        .chain_update(project)
        .chain_update("\n")
        .chain_update(name)
        .finalize();
    let number = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    1_000_000_000 + i32::try_from(number % 1_000_000_000).unwrap_or_default()
}

impl Owner {
    /// Whether dagz may reset it, or drop it to make it anew.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_) | Self::HalfMade | Self::HalfDropped)
    }

    /// The error for not doing `what` to database `name`.
    pub(crate) fn refusal(&self, what: &str, name: &str) -> Error {
        let why = match self {
            Self::Ours(_) | Self::HalfMade | Self::HalfDropped => "it is not complete; run the test again".to_owned(),
            Self::Foreign(project) => format!(
                "it belongs to dagz project `{project}`; set `DAGZ_PROJECT` to that if it is this very project, or use another server or base name"
            ),
            Self::Moved(stamped) => format!(
                "its stamp is that of `{stamped}`: it was renamed or restored; drop it, or adopt it by `dagz::postgres::adopt` in `worker_init`"
            ),
            Self::Later(format) => format!(
                "its stamp has format {format}, of a later dagz than this one; update dagz, or drop the database"
            ),
            Self::Unstamped => "dagz did not create it; drop it, or adopt it by `dagz::postgres::adopt` in `worker_init`".to_owned(),
        };
        Error::new(
            ErrorKind::Refused,
            format!("refusing to {what} `{name}`: {why}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(comment: Option<&str>, connection_limit: i32) -> Row {
        Row {
            oid: 7,
            comment: comment.map(str::to_owned),
            connection_limit,
        }
    }

    fn stamp(project: &str, name: &str, oid: u32) -> String {
        format!(
            r#"{{"dagz":1,"project":"{project}","job":"j1","worker":3,"base":"shop","name":"{name}","oid":{oid},"fingerprint":"f","role":"worker","ready":true,"made":1}}"#
        )
    }

    #[test]
    fn only_a_stamp_of_this_very_database_counts() {
        let check = |comment: Option<&str>, limit, expected: fn(&Owner) -> bool| {
            let owner = owner("shop-1", "shop_jw03", &row(comment, limit));
            assert!(expected(&owner), "{comment:?} {limit}: {owner:?}");
        };
        let ours = stamp("shop-1", "shop_jw03", 7);
        check(Some(&ours), -1, |o| matches!(o, Owner::Ours(s) if s.ready));
        check(
            Some(&stamp("shop-2", "shop_jw03", 7)),
            -1,
            |o| matches!(o, Owner::Foreign(p) if p == "shop-2"),
        );
        check(
            Some(&stamp("shop-1", "shop_jw04", 7)),
            -1,
            |o| matches!(o, Owner::Moved(n) if n == "shop_jw04"),
        );
        check(Some(&stamp("shop-1", "shop_jw03", 8)), -1, |o| {
            matches!(o, Owner::Moved(_))
        });
        check(Some(r#"{"dagz":2,"else":1}"#), -1, |o| {
            matches!(o, Owner::Later(2))
        });
        let mark = birth_mark("shop-1", "shop_jw03");
        check(None, mark, |o| matches!(o, Owner::HalfMade));
        check(None, DROPPED_HALF, |o| matches!(o, Owner::HalfDropped));
        check(Some(&ours), DROPPED_HALF, |o| matches!(o, Owner::Ours(_)));
        check(None, -1, |o| matches!(o, Owner::Unstamped));
        check(None, mark + 1, |o| matches!(o, Owner::Unstamped));
        check(Some("my own words"), mark, |o| {
            matches!(o, Owner::Unstamped)
        });
        check(Some(r#"{"dagz":1}"#), mark, |o| {
            matches!(o, Owner::Unstamped)
        });
    }

    #[test]
    fn birth_marks_differ_by_project_and_name() {
        let mark = birth_mark("a", "b");
        assert!((1_000_000_000..2_000_000_000).contains(&mark));
        assert_ne!(mark, birth_mark("a", "c"));
        assert_ne!(mark, birth_mark("c", "b"));
    }
}
