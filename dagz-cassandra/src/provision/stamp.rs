//! The stamp: the mark, on the server, that a keyspace is dagz's, and for which project.
//!
//! It is the comment of a table in the keyspace itself, so that it goes where the keyspace goes, and is a part
//! of the schema, whose version tells whether it changed. Nothing is emptied or dropped unless [`owner`] says
//! that it is [`Owner::Ours`].

use std::time::{SystemTime, UNIX_EPOCH};

use dagz_core::{Error, ErrorKind, Target};
use serde::{Deserialize, Serialize};

use crate::schema::Schema;

/// The version of the stamp's format.
pub(crate) const FORMAT: u32 = 1;

/// What the stamp of a keyspace says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The format.
    pub(super) dagz: u32,
    pub(crate) project: String,
    pub(crate) job: String,
    pub(crate) worker: u32,
    pub(crate) base: String,
    pub(crate) name: String,
    /// What it was made from.
    pub(crate) fingerprint: String,
    /// Seconds since the epoch.
    pub(crate) made: u64,
}

impl Stamp {
    pub(crate) fn new(target: &Target, fingerprint: &str) -> Self {
        Self {
            dagz: FORMAT,
            project: target.project().to_owned(),
            job: target.job().to_owned(),
            worker: target.worker().number(),
            base: target.base().to_owned(),
            name: target.name().to_owned(),
            fingerprint: fingerprint.to_owned(),
            made: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Whose a keyspace is, as far as the server can prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Made, or adopted, by dagz for this project.
    Ours(Box<Stamp>),
    /// Made by dagz for another project.
    Foreign(String),
    /// Carries the stamp of another keyspace.
    Moved(String),
    /// Carries a stamp of a later dagz.
    Later(u32),
    /// Nothing says that dagz made it.
    Unstamped,
    /// There is nothing in it that could come to harm.
    Vacant,
}

/// Whose the keyspace of `schema` is, in the eyes of `project`.
pub(crate) fn owner(project: &str, schema: &Schema) -> Owner {
    if schema.is_empty() {
        return Owner::Vacant;
    }
    let Some(text) = schema.stamp.as_deref() else {
        return Owner::Unstamped;
    };
    #[derive(Deserialize)]
    struct Format {
        dagz: u32,
    }
    match serde_json::from_str(text) {
        Ok(Format { dagz }) if dagz > FORMAT => return Owner::Later(dagz),
        Ok(_) => {}
        Err(_) => return Owner::Unstamped,
    }
    match serde_json::from_str::<Stamp>(text) {
        Ok(stamp) if stamp.project != project => Owner::Foreign(stamp.project),
        Ok(stamp) if stamp.name != schema.keyspace => Owner::Moved(stamp.name),
        Ok(stamp) => Owner::Ours(Box::new(stamp)),
        Err(_) => Owner::Unstamped,
    }
}

impl Owner {
    /// Whether dagz may reset it, or drop it to make it anew.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    /// The error for not doing `what` to keyspace `name`.
    pub(crate) fn refusal(&self, what: &str, name: &str) -> Error {
        let why = match self {
            Self::Ours(_) => "it is not complete; run the test again".to_owned(),
            Self::Foreign(project) => format!(
                "it belongs to dagz project `{project}`; set `DAGZ_PROJECT` to that if it is this very project, or use another cluster or base name"
            ),
            Self::Moved(stamped) => format!(
                "its stamp is that of `{stamped}`: it was copied; drop it, or adopt it by `dagz::cassandra::adopt` in `worker_init`"
            ),
            Self::Later(format) => format!(
                "its stamp has format {format}, of a later dagz than this one; update dagz, or drop the keyspace"
            ),
            Self::Unstamped | Self::Vacant => "dagz did not create it; drop it, or adopt it by `dagz::cassandra::adopt` in `worker_init`".to_owned(),
        };
        Error::new(
            ErrorKind::Refused,
            format!("refusing to {what} keyspace `{name}`: {why}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Object;

    #[test]
    fn only_a_stamp_of_this_very_keyspace_counts() {
        let stamped = |stamp: Option<String>| Schema {
            keyspace: "shop_jw03".to_owned(),
            objects: vec![Object {
                kind: "table".to_owned(),
                name: "t".to_owned(),
                statement: String::new(),
            }],
            tables: Vec::new(),
            stamp,
        };
        let of = |project: &str, name: &str, format: u32| {
            format!(
                r#"{{"dagz":{format},"project":"{project}","job":"j1","worker":3,"base":"shop","name":"{name}","fingerprint":"f","made":1}}"#
            )
        };
        let owner = |stamp: Option<String>| owner("shop-1", &stamped(stamp));
        assert!(owner(Some(of("shop-1", "shop_jw03", 1))).is_ours());
        assert_eq!(
            owner(Some(of("shop-2", "shop_jw03", 1))),
            Owner::Foreign("shop-2".into())
        );
        assert_eq!(
            owner(Some(of("shop-1", "shop_jw04", 1))),
            Owner::Moved("shop_jw04".into())
        );
        assert_eq!(
            owner(Some(r#"{"dagz":2,"else":1}"#.into())),
            Owner::Later(2)
        );
        assert_eq!(owner(Some("my own table".into())), Owner::Unstamped);
        assert_eq!(owner(None), Owner::Unstamped);
        let mut empty = stamped(None);
        empty.objects.clear();
        assert_eq!(super::owner("shop-1", &empty), Owner::Vacant);
    }
}
