//! The stamp: the mark, on the server, that an index is dagz's, and for which project.
//!
//! It is the core's JSON under a key in the *books*, the server's last database, and not in the index itself: a
//! test that counts or lists its keys finds none of dagz's, and its `FLUSHDB` takes no stamp away. Beside it are
//! the lock of the run that uses the index (`reset/lock.rs`) and its baseline (`reset/baseline.rs`). Nothing
//! is flushed unless [`owner`] says that it is [`Owner::Ours`] or [`Owner::HalfMade`], or nobody's.

use dagz_core::{
    Error, ErrorKind, Target,
    driver::{self, Role},
};
use serde::{Deserialize, Serialize};

/// How the keys of all stamps begin.
pub(crate) const STAMPS: &str = "dagz:stamp:";

/// Stands for the format of a stamp that nobody can read.
const UNREADABLE: u32 = 0;

/// The key of the stamp of `index`.
pub(crate) fn key(index: i64) -> String {
    format!("{STAMPS}{index}")
}

/// What the stamp of an index says beside what all stamps say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) index: i64,
    /// Which recording of its start state is its baseline; none where that is no key at all.
    pub(crate) baseline: Option<String>,
}

pub(crate) type Stamp = driver::Stamp<Index>;
pub(crate) type Owner = driver::Owner<Index>;

/// The stamp of an index that is being made for `target`'s job.
pub(crate) fn stamp(target: &Target, index: i64) -> Stamp {
    let baseline = None;
    Stamp::new(target, Role::Worker, "", Index { index, baseline })
}

/// One that says nothing but whose the index is.
pub(super) fn bare(project: &str, index: i64) -> Stamp {
    let baseline = None;
    Stamp::bare(project, &index.to_string(), Index { index, baseline })
}

/// Whose the index is that has this stamp and so many keys, in the eyes of `project`; `None` where it holds nothing
/// and is nobody's.
pub(crate) fn owner(project: &str, stamp: Option<&str>, keys: u64) -> Option<Owner> {
    match stamp {
        // The key under which it is tells that it is its own.
        Some(text) => Some(Owner::of(project, text, |_| true).unwrap_or(Owner::Later(UNREADABLE))),
        None if keys > 0 => Some(Owner::Unstamped),
        None => None,
    }
}

/// The error for not doing `what` to the database `index`.
pub(crate) fn refusal(owner: &Owner, what: &str, index: i64) -> Error {
    let why = match owner {
        Owner::Ours(_) | Owner::HalfMade => "it is not complete; run the test again".to_owned(),
        Owner::Foreign(project) => format!(
            "it belongs to dagz project `{project}`; set `DAGZ_PROJECT` to that if it is this very project, give this one other indices by `Config::first_index`, or have the other's given back (`dagz::redis::remove`)"
        ),
        Owner::Moved(_) | Owner::Later(_) => format!(
            "its stamp is not of this version of dagz; update dagz, or remove the key `{}` from the last database",
            key(index)
        ),
        Owner::Unstamped => format!(
            "dagz did not create it, and it holds keys; move the workers elsewhere by `Config::first_index`, empty it (`redis-cli -n {index} FLUSHDB`), or hand it over by `dagz::redis::adopt`; where a test ran `FLUSHALL`, that took dagz's stamp away, and `Config::private_servers` is for such tests"
        ),
    };
    Error::new(
        ErrorKind::Refused,
        format!("refusing to {what} database `{index}`: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stamp_of_this_project_counts() {
        let of = |text: Option<&str>, keys| owner("shop-1", text, keys);
        let ours = bare("shop-1", 7).complete();
        assert_eq!(
            of(Some(&ours.to_json()), 9),
            Some(Owner::Ours(Box::new(ours)))
        );
        let unready = bare("shop-1", 7).to_json();
        assert_eq!(of(Some(&unready), 9), Some(Owner::HalfMade));
        let foreign = bare("shop-2", 7).complete().to_json();
        // Also an empty one: its owner may be about to fill it.
        for keys in [0, 9] {
            let owner = of(Some(&foreign), keys);
            assert_eq!(owner, Some(Owner::Foreign("shop-2".into())));
        }
        let later = unready.replace("\"dagz\":1", "\"dagz\":2");
        assert_eq!(of(Some(&later), 9), Some(Owner::Later(2)));
        assert_eq!(of(Some("my notes"), 0), Some(Owner::Later(UNREADABLE)));
        assert_eq!(of(None, 9), Some(Owner::Unstamped));
        assert_eq!(of(None, 0), None);
    }

    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let text = r#"{"dagz":1,"project":"shop-1","job":"j1","worker":3,"base":"0","index":7,"ready":true,"baseline":"b","made":1}"#;
        let owner = owner("shop-1", Some(text), 9);
        assert!(
            matches!(&owner, Some(Owner::Ours(stamp)) if stamp.more.baseline.as_deref() == Some("b")),
            "{owner:?}"
        );
    }
}
