//! The driver of a process, once the user has configured it.
//!
//! The main type is [`Configured`], of which a driver crate has one in a `static`.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{DbConfig, Error, ErrorKind, Result};

/// The place of the driver that this process uses.
///
/// The core has it, too, as a [`DbConfig`]; here it has its own type.
#[derive(Debug)]
pub struct Configured<D> {
    driver: OnceLock<D>,
    word: &'static str,
    shown: &'static str,
    configuring: Mutex<()>,
}

impl<D: DbConfig + Clone> Configured<D> {
    /// An empty place for the driver called `word`, `postgres`, and shown as `shown`, `Postgres`.
    pub const fn new(word: &'static str, shown: &'static str) -> Self {
        Self {
            driver: OnceLock::new(),
            word,
            shown,
            configuring: Mutex::new(()),
        }
    }

    /// Makes `driver` the one of this process.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyConfigured`] the second time.
    pub fn configure(&self, driver: D) -> Result<()> {
        let _one_at_a_time = self
            .configuring
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if crate::configured(self.word).is_none() {
            // First here, so that the first access through the core finds it.
            self.driver.get_or_init(|| driver.clone());
        }
        crate::configure(driver)
    }

    /// The driver of this process, if it is configured.
    pub fn get(&self) -> Option<&D> {
        self.driver.get()
    }

    /// The driver of this process, which must be configured by now.
    ///
    /// # Errors
    /// [`ErrorKind::Unconfigured`] where it is not.
    pub fn required(&self) -> Result<&D> {
        self.get().ok_or_else(|| {
            Error::new(
                ErrorKind::Unconfigured,
                format!(
                    "the {} driver is not configured: call `dagz::{}::configure(..)` first",
                    self.shown, self.word
                ),
            )
        })
    }
}
