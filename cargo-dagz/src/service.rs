//! Which servers the project's tests use, as far as the command can know: tests configure drivers in code.
//!
//! A server's address comes from `DAGZ_POSTGRES_URL` and its like, else from the section of that name in
//! `dagz.toml`, else from the variable that applications use. The main type is [`Service`]; `database.rs` and
//! `doctor.rs` send each kind to its driver.

use std::{env, fmt};

use dagz_core::Settings;

use crate::exit::{Failure, Outcome};

/// A kind of server that has a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mysql,
    Redis,
    Amqp,
    Cassandra,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Postgres,
        Self::Mysql,
        Self::Redis,
        Self::Amqp,
        Self::Cassandra,
    ];

    /// The driver's word, which is also the section's.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::Amqp => "amqp",
            Self::Cassandra => "cassandra",
        }
    }

    /// The variable that is dagz's own.
    fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "DAGZ_POSTGRES_URL",
            Self::Mysql => "DAGZ_MYSQL_URL",
            Self::Redis => "DAGZ_REDIS_URL",
            Self::Amqp => "DAGZ_AMQP_URL",
            Self::Cassandra => "DAGZ_CASSANDRA_URL",
        }
    }

    /// The variables that applications use. Several kinds of server go by `DATABASE_URL`.
    fn usual_variables(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["DATABASE_URL"],
            Self::Mysql => &["DATABASE_URL", "MYSQL_URL"],
            Self::Redis => &["REDIS_URL"],
            Self::Amqp => &["AMQP_URL", "RABBITMQ_URL"],
            Self::Cassandra => &["CASSANDRA_URL", "SCYLLA_URL"],
        }
    }

    fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgres", "postgresql"],
            Self::Mysql => &["mysql", "mariadb"],
            Self::Redis => &[
                "redis",
                "rediss",
                "valkey",
                "valkeys",
                "unix",
                "redis+unix",
                "valkey+unix",
            ],
            Self::Amqp => &["amqp", "amqps"],
            Self::Cassandra => &["cassandra", "scylla", "scylladb"],
        }
    }

    /// The keys that its section may have.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Amqp => &["url", MANAGEMENT],
            _ => &["url"],
        }
    }

    fn is_own(self, url: &str) -> bool {
        url.split_once("://")
            .is_some_and(|(scheme, _)| self.schemes().contains(&scheme))
    }
}

/// A server that the project's tests use.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) kind: Kind,
    url: String,
    /// Where RabbitMQ's management API is, if not where it usually is.
    management: Option<String>,
    /// Where the address is from.
    origin: String,
}

impl Service {
    /// Its address, which may hold a password: not to be printed.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The address of RabbitMQ's management API, which may hold a password, too.
    pub(crate) fn management(&self) -> Option<&str> {
        self.management.as_deref()
    }

    /// Its address without user's secrets: scheme, host, port.
    pub(crate) fn shown(&self) -> String {
        shown(&self.url)
    }

    /// Where its address is from: a variable, or a key of `dagz.toml`.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.kind.word(), self.shown())
    }
}

/// How to tell the command of a server, for messages.
pub(crate) const HOW: &str = "set `DAGZ_POSTGRES_URL`, `DAGZ_MYSQL_URL`, `DAGZ_REDIS_URL`, `DAGZ_AMQP_URL` or `DAGZ_CASSANDRA_URL`, or say `url` under `[postgres]`, `[mysql]`, `[redis]`, `[amqp]` or `[cassandra]` in `dagz.toml`";

/// The key, and the variable, for where RabbitMQ's management API is.
const MANAGEMENT: &str = "management";
const MANAGEMENT_VARIABLE: &str = "DAGZ_AMQP_MANAGEMENT_URL";

/// The servers that environment and `dagz.toml` name.
pub(crate) fn configured(settings: &Settings) -> Outcome<Vec<Service>> {
    find(settings, |name| {
        env::var(name).ok().filter(|text| !text.is_empty())
    })
}

