//! What a driver says of itself in its `tests/contract.toml`: its words, the facts that cases need,
//! and what it cannot do. The main type is [`Declaration`]; xtask reads the same files.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::promises::Promises;

/// A driver's `tests/contract.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Declaration {
    /// The driver's word.
    pub(crate) driver: &'static str,
    /// What its server is called by people.
    title: &'static str,
    /// The longest name of a database, in bytes.
    pub(crate) name_limit: Option<usize>,
    /// A name of the server's own that is never rerouted and can be opened.
    pub(crate) system_database: Option<&'static str>,
    /// What it cannot do, and why.
    #[serde(default)]
    cannot: BTreeMap<String, String>,
}

impl Declaration {
    /// Reads one.
    pub(crate) fn of(text: &'static str, promises: &Promises) -> Result<Self> {
        Self::checked(text, promises).context("the driver's `tests/contract.toml` is wrong")
    }

    fn checked(text: &'static str, promises: &Promises) -> Result<Self> {
        let declaration: Self = toml::from_str(text)?;
        let Self { driver, title, .. } = declaration;
        ensure!(
            !driver.is_empty() && !title.is_empty(),
            "`driver` or `title` is empty"
        );
        for (capability, reason) in &declaration.cannot {
            promises.check_capability(capability)?;
            ensure!(
                !reason.trim().is_empty(),
                "`cannot.{capability}` gives no reason"
            );
        }
        for (fact, is_known) in [
            ("name_limit", declaration.name_limit.is_some()),
            ("system_database", declaration.system_database.is_some()),
        ] {
            ensure!(
                is_known == declaration.can(fact),
                "say either `{fact} = ..` or, under `[cannot]`, why there is none"
            );
        }
        Ok(declaration)
    }

    /// Whether the driver has all these capabilities.
    pub(crate) fn can_all(&self, capabilities: &[String]) -> bool {
        capabilities.iter().all(|capability| self.can(capability))
    }

    fn can(&self, capability: &str) -> bool {
        !self.cannot.contains_key(capability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<Declaration> {
        Declaration::of(text, &Promises::all()?)
    }

    #[track_caller]
    fn check(text: &'static str, expected: &str) {
        let error = read(text).expect_err("it was taken");
        let shown = format!("{error:#}");
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn a_driver_can_what_it_does_not_decline() {
        let text = "driver = 'birds'\ntitle = 'Birds'\nname_limit = 9\n\
                    cannot = { system_database = 'no bird is', stamps = 'birds are free' }";
        let birds = read(text).expect("it is a good one");
        assert_eq!((birds.driver, birds.name_limit), ("birds", Some(9)));
        assert!(birds.can_all(&["name_limit".to_owned(), "baseline".to_owned()]));
        assert!(!birds.can_all(&["baseline".to_owned(), "stamps".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        check(
            "driver = 'birds'\ntitle = 'Birds'\nsystem_database = 'nest'",
            "`name_limit = ..`",
        );
        check(
            "driver = 'birds'\ntitle = 'Birds'\nname_limit = 9\nsystem_database = 'nest'\n[cannot]\nname_limit = 'x'",
            "`name_limit = ..`",
        );
        check(
            "driver = 'birds'\ntitle = 'Birds'\nname_limit = 9\nsystem_database = 'nest'\n[cannot]\nflying = 'x'",
            "`transactions`: a session",
        );
        check(
            "driver = 'birds'\ntitle = 'Birds'\nname_limit = 9\nsystem_database = 'nest'\n[cannot]\nstamps = ' '",
            "`cannot.stamps` gives no reason",
        );
        check("driver = 'birds'\ntitle = ''", "empty");
        check("driver = 'birds'\ntitle = 'B'\nlimit = 9", "`name_limit`");
    }
}
