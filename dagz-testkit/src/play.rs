//! What an actor has in its hands: the driver under contract, and tests around which it enters
//! scopes.
//!
//! [`Play::test`] is also how any harness of one's own embeds dagz: enter a scope, run the body on
//! a runtime that ends before the scope does, leave.

use std::{
    fmt::Display,
    future::Future,
    io::{self, Write},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::ScopedJoinHandle,
};

use anyhow::{Context, Result, bail, ensure};
use dagz_core::{Error, ErrorKind, Scope};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Choice, Contract, Hook,
    actor::Call,
    cases::{self, Run},
    declaration::Declaration,
    promises::Promises,
    stage::{self, Other},
};

/// Plays this process's role, if it has one.
pub(crate) fn perform<C: Contract>(contract: &C) -> Option<ExitCode> {
    let answer = match Call::of_this_process()? {
        Ok(call) => answer(contract, call),
        Err(error) => Err(error),
    };
    let answer = answer.map_err(|error| format!("{error:#}"));
    let line = serde_json::to_string(&answer).unwrap_or_default();
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(_) => Some(ExitCode::FAILURE),
    }
}

fn answer<C: Contract>(contract: &C, call: Call) -> Result<Value> {
    let role = call.role.clone();
    let declaration = Declaration::of(C::DECLARATION, &Promises::all()?)?;
    let play = Play {
        contract,
        declaration,
        call,
    };
    for case in cases::all::<C>() {
        match case.run {
            Run::Alone { play: body, .. } if case.name == role => {
                return body(&play).map(|()| Value::Null);
            }
            Run::Directed { roles, .. } => {
                if let Some((_, body)) = roles.iter().find(|(name, _)| *name == role) {
                    return body(&play);
                }
            }
            Run::Alone { .. } => {}
        }
    }
    bail!("nobody plays the role `{role}`")
}

/// The driver under contract, and what the director said.
#[derive(Debug)]
pub(crate) struct Play<'a, C> {
    contract: &'a C,
    declaration: Declaration,
    call: Call,
}

