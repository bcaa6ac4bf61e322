//! nextest as the runner: by a configuration that is written for each run, and by its stream of events.
//!
//! The user's own `.config/nextest.toml` stays what it is: the profile they choose is inherited from, and what
//! the generated file says for the default profile gives way to what theirs does. Marks of tests are known from
//! earlier jobs.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use dagz_core::history::{History, Output};
use serde::Deserialize;

use super::{Seen, Session, TestKey, again::Pass, child::Heard, live::Live, words::Words};
use crate::exit::{self, Failure, Outcome};

/// The profile of the generated configuration.
const PROFILE: &str = "@tool:dagz:run";

/// How many of the latest jobs to ask for the marks of tests.
const JOBS_ASKED: usize = 5;

/// A line of nextest's stream.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    event: String,
    name: Option<String>,
    exec_time: Option<f64>,
    stdout: Option<String>,
}

pub(super) fn run(session: &mut Session<'_>, pass: &Pass) -> Outcome {
    if pass.is_first() {
        is_there(session)?;
    }
    let words = Words::of(&session.arguments.words);
    let files = session.settings.state_dir().join("nextest");
    fs::create_dir_all(&files).map_err(unwritable(&files))?;
    // Not the pass: the report of the first one is to stay.
    let config = files.join(format!("{}.toml", session.name));
    let report = files.join(format!("{}.xml", session.name));
    let text = configuration(session, &words, pass, &report)?;
    fs::write(&config, text).map_err(unwritable(&config))?;
    let ended = run_with(session, &words, pass, &config);
    drop(fs::remove_file(&config));
    if pass.is_first()
        && let Some(job) = session.find_job()
    {
        // Both are in the state directory.
        drop(fs::rename(&report, job.file("junit.xml")));
    }
    drop(fs::remove_file(&report));
    ended
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::environment(format!("cannot write `{path}`: {error}"))
}

/// Makes sure of a nextest that understands the configuration.
fn is_there(session: &mut Session<'_>) -> Outcome<()> {
    let mut version = session.cargo(&Pass::first());
    version
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match session.status(&mut version) {
        Ok(Some(0)) => Ok(()),
        _ => Err(Failure::usage(
            "`cargo nextest` is missing; install it by `cargo install --locked cargo-nextest`, or say `--runner cargo`",
        )),
    }
}

/// What nextest is told by a file of dagz's own.
fn configuration(
    session: &Session<'_>,
    words: &Words,
    pass: &Pass,
    report: &Path,
) -> Outcome<String> {
    let from_environment = env::var("NEXTEST_PROFILE").ok();
    let profile = words.profile.clone().or(from_environment);
    let inherited = profile.unwrap_or_else(|| "default".to_owned());
    let quoted = |text: &str| toml_text(text);
    let report = report.to_string_lossy();
    let mut text = format!(
        "nextest-version = \"0.9.115\"\n\
         [profile.default]\nslow-timeout = {{ period = \"60s\", terminate-after = 10 }}\n\
         status-level = \"fail\"\n\
         [profile.\"{PROFILE}\"]\ninherits = {}\nfail-fast = false\n",
        quoted(&inherited)
    );
    if !pass.is_first() {
        // How often to try is decided here from now on.
        text.push_str("retries = 0\n");
    } else {
        text.push_str(&format!(
            "[profile.\"{PROFILE}\".junit]\npath = {}\nstore-failure-output = true\n",
            quoted(&report)
        ));
    }
    let (mut main, mut exclusive) = (BTreeSet::new(), BTreeSet::new());
    let jobs = History::of(&session.settings).jobs()?;
    for job in jobs.iter().take(JOBS_ASKED) {
        for test in job.summary()?.tests {
            let key = (test.binary, test.name);
            if test.marks.iter().any(|mark| mark == "exclusive") {
                exclusive.insert(key);
            } else if test.marks.iter().any(|mark| mark == "main_worker") {
                main.insert(key);
            }
        }
    }
    text.push_str(&marked(&main, &exclusive));
    Ok(text)
}

