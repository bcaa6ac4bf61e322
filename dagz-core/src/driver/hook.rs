//! Functions of the user's, as a driver's `Config` keeps them.
//!
//! [`Hook`] is run for a worker's database, as `worker_init` or `prepare_with`; [`PrepareWith`] chooses between
//! one and the driver's own ways; [`Migrations`] makes the schema of a template, by files and a [`Migrate`].
//! `A` is what opens a database, such as the settings of a connection.

use std::{fmt, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use crate::{
    Error, ErrorKind, Result, Target,
    migrations::{self, Migration},
};

/// Any error of a user's function.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Running = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// A function of the user's that is run for one worker's database.
pub struct Hook<A> {
    /// The builder method that took it.
    method: &'static str,
    kind: ErrorKind,
    function: Arc<dyn Fn(Target, A) -> Running + Send + Sync>,
}

impl<A> Hook<A> {
    /// What `Config::worker_init` takes.
    pub fn worker_init<F, Fut, E>(function: F) -> Self
    where
        F: Fn(Target, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::new("worker_init", ErrorKind::WorkerInit, function)
    }

    /// What `Config::prepare_with` takes.
    pub fn prepare_with<F, Fut, E>(function: F) -> Self
    where
        F: Fn(Target, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::new("prepare_with", ErrorKind::Prepare, function)
    }

    fn new<F, Fut, E>(method: &'static str, kind: ErrorKind, function: F) -> Self
    where
        F: Fn(Target, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self {
            method,
            kind,
            function: Arc::new(move |target, at| boxed(function(target, at))),
        }
    }

    /// Runs it for the database of `target`, which `at` opens.
    ///
    /// # Errors
    /// What the function returns, as the source of an error of dagz's.
    pub async fn call(&self, target: &Target, at: A) -> Result<()> {
        let done = (self.function)(target.clone(), at);
        done.await.map_err(|error| {
            let (method, name) = (self.method, target.name());
            Error::new(
                self.kind,
                format!("the `{method}` function failed for `{name}`"),
            )
            .with_source(error)
        })
    }
}

impl<A> Clone for Hook<A> {
    fn clone(&self) -> Self {
        Self {
            method: self.method,
            kind: self.kind,
            function: Arc::clone(&self.function),
        }
    }
}

impl<A> fmt::Debug for Hook<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("closure")
    }
}

/// What `prepare` does: one of the driver's own ways, `P`, or the user's function.
#[derive(Clone)]
pub enum PrepareWith<P, A> {
    /// One of the driver's.
    Own(P),
    /// The user's, from `Config::prepare_with`.
    Hook(Hook<A>),
}

impl<P: Default, A> Default for PrepareWith<P, A> {
    fn default() -> Self {
        Self::Own(P::default())
    }
}

impl<P: fmt::Debug, A> fmt::Debug for PrepareWith<P, A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(prepare) => prepare.fmt(formatter),
            Self::Hook(hook) => hook.fmt(formatter),
        }
    }
}

/// A function of the user's that makes the schema of a template.
pub struct Migrate<A> {
    tag: String,
    function: Arc<dyn Fn(A) -> Running + Send + Sync>,
}

impl<A> Migrate<A> {
    /// What `Config::migrate_with` takes; `tag` stands for what the function does.
    pub fn new<F, Fut, E>(tag: impl Into<String>, function: F) -> Self
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self {
            tag: tag.into(),
            function: Arc::new(move |at| boxed(function(at))),
        }
    }

    /// Runs it in the template `database`, which `at` opens.
    ///
    /// # Errors
    /// What the function returns, as the source of an error of dagz's.
    pub async fn call(&self, database: &str, at: A) -> Result<()> {
        (self.function)(at).await.map_err(|error| {
            Error::new(
                ErrorKind::WorkerInit,
                format!("the `migrate_with` function failed in template database `{database}`"),
            )
            .with_source(error)
        })
    }
}

impl<A> Clone for Migrate<A> {
    fn clone(&self) -> Self {
        Self {
            tag: self.tag.clone(),
            function: Arc::clone(&self.function),
        }
    }
}

impl<A> fmt::Debug for Migrate<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tag.fmt(formatter)
    }
}

/// How the schema of a template is made: by the files of a directory, then by a function.
#[derive(Clone, Debug)]
pub struct Migrations<A> {
    /// What `Config::migrations` takes.
    pub directory: Option<PathBuf>,
    /// What `Config::migrate_with` takes.
    pub function: Option<Migrate<A>>,
}

impl<A> Migrations<A> {
    /// Whether there are neither, so that a template is a copy of the base database.
    pub fn is_none(&self) -> bool {
        self.directory.is_none() && self.function.is_none()
    }

    /// The files of the directory, in their order; none where there is no directory.
    ///
    /// # Errors
    /// Those of [`migrations::read`].
    pub fn read(&self) -> Result<Vec<Migration>> {
        match &self.directory {
            Some(directory) => migrations::read(directory),
            None => Ok(Vec::new()),
        }
    }

    /// What tells these from others: the files, and the tag of the function. `format` is to change whenever
    /// a template of an earlier version of the driver must not be used any more.
    ///
    /// # Errors
    /// Those of [`migrations::read`].
    pub fn fingerprint(&self, format: &str) -> Result<String> {
        let tag = self.function.as_ref().map(|function| function.tag.as_str());
        Ok(migrations::fingerprint(format, &self.read()?, tag))
    }
}

impl<A> Default for Migrations<A> {
    fn default() -> Self {
        Self {
            directory: None,
            function: None,
        }
    }
}

fn boxed<Fut, E>(done: Fut) -> Running
where
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError>,
{
    Box::pin(async move { done.await.map_err(Into::into) })
}
