//! Where settings that no code gives come from: the environment, `dagz.toml`, the test harness.
//!
//! The main type is [`Reader`], which also notes the origin of each value.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{FILE, Origin};
use crate::{Error, ErrorKind, Result, name};

/// `dagz.toml` as text values by key.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) values: BTreeMap<String, String>,
    pub(super) sections: BTreeMap<String, Section>,
}

/// A table of `dagz.toml`, `[postgres]`, as text values by key; a list's items are joined by commas.
///
/// Its `Debug` shows no values, since a URL may hold a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Section {
    values: BTreeMap<String, String>,
}

impl Section {
    /// The value of `key` as text, if the section has it.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// The keys it has, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.keys()).finish()
    }
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut values = BTreeMap::new();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(crate::error::io_error("reading", path)(error)),
        };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let message = format!("`{}` is not valid TOML", path.display());
            Error::new(ErrorKind::Settings, message).with_source(error)
        })?;
        let mut sections = BTreeMap::new();
        for (key, value) in table {
            // Any table is a section: which there may be, the core does not know.
            if let toml::Value::Table(table) = value {
                let mut section = Section::default();
                for (inner, value) in table {
                    let value = text_of(&value).ok_or_else(|| {
                        untextual(
                            path,
                            &format!("{key}.{inner}"),
                            ", a boolean or a list of these",
                        )
                    })?;
                    section.values.insert(inner, value);
                }
                sections.insert(key, section);
                continue;
            }
            if !KEYS.contains(&key.as_str()) {
                return Err(Error::new(
                    ErrorKind::Settings,
                    format!(
                        "`{}` has the unknown key `{key}`; known are `{}`",
                        path.display(),
                        KEYS.join("`, `")
                    ),
                ));
            }
            let value = match value {
                toml::Value::Array(_) => None,
                value => text_of(&value),
            };
            let value = value.ok_or_else(|| untextual(path, &key, " or a boolean"))?;
            values.insert(key, value);
        }
        Ok(Self {
            path: path.to_owned(),
            values,
            sections,
        })
    }
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(text_of).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}

fn untextual(path: &Path, key: &str, more: &str) -> Error {
    let message = format!(
        "`{key}` in `{}` must be a string, a number{more}",
        path.display()
    );
    Error::new(ErrorKind::Settings, message)
}

const KEYS: &[&str] = &[
    "off",
    "workers",
    "node_index",
    "node_total",
    "state_dir",
    "project",
    "lease_timeout",
    "strict",
    "keep_failed",
    "jobs_kept",
    "jobs_age",
    "jobs_bytes",
    "log_bytes",
];

pub(super) struct Reader {
    pub(super) file: File,
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

impl Reader {
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        variable: &'static str,
        code: Option<T>,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>> {
        let from_environment = env::var(variable).ok().filter(|text| !text.is_empty());
        let (value, origin) = if code.is_some() {
            (code, Origin::Code)
        } else if let Some(text) = from_environment {
            let value = parse(&text).map_err(|wanted| unreadable(variable, &text, wanted))?;
            (Some(value), Origin::Environment(variable))
        } else if let Some(text) = self.file.values.get(key) {
            let shown = format!("{key}` in `{}", self.file.path.display());
            let value = parse(text).map_err(|wanted| unreadable(&shown, text, wanted))?;
            (Some(value), Origin::File(self.file.path.clone()))
        } else {
            (None, Origin::Default)
        };
        self.origins.insert(key, origin);
        Ok(value)
    }
}

pub(super) fn unreadable(name: &str, text: &str, wanted: &str) -> Error {
    let message = format!("`{name}` is `{text}`, but must be {wanted}");
    Error::new(ErrorKind::Settings, message)
}

pub(super) fn parse_number(text: &str) -> Result<u32, &'static str> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number <= 10_000)
        .ok_or("a whole number from 0 to 10000")
}

pub(super) fn parse_bytes(text: &str) -> Result<u64, &'static str> {
    text.trim().parse().map_err(|_| "a number of bytes")
}

pub(super) fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text.trim() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err("`true` or `false`"),
    }
}

/// `DAGZ=off` reads the other way round than `off = true` in a file; both mean off.
pub(super) fn parse_off(text: &str) -> Result<bool, &'static str> {
    match text.trim() {
        "off" | "0" | "no" | "true" => Ok(true),
        "on" | "1" | "yes" | "false" => Ok(false),
        _ => Err("`on` or `off`"),
    }
}

pub(super) fn parse_path(text: &str) -> Result<PathBuf, &'static str> {
    Ok(PathBuf::from(text))
}

pub(super) fn parse_project(text: &str) -> Result<String, &'static str> {
    let fits = (1..=64).contains(&text.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if fits && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 of the characters `A-Z a-z 0-9 - _ .`")
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text.trim()).map_err(|_| "a duration such as `30s` or `2m`")
}

/// The folder of the nearest `dagz.toml`, else of the nearest `Cargo.lock`, at or above the package.
pub(super) fn workspace_root() -> PathBuf {
    let start = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .or_else(|| env::current_dir().ok())
        .unwrap_or_else(|| PathBuf::from("."));
    let above = |file: &str| start.ancestors().find(|dir| dir.join(file).is_file());
    above(FILE)
        .or_else(|| above("Cargo.lock"))
        .unwrap_or(&start)
        .to_owned()
}

pub(super) fn project_of(root: &Path) -> String {
    let whole = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let folder: String = whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(40)
        .collect();
    format!("{folder}-{}", name::short_hash(&whole.to_string_lossy()))
}

/// As many workers as the harness runs tests at once.
pub(super) fn test_threads() -> (u32, Origin) {
    let number = |text: String| text.parse().ok().filter(|threads| *threads > 0);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = match argument.strip_prefix("--test-threads") {
            Some("") => arguments.next(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        if let Some(threads) = value.and_then(number) {
            return (threads, Origin::Harness("--test-threads"));
        }
    }
    for variable in ["NEXTEST_TEST_THREADS", "RUST_TEST_THREADS"] {
        if let Some(threads) = env::var(variable).ok().and_then(number) {
            return (threads, Origin::Harness(variable));
        }
    }
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    (cores, Origin::Default)
}