/// How nextest schedules marked tests: so that none keeps a slot while it waits for its turn.
fn marked(main: &BTreeSet<TestKey>, exclusive: &BTreeSet<TestKey>) -> String {
    let mut text = String::new();
    let quoted = |text: &str| toml_text(text);
    if !main.is_empty() {
        text.push_str(&format!(
            "[test-groups]\n\"@tool:dagz:main-worker\" = {{ max-threads = 1 }}\n\
             [[profile.\"{PROFILE}\".overrides]]\nfilter = {}\ntest-group = \"@tool:dagz:main-worker\"\n",
            quoted(&filter(main.iter()))
        ));
    }
    if !exclusive.is_empty() {
        text.push_str(&format!(
            "[[profile.\"{PROFILE}\".overrides]]\nfilter = {}\nthreads-required = \"num-test-threads\"\n",
            quoted(&filter(exclusive.iter()))
        ));
    }
    text
}

/// `text` as TOML writes it.
fn toml_text(text: &str) -> String {
    // What JSON escapes, TOML escapes in the same way.
    serde_json::to_string(text).unwrap_or_default()
}

/// A filterset that matches exactly `tests`.
fn filter<'a>(tests: impl Iterator<Item = &'a TestKey>) -> String {
    let each = tests.map(|(binary, name)| {
        let (binary, name) = (escaped(binary), escaped(name));
        format!("(binary_id(={binary}) & test(={name}))")
    });
    each.collect::<Vec<_>>().join(" | ")
}

/// `text` as a filterset's matcher has it.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if "\\/),".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn run_with(session: &mut Session<'_>, words: &Words, pass: &Pass, config: &PathBuf) -> Outcome {
    let mut command = session.cargo(pass);
    let mut tool = std::ffi::OsString::from("dagz:");
    tool.push(config);
    command
        .args(["nextest", "run", "--tool-config-file"])
        .arg(tool)
        .args([
            "--profile",
            PROFILE,
            "--message-format",
            "libtest-json-plus",
        ])
        .env("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1")
        .env_remove("NEXTEST_PROFILE");
    if let Some(workers) = session.arguments.workers {
        command.args(["--test-threads", &workers.to_string()]);
    }
    if console::colors_enabled_stderr() && !words.others.iter().any(|word| word == "--color") {
        command.args(["--color", "always"]);
    }
    command.args(&words.others);
    match pass.tests() {
        None => {
            command.args(&words.choice);
            let (index, total) = (session.settings.node_index(), session.settings.node_total());
            if total > 1 && !words.has_partition {
                command.args(["--partition", &format!("slice:{}/{total}", index + 1)]);
            }
            command.args(&session.arguments.filters);
            if !words.rest.is_empty() {
                command.arg("--").args(&words.rest);
            }
        }
        Some(tests) => {
            // `--no-tests` since another machine of the job may have taken a test away meanwhile.
            command.args(["-E", &filter(tests), "--no-tests", "pass"]);
        }
    }
    let mut live = session.live();
    live.expect(pass.tests().map(|tests| tests.len()));
    let code = session.listen(&mut command, |session, heard| match heard {
        Heard::Out(line) => {
            if let Ok(event) = serde_json::from_str(line) {
                take(session, &mut live, pass, &event);
            }
        }
        Heard::Error(line) => {
            if let Some((total, skipped)) = starting(&console::strip_ansi_codes(line)) {
                live.expect(Some(total));
                if pass.is_first() {
                    session.skipped = skipped;
                }
            }
            live.pass_on(line);
        }
        Heard::Tick => {
            let wants_workers = session.signals.wants_workers();
            let job = session.find_job();
            live.tick(job, wants_workers);
        }
    })?;
    live.finish();
    // nextest documents these; anything else is for its own output to explain.
    Ok(match code {
        Some(0) => exit::OK,
        Some(4) => exit::NO_TESTS,
        Some(100) => exit::TESTS_FAILED,
        Some(101) => exit::BUILD_FAILED,
        Some(2 | 96) => exit::USAGE,
        _ => exit::ENVIRONMENT,
    })
}

