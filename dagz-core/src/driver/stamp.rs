//! The stamp: the mark, on the server, that a database was made by dagz, and for which project.
//!
//! It is JSON ([`Stamp`]); where it is written, and how it is read, is the driver's. [`Owner`] is what follows
//! from it. A server on which a database is there before a stamp can be in it needs a *birth mark* beside,
//! something odd about the new database that [`birth_number`] chooses, so that one whose maker was killed is
//! known for what it is, and whose.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Target};

/// The version of the stamp's format.
const FORMAT: u32 = 1;

/// What a stamped database is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Workers' databases are made from it.
    Template,
    /// A worker's tests use it.
    #[default]
    Worker,
    /// It holds the rows that an adopted database starts with.
    Rows,
}

/// What is known of a database that dagz made; `X` is what else a driver needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stamp<X = ()> {
    /// The format.
    dagz: u32,
    /// The project it was made for.
    pub project: String,
    /// The job it was made in; empty where there was none.
    pub job: String,
    /// The worker it was made for.
    pub worker: u32,
    /// The name in the application's configuration.
    pub base: String,
    /// Its own name, so that a copy under another one is noticed.
    #[serde(default)]
    pub name: String,
    /// What it was made from.
    #[serde(default)]
    pub fingerprint: String,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// Whether it was made to its end.
    pub ready: bool,
    /// When it was made, in seconds since the epoch.
    pub made: u64,
    /// What else the driver needs to know.
    #[serde(flatten)]
    pub more: X,
}

impl<X> Stamp<X> {
    /// The stamp of a database that is being made for `target`'s job.
    pub fn new(target: &Target, role: Role, fingerprint: &str, more: X) -> Self {
        Self {
            job: target.job().to_owned(),
            worker: target.worker().number(),
            base: target.base().to_owned(),
            fingerprint: fingerprint.to_owned(),
            role,
            ..Self::bare(target.project(), target.name(), more)
        }
    }

    /// One that says no more than whose the database `name` is.
    pub fn bare(project: &str, name: &str, more: X) -> Self {
        Self {
            dagz: FORMAT,
            project: project.to_owned(),
            job: String::new(),
            worker: 0,
            base: String::new(),
            name: name.to_owned(),
            fingerprint: String::new(),
            role: Role::Worker,
            ready: false,
            made: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
            more,
        }
    }

    /// The same stamp for a database of another name: a template's is not the target's.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The same stamp for a database that is complete.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.ready = true;
        self
    }

    /// Whether it is that of a template from which databases like `target`'s are made.
    pub fn is_template_for(&self, target: &Target) -> bool {
        self.role == Role::Template && self.base == target.base()
    }
}

impl<X: Serialize> Stamp<X> {
    /// Its text, as it is written to the server.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Whose a database is, as far as the server can prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner<X = ()> {
    /// Made to its end, or adopted, by dagz for this project.
    Ours(Box<Stamp<X>>),
    /// Made by dagz for this project, which did not come to the end of it.
    HalfMade,
    /// Made by dagz for another project.
    Foreign(String),
    /// Carries the stamp of another database: it was renamed, copied, or restored from a dump.
    Moved(String),
    /// Carries a stamp of a later dagz.
    Later(u32),
    /// Nothing says that dagz made it.
    Unstamped,
}

impl<X: DeserializeOwned> Owner<X> {
    /// Whose a database is that carries `text`, in the eyes of `project`; `None` where that is no stamp.
    ///
    /// `is_its_own` tells whether a stamp is that of the database it was found on: [`Stamp::name`] is its name,
    /// and whatever else a server tells that a copy would not have in common.
    pub fn of(
        project: &str,
        text: &str,
        is_its_own: impl FnOnce(&Stamp<X>) -> bool,
    ) -> Option<Self> {
        #[derive(Deserialize)]
        struct Format {
            dagz: u32,
        }
        let Format { dagz } = serde_json::from_str(text).ok()?;
        if dagz > FORMAT {
            return Some(Self::Later(dagz));
        }
        let stamp: Box<Stamp<X>> = serde_json::from_str(text).ok()?;
        Some(if stamp.project != project {
            Self::Foreign(stamp.project)
        } else if !is_its_own(&stamp) {
            Self::Moved(stamp.name)
        } else if stamp.ready {
            Self::Ours(stamp)
        } else {
            Self::HalfMade
        })
    }
}

