//! The stamp: the mark, on the broker, that a vhost is dagz's, and for which project.
//!
//! It is the core's JSON as the vhost's description, so that it goes with the vhost. Nothing is removed from a
//! vhost, and no vhost is deleted, unless [`owner`] says that it is [`Owner::Ours`] or [`Owner::HalfMade`].

use dagz_core::{
    Error, ErrorKind, Result, Target,
    driver::{self, Role},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{management::part, server::Server};

/// The fingerprint of a vhost that a user handed over.
pub(crate) const ADOPTED: &str = "adopted";

/// Stands for the format of a stamp that nobody can read.
const UNREADABLE: u32 = 0;

/// What the stamp of a vhost says beside what all stamps say. The fingerprint is that of what it was copied from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vhost {
    /// Tells this making of it from others.
    pub(crate) nonce: String,
    /// Which start state was recorded for it.
    pub(crate) start: String,
}

pub(crate) type Stamp = driver::Stamp<Vhost>;
pub(crate) type Owner = driver::Owner<Vhost>;

/// The stamp of a vhost that is being made for `target`'s job, from what `fingerprint` stands for.
pub(crate) fn stamp(target: &Target, fingerprint: &str, nonce: &str) -> Stamp {
    Stamp::new(target, Role::Worker, fingerprint, more(nonce))
}

/// That of a vhost which its user made.
pub(crate) fn adopted(project: &str, vhost: &str, nonce: &str) -> Stamp {
    let mut stamp = Stamp::bare(project, vhost, more(nonce));
    ADOPTED.clone_into(&mut stamp.fingerprint);
    stamp
}

fn more(nonce: &str) -> Vhost {
    Vhost {
        nonce: nonce.to_owned(),
        start: String::new(),
    }
}

/// Whose the vhost is of which the management API says this, in the eyes of `project`; `None` where there is none.
pub(crate) fn owner(project: &str, vhost: Option<&Value>) -> Option<Owner> {
    let vhost = vhost?;
    let text = vhost["description"].as_str().unwrap_or_default();
    let told: Value = serde_json::from_str(text).unwrap_or_default();
    if told.get("dagz").is_none() {
        return Some(Owner::Unstamped);
    }
    let name = vhost["name"].as_str().unwrap_or_default();
    let owner = Owner::of(project, text, |stamp| stamp.name == name);
    Some(owner.unwrap_or(Owner::Later(UNREADABLE)))
}

/// The error for not doing `what` to `vhost`.
pub(crate) fn refusal(owner: &Owner, what: &str, vhost: &str) -> Error {
    let adopt = format!(
        "delete it (`rabbitmqctl delete_vhost {vhost}`), or hand it over, with all that is in it, by `dagz::amqp::adopt`"
    );
    let why = match owner {
        Owner::Ours(_) | Owner::HalfMade => "it is not complete; run the test again".to_owned(),
        Owner::Foreign(project) => format!(
            "it belongs to dagz project `{project}`; set `DAGZ_PROJECT` to that if it is this very project, or have the other's removed (`dagz::amqp::remove`)"
        ),
        Owner::Moved(stamped) => format!("its stamp is that of `{stamped}`; {adopt}"),
        Owner::Later(_) => {
            "its stamp is not of this version of dagz; update dagz, or remove the vhost's description"
                .to_owned()
        }
        Owner::Unstamped => format!("dagz did not create it; {adopt}"),
    };
    Error::new(
        ErrorKind::Refused,
        format!("refusing to {what} vhost `{vhost}`: {why}"),
    )
}

/// Writes the stamp, and makes the vhost if there is none, with queues of `kind` where nothing else is said.
pub(crate) async fn write(
    server: &Server,
    vhost: &str,
    stamp: &Stamp,
    kind: Option<&str>,
) -> Result<()> {
    let mut body = json!({"description": stamp.to_json(), "tags": ""});
    if let Some(kind) = kind {
        body["default_queue_type"] = json!(kind);
    }
    let path = format!("/api/vhosts/{}", part(vhost));
    let written = server.management().put(&path, body).await;
    written.map_err(|trouble| {
        let doing = format!("make vhost `{vhost}`");
        trouble.into_error(ErrorKind::WorkerInit, &doing)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stamp_of_this_project_counts() {
        let of = |text: &str| {
            let vhost = json!({"name": "v_jw03", "description": text});
            owner("shop-1", Some(&vhost))
        };
        let ready = adopted("shop-1", "v_jw03", "n").complete();
        let text = ready.to_json();
        assert_eq!(of(&text), Some(Owner::Ours(Box::new(ready))));
        let half = adopted("shop-1", "v_jw03", "n").to_json();
        assert_eq!(of(&half), Some(Owner::HalfMade));
        let foreign = adopted("shop-2", "v_jw03", "n").to_json();
        assert_eq!(of(&foreign), Some(Owner::Foreign("shop-2".into())));
        let moved = adopted("shop-1", "v_jw04", "n").to_json();
        assert_eq!(of(&moved), Some(Owner::Moved("v_jw04".into())));
        let later = half.replace("\"dagz\":1", "\"dagz\":2");
        assert_eq!(of(&later), Some(Owner::Later(2)));
        for text in [r#"{"dagz":1}"#, r#"{"dagz":"x"}"#] {
            assert_eq!(of(text), Some(Owner::Later(UNREADABLE)), "{text}");
        }
        for text in ["", "my vhost", "{}", "3"] {
            assert_eq!(of(text), Some(Owner::Unstamped), "{text}");
        }
        assert_eq!(owner("shop-1", None), None);
        let bare = json!({"name": "v"});
        assert_eq!(owner("shop-1", Some(&bare)), Some(Owner::Unstamped));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let told = |owner: Owner| refusal(&owner, "reset", "orders_jw03").to_string();
        assert_eq!(
            told(Owner::Unstamped),
            "refusing to reset vhost `orders_jw03`: dagz did not create it; delete it (`rabbitmqctl delete_vhost orders_jw03`), or hand it over, with all that is in it, by `dagz::amqp::adopt`"
        );
        assert_eq!(
            told(Owner::Foreign("other".into())),
            "refusing to reset vhost `orders_jw03`: it belongs to dagz project `other`; set `DAGZ_PROJECT` to that if it is this very project, or have the other's removed (`dagz::amqp::remove`)"
        );
    }
}
