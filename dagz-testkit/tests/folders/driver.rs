//! A sixth driver: a database is a folder, an entry is a file in it.
//!
//! It is whole, and works for anybody who keeps files per customer or per shop in one folder each.
//! Read it beside `DbConfig`'s documentation: [`Config`] is what users configure, [`open`] what they
//! call, and the methods of [`DbConfig`] are the rest. Files are small here, so that reading and
//! writing them on dagz's control runtime does not keep it from anything.

use std::{
    collections::HashMap,
    fs,
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use dagz_core::{
    Access, DbConfig, Endpoint, Error, ErrorKind, Options, Result, Target, async_trait,
    driver::command_line,
};
use futures_util::future::BoxFuture;

/// The driver's word.
pub(crate) const NAME: &str = "folders";

/// Says, inside a folder, which project dagz made it for.
const STAMP: &str = ".dagz";
/// Holds what a folder's start state is.
const START: &str = ".start";
/// Is locked while a test has the folder.
const LOCK: &str = ".lock";

/// Something of the user's that is run for one worker's folder.
pub(crate) type ForTarget = Arc<dyn Fn(Target) -> BoxFuture<'static, io::Result<()>> + Send + Sync>;

/// How a folder is brought to its start state.
pub(crate) enum Prepare {
    None,
    Empty,
    /// With the files of [`Config::files`].
    Baseline,
    /// By the user's own function, and then emptied.
    Own(ForTarget),
}

/// What the user configures.
pub(crate) struct Config {
    pub(crate) prepare: Prepare,
    /// Run before a worker's folder is made.
    pub(crate) worker_init: Option<ForTarget>,
    /// What a worker's folder holds once it is made.
    pub(crate) files: Vec<(String, String)>,
    /// A folder that is not rerouted.
    pub(crate) shared: Option<String>,
    pub(crate) options: Options,
}

/// Configures the driver.
pub(crate) fn configure(config: Config) -> Result<()> {
    dagz_core::configure(Driver {
        config,
        held: Mutex::default(),
    })
}

/// Opens the folder of the current test's worker for `path`, a folder of the application.
pub(crate) async fn open(path: &Path) -> Result<Folder> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let message = format!("`{}` is not a folder within another", path.display());
        return Err(Error::new(ErrorKind::Settings, message));
    };
    let endpoint = Endpoint::new(parent.to_string_lossy());
    let route = dagz_core::resolve(NAME, Access::new(endpoint, name.to_string_lossy())).await?;
    let path = parent.join(route.name());
    match path.is_dir() {
        true => Ok(Folder { path }),
        false => Err(Error::new(
            ErrorKind::Unreachable,
            format!("there is no folder `{}`: create it", path.display()),
        )),
    }
}

