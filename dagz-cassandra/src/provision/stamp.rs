//! The stamp: the mark, on the server, that a keyspace is dagz's, and for which project.
//!
//! It is the core's JSON as the comment of a table in the keyspace itself, so that it goes where the keyspace goes,
//! and is a part of the schema, whose version tells whether it changed. That it is *ready* says nothing here: it is
//! written first, and a keyspace is complete once its start state is recorded (`reset/state.rs`). Nothing is
//! emptied or dropped unless [`owner`] says that it is [`Owner::Ours`].

use dagz_core::{Error, driver};

use crate::{driver::NAME, schema::Schema};

/// What the stamp of a keyspace says.
pub(crate) type Stamp = driver::Stamp;

/// Whose a keyspace is.
pub(crate) type Owner = driver::Owner;

/// Whose the keyspace of `schema` is, in the eyes of `project`; `None` where there is nothing in it that could come to
/// harm.
pub(crate) fn owner(project: &str, schema: &Schema) -> Option<Owner> {
    if schema.is_empty() {
        return None;
    }
    let text = schema.stamp.as_deref().unwrap_or_default();
    let owner = Owner::of(project, text, |stamp| stamp.name == schema.keyspace);
    Some(owner.unwrap_or(Owner::Unstamped))
}

/// The error for not doing `what` to keyspace `name`.
pub(crate) fn refusal(owner: &Owner, what: &str, name: &str) -> Error {
    owner.refusal(NAME, what, name)
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
            dropped: Vec::new(),
            stamp,
        };
        let of = |project: &str, name: &str| Stamp::bare(project, name, ()).complete().to_json();
        let of_project = |stamp: Option<String>| owner("shop-1", &stamped(stamp));
        assert!(
            of_project(Some(of("shop-1", "shop_jw03")))
                .unwrap()
                .is_ours()
        );
        for (stamp, expected) in [
            (
                Some(of("shop-2", "shop_jw03")),
                Owner::Foreign("shop-2".into()),
            ),
            (
                Some(of("shop-1", "shop_jw04")),
                Owner::Moved("shop_jw04".into()),
            ),
            (Some(r#"{"dagz":2,"else":1}"#.into()), Owner::Later(2)),
            (Some("my own table".into()), Owner::Unstamped),
            (None, Owner::Unstamped),
        ] {
            assert_eq!(of_project(stamp), Some(expected));
        }
        let mut empty = stamped(None);
        empty.objects.clear();
        assert_eq!(owner("shop-1", &empty), None);
    }
}
