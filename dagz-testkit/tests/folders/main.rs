//! The contract of the smallest whole driver, [`driver`], in which a database is a folder.
//!
//! It stands for the drivers that users write, and shows what they need to say to be told whether
//! theirs is right.

mod driver;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use dagz_testkit::{Choice, Contract, Fault, FaultyAddress, Hook, Made, Prepare, SEED};

use crate::driver::{Config, Folder, ForTarget};

fn main() -> ExitCode {
    dagz_testkit::main(Folders)
}

struct Folders;

/// The folder that is the server here.
fn root() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("folders")
}

fn own(hook: &Hook) -> ForTarget {
    let hook = hook.clone();
    Arc::new(move |target| {
        let hook = hook.clone();
        Box::pin(async move { hook.call(&target).await })
    })
}

impl Contract for Folders {
    type Session = Folder;

    const DECLARATION: &'static str = include_str!("contract.toml");

    async fn server(&self) -> anyhow::Result<()> {
        Ok(fs::create_dir_all(root())?)
    }

    fn address(&self, name: &str) -> String {
        root().join(name).to_string_lossy().into_owned()
    }

    fn configure(&self, _address: &str, choice: &Choice) -> dagz_core::Result<()> {
        let (key, value) = SEED;
        let mut options = dagz_core::Options::default();
        options.single_worker_disable = choice.single_worker_disable;
        options.main_worker_bypass = choice.main_worker_bypass;
        options.strict = choice.strict;
        driver::configure(Config {
            prepare: match &choice.prepare {
                Prepare::None => driver::Prepare::None,
                Prepare::Empty => driver::Prepare::Empty,
                Prepare::Baseline => driver::Prepare::Baseline,
                Prepare::Own(hook) => driver::Prepare::Own(own(hook)),
            },
            worker_init: choice.worker_init.as_ref().map(own),
            files: vec![(key.to_owned(), value.to_owned())],
            shared: choice.unfiltered.clone(),
            options,
        })
    }

    async fn open(&self, address: &str) -> dagz_core::Result<Folder> {
        driver::open(Path::new(address)).await
    }

    async fn database(&self, session: &Folder) -> anyhow::Result<String> {
        Ok(session.name())
    }

    async fn put(&self, session: &Folder, key: &str, value: &str) -> anyhow::Result<()> {
        Ok(session.write(key, value)?)
    }

    async fn entries(&self, session: &Folder) -> anyhow::Result<Vec<(String, String)>> {
        Ok(session.files()?)
    }

    async fn remove(&self, session: &Folder, key: &str) -> anyhow::Result<()> {
        Ok(session.remove(key)?)
    }

    async fn create(&self, name: &str) -> anyhow::Result<()> {
        Ok(fs::create_dir(root().join(name))?)
    }

    async fn faulty(&self, _fault: Fault, base: &str) -> anyhow::Result<FaultyAddress> {
        let nowhere = root().join("nowhere");
        Ok(FaultyAddress {
            address: nowhere.join(base).to_string_lossy().into_owned(),
            secret: None,
            told: vec![
                nowhere.to_string_lossy().into_owned(),
                "is it mounted?".to_owned(),
            ],
        })
    }

    async fn clean(&self, made: &Made) -> anyhow::Result<()> {
        for entry in fs::read_dir(root())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&made.prefix) || is_half_made(&entry.path(), &made.project)? {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether a run that was killed left this behind.
fn is_half_made(path: &Path, project: &str) -> io::Result<bool> {
    match fs::read_to_string(path.join(".dagz")) {
        Ok(stamp) => Ok(stamp == project),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
