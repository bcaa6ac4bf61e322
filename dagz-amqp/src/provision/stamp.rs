//! The stamp: the mark, on the broker, that a vhost is dagz's, and for which project.
//!
//! It is the vhost's description, so that it goes with the vhost. Nothing is removed from a vhost, and no vhost
//! is deleted, unless [`owner`] says that it is dagz's.

use std::time::{SystemTime, UNIX_EPOCH};

use dagz_core::{Error, ErrorKind, Result, Target};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{management::part, server::Server};

/// The version of the stamp's format.
const FORMAT: u64 = 1;

/// The source of a vhost that a user handed over.
pub(crate) const ADOPTED: &str = "adopted";

/// What the stamp of a vhost says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The format.
    dagz: u64,
    pub(crate) project: String,
    pub(crate) job: String,
    pub(crate) worker: u32,
    pub(crate) base: String,
    /// Whether it was made to its end.
    pub(crate) ready: bool,
    /// Tells this making of it from others.
    pub(crate) nonce: String,
    /// What it was copied from.
    pub(crate) source: String,
    /// Which start state was recorded for it.
    pub(crate) start: String,
    /// Seconds since the epoch.
    pub(crate) made: u64,
}

impl Stamp {
    /// The stamp of a vhost that is being made for `target`'s job.
    pub(crate) fn new(target: &Target, nonce: &str) -> Self {
        Self {
            job: target.job().to_owned(),
            base: target.base().to_owned(),
            ..Self::bare(target.project(), target.worker().number(), nonce)
        }
    }

    /// One of no job and no base.
    pub(crate) fn bare(project: &str, worker: u32, nonce: &str) -> Self {
        Self {
            dagz: FORMAT,
            project: project.to_owned(),
            job: String::new(),
            worker,
            base: String::new(),
            ready: false,
            nonce: nonce.to_owned(),
            source: String::new(),
            start: String::new(),
            made: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
        }
    }

    /// The same, of a vhost that is complete.
    #[must_use]
    pub(crate) fn finished(mut self, source: &str, start: &str) -> Self {
        self.ready = true;
        source.clone_into(&mut self.source);
        start.clone_into(&mut self.start);
        self
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Whose a vhost is, as far as the broker can prove it.
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
    /// Nothing says that dagz may touch it.
    Unstamped,
    /// There is none.
    Vacant,
}

/// Whose the vhost is of which the management API says this, in the eyes of `project`.
pub(crate) fn owner(project: &str, vhost: Option<&Value>) -> Owner {
    let Some(vhost) = vhost else {
        return Owner::Vacant;
    };
    let text = vhost["description"].as_str().unwrap_or_default();
    let told: Value = serde_json::from_str(text).unwrap_or_default();
    match told.get("dagz").map(Value::as_u64) {
        None => return Owner::Unstamped,
        Some(Some(FORMAT)) => {}
        Some(_) => return Owner::Later,
    }
    match serde_json::from_value::<Stamp>(told) {
        Ok(stamp) if stamp.project != project => Owner::Foreign(stamp.project),
        Ok(stamp) if stamp.ready => Owner::Ours(Box::new(stamp)),
        Ok(_) => Owner::HalfMade,
        Err(_) => Owner::Later,
    }
}

impl Owner {
    /// Whether dagz may delete it.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_) | Self::HalfMade)
    }

    /// The error for not doing `what` to `vhost`.
    pub(crate) fn refusal(&self, what: &str, vhost: &str) -> Error {
        let why = match self {
            Self::Ours(_) | Self::HalfMade | Self::Vacant => {
                "it is not complete; run the test again".to_owned()
            }
            Self::Foreign(project) => format!(
                "it belongs to dagz project `{project}`; set `DAGZ_PROJECT` to that if it is this very project, or have the other's removed (`dagz::amqp::remove`)"
            ),
            Self::Later => {
                "its stamp is not of this version of dagz; update dagz, or remove the vhost's description".to_owned()
            }
            Self::Unstamped => format!(
                "dagz did not create it; delete it (`rabbitmqctl delete_vhost {vhost}`), or hand it over, with all that is in it, by `dagz::amqp::adopt`"
            ),
        };
        Error::new(
            ErrorKind::Refused,
            format!("refusing to {what} vhost `{vhost}`: {why}"),
        )
    }
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
        let of = |text: &str| owner("shop-1", Some(&json!({"description": text})));
        let ready = Stamp::bare("shop-1", 3, "n").finished("s", "t");
        assert_eq!(of(&ready.to_json()), Owner::Ours(Box::new(ready.clone())));
        assert_eq!(of(&Stamp::bare("shop-1", 3, "n").to_json()), Owner::HalfMade);
        let foreign = Stamp::bare("shop-2", 3, "n").to_json();
        assert_eq!(of(&foreign), Owner::Foreign("shop-2".into()));
        let later = Stamp { dagz: 2, ..ready }.to_json();
        for text in [&later, r#"{"dagz":1}"#, r#"{"dagz":"x"}"#] {
            assert_eq!(of(text), Owner::Later);
        }
        for text in ["", "my vhost", "{}", "3"] {
            assert_eq!(of(text), Owner::Unstamped, "{text}");
        }
        assert_eq!(owner("shop-1", None), Owner::Vacant);
        assert_eq!(owner("shop-1", Some(&json!({"name": "v"}))), Owner::Unstamped);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let told = |owner: Owner| owner.refusal("reset", "orders_jw03").to_string();
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
