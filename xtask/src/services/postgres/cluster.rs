//! The data folder of the private Postgres: whose it is, where it is, its superuser and password.
//!
//! The main type is [`Cluster`], a data folder that is ready to be started.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::{Place, identity};
use super::binaries::Binaries;

const SETTINGS_FILE: &str = "postgres.settings.json";
const SUPERUSER: &str = "dagz";

/// What must outlive the server: kept beside its state file, and like that one for the caller's eyes only.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Settings {
    home: PathBuf,
    password: String,
    /// Used again where it is free, so that addresses in open shells stay right.
    port: Option<u16>,
}

/// A data folder that is ready to be started.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) home: PathBuf,
    pub(super) data: PathBuf,
    pub(super) last_port: Option<u16>,
    /// As whom to run, where the caller is root.
    user: Option<identity::User>,
    password: String,
}

impl Cluster {
    /// The address of its server on `port`.
    pub(super) fn url(&self, port: u16) -> String {
        url(&self.password, port)
    }

    /// Notes the port for the next start, and for telling our own addresses from the user's.
    pub(super) fn remember_port(&self, place: &Place, port: u16) -> Result<()> {
        let settings = Settings {
            home: self.home.clone(),
            password: self.password.clone(),
            port: Some(port),
        };
        place.write(SETTINGS_FILE, &settings)
    }