/// How many tests will run and how many will not, of the line by which nextest begins.
fn starting(line: &str) -> Option<(usize, usize)> {
    let mut words = line.trim_start().strip_prefix("Starting ")?.split(' ');
    let total = words.next()?.parse().ok()?;
    let skipped = line.split_once('(').and_then(|(_, rest)| {
        let (number, rest) = rest.split_once(' ')?;
        rest.contains("skipped").then(|| number.parse().ok())?
    });
    Some((total, skipped.unwrap_or(0)))
}

/// `shop::suite$orders::places_one#2` apart: nextest appends the number of its own second try.
fn named(name: &str) -> Option<TestKey> {
    let (binary, test) = name.split_once('$')?;
    let test = match test.rsplit_once('#') {
        Some((test, number)) if number.parse::<u32>().is_ok() => test,
        _ => test,
    };
    Some((binary.to_owned(), test.to_owned()))
}

fn take(session: &mut Session<'_>, live: &mut Live, pass: &Pass, event: &Event) {
    let Some(key) = event.name.as_deref().and_then(named) else {
        return;
    };
    let passed = match (&*event.kind, &*event.event) {
        ("test", "ok") => true,
        ("test", "failed") => false,
        _ => return,
    };
    if !passed && session.signals.is_interrupted() {
        // Ended with the run; the job's log says that it never came to its own end.
        return;
    }
    let seen: &mut Seen = session.seen.entry(key.clone()).or_default();
    let attempt = seen.tries.len() + 1;
    seen.tries.push((pass.how, passed));
    seen.took =
        Duration::try_from_secs_f64(event.exec_time.unwrap_or_default()).unwrap_or_default();
    live.ended(passed);
    if passed {
        if attempt > 1 {
            live.pass_on(&format!(
                "dagz: {} {} passed at try {attempt}",
                key.0, key.1
            ));
        }
        return;
    }
    let (binary, test) = key;
    let text = event.stdout.clone().unwrap_or_default();
    if let Some(job) = session.find_job() {
        // Without it, the runner's own output has it still.
        drop(job.keep_output(&Output::new(&binary, &test, attempt, &text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_filters_are_exact() {
        let key = |binary: &str, test: &str| (binary.to_owned(), test.to_owned());
        assert_eq!(named("shop::suite$a::b"), Some(key("shop::suite", "a::b")));
        assert_eq!(named("shop$a::b#2"), Some(key("shop", "a::b")));
        assert_eq!(named("shop"), None);
        let tests = [key("shop::suite", "a::b"), key("x", r"c\d")];
        assert_eq!(
            filter(tests.iter()),
            r"(binary_id(=shop::suite) & test(=a::b)) | (binary_id(=x) & test(=c\\d))"
        );
    }

    #[test]
    fn marks_are_told_to_nextest() {
        let test = |name: &str| BTreeSet::from([("shop".to_owned(), name.to_owned())]);
        assert_eq!(marked(&BTreeSet::new(), &BTreeSet::new()), "");
        insta::assert_snapshot!(marked(&test("a"), &test("b")), @r#"
        [test-groups]
        "@tool:dagz:main-worker" = { max-threads = 1 }
        [[profile."@tool:dagz:run".overrides]]
        filter = "(binary_id(=shop) & test(=a))"
        test-group = "@tool:dagz:main-worker"
        [[profile."@tool:dagz:run".overrides]]
        filter = "(binary_id(=shop) & test(=b))"
        threads-required = "num-test-threads"
        "#);
    }

    #[test]
    fn how_many_tests_there_are_is_read_off_the_first_line() {
        let line = "    Starting 6 tests across 2 binaries (3 tests skipped)";
        assert_eq!(starting(line), Some((6, 3)));
        assert_eq!(
            starting("    Starting 1 test across 1 binary"),
            Some((1, 0))
        );
        assert_eq!(starting("    Finished `test` profile"), None);
    }
}
