//! The demo's databases on the server: their names, how many dagz really made, and their removal.
//!
//! On a user's own server nothing is touched but what this run of the demo made: its base database, made here, and
//! databases whose stamp (a comment that dagz leaves on each) names this run as their project. On a private server
//! the same goes for demos that were killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::{Client, NoTls, Row};
use serde_json::Value;

use crate::services::identity;

const PREFIX: &str = "dagz_demo_";

/// The databases of one run.
pub(super) struct Databases {
    client: Client,
    /// Of the base database, and of the project whose stamp worker databases get.
    name: String,
    url: String,
    is_removed: bool,
}

/// What dagz made.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Made {
    /// One per worker and base name.
    pub(super) workers: usize,
    /// What those are cloned from.
    pub(super) templates: usize,
}

/// The name of this process's run `number` of what `word` says; the process number keeps two demos apart.
pub(super) fn name(word: &str, number: u32) -> String {
    format!("{PREFIX}{word}_{}_{number}", std::process::id())
}

/// Removes what demos left behind that were killed on this machine; for private servers only.
pub(super) fn remove_abandoned(server: &str) -> Result<()> {
    let mut client = connect(server)?;
    let mut names = BTreeSet::new();
    for (database, stamp) in all(&mut client)? {
        names.insert(stamp.map_or(database, |stamp| stamp.project));
    }
    for name in names {
        if process_in(&name).is_some_and(|pid| !identity::exists(pid)) {
            Databases {
                client: connect(server)?,
                url: with_database(server, &name)?,
                name,
                is_removed: false,
            }
            .remove()?;
        }
    }
    Ok(())
}

/// 4711 of `dagz_demo_today_4711_1`.
fn process_in(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.split('_').skip(1);
    let pid = parts.next()?.parse().ok()?;
    // The number of the run, and no more.
    parts.next()?.parse::<u32>().ok()?;
    parts.next().is_none().then_some(pid)
}

/// Every database with its stamp, if it has one.
fn all(client: &mut Client) -> Result<Vec<(String, Option<Stamp>)>> {
    let rows = client
        .query(
            "SELECT datname::text, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY 1",
            &[],
        )
        .context("failed to list the server's databases")?;
    let stamp = |row: &Row| stamp_in(row.get::<_, Option<&str>>(1)?);
    Ok(rows.iter().map(|row| (row.get(0), stamp(row))).collect())
}

impl Databases {
    /// Makes the empty base database `name` on the server at `server`.
    pub(super) fn new(server: &str, name: &str) -> Result<Self> {
        let url = with_database(server, name)?;
        let mut client = connect(server)?;
        client
            .batch_execute(&format!("CREATE DATABASE {}", quoted(name)))
            .with_context(|| format!("failed to create the database `{name}`"))?;
        Ok(Self {
            client,
            name: name.to_owned(),
            url,
            is_removed: false,
        })
    }

    /// How to reach the base database.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The project's name for dagz, unique to this run.
    pub(super) fn project(&self) -> &str {
        &self.name
    }

    /// What dagz made, by asking the server.
    pub(super) fn made(&mut self) -> Result<Made> {
        let mut made = Made::default();
        for (_, is_template) in self.stamped()? {
            if is_template {
                made.templates += 1;
            } else {
                made.workers += 1;
            }
        }
        Ok(made)
    }

    /// Drops them all.
    pub(super) fn remove(mut self) -> Result<()> {
        self.remove_all()
    }

    fn remove_all(&mut self) -> Result<()> {
        self.is_removed = true;
        let mut names = vec![self.name.clone()];
        for (name, is_template) in self.stamped()? {
            if is_template {
                // Postgres refuses to drop what is marked as a template.
                let unmark = format!("ALTER DATABASE {} IS_TEMPLATE false", quoted(&name));
                self.client
                    .batch_execute(&unmark)
                    .with_context(|| format!("failed to unmark the template `{name}`"))?;
            }
            names.push(name);
        }
        for name in names {
            self.client
                .batch_execute(&format!(
                    "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                    quoted(&name)
                ))
                .with_context(|| format!("failed to drop the database `{name}`"))?;
        }
        Ok(())
    }

    /// The databases with this run's stamp, and whether each is a template.
    fn stamped(&mut self) -> Result<Vec<(String, bool)>> {
        let mut found = Vec::new();
        for (name, stamp) in all(&mut self.client)? {
            if let Some(stamp) = stamp
                && stamp.project == self.name
            {
                found.push((name, stamp.is_template));
            }
        }
        Ok(found)
    }
}

