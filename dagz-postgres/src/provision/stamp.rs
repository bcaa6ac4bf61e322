//! The stamp: the mark, on the server, that a database was made by dagz, and for which project.
//!
//! It is the database's comment, as the core's JSON; comments are not cloned with a template, nor do they
//! survive a rename or a restore unnoticed, since the name and the oid are part of them. Before
//! the comment can be written, a *birth mark* tells that dagz was making the database: a
//! connection limit derived from project and name, set by `CREATE DATABASE` itself. Nothing is
//! reset or dropped unless [`owner`] says that it is [`Owner::Ours`] or [`Owner::HalfMade`].

use dagz_core::{
    Target,
    driver::{self, Role},
};
use serde::{Deserialize, Serialize};

use super::admin::Row;

/// The connection limit by which Postgres marks what an interrupted `DROP DATABASE` has left.
pub(super) const DROPPED_HALF: i32 = -2;

/// What a copy of a database does not have in common with it, beside the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Oid {
    oid: u32,
}

pub(crate) type Stamp = driver::Stamp<Oid>;
pub(crate) type Owner = driver::Owner<Oid>;

/// The stamp of a complete database that was made for `target`'s job; `row` is its own.
pub(super) fn stamp(target: &Target, role: Role, row: &Row, fingerprint: &str) -> Stamp {
    Stamp::new(target, role, fingerprint, Oid { oid: row.oid }).complete()
}

/// Whose the database `name` is, described by `row`, in the eyes of `project`.
///
/// What is left of a drop that was interrupted counts as half made, though it is not whole: nobody can connect to
/// it any more, and all that Postgres can do with it is to drop it.
pub(crate) fn owner(project: &str, name: &str, row: &Row) -> Owner {
    let comment = row.comment.as_deref();
    let is_its_own = |stamp: &Stamp| stamp.name == name && stamp.more.oid == row.oid;
    match comment.and_then(|text| Owner::of(project, text, is_its_own)) {
        Some(owner) => owner,
        None if row.connection_limit == DROPPED_HALF => Owner::HalfMade,
        None if comment.is_none() && row.connection_limit == birth_mark(project, name) => {
            Owner::HalfMade
        }
        None => Owner::Unstamped,
    }
}

/// The connection limit that a database is born with: above any real limit, below the type's end.
pub(super) fn birth_mark(project: &str, name: &str) -> i32 {
    let number = driver::birth_number(project, name) % 1_000_000_000;
    1_000_000_000 + i32::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_stamp_is_known_by_its_connection_limit() {
        let ours = r#"{"dagz":1,"project":"shop-1","job":"j1","worker":3,"base":"shop","name":"shop_jw03","oid":7,"fingerprint":"f","role":"worker","ready":true,"made":1}"#;
        let check = |comment: Option<&str>, connection_limit, expected: fn(&Owner) -> bool| {
            let row = Row {
                oid: 7,
                comment: comment.map(str::to_owned),
                connection_limit,
            };
            let owner = owner("shop-1", "shop_jw03", &row);
            assert!(expected(&owner), "{row:?}: {owner:?}");
        };
        check(Some(ours), -1, |o| matches!(o, Owner::Ours(_)));
        check(Some(ours), DROPPED_HALF, |o| matches!(o, Owner::Ours(_)));
        check(Some(&ours.replace(":7", ":8")), -1, |o| {
            matches!(o, Owner::Moved(_))
        });
        let mark = birth_mark("shop-1", "shop_jw03");
        assert!((1_000_000_000..2_000_000_000).contains(&mark));
        check(None, mark, |o| matches!(o, Owner::HalfMade));
        check(None, DROPPED_HALF, |o| matches!(o, Owner::HalfMade));
        check(None, -1, |o| matches!(o, Owner::Unstamped));
        for others in [("shop-2", "shop_jw03"), ("shop-1", "shop_jw04")] {
            let mark = birth_mark(others.0, others.1);
            check(None, mark, |o| matches!(o, Owner::Unstamped));
        }
        check(Some("my own words"), mark, |o| {
            matches!(o, Owner::Unstamped)
        });
    }
}