fn find(settings: &Settings, variable: impl Fn(&str) -> Option<String>) -> Outcome<Vec<Service>> {
    for (name, section) in settings.sections() {
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.word() == name) else {
            return Err(Failure::usage(format!(
                "`dagz.toml` has the section `[{name}]`, which this command does not know; it knows `[postgres]`, `[mysql]`, `[redis]`, `[amqp]` and `[cassandra]`"
            )));
        };
        if let Some(key) = section.keys().find(|key| !kind.keys().contains(key)) {
            return Err(Failure::usage(format!(
                "`[{}]` in `dagz.toml` has the unknown key `{key}`; known is `{}`",
                kind.word(),
                kind.keys().join("`, `")
            )));
        }
    }
    let mut services = Vec::new();
    for kind in Kind::ALL {
        let own = variable(kind.variable()).map(|url| (url, kind.variable().to_owned()));
        let section = settings.section(kind.word());
        let from_file = section.and_then(|section| section.value("url")).map(|url| {
            let origin = format!("`dagz.toml`, [{}]", kind.word());
            (url.to_owned(), origin)
        });
        let usual = kind.usual_variables().iter().find_map(|name| {
            let url = variable(name).filter(|url| kind.is_own(url))?;
            Some((url, (*name).to_owned()))
        });
        if let Some((url, origin)) = own.or(from_file).or(usual) {
            let management = match kind {
                Kind::Amqp => variable(MANAGEMENT_VARIABLE).or_else(|| {
                    let value = section.and_then(|section| section.value(MANAGEMENT));
                    value.map(str::to_owned)
                }),
                _ => None,
            };
            services.push(Service {
                kind,
                url,
                management,
                origin,
            });
        }
    }
    Ok(services)
}

/// `url` without user, password and options.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // `host=localhost password=…`, or nothing that can be read: any word of it may be a secret.
        return "its address".to_owned();
    };
    // A password may have a slash or a question mark in it, so what comes after the last `@` is the host.
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let end = host.find(['/', '?', '#']).unwrap_or(host.len());
    format!("{scheme}://{}", &host[..end])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_secret_is_shown() {
        for url in [
            "postgres://me:hunter2@db:5432/shop",
            "postgres://me:hunter2/?@db:5432/shop?password=hunter2",
            "postgres://db:5432/shop?user=me&password=hunter2",
        ] {
            assert_eq!(shown(url), "postgres://db:5432", "{url}");
        }
        assert!(!shown("host=db password=hunter2").contains("hunter2"));
    }

    #[test]
    fn a_section_is_checked_by_its_reader() {
        let dir = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            fs::write(dir.path().join("dagz.toml"), text).unwrap();
            Settings::builder().workspace(dir.path()).load().unwrap()
        };
        let none = |_: &str| None;
        let error = find(&load("[postgress]"), none).unwrap_err().to_string();
        assert!(error.contains("`[postgress]`"), "{error}");
        let error = find(&load("[redis]\nulr = \"x\""), none)
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown key `ulr`"), "{error}");
        let error = find(&load("[amqp]\nmanagment = \"x\""), none).unwrap_err();
        assert!(error.to_string().contains("`url`, `management`"), "{error}");
        assert!(find(&load(""), none).unwrap().is_empty());

        let brokers = load("[amqp]\nurl = \"amqp://a\"\nmanagement = \"http://file\"");
        let management = |variable: &dyn Fn(&str) -> Option<String>| {
            let found = find(&brokers, variable).unwrap();
            found[0].management().map(str::to_owned)
        };
        assert_eq!(management(&none).as_deref(), Some("http://file"));
        let own = |name: &str| (name == MANAGEMENT_VARIABLE).then(|| "http://own".to_owned());
        assert_eq!(management(&own).as_deref(), Some("http://own"));

        let settings = load("[redis]\nurl = \"redis://file\"");
        let told = |pairs: &'static [(&'static str, &'static str)]| {
            let found = find(&settings, |name| {
                let pair = pairs.iter().find(|(known, _)| *known == name)?;
                Some(pair.1.to_owned())
            });
            let mut told = Vec::new();
            for service in found.unwrap() {
                told.push(format!("{service:?} by {}", service.origin()));
            }
            told
        };
        assert_eq!(
            told(&[
                ("DATABASE_URL", "mysql://a:b@host/shop"),
                ("REDIS_URL", "redis://usual")
            ]),
            [
                "mysql at mysql://host by DATABASE_URL",
                "redis at redis://file by `dagz.toml`, [redis]"
            ]
        );
        assert_eq!(
            told(&[("DAGZ_REDIS_URL", "redis://own")]),
            ["redis at redis://own by DAGZ_REDIS_URL"]
        );
    }
}
