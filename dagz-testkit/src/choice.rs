//! How a case wants the driver configured: [`Choice`], and the [`Hook`] by which it counts calls.

use std::{fs::OpenOptions, io, io::Write, path::PathBuf, process, time::Duration};

use dagz_core::Target;

/// The entry, key and value, that a worker's database holds after `worker_init`.
pub const SEED: (&str, &str) = ("seed", "sown");

/// What a user of the driver may choose, and a case does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Choice {
    /// How a database is brought to its start state.
    pub prepare: Prepare,
    /// What the user runs in place of the driver's own `worker_init`: [`Hook::call`], and then
    /// whatever makes the database.
    pub worker_init: Option<Hook>,
    /// A base database that the user's filter does not let be rerouted.
    pub unfiltered: Option<String>,
    /// [`Options::single_worker_disable`](dagz_core::Options::single_worker_disable)
    pub single_worker_disable: bool,
    /// [`Options::main_worker_bypass`](dagz_core::Options::main_worker_bypass)
    pub main_worker_bypass: bool,
    /// [`Options::strict`](dagz_core::Options::strict)
    pub strict: bool,
}

impl Default for Choice {
    /// Emptied databases, and every option as dagz has it.
    fn default() -> Self {
        let options = dagz_core::Options::default();
        Self {
            prepare: Prepare::Empty,
            worker_init: None,
            unfiltered: None,
            single_worker_disable: options.single_worker_disable,
            main_worker_bypass: options.main_worker_bypass,
            strict: options.strict,
        }
    }
}

/// How a database is brought to its start state.
#[derive(Clone, Debug)]
pub enum Prepare {
    /// Not at all.
    None,
    /// Without any entry.
    Empty,
    /// With what `worker_init` left. Only with the capability `baseline`.
    Baseline,
    /// By the user's own function: [`Hook::call`], and then emptied.
    Own(Hook),
}

/// The user's own function in a case: it writes down that it was called, and may fail.
#[derive(Clone, Debug)]
pub struct Hook {
    log: PathBuf,
    word: &'static str,
    pause: Duration,
    failure: Option<String>,
}

impl Hook {
    /// What the function says when it fails on purpose.
    pub(crate) const FAILURE: &'static str = "it fails on purpose";

    /// A function that appends `word` and the worker to the file `log`.
    pub(crate) fn new(word: &'static str, log: PathBuf) -> Self {
        Self {
            log,
            word,
            pause: Duration::ZERO,
            failure: None,
        }
    }

    /// Makes it take `pause`, for others to come in between.
    pub(crate) fn slow(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Makes it fail.
    pub(crate) fn failing(mut self) -> Self {
        self.failure = Some(Self::FAILURE.to_owned());
        self
    }

    /// Runs the function. The driver's error must have this one as a source.
    ///
    /// # Errors
    ///
    /// The failure that the case wants, or the log's.
    pub async fn call(&self, target: &Target) -> io::Result<()> {
        let line = format!("{} {} {}\n", self.word, target.worker(), process::id());
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?
            .write_all(line.as_bytes())?;
        tokio::time::sleep(self.pause).await;
        match &self.failure {
            Some(failure) => Err(io::Error::other(failure.clone())),
            None => Ok(()),
        }
    }
}
