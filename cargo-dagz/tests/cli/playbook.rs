//! `docs/playbook.md`, done step by step: its commands are run in a small serial suite, its sources written over that,
//! and what it shows is what comes out.
//!
//! `DAGZ_PLAYBOOK=write` puts into the page what came out. A line `…` stands for any lines.

use std::{env, fs, path::Path};

use regex::Regex;

use crate::{
    support::{FILTERS, Site, server, sql},
    test::path,
};

/// The base database of the suite, and what the page calls it.
const BASE: (&str, &str) = ("cli_playbook", "shop");

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The page without its blocks, and the blocks: what is said of each, and its lines.
fn parts(page: &str) -> Vec<(&str, Option<(&str, &str)>)> {
    let mut parts = Vec::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("```") {
        let (info, after) = after.split_once('\n').expect("a block has lines");
        let (text, after) = after.split_once("```").expect("a block ends");
        parts.push((before, Some((info, text))));
        rest = after;
    }
    parts.push((rest, None));
    parts
}

/// Takes out what differs from run to run.
fn steady(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, with) in [(r"\b\d+\.\d+s\b", "[took]"), (r"/jw\d+-\d+", "")]
        .iter()
        .chain(FILTERS)
    {
        text = Regex::new(pattern)
            .expect("a pattern")
            .replace_all(&text, *with)
            .into_owned();
    }
    text
}

/// Whether `actual` is what `shown` says, which may leave lines out.
fn is_shown(shown: &str, actual: &str) -> bool {
    let (shown, actual) = (steady(shown), steady(actual));
    let pattern: Vec<_> = shown.lines().map(str::trim_end).collect();
    let lines: Vec<_> = actual.lines().map(str::trim_end).collect();
    matches(&pattern, &lines)
}

fn matches(pattern: &[&str], lines: &[&str]) -> bool {
    match (pattern.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", pattern)), _) => {
            (0..=lines.len()).any(|left_out| matches(pattern, &lines[left_out..]))
        }
        (Some((first, pattern)), Some((line, lines))) => first == line && matches(pattern, lines),
        _ => false,
    }
}

/// Runs a line of the page in the site, and tells what went to standard output.
fn run(site: &Site, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let dagz = here().parent().unwrap().join("dagz");
    let dagz = dagz.to_str().expect("a path of ours is text");
    let ended = match &words[..] {
        ["cargo", "dagz", "init", rest @ ..] => {
            site.dagz(&[&["init", "--path", dagz], rest].concat())
        }
        ["cargo", "dagz", rest @ ..] => site.dagz_built(rest),
        ["cargo", rest @ ..] => site.cargo(rest),
        _ => panic!("`{line}` is no command of the playbook"),
    };
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    let out = ended
        .stdout
        .replace(&format!("path = \"{dagz}\""), &version);
    let out = out.replace(BASE.0, BASE.1).replace("cli_playb", BASE.1);
    match out.trim().is_empty() {
        true => panic!("`{line}` said nothing: {}", ended.stderr),
        false => out,
    }
}

#[test]
fn the_playbook_is_what_happens() {
    let url = server("DATABASE_URL");
    let (address, _) = url.rsplit_once('/').unwrap();
    let site = Site::new("playbook", 34)
        .with("PATH", path())
        .with("DATABASE_URL", format!("{address}/{}", BASE.0));
    // Those of other servers are nothing to this suite.
    let site = site.with("MYSQL_URL", "").with("REDIS_URL", "");
    let before = here().join("tests/playbook");
    for file in ["src/lib.rs", "migrations/1_orders.sql", "tests/orders.rs"] {
        site.write(file, &fs::read_to_string(before.join(file)).unwrap());
    }
    let root = fs::read_to_string(here().join("../Cargo.toml")).unwrap();
    let manifest = fs::read_to_string(before.join("Cargo.toml.in")).unwrap();
    // Built as this workspace is, its dependencies are there already.
    let profiles = &root[root.find("[profile.dev]").unwrap()..];
    site.write("Cargo.toml", &format!("{manifest}\n{profiles}"));
    fs::copy(here().join("../Cargo.lock"), site.path("Cargo.lock")).unwrap();
    let _ = sql(&format!("DROP DATABASE IF EXISTS {}", BASE.0));
    sql(&format!("CREATE DATABASE {}", BASE.0)).unwrap();

    let place = here().join("../docs/playbook.md");
    let page = fs::read_to_string(&place).unwrap();
    let mut written = String::new();
    let mut wrong = Vec::new();
    for (text, block) in parts(&page) {
        written.push_str(text);
        let Some((info, lines)) = block else { continue };
        let mut out = lines.to_owned();
        if let Some(("rust", file)) = info.split_once(' ') {
            site.write(file, lines);
        } else if info == "console" {
            let (command, shown) = lines.split_once('\n').expect("a command");
            let actual = run(&site, command.trim_start_matches("$ "));
            if !is_shown(shown, &actual) {
                wrong.push(format!("{command}\n{actual}"));
                out = format!("{command}\n{actual}");
            }
        }
        written.push_str(&format!("```{info}\n{out}```"));
    }
    sql(&format!("DROP DATABASE {}", BASE.0)).unwrap();
    if env::var("DAGZ_PLAYBOOK").is_ok_and(|word| word == "write") {
        fs::write(&place, written).unwrap();
    } else {
        assert!(
            wrong.is_empty(),
            "`docs/playbook.md` shows something else; `DAGZ_PLAYBOOK=write` corrects it:\n{}",
            wrong.join("\n")
        );
    }
}

#[test]
fn a_page_that_shows_something_else_is_noticed() {
    assert!(is_shown("a\n…\nd 5 ms\n", "a\nb\nc\nd 82 ms\n"));
    assert!(is_shown("…\nd\n", "d\n"));
    for (shown, actual) in [
        ("a\n", "a\nb\n"),
        ("a\n…\nb\n", "a\nc\n"),
        ("a\nb\n", "a\n"),
    ] {
        assert!(!is_shown(shown, actual), "{shown:?} {actual:?}");
    }
}
