//! Which branch and commit are checked out, read from git's own files: starting a `git` would cost more than
//! many a test.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is checked out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The branch; `None` on a detached head.
    pub(crate) branch: Option<String>,
    /// The commit's whole hash.
    pub(crate) commit: Option<String>,
}

impl Revision {
    /// What is checked out at or above `folder`; nothing where there is no repository.
    pub(crate) fn of(folder: &Path) -> Self {
        Self::read(folder).unwrap_or_default()
    }

    fn read(folder: &Path) -> Option<Self> {
        let own = folder.ancestors().find_map(git_folder)?;
        let head = fs::read_to_string(own.join("HEAD")).ok()?;
        let head = head.trim();
        let Some(reference) = head.strip_prefix("ref: ") else {
            return Some(Self {
                branch: None,
                commit: hash(head),
            });
        };
        // A linked worktree keeps its own head, and shares the branches.
        let common = fs::read_to_string(own.join("commondir"))
            .map_or_else(|_| own.clone(), |path| own.join(path.trim()));
        let loose = fs::read_to_string(common.join(reference)).ok();
        let commit = loose
            .and_then(|text| hash(text.trim()))
            .or_else(|| packed(&common, reference));
        let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
        Some(Self {
            branch: Some(branch.to_owned()),
            commit,
        })
    }
}

fn git_folder(folder: &Path) -> Option<PathBuf> {
    let git = folder.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = fs::read_to_string(&git).ok()?;
    let path = text.trim().strip_prefix("gitdir: ")?;
    Some(folder.join(path))
}

fn packed(common: &Path, reference: &str) -> Option<String> {
    let text = fs::read_to_string(common.join("packed-refs")).ok()?;
    text.lines().find_map(|line| {
        let (commit, name) = line.split_once(' ')?;
        (name == reference).then(|| hash(commit)).flatten()
    })
}

fn hash(text: &str) -> Option<String> {
    let is_hash = text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@localhost"])
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn it_is_what_git_says() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("shop");
        fs::create_dir(&folder).unwrap();
        assert_eq!(Revision::of(&folder), Revision::default());
        git(
            &folder,
            &["init", "--quiet", "--initial-branch", "try/this"],
        );
        let unborn = Revision::of(&folder);
        assert_eq!(unborn.branch.as_deref(), Some("try/this"));
        assert_eq!(unborn.commit, None);
        git(
            &folder,
            &["commit", "--quiet", "--allow-empty", "--message", "one"],
        );
        let commit = git(&folder, &["rev-parse", "HEAD"]);
        let check = |folder: &Path, branch: Option<&str>| {
            let revision = Revision::of(folder);
            assert_eq!(revision.branch.as_deref(), branch);
            assert_eq!(revision.commit.as_ref(), Some(&commit));
        };
        fs::create_dir(folder.join("inner")).unwrap();
        check(&folder.join("inner"), Some("try/this"));
        git(&folder, &["pack-refs", "--all"]);
        check(&folder, Some("try/this"));
        git(
            &folder,
            &["worktree", "add", "--quiet", "-b", "two", "../two"],
        );
        check(&dir.path().join("two"), Some("two"));
        git(&folder, &["checkout", "--quiet", "--detach"]);
        check(&folder, None);
    }
}
