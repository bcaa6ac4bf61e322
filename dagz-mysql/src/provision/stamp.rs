//! The stamp: the mark, on the server, that a database was made by dagz, and for which project.
//!
//! It is the core's JSON in a table of its own inside the database, `dagz_stamp`, since MySQL has no comments
//! on databases. The name is part of it, so that a copy under another name is noticed. Before the
//! table can be made, a *birth mark* tells that dagz was making the database: a collation that nobody
//! wants, chosen by project and name and given to it by `CREATE DATABASE` itself, as long as there is nothing
//! in it. Nothing is reset or dropped unless [`owner`] says that it is [`Owner::Ours`] or
//! [`Owner::HalfMade`].

use dagz_core::driver;

pub(crate) type Stamp = driver::Stamp;
pub(crate) type Owner = driver::Owner;

/// The character sets of birth marks: all servers have them, and no connection can use one.
const BIRTH_CHARSETS: [&str; 2] = ["utf16", "utf32"];

/// The languages for which all servers have a collation of each of these character sets.
const BIRTH_LANGUAGES: [&str; 23] = [
    "croatian",
    "czech",
    "danish",
    "esperanto",
    "estonian",
    "german2",
    "hungarian",
    "icelandic",
    "latvian",
    "lithuanian",
    "persian",
    "polish",
    "roman",
    "romanian",
    "sinhala",
    "slovak",
    "slovenian",
    "spanish",
    "spanish2",
    "swedish",
    "turkish",
    "unicode_520",
    "vietnamese",
];

/// What the server says of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The stamp's text, if there is a stamp.
    pub(crate) stamp: Option<String>,
    pub(crate) collation: String,
    /// Whether there is nothing in it at all.
    pub(crate) is_empty: bool,
}

/// Whose the database `name` is, described by `row`, in the eyes of `project`.
pub(crate) fn owner(project: &str, name: &str, row: &Row) -> Owner {
    let stamp = row.stamp.as_deref();
    match stamp.and_then(|text| Owner::of(project, text, |stamp| stamp.name == name)) {
        Some(owner) => owner,
        None if row.is_empty && row.collation == birth_mark(project, name).1 => Owner::HalfMade,
        None => Owner::Unstamped,
    }
}

/// The character set and the collation that a database is born with.
///
/// There are few of them, so that one in so many databases of another project looks like one of `project`'s
/// while it is being made, and then also is empty and locked.
pub(super) fn birth_mark(project: &str, name: &str) -> (&'static str, String) {
    let number = driver::birth_number(project, name) as usize;
    let charset = BIRTH_CHARSETS[number % BIRTH_CHARSETS.len()];
    let language = BIRTH_LANGUAGES[number / BIRTH_CHARSETS.len() % BIRTH_LANGUAGES.len()];
    (charset, format!("{charset}_{language}_ci"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_stamp_is_known_by_its_collation() {
        let ours = r#"{"dagz":1,"project":"shop-1","job":"j1","worker":3,"base":"shop","name":"shop_jw03","fingerprint":"f","role":"worker","ready":true,"made":1}"#;
        let check =
            |stamp: Option<&str>, collation: &str, is_empty, expected: fn(&Owner) -> bool| {
                let row = Row {
                    stamp: stamp.map(str::to_owned),
                    collation: collation.to_owned(),
                    is_empty,
                };
                let owner = owner("shop-1", "shop_jw03", &row);
                assert!(expected(&owner), "{row:?}: {owner:?}");
            };
        let plain = "utf8mb4_general_ci";
        check(Some(ours), plain, false, |o| matches!(o, Owner::Ours(_)));
        check(Some(&ours.replace("jw03", "jw04")), plain, false, |o| {
            matches!(o, Owner::Moved(_))
        });
        check(Some(r#"{"dagz":1}"#), plain, false, |o| {
            matches!(o, Owner::Unstamped)
        });
        let (_, mark) = birth_mark("shop-1", "shop_jw03");
        check(None, &mark, true, |o| matches!(o, Owner::HalfMade));
        check(None, &mark, false, |o| matches!(o, Owner::Unstamped));
        check(None, plain, true, |o| matches!(o, Owner::Unstamped));
        // The mark of earlier versions, which says nothing of the project.
        check(None, "utf8mb4_esperanto_ci", true, |o| {
            matches!(o, Owner::Unstamped)
        });
        for others in [("shop-2", "shop_jw03"), ("shop-1", "shop_jw04")] {
            let (_, mark) = birth_mark(others.0, others.1);
            check(None, &mark, true, |o| matches!(o, Owner::Unstamped));
        }
    }
}