impl<C: Contract> Play<'_, C> {
    /// The driver.
    pub(crate) fn contract(&self) -> &C {
        self.contract
    }

    /// What the driver says of itself.
    pub(crate) fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// The driver's word.
    pub(crate) fn driver(&self) -> &'static str {
        self.declaration.driver
    }

    /// What the director said.
    pub(crate) fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.call.arguments.clone()).context("unreadable arguments")
    }

    /// The base database of the case.
    pub(crate) fn base(&self) -> String {
        self.contract.base(&self.call.prefix)
    }

    /// Another base database of the case.
    pub(crate) fn other_base(&self, other: Other) -> String {
        self.contract.base(&other.wish(&self.call.prefix))
    }

    /// Makes the base database of the case, and tells its name.
    pub(crate) fn made_base(&self) -> Result<String> {
        let base = self.base();
        self.wait(self.contract.create(&base))??;
        Ok(base)
    }

    /// The base database's name on the worker of `scope`.
    pub(crate) fn worker_name(&self, scope: &Scope, base: &str) -> Result<String> {
        let driver = self.driver();
        let config = dagz_core::configured(driver).with_context(|| {
            format!("no driver `{driver}` is configured, as `contract.toml` says")
        })?;
        Ok(config.rewrite(scope.worker(), base)?)
    }

    /// A user's function that writes `word` to the case's log.
    pub(crate) fn hook(&self, word: &'static str) -> Hook {
        Hook::new(word, stage::log_path(&self.call.stage))
    }

    /// The lines that hooks wrote.
    pub(crate) fn log(&self) -> Vec<String> {
        stage::lines(&self.log_path())
    }

    /// Where hooks write.
    pub(crate) fn log_path(&self) -> PathBuf {
        stage::log_path(&self.call.stage)
    }

    /// Configures the driver for the case's base database.
    pub(crate) fn configure(&self, choice: &Choice) -> dagz_core::Result<()> {
        let address = self.contract.address(&self.base());
        self.contract.configure(&address, choice)
    }

    /// Opens the database `name` by the driver.
    pub(crate) async fn open(&self, name: &str) -> dagz_core::Result<C::Session> {
        self.contract.open(&self.contract.address(name)).await
    }

    /// Opens the database `name` by the driver, and asks the server which one it is.
    pub(crate) async fn database(&self, name: &str) -> Result<String> {
        let session = self.open(name).await?;
        self.contract.database(&session).await
    }

    /// Opens `base` and makes sure that it is exactly that.
    pub(crate) async fn opens_unchanged(&self, base: &str) -> Result<()> {
        let database = self.database(base).await?;
        ensure!(
            database == base,
            "`{base}` must be opened unchanged, and `{database}` was"
        );
        Ok(())
    }

    /// Opens `base` and makes sure that it is the worker's own.
    pub(crate) async fn opens_rerouted(&self, scope: &Scope, base: &str) -> Result<()> {
        let database = self.database(base).await?;
        let expected = self.worker_name(scope, base)?;
        ensure!(
            database == expected && database != base,
            "`{base}` must be opened as `{expected}`, and `{database}` was"
        );
        Ok(())
    }

    /// The entries, sorted.
    pub(crate) async fn entries(&self, session: &C::Session) -> Result<Vec<(String, String)>> {
        let mut entries = self.contract.entries(session).await?;
        entries.sort();
        Ok(entries)
    }

    /// Runs `body` as a test called `name`, on this thread.
    pub(crate) fn test<T>(
        &self,
        name: &str,
        body: impl AsyncFnOnce(&Scope) -> Result<T>,
    ) -> Result<T> {
        self.enter(Scope::builder(name), body)
    }

    /// Runs `body` as the test that `builder` describes, on this thread.
    pub(crate) fn enter<T>(
        &self,
        builder: dagz_core::ScopeBuilder,
        body: impl AsyncFnOnce(&Scope) -> Result<T>,
    ) -> Result<T> {
        let guard = builder.enter()?;
        let runtime = runtime()?;
        let outcome = runtime.block_on(body(guard.scope()));
        // A test's own connections end before its worker is given back.
        drop(runtime);
        drop(guard);
        outcome
    }

    /// Runs `future` on a runtime of its own, in no scope unless this thread is in one.
    pub(crate) fn wait<F: Future>(&self, future: F) -> Result<F::Output> {
        Ok(runtime()?.block_on(future))
    }

    /// A command by which another process plays `role`.
    pub(crate) fn command(&self, role: &str) -> Result<Command> {
        self.call.command(role)
    }

    /// Gives the signal `name` to the director and the other actors.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        stage::signal(&self.call.stage, name)
    }

    /// Waits for the signal `name`.
    pub(crate) fn wait_for(&self, name: &str) -> Result<()> {
        stage::wait_for(&self.call.stage, name)
    }
}

/// A runtime of one thread, the one that waits on it.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// What a thread of the actor came to.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(outcome) => outcome,
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(text) => bail!("a thread panicked: {text}"),
            None => bail!("a thread panicked"),
        },
    }
}

/// What is in a mutex, also after a panic: the case has failed by then, and says so itself.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes sure that dagz refused, as `kind`, and said all of `told` somewhere in the error's chain.
pub(crate) fn refused<T>(
    outcome: dagz_core::Result<T>,
    kind: ErrorKind,
    told: &[&dyn Display],
) -> Result<Error> {
    let Err(error) = outcome else {
        bail!("nothing was refused, where an error of kind {kind:?} must be");
    };
    ensure!(
        error.kind() == kind,
        "the error is of kind {:?} instead of {kind:?}: {}",
        error.kind(),
        error.report()
    );
    said(&error, told)?;
    Ok(error)
}

/// Makes sure that an error says all of `told` somewhere in its chain.
pub(crate) fn said(error: &Error, told: &[&dyn Display]) -> Result<()> {
    let report = error.report().to_string();
    for told in told {
        let told = told.to_string();
        ensure!(
            report.contains(&told),
            "the error does not say `{told}`: {report}"
        );
    }
    Ok(())
}
