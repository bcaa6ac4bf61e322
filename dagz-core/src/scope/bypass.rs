//! What a test asks for beside the usual: the base databases, or to prepare one by itself.

use std::sync::{PoisonError, atomic::Ordering};

use super::{Scope, current};
use crate::{Error, ErrorKind, Result};

/// Switches rerouting off for the current scope until the guard is dropped: what it opens meanwhile
/// is the base database, never prepared. Outside a scope it changes nothing.
pub fn bypass() -> BypassGuard {
    let scope = current();
    if let Some(scope) = &scope {
        scope.inner.bypassed.fetch_add(1, Ordering::SeqCst);
    }
    BypassGuard { scope }
}

/// Keeps rerouting switched off for a scope; made by [`bypass`].
#[derive(Debug)]
#[must_use = "rerouting is switched on again when this is dropped"]
pub struct BypassGuard {
    scope: Option<Scope>,
}

impl Drop for BypassGuard {
    fn drop(&mut self) {
        if let Some(scope) = &self.scope {
            scope.inner.bypassed.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Declares that this test prepares the database `base` of `driver` itself: it is still rerouted
/// and initialised, but not prepared.
///
/// # Errors
///
/// [`ErrorKind::OutsideScope`] when the thread is in no scope; [`ErrorKind::Prepare`] when the
/// database has been prepared already, so that the declaration comes too late.
pub fn manual_init(driver: &str, base: &str) -> Result<()> {
    let scope = current().ok_or_else(|| {
        Error::new(
            ErrorKind::OutsideScope,
            format!("`manual_init` of the {driver} database `{base}` was called outside a test; call it inside, before the first access"),
        )
    })?;
    if scope.inner.progress.is_routed(driver, base) {
        return Err(Error::new(
            ErrorKind::Prepare,
            format!(
                "`manual_init` of the {driver} database `{base}` comes too late in `{}`: it was opened before",
                scope.test()
            ),
        ));
    }
    scope
        .inner
        .manual
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert((driver.to_owned(), base.to_owned()));
    Ok(())
}
