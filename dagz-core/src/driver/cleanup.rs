//! What a driver's `databases` lists, and its `remove` takes.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Role, Stamp};
use crate::Worker;

/// A database that dagz made, or was making, for a project.
#[derive(Clone)]
pub struct Stamped<A> {
    at: A,
    name: String,
    project: String,
    job: Option<String>,
    worker: Option<Worker>,
    base: Option<String>,
    made: Option<SystemTime>,
    is_template: bool,
}

impl<A> Stamped<A> {
    /// The database `name` on the server that `at` leads to, of which `stamp` tells; none where dagz was killed
    /// before it could write one.
    pub fn new<X>(at: A, project: &str, name: String, stamp: Option<&Stamp<X>>) -> Self {
        let is_template = stamp.is_some_and(|stamp| stamp.role != Role::Worker);
        Self {
            at,
            name,
            project: project.to_owned(),
            job: stamp.map(|stamp| stamp.job.clone()),
            worker: stamp
                .filter(|_| !is_template)
                .map(|stamp| Worker::new(stamp.worker)),
            base: stamp.map(|stamp| stamp.base.clone()),
            made: stamp.map(|stamp| UNIX_EPOCH + Duration::from_secs(stamp.made)),
            is_template,
        }
    }

    /// What leads to its server; for the driver.
    pub fn at(&self) -> &A {
        &self.at
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The project it was made for.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The job it was made in; `None` where dagz was killed before it could write that down.
    pub fn job(&self) -> Option<&str> {
        self.job.as_deref()
    }

    /// The worker it belongs to; `None` for a template, or what else rows are restored from.
    pub fn worker(&self) -> Option<Worker> {
        self.worker
    }

    /// The base database it stands for.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// When it was made.
    pub fn made(&self) -> Option<SystemTime> {
        self.made
    }

    /// Whether it is a template, or holds the rows of an adopted database.
    pub fn is_template(&self) -> bool {
        self.is_template
    }
}

/// Shows what it is, without the password it is reached by.
impl<A> fmt::Debug for Stamped<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stamped")
            .field("name", &self.name)
            .field("project", &self.project)
            .field("job", &self.job)
            .field("base", &self.base)
            .field("is_template", &self.is_template)
            .finish_non_exhaustive()
    }
}