impl Drop for Databases {
    /// Also after a failed or interrupted run.
    fn drop(&mut self) {
        if !self.is_removed
            && let Err(error) = self.remove_all()
        {
            eprintln!(
                "failed to remove the demo's databases `{}…`: {error:#}",
                self.name
            );
        }
    }
}

/// What a stamp says that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    project: String,
    is_template: bool,
}

/// The stamp in a database's comment: a JSON object with a key `dagz`.
fn stamp_in(description: &str) -> Option<Stamp> {
    let stamp: Value = serde_json::from_str(description).ok()?;
    stamp.get("dagz")?;
    Some(Stamp {
        project: stamp.get("project")?.as_str()?.to_owned(),
        is_template: stamp.get("role").and_then(Value::as_str) == Some("template"),
    })
}

/// The median time of a prepared `SELECT 1`: the median over five connections, since one may be lucky.
pub(super) fn round_trip(server: &str) -> Result<Duration> {
    const WARM_UP: usize = 100;
    const COUNTED: usize = 1000;
    let mut medians = Vec::new();
    for _ in 0..5 {
        let mut client = connect(server)?;
        let statement = client.prepare("SELECT 1").context("failed to prepare")?;
        let mut times = Vec::with_capacity(COUNTED);
        for turn in 0..WARM_UP + COUNTED {
            let begun = Instant::now();
            client.query_one(&statement, &[]).context("failed to ask")?;
            if turn >= WARM_UP {
                times.push(begun.elapsed());
            }
        }
        times.sort_unstable();
        medians.push(times[times.len() / 2]);
    }
    medians.sort_unstable();
    Ok(medians[medians.len() / 2])
}

fn connect(url: &str) -> Result<Client> {
    let mut config: postgres::Config = url
        .parse()
        .context("`DATABASE_URL` is no address of Postgres")?;
    config.application_name("cargo xtask demo");
    config
        .connect(NoTls)
        .context("failed to connect to Postgres")
}

/// `server` with another database.
fn with_database(server: &str, name: &str) -> Result<String> {
    let Some((scheme, rest)) = server.split_once("://") else {
        // `key=value` pairs, of which the last counts.
        return Ok(format!("{server} dbname={name}"));
    };
    let (place, options) = match rest.split_once('?') {
        Some((place, options)) => (place, Some(options)),
        None => (rest, None),
    };
    if options.is_some_and(|options| options.split('&').any(|one| one.starts_with("dbname="))) {
        bail!("`DATABASE_URL` names its database by `?dbname=`; name it by the path");
    }
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    let options = options.map_or(String::new(), |options| format!("?{options}"));
    Ok(format!("{scheme}://{host}/{name}{options}"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_exchanged_and_nothing_else() {
        for (before, after) in [
            ("postgres://u:p@h:1/old", "postgres://u:p@h:1/new"),
            ("postgres://u@h", "postgres://u@h/new"),
            (
                "postgresql://%2Frun/old?connect_timeout=3",
                "postgresql://%2Frun/new?connect_timeout=3",
            ),
            ("host=h dbname=old", "host=h dbname=old dbname=new"),
        ] {
            let changed = with_database(before, "new").unwrap();
            assert_eq!(changed, after);
            let config: postgres::Config = changed.parse().unwrap();
            assert_eq!(config.get_dbname(), Some("new"));
        }
        assert!(with_database("postgres://h/a?dbname=b", "new").is_err());
    }

    #[test]
    fn the_process_is_read_from_the_name() {
        assert_eq!(process_in("dagz_demo_today_4711_1"), Some(4711));
        assert_eq!(process_in(&name("serial", 3)), Some(std::process::id()));
        for other in [
            "shop",
            "dagz_demo",
            "dagz_demo_a_b_1",
            "dagz_demo_today_4711_1_jw00",
        ] {
            assert_eq!(process_in(other), None, "{other}");
        }
    }

    #[test]
    fn only_stamps_have_a_project() {
        let text = r#"{"dagz":1,"project":"a","role":"template"}"#;
        let expected = Stamp {
            project: "a".to_owned(),
            is_template: true,
        };
        assert_eq!(stamp_in(text), Some(expected));
        let worker = stamp_in(r#"{"dagz":1,"project":"a","role":"worker"}"#).unwrap();
        assert!(!worker.is_template);
        assert_eq!(stamp_in(r#"{"project":"a"}"#), None);
        assert_eq!(stamp_in("our production database"), None);
    }
}
