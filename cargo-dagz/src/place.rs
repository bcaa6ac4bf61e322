//! Where the command is: the settings of the workspace around the current directory, and its jobs.

use dagz_core::{
    Settings,
    history::{History, Job},
};

use crate::exit::{Failure, Outcome};

/// The settings of the workspace that the current directory is in.
pub(crate) fn settings() -> Outcome<Settings> {
    let settings = Settings::builder().load()?;
    let root = settings.workspace();
    let is_workspace = ["dagz.toml", "Cargo.toml"]
        .iter()
        .any(|file| root.join(file).is_file());
    if !is_workspace {
        return Err(Failure::usage(format!(
            "`{}` is in no Cargo workspace; call `cargo dagz` inside of one",
            root.display()
        )));
    }
    Ok(settings)
}

/// The job called `id`, or the newest for `latest`.
pub(crate) fn job(settings: &Settings, id: &str) -> Outcome<Job> {
    let history = History::of(settings);
    if let Some(job) = history.job(id)? {
        return Ok(job);
    }
    let jobs = history.jobs()?;
    let text = match (jobs.first(), jobs.last()) {
        (Some(newest), Some(oldest)) => format!(
            "there is no job `{id}`; there are `{}` to `{}`, see `cargo dagz jobs`",
            oldest.id(),
            newest.id()
        ),
        _ => format!(
            "there is no job `{id}`, and no other: no test with dagz has run yet, or its record is not in `{}`",
            settings.state_dir().display()
        ),
    };
    Err(Failure::usage(text))
}
