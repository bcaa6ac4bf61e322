//! Settings for a test binary: four workers, and a state directory of its own.

use std::{path::Path, sync::OnceLock, time::Duration};

use dagz_core::{Settings, SettingsBuilder};

/// This process's own folder: for the settings' state and for the folders that are the databases.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<tempfile::TempDir> = OnceLock::new();
    ROOT.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// Settings for a test binary: four workers and a state directory of its own.
pub(crate) fn settings() -> SettingsBuilder {
    Settings::builder()
        .workers(4)
        .project("core-tests")
        .state_dir(root().join("state"))
        .lease_timeout(Duration::from_secs(30))
}