    /// Where the server's own words go.
    pub(super) fn log_path(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// The log's last lines.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// A command run as the server's user, knowing nothing of the caller's environment (`PGDATA`, `PGPORT`, …).
    pub(super) fn command(&self, program: &Path) -> Command {
        as_user(self.user, &self.home, program)
    }
}

/// Whether `url` is one that a private server of `place` has or had.
pub(super) fn is_own(place: &Place, address: &str) -> bool {
    let settings = place.read::<Settings>(SETTINGS_FILE);
    settings.is_some_and(|settings| {
        settings
            .port
            .is_some_and(|port| url(&settings.password, port) == address)
    })
}

/// The cluster of `place`, made where it is missing or of another version than `binaries`.
pub(super) fn ready(place: &Place, binaries: &Binaries) -> Result<Cluster> {
    let known = place.read::<Settings>(SETTINGS_FILE);
    // Without the password nobody gets into the data that may lie there.
    let is_known = known.is_some();
    let settings = match known {
        Some(settings) => settings,
        None => Settings {
            home: place.join("postgres"),
            password: random_hex(24)?,
            port: None,
        },
    };
    let (home, user) = usable_home(&settings.home)?;
    let data = home.join("data");
    let cluster = Cluster {
        home,
        data,
        last_port: settings.port,
        user,
        password: settings.password,
    };
    let version = fs::read_to_string(cluster.data.join("PG_VERSION")).ok();
    match version.as_deref().map(str::trim) {
        Some(version) if is_known && version == binaries.major.to_string() => {}
        found => {
            if let (Some(version), true) = (found, is_known) {
                eprintln!(
                    "postgres: the data in `{}` is of version {version}, the programs of {}; making it anew",
                    cluster.home.display(),
                    binaries.major
                );
            }
            make(&cluster, binaries)?;
            // After the data: a password without a cluster does no harm, the other way round nobody gets in.
            place.write(
                SETTINGS_FILE,
                &Settings {
                    home: cluster.home.clone(),
                    password: cluster.password.clone(),
                    port: cluster.last_port,
                },
            )?;
        }
    }
    Ok(cluster)
}

/// Runs initdb into a folder beside, and renames that: what is called `data` is always whole.
fn make(cluster: &Cluster, binaries: &Binaries) -> Result<()> {
    eprintln!(
        "postgres: making a private cluster with {} in `{}`",
        binaries.folder.display(),
        cluster.home.display()
    );
    if let Some((pid, _)) = super::leftover(cluster) {
        super::stop_process(pid, &cluster.data)?;
    }
    let fresh = cluster.home.join("data.new");
    let secret = cluster.home.join("superuser.new");
    for old in [&fresh, &cluster.data] {
        if old.exists() {
            fs::remove_dir_all(old)
                .with_context(|| format!("failed to remove `{}`", old.display()))?;
        }
    }
    // A verifier is no password, but nobody else's business either; it is gone in a second.
    write_privately(&secret, &verifier(&cluster.password)?)
        .with_context(|| format!("failed to write `{}`", secret.display()))?;
    if let Some(user) = cluster.user {
        chown(&secret, Some(user.uid), Some(user.gid)).context("failed to hand over a file")?;
    }
    let output = cluster
        .command(&binaries.program("initdb"))
        .arg("-D")
        .arg(&fresh)
        .args(["-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile"])
        .arg(&secret)
        .args(["--encoding=UTF8", "--locale=C", "--no-sync"])
        .output()
        .context("failed to run `initdb`")?;
    fs::remove_file(&secret).with_context(|| format!("failed to remove `{}`", secret.display()))?;
    ensure!(
        output.status.success(),
        "`initdb` failed in `{}`:\n{}",
        cluster.home.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    fs::rename(&fresh, &cluster.data).context("failed to put the new data in its place")
}

fn write_privately(path: &Path, text: &str) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// `wanted`, or a folder of the system's temporary one, made and proven to be usable by the server's user.
fn usable_home(wanted: &Path) -> Result<(PathBuf, Option<identity::User>)> {
    // Also where the folder of an earlier call was temporary and has been cleared away since.
    fs::create_dir_all(wanted).with_context(|| format!("failed to make `{}`", wanted.display()))?;
    let owner = fs::metadata(wanted)
        .with_context(|| format!("failed to look at `{}`", wanted.display()))?;
    if !identity::is_root() {
        ensure!(
            owner.uid() == identity::own_uid(),
            "`{}` belongs to another user (number {}), who ran `cargo xtask services up` before; stop that server as that user and remove the folder",
            wanted.display(),
            owner.uid()
        );
        return Ok((wanted.to_path_buf(), None));
    }
    let user = if owner.uid() == 0 {
        identity::first_user(&["postgres", "nobody"])?
    } else {
        // Of an earlier call: whoever owns the data runs it.
        identity::User {
            uid: owner.uid(),
            gid: owner.gid(),
        }
    };
    hand_over(wanted, user)?;
    if may_use(wanted, user) {
        return Ok((wanted.to_path_buf(), Some(user)));
    }
    // A checkout below root's own home, which is closed to others.
    for below in [
        std::env::temp_dir(),
        PathBuf::from("/var/tmp"),
        PathBuf::from("/tmp"),
    ] {
        let Ok(folder) = tempfile::Builder::new()
            .prefix("dagz-postgres-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&below)
        else {
            continue;
        };
        hand_over(folder.path(), user)?;
        if may_use(folder.path(), user) {
            let home = folder.keep();
            eprintln!(
                "postgres: the user that runs the server cannot reach `{}`; its data goes to `{}`",
                wanted.display(),
                home.display()
            );
            return Ok((home, Some(user)));
        }
    }
    bail!(
        "the caller is root, so the server runs as user number {}, and that one can reach neither `{}` nor a temporary folder; move the checkout to where others may go, or call as an ordinary user",
        user.uid,
        wanted.display()
    )
}

fn hand_over(folder: &Path, user: identity::User) -> Result<()> {
    chown(folder, Some(user.uid), Some(user.gid))
        .with_context(|| format!("failed to hand over `{}`", folder.display()))
}

/// Tried, not computed: modes, access lists and mounts all have a say.
fn may_use(folder: &Path, user: identity::User) -> bool {
    as_user(Some(user), folder, Path::new("/bin/sh"))
        .args(["-c", "test -w . && cd \"$0\""])
        .arg(folder)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// By the standard library's own `uid` and `gid`: no helper program is needed (`setpriv` is Linux only, `su` and
/// `runuser` open a session and want their words quoted for a shell), and it drops root's groups as well.
fn as_user(user: Option<identity::User>, folder: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("LC_ALL", "C");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    // Not the caller's group either: a Ctrl-C in the middle of initdb is ours to handle.
    command.process_group(0);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn url(password: &str, port: u16) -> String {
    format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/postgres")
}

fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .context("failed to read random bytes")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What Postgres stores instead of `password`, for one round of hashing instead of 4096.
///
/// The rounds protect passwords that people think of. This one is 192 random bits, and each connection of a test
/// would pay for them on the client's side too: 65 ms in an unoptimised build, measured, against 2.5 ms.
fn verifier(password: &str) -> Result<String> {
    const ROUNDS: u32 = 1;
    let salt = random_hex(8)?.into_bytes();
    let mut block = salt.clone();
    block.extend(1_u32.to_be_bytes());
    let salted = keyed_hash(password.as_bytes(), &block)?;
    let stored_key = Sha256::digest(keyed_hash(&salted, b"Client Key")?);
    let server_key = keyed_hash(&salted, b"Server Key")?;
    Ok(format!(
        "SCRAM-SHA-256${ROUNDS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    ))
}

fn keyed_hash(key: &[u8], message: &[u8]) -> Result<Vec<u8>> {
    let mut hash = Hmac::<Sha256>::new_from_slice(key).context("failed to hash")?;
    hash.update(message);
    Ok(hash.finalize().into_bytes().to_vec())
}
