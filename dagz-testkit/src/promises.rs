//! The promises that make a correct driver, as `promises.toml` has them, and the cases that show
//! each. The code of the cases is in `cases/`; [`Promises::check_cases`] holds the two together.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// What is promised, in the order of the README's table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promises {
    /// What a driver may be able to do, with its meaning.
    capabilities: BTreeMap<String, String>,
    promise: Vec<Promise>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    id: String,
    says: String,
    /// The names of its cases, with the capabilities that each needs.
    cases: BTreeMap<String, Vec<String>>,
}

impl Promises {
    /// The promises of every driver.
    pub(crate) fn all() -> Result<Self> {
        Self::of(include_str!("../promises.toml")).context("`dagz-testkit/promises.toml` is wrong")
    }

    fn of(text: &str) -> Result<Self> {
        let promises: Self = toml::from_str(text)?;
        let mut ids = BTreeSet::new();
        let mut needed = BTreeSet::new();
        for Promise { id, says, cases } in &promises.promise {
            ensure!(is_word(id), "`{id}` is not of `a-z` and `_`");
            ensure!(ids.insert(id), "the promise `{id}` is there twice");
            ensure!(
                says.ends_with('.'),
                "the promise `{id}` does not say a sentence"
            );
            ensure!(!cases.is_empty(), "no case shows the promise `{id}`");
            for (case, needs) in cases {
                ensure!(is_word(case), "`{id}::{case}` is not of `a-z` and `_`");
                for capability in needs {
                    promises
                        .check_capability(capability)
                        .with_context(|| format!("the case `{id}::{case}` needs too much"))?;
                    needed.insert(capability);
                }
            }
        }
        for capability in promises.capabilities.keys() {
            ensure!(
                needed.contains(capability),
                "no case needs the capability `{capability}`"
            );
        }
        Ok(promises)
    }

    /// Makes sure that there is such a capability.
    pub(crate) fn check_capability(&self, capability: &str) -> Result<()> {
        if self.capabilities.contains_key(capability) {
            return Ok(());
        }
        let known: Vec<_> = self
            .capabilities
            .iter()
            .map(|(word, meaning)| format!("\n  `{word}`: {meaning}"))
            .collect();
        bail!(
            "no capability `{capability}` is known; these are:{}",
            known.concat()
        )
    }

    /// What the case called `name`, `<promise>::<case>`, needs.
    pub(crate) fn needs(&self, name: &str) -> Option<&[String]> {
        let (id, case) = name.split_once("::")?;
        let promise = self.promise.iter().find(|promise| promise.id == id)?;
        promise.cases.get(case).map(Vec::as_slice)
    }

    /// Makes sure that `names`, of cases with code, are the names that promises have.
    pub(crate) fn check_cases<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut coded = BTreeSet::new();
        for name in names {
            ensure!(coded.insert(name), "two cases are called `{name}`");
            ensure!(
                self.needs(name).is_some(),
                "the case `{name}` shows nothing that is promised: name its promise in `dagz-testkit/promises.toml`"
            );
        }
        for Promise { id, cases, .. } in &self.promise {
            for case in cases.keys() {
                ensure!(
                    coded.contains(format!("{id}::{case}").as_str()),
                    "nothing runs the case `{id}::{case}` of `dagz-testkit/promises.toml`: write it in `src/cases/{id}.rs`"
                );
            }
        }
        Ok(())
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
        [capabilities]
        flying = 'it can fly'
        [[promise]]
        id = 'moves'
        says = 'It moves.'
        [promise.cases]
        by_foot = []
        by_air = ['flying']
    ";

    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        Promises::of(GOOD).expect("the good one is good");
        assert!(GOOD.contains(from), "{from}");
        let error = Promises::of(&GOOD.replace(from, to)).expect_err("it was taken");
        let shown = format!("{error:#}");
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("['flying']", "['diving']", "`flying`: it can fly");
        check("['flying']", "['diving']", "`moves::by_air`");
        check("['flying']", "[]", "no case needs the capability `flying`");
        check("It moves.", "", "a sentence");
        check("'moves'", "'Moves'", "`Moves` is not");
        check("says", "tells", "`tells`");
        let twice =
            "[[promise]]\nid = 'moves'\nsays = 'It moves.'\ncases = { by_foot = [] }\n[[promise]]";
        check("[[promise]]", twice, "twice");
        check(
            "by_foot = []\n        by_air = ['flying']",
            "",
            "no case shows",
        );
    }

    #[test]
    fn cases_and_their_code_are_the_same() {
        let promises = Promises::of(GOOD).expect("the good one is good");
        let check = |names: &[&str]| promises.check_cases(names.iter().copied());
        check(&["moves::by_air", "moves::by_foot"]).expect("the cases are those");
        for (names, expected) in [
            (
                &["moves::by_air"][..],
                "nothing runs the case `moves::by_foot`",
            ),
            (&["moves::by_sea"], "`moves::by_sea` shows nothing"),
            (&["stays::by_foot"], "`stays::by_foot` shows nothing"),
            (&["moves::by_air", "moves::by_air"], "two cases"),
        ] {
            let error = check(names).expect_err("they were taken").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
