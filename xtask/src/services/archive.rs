//! A newer Debian in a folder, from which the matrix takes its second versions: [`with`].
//!
//! The folder is made by debootstrap, its programs run in it by `chroot`; nothing outside of it changes. Both ask
//! for root, and so does the matrix.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::home::OtherRoot;
use super::packages::{self, Root, Wanted};
use super::{Place, Service, identity};
use crate::progress::say;

/// The suite of Debian's that has the newest of everything.
const SUITE: &str = "sid";

/// A package of the archive.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    /// What must be done before it is installed.
    pub(super) before: Option<Before>,
}

/// A package that must be there first, with a file of it changed.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) package: &'static str,
    /// From the archive's root.
    pub(super) file: &'static str,
    pub(super) change: fn(&str) -> String,
}

/// The archive's folder with `package` installed in it.
pub(super) fn with(place: &Place, service: &dyn Service, package: &Package) -> Result<OtherRoot> {
    let kind = service.kind();
    ensure!(
        identity::is_root(),
        "a second version of a server runs in a folder of its own by `chroot`, which only root may do; call as root, or set `{}` to a server of yours",
        service.given_by()
    );
    // One at a time: all kinds share the folder.
    let _turn = place.turn("archive")?;
    let root = place.join(SUITE);
    let right = Root::find().context("the caller is root no more")?;
    if !root.is_dir() {
        make(place, &root, &right)?;
    }
    if !is_installed(&root, package.name) {
        say(&format!(
            "{kind}: installing {} of Debian {SUITE}",
            package.name
        ));
        if let Some(before) = &package.before {
            install(&root, &right, before.package)?;
            let path = root.join(before.file.trim_start_matches('/'));
            let text = fs::read_to_string(&path).unwrap_or_default();
            fs::write(&path, (before.change)(&text))
                .with_context(|| format!("failed to write `{}`", path.display()))?;
        }
        install(&root, &right, package.name)?;
    }
    Ok(OtherRoot(root))
}

/// Makes the folder beside its place, and renames it there when it is whole.
fn make(place: &Place, root: &Path, right: &Root) -> Result<()> {
    if packages::find("debootstrap").is_none() {
        let wanted = Wanted {
            kind: "matrix",
            packages: &["debootstrap", "debian-archive-keyring"],
            units: &[],
            remedy: "install it (`apt-get install debootstrap`)",
        };
        packages::install(&wanted, "no `debootstrap` found")?;
    }
    say(&format!(
        "matrix: making a Debian {SUITE} in `{}`",
        root.display()
    ));
    let fresh = place.join(format!("{SUITE}.new"));
    if fresh.exists() {
        fs::remove_dir_all(&fresh)
            .with_context(|| format!("failed to remove `{}`", fresh.display()))?;
    }
    let mut command = right.command("debootstrap");
    command.args(["--variant=minbase", SUITE]).arg(&fresh);
    right.run_shown("debootstrap", &mut command)?;
    // Package scripts ask it before they start a service: never here.
    let policy = fresh.join("usr/sbin/policy-rc.d");
    right.write(&policy, "#!/bin/sh\nexit 101\n", "755")?;
    // Erlang's nodes look for `localhost`, and need not find a name server that knows it.
    right.write(&fresh.join("etc/hosts"), "127.0.0.1 localhost\n", "644")?;
    // Shared memory of a server's is files here, which its user must be allowed to make.
    right.run(
        right
            .command("chmod")
            .arg("1777")
            .arg(fresh.join("dev/shm")),
    )?;
    fs::rename(&fresh, root).with_context(|| format!("failed to make `{}`", root.display()))
}

fn install(root: &Path, right: &Root, package: &str) -> Result<()> {
    // Package scripts want `/proc`. It is mounted for this one command and its children, and gone with them.
    // What an interrupted installation left half-way is finished first.
    let script = "mount -t proc proc \"$0/proc\" && chroot \"$0\" dpkg --configure -a && \
                  exec chroot \"$0\" apt-get -q install -y --no-install-recommends \"$1\"";
    let mut command = right.command("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(root)
        .arg(package);
    right.run_shown(&format!("apt-get install {package}"), &mut command)
}

/// As the folder's own package manager notes it.
fn is_installed(root: &Path, package: &str) -> bool {
    let notes = fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap_or_default();
    notes.split("\n\n").any(|note| {
        let mut lines = note.lines();
        lines.next() == Some(&format!("Package: {package}"))
            && lines.any(|line| line == "Status: install ok installed")
    })
}
