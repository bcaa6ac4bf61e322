//! The stamp: the mark, on the server, that an index is dagz's, and for which project.
//!
//! It is a key in the *books*, the server's last database, and not in the index itself: a test that
//! counts or lists its keys finds none of dagz's, and its `FLUSHDB` takes no stamp away. Beside it are the
//! lock of the run that uses the index (`reset/lock.rs`) and its baseline (`reset/baseline.rs`). Nothing
//! is flushed unless [`owner`] says that it is [`Owner::Ours`].

use std::time::{SystemTime, UNIX_EPOCH};

use dagz_core::{Error, ErrorKind, Target};
use serde::{Deserialize, Serialize};

/// The version of the stamp's format.
const FORMAT: u32 = 1;

/// How the keys of all stamps begin.
pub(crate) const STAMPS: &str = "dagz:stamp:";

/// The key of the stamp of `index`.
pub(crate) fn key(index: i64) -> String {
    format!("{STAMPS}{index}")
}

/// What the stamp of an index says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The format.
    pub(super) dagz: u32,
    pub(crate) project: String,
    pub(crate) job: String,
    pub(crate) worker: u32,
    pub(crate) base: String,
    pub(crate) index: i64,
    /// Whether it was made to its end.
    pub(crate) ready: bool,
    /// Which recording of its start state is its baseline; none where that is no key at all.
    pub(crate) baseline: Option<String>,
    /// Seconds since the epoch.
    pub(crate) made: u64,
}

impl Stamp {
    /// The stamp of an index that is being made for `target`'s job.
    pub(crate) fn new(target: &Target, index: i64) -> Self {
        Self {
            project: target.project().to_owned(),
            job: target.job().to_owned(),
            worker: target.worker().number(),
            base: target.base().to_owned(),
            ..Self::bare(index)
        }
    }

    /// One that says nothing but the index.
    pub(crate) fn bare(index: i64) -> Self {
        Self {
            dagz: FORMAT,
            project: String::new(),
            job: String::new(),
            worker: 0,
            base: String::new(),
            index,
            ready: false,
            baseline: None,
            made: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
        }
    }

    /// The same, of an index that is complete.
    #[must_use]
    pub(crate) fn finished(mut self, baseline: Option<String>) -> Self {
        self.ready = true;
        self.baseline = baseline;
        self
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Whose an index is, as far as the server can prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Made, or adopted, by dagz for this project.
    Ours(Box<Stamp>),
    /// Made by dagz for this project, which did not come to the end of it.
    HalfMade,
    /// Made by dagz for another project.
    Foreign(String),
    /// Carries a stamp of a later dagz, or one that nobody can read.
    Later,
    /// Holds keys, and nothing says that dagz may touch them.
    Unstamped,
    /// Holds nothing and is nobody's.
    Vacant,
}

/// Whose the index is that has this stamp and so many keys, in the eyes of `project`.
pub(crate) fn owner(project: &str, stamp: Option<&str>, keys: u64) -> Owner {
    let Some(stamp) = stamp else {
        return match keys {
            0 => Owner::Vacant,
            _ => Owner::Unstamped,
        };
    };
    match serde_json::from_str::<Stamp>(stamp) {
        Ok(stamp) if stamp.dagz > FORMAT => Owner::Later,
        Ok(stamp) if stamp.project != project => Owner::Foreign(stamp.project),
        Ok(stamp) if stamp.ready => Owner::Ours(Box::new(stamp)),
        Ok(_) => Owner::HalfMade,
        Err(_) => Owner::Later,
    }
}

impl Owner {
    /// Whether dagz may flush it.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_) | Self::HalfMade)
    }

    /// The error for not doing `what` to the database `index`.
    pub(crate) fn refusal(&self, what: &str, index: i64) -> Error {
        let why = match self {
            Self::Ours(_) | Self::HalfMade | Self::Vacant => {
                "it is not complete; run the test again".to_owned()
            }
            Self::Foreign(project) => format!(
                "it belongs to dagz project `{project}`; set `DAGZ_PROJECT` to that if it is this very project, give this one other indices by `Config::first_index`, or have the other's given back (`dagz::redis::remove`)"
            ),
            Self::Later => format!(
                "its stamp is not of this version of dagz; update dagz, or remove the key `{}` from the last database",
                key(index)
            ),
            Self::Unstamped => format!(
                "dagz did not create it, and it holds keys; move the workers elsewhere by `Config::first_index`, empty it (`redis-cli -n {index} FLUSHDB`), or hand it over by `dagz::redis::adopt`; where a test ran `FLUSHALL`, that took dagz's stamp away, and `Config::private_servers` is for such tests"
            ),
        };
        Error::new(
            ErrorKind::Refused,
            format!("refusing to {what} database `{index}`: {why}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(project: &str, ready: bool) -> Stamp {
        Stamp {
            project: project.to_owned(),
            ready,
            ..Stamp::bare(7)
        }
    }

    #[test]
    fn only_a_stamp_of_this_project_counts() {
        let of = |text: Option<&str>, keys| owner("shop-1", text, keys);
        let ours = stamp("shop-1", true);
        assert_eq!(
            of(Some(&ours.to_json()), 9),
            Owner::Ours(Box::new(ours.clone()))
        );
        assert_eq!(
            of(Some(&stamp("shop-1", false).to_json()), 9),
            Owner::HalfMade
        );
        let foreign = stamp("shop-2", true).to_json();
        // Also an empty one: its owner may be about to fill it.
        for keys in [0, 9] {
            assert_eq!(of(Some(&foreign), keys), Owner::Foreign("shop-2".into()));
        }
        let later = Stamp { dagz: 2, ..ours }.to_json();
        assert_eq!(of(Some(&later), 9), Owner::Later);
        assert_eq!(of(Some("my notes"), 0), Owner::Later);
        assert_eq!(of(None, 9), Owner::Unstamped);
        assert_eq!(of(None, 0), Owner::Vacant);
    }
}