/// A folder that was opened.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Its name.
    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Writes a file, whole or not at all.
    pub(crate) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let new = self.path.join(format!(".new-{}-{count}", process::id()));
        fs::write(&new, text)?;
        fs::rename(new, self.path.join(file))
    }

    /// Removes a file.
    pub(crate) fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(file))
    }

    /// All files with their text, but not dagz's own.
    pub(crate) fn files(&self) -> io::Result<Vec<(String, String)>> {
        let mut files = Vec::new();
        for name in names(&self.path)? {
            match fs::read_to_string(self.path.join(&name)) {
                Ok(text) => files.push((name, text)),
                // Somebody else removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }
}

/// The names of the files in `folder`, but not of those that begin with a dot.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

struct Driver {
    config: Config,
    /// The locks of the folders that tests of this process have.
    held: Mutex<HashMap<PathBuf, File>>,
}

#[async_trait]
impl DbConfig for Driver {
    fn driver(&self) -> &'static str {
        NAME
    }

    fn options(&self) -> Options {
        self.config.options.clone()
    }

    fn name_limit(&self) -> usize {
        255
    }

    fn reroute(&self, name: &str) -> bool {
        self.config.shared.as_deref() != Some(name)
    }

    /// A folder's parent is its server, whichever way leads there.
    async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        match fs::canonicalize(endpoint.id()) {
            Ok(path) => Ok(Endpoint::new(path.to_string_lossy()).shown_as(endpoint.to_string())),
            Err(error) => Err(Error::new(
                ErrorKind::Unreachable,
                format!("cannot reach the folder `{endpoint}`: is it mounted?"),
            )
            .with_source(error)),
        }
    }

    fn client_command(&self, target: &Target) -> Option<String> {
        Some(command_line(["ls", &path(target).to_string_lossy()]))
    }

    async fn worker_init(&self, target: &Target) -> Result<()> {
        let failed = |error| {
            Error::new(
                ErrorKind::WorkerInit,
                format!("making the folder `{}` failed", target.name()),
            )
            .with_source(error)
        };
        if let Some(init) = &self.config.worker_init {
            init(target.clone()).await.map_err(failed)?;
        }
        if path(target).exists() {
            check_stamp(target)?;
            if !target.is_fresh() {
                return Ok(());
            }
            fs::remove_dir_all(path(target)).map_err(failed)?;
        }
        self.make(target).map_err(failed)
    }

    async fn prepare(&self, target: &Target) -> Result<()> {
        // Asked every time: between two tests, anybody may have put another folder in its place.
        check_stamp(target)?;
        self.hold(target)?;
        let failed = |error| {
            Error::new(
                ErrorKind::Prepare,
                format!("cleaning the folder `{}` failed", target.name()),
            )
            .with_source(error)
        };
        let path = path(target);
        match &self.config.prepare {
            Prepare::None => Ok(()),
            Prepare::Empty => empty(&path).map_err(failed),
            Prepare::Baseline => empty(&path)
                .and_then(|()| copy(&path.join(START), &path))
                .map_err(failed),
            Prepare::Own(prepare) => {
                prepare(target.clone()).await.map_err(failed)?;
                empty(&path).map_err(failed)
            }
        }
    }

    async fn release(&self, target: &Target) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&path(target));
    }
}

impl Driver {
    /// Makes a worker's folder, whole or not at all: a run may be killed in the middle.
    fn make(&self, target: &Target) -> io::Result<()> {
        let path = path(target);
        let new = path.with_file_name(format!(
            ".new-{}-{}",
            dagz_core::name::short_hash(target.name()),
            process::id()
        ));
        fs::create_dir_all(new.join(START))?;
        fs::write(new.join(STAMP), target.project())?;
        File::create(new.join(LOCK))?;
        for (name, text) in &self.config.files {
            fs::write(new.join(START).join(name), text)?;
        }
        copy(&new.join(START), &new)?;
        if let Err(error) = fs::rename(&new, &path) {
            fs::remove_dir_all(&new)?;
            // Another run may have made it in this very moment; `prepare` says whose it is.
            return if path.exists() { Ok(()) } else { Err(error) };
        }
        Ok(())
    }

    /// Takes the folder for a test, unless a run with another state directory has it.
    fn hold(&self, target: &Target) -> Result<()> {
        let path = path(target);
        let in_use = |error: io::Error| {
            Error::new(
                ErrorKind::InUse,
                format!(
                    "the folder `{}` is in use by another run: give both the same `DAGZ_STATE_DIR`, or different node indices",
                    target.name()
                ),
            )
            .with_source(error)
        };
        let file = OpenOptions::new()
            .write(true)
            .open(path.join(LOCK))
            .map_err(in_use)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(in_use(io::ErrorKind::ResourceBusy.into()));
            }
            Err(TryLockError::Error(error)) => return Err(in_use(error)),
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(path, file);
        Ok(())
    }
}

fn path(target: &Target) -> PathBuf {
    Path::new(target.endpoint().id()).join(target.name())
}

/// Refuses a folder that dagz did not make for this project.
fn check_stamp(target: &Target) -> Result<()> {
    let project = fs::read_to_string(path(target).join(STAMP)).ok();
    if project.as_deref() == Some(target.project()) {
        return Ok(());
    }
    let why = match project {
        None => "dagz did not create it".to_owned(),
        Some(other) => format!("it belongs to the project `{other}`"),
    };
    Err(Error::new(
        ErrorKind::Refused,
        format!(
            "refusing to use the folder `{}`: {why}; move it away",
            target.name()
        ),
    ))
}

fn empty(folder: &Path) -> io::Result<()> {
    names(folder)?
        .into_iter()
        .try_for_each(|name| fs::remove_file(folder.join(name)))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    names(from)?
        .into_iter()
        .try_for_each(|name| fs::copy(from.join(&name), to.join(&name)).map(drop))
}