impl<X> Owner<X> {
    /// Whether dagz may reset it, or drop it to make it anew.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_) | Self::HalfMade)
    }

    /// The error for not doing `what` to the database `name`, in the usual words of `driver`, which has an
    /// `adopt`.
    pub fn refusal(&self, driver: &str, what: &str, name: &str) -> Error {
        let adopt = format!("drop it, or adopt it by `dagz::{driver}::adopt` in `worker_init`");
        let why = match self {
            Self::Ours(_) | Self::HalfMade => "it is not complete; run the test again".to_owned(),
            Self::Foreign(project) => format!(
                "it belongs to dagz project `{project}`; set `DAGZ_PROJECT` to that if it is this very project, or use another server or base name"
            ),
            Self::Moved(stamped) => format!(
                "its stamp is that of `{stamped}`: it was renamed, copied or restored; {adopt}"
            ),
            Self::Later(format) => format!(
                "its stamp has format {format}, of a later dagz than this one; update dagz, or drop the database"
            ),
            Self::Unstamped => format!("dagz did not create it; {adopt}"),
        };
        Error::new(
            ErrorKind::Refused,
            format!("refusing to {what} `{name}`: {why}"),
        )
    }
}

/// The number that a birth mark is derived from: another one for every project and database.
pub fn birth_number(project: &str, name: &str) -> u32 {
    let hash = Sha256::new()
        .chain_update("dagz birth mark\n")
        .chain_update(project)
        .chain_update("\n")
        .chain_update(name)
        .finalize();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Number {
        oid: u32,
    }

    fn of(text: &str) -> Option<Owner<Number>> {
        Owner::<Number>::of("shop-1", text, |stamp| {
            stamp.name == "shop_jw03" && stamp.more.oid == 7
        })
    }

    #[test]
    fn only_a_stamp_of_this_very_database_counts() {
        let stamp = Stamp::bare("shop-1", "shop_jw03", Number { oid: 7 }).complete();
        let ours = stamp.to_json();
        assert_eq!(of(&ours), Some(Owner::Ours(Box::new(stamp))));
        let with = |from: &str, to: &str| of(&ours.replace(from, to));
        assert_eq!(
            with("\"ready\":true", "\"ready\":false"),
            Some(Owner::HalfMade)
        );
        assert_eq!(
            with("shop-1", "shop-2"),
            Some(Owner::Foreign("shop-2".into()))
        );
        assert_eq!(with("jw03", "jw04"), Some(Owner::Moved("shop_jw04".into())));
        assert_eq!(
            with("\"oid\":7", "\"oid\":8"),
            Some(Owner::Moved("shop_jw03".into()))
        );
        assert_eq!(of(r#"{"dagz":2,"else":1}"#), Some(Owner::Later(2)));
        assert_eq!(of(r#"{"dagz":1}"#), None);
        assert_eq!(of("my own words"), None);
    }

    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let postgres = r#"{"dagz":1,"project":"shop-1","job":"j1","worker":3,"base":"shop","name":"shop_jw03","oid":7,"fingerprint":"f","role":"template","ready":true,"made":1}"#;
        assert!(matches!(of(postgres), Some(Owner::Ours(stamp)) if stamp.role == Role::Template));
        let redis = r#"{"dagz":1,"project":"shop-1","job":"j1","worker":3,"base":"0","oid":7,"ready":true,"made":1}"#;
        let owner = Owner::<Number>::of("shop-1", redis, |_| true);
        assert!(matches!(owner, Some(Owner::Ours(stamp)) if stamp.role == Role::Worker));
    }

    #[test]
    fn a_driver_may_have_nothing_to_add() {
        let stamp: Stamp = Stamp::bare("shop-1", "shop_jw03", ());
        assert_eq!(
            Owner::of("shop-1", &stamp.to_json(), |_| true),
            Some(Owner::<()>::HalfMade)
        );
    }

    #[test]
    fn birth_numbers_differ_by_project_and_name() {
        let number = birth_number("a", "b");
        assert_ne!(number, birth_number("a", "c"));
        assert_ne!(number, birth_number("c", "b"));
    }

    #[test]
    fn refusals_name_the_way_out() {
        let refusal = Owner::<()>::Unstamped.refusal("postgres", "reset", "shop_jw03");
        assert_eq!(
            refusal.to_string(),
            "refusing to reset `shop_jw03`: dagz did not create it; drop it, or adopt it by `dagz::postgres::adopt` in `worker_init`"
        );
    }
}
