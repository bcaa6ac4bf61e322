//! The stamp: the mark, on the server, that a database was made by dagz, and for which project.
//!
//! It is JSON in a table of its own inside the database, `dagz_stamp`, since MySQL has no comments
//! on databases. The name is part of it, so that a copy under another name is noticed. Before the
//! table can be made, a *birth mark* tells that dagz was making the database: a collation that nobody
//! wants, given to it by `CREATE DATABASE` itself, as long as there is nothing in it. Nothing is
//! reset or dropped unless [`owner`] says that it is [`Owner::Ours`] or [`Owner::HalfMade`].

use std::time::{SystemTime, UNIX_EPOCH};

use dagz_core::{Error, ErrorKind, Target};
use serde::{Deserialize, Serialize};

/// The version of the stamp's format.
const FORMAT: u32 = 1;

/// The character set and the collation that a database is born with.
pub(super) const BIRTH_MARK: (&str, &str) = ("utf8mb4", "utf8mb4_esperanto_ci");

/// What the server says of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The stamp's text, if there is a stamp.
    pub(crate) stamp: Option<String>,
    pub(crate) collation: String,
    /// Whether there is nothing in it at all.
    pub(crate) is_empty: bool,
}

/// What a stamped database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Template,
    Worker,
    /// Holds the rows that an adopted database starts with.
    Rows,
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
    pub(crate) fingerprint: String,
    pub(crate) role: Role,
    pub(crate) ready: bool,
    /// Seconds since the epoch.
    pub(crate) made: u64,
}

impl Stamp {
    /// The stamp of a database that is being made for `target`'s job.
    pub(crate) fn new(target: &Target, role: Role, fingerprint: &str) -> Self {
        Self {
            dagz: FORMAT,
            project: target.project().to_owned(),
            job: target.job().to_owned(),
            worker: target.worker().number(),
            base: target.base().to_owned(),
            name: target.name().to_owned(),
            fingerprint: fingerprint.to_owned(),
            role,
            ready: false,
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

    /// The same stamp for a database that is complete.
    #[must_use]
    pub(crate) fn complete(mut self) -> Self {
        self.ready = true;
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
    /// Made by dagz for another project.
    Foreign(String),
    /// Carries the stamp of another database: it was restored from a dump, or its files copied.
    Moved(String),
    /// Carries a stamp of a later dagz.
    Later(u32),
    /// Nothing says that dagz made it.
    Unstamped,
}

/// Whose the database `name` is, described by `row`, in the eyes of `project`.
pub(crate) fn owner(project: &str, name: &str, row: &Row) -> Owner {
    match row.stamp.as_deref().and_then(parse) {
        Some(Parsed::Later(format)) => Owner::Later(format),
        Some(Parsed::Stamp(stamp)) if stamp.project != project => Owner::Foreign(stamp.project),
        Some(Parsed::Stamp(stamp)) if stamp.name != name => Owner::Moved(stamp.name),
        Some(Parsed::Stamp(stamp)) if stamp.ready => Owner::Ours(stamp),
        Some(Parsed::Stamp(_)) => Owner::HalfMade,
        None if row.is_empty && row.collation == BIRTH_MARK.1 => Owner::HalfMade,
        None => Owner::Unstamped,
    }
}

enum Parsed {
    Stamp(Box<Stamp>),
    Later(u32),
}

fn parse(text: &str) -> Option<Parsed> {
    #[derive(Deserialize)]
    struct Format {
        dagz: u32,
    }
    let Format { dagz } = serde_json::from_str(text).ok()?;
    if dagz > FORMAT {
        return Some(Parsed::Later(dagz));
    }
    serde_json::from_str(text).ok().map(Parsed::Stamp)
}

impl Owner {
    /// Whether dagz may reset it, or drop it to make it anew.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_) | Self::HalfMade)
    }

    /// The error for not doing `what` to database `name`.
    pub(crate) fn refusal(&self, what: &str, name: &str) -> Error {
        let why = match self {
            Self::Ours(_) | Self::HalfMade => "it is not complete; run the test again".to_owned(),
            Self::Foreign(project) => format!(
                "it belongs to dagz project `{project}`; set `DAGZ_PROJECT` to that if it is this very project, or use another server or base name"
            ),
            Self::Moved(stamped) => format!(
                "its stamp is that of `{stamped}`: it was copied or restored; drop it, or adopt it by `dagz::mysql::adopt` in `worker_init`"
            ),
            Self::Later(format) => format!(
                "its stamp has format {format}, of a later dagz than this one; update dagz, or drop the database"
            ),
            Self::Unstamped => "dagz did not create it; drop it, or adopt it by `dagz::mysql::adopt` in `worker_init`".to_owned(),
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

    fn stamp(project: &str, name: &str, ready: bool) -> String {
        format!(
            r#"{{"dagz":1,"project":"{project}","job":"j1","worker":3,"base":"shop","name":"{name}","fingerprint":"f","role":"worker","ready":{ready},"made":1}}"#
        )
    }

    #[test]
    fn only_a_stamp_of_this_very_database_counts() {
        let check =
            |stamp: Option<&str>, collation: &str, is_empty, expected: fn(&Owner) -> bool| {
                let row = Row {
                    stamp: stamp.map(str::to_owned),
                    collation: collation.to_owned(),
                    is_empty,
                };
                let owner = owner("shop-1", "shop_jw03", &row);
                assert!(
                    expected(&owner),
                    "{stamp:?} {collation} {is_empty}: {owner:?}"
                );
            };
        let plain = "utf8mb4_general_ci";
        let mark = BIRTH_MARK.1;
        let ours = stamp("shop-1", "shop_jw03", true);
        check(Some(&ours), plain, false, |o| matches!(o, Owner::Ours(_)));
        check(
            Some(&stamp("shop-1", "shop_jw03", false)),
            plain,
            false,
            |o| matches!(o, Owner::HalfMade),
        );
        check(
            Some(&stamp("shop-2", "shop_jw03", true)),
            plain,
            false,
            |o| matches!(o, Owner::Foreign(p) if p == "shop-2"),
        );
        check(
            Some(&stamp("shop-1", "shop_jw04", true)),
            plain,
            false,
            |o| matches!(o, Owner::Moved(n) if n == "shop_jw04"),
        );
        check(Some(r#"{"dagz":2,"else":1}"#), mark, true, |o| {
            matches!(o, Owner::Later(2))
        });
        check(None, mark, true, |o| matches!(o, Owner::HalfMade));
        check(None, mark, false, |o| matches!(o, Owner::Unstamped));
        check(None, plain, true, |o| matches!(o, Owner::Unstamped));
        check(Some(r#"{"dagz":1}"#), plain, false, |o| {
            matches!(o, Owner::Unstamped)
        });
    }
}
