//! cargo as the runner: each test binary in a process of its own, whose output is passed on as it is.
//!
//! What libtest says is no interface, so tests are known here by the job's log: those that use dagz.

use super::{Session, again::Pass, child::Heard, words::Words};
use crate::exit::{self, Outcome};

pub(super) fn run(session: &mut Session<'_>, pass: &Pass) -> Outcome {
    let words = Words::of(&session.arguments.words);
    if pass.is_first() {
        // `cargo test` ends with 101 when a test fails and when nothing could be built; so it is built first.
        let mut build = session.cargo(pass);
        build
            .args(["test", "--no-run"])
            .args(&words.others)
            .args(&words.choice);
        match session.status(&mut build)? {
            Some(0) => {}
            _ if session.signals.is_interrupted() => return Ok(exit::INTERRUPTED),
            Some(1) => return Ok(exit::USAGE),
            _ => return Ok(exit::BUILD_FAILED),
        }
    }
    let mut command = session.cargo(pass);
    command
        .args(["test", "--no-fail-fast"])
        .args(&words.others)
        .args(&words.choice);
    let mut for_tests = Vec::new();
    match pass.tests() {
        None => {
            command.args(&session.arguments.filters);
            for_tests.extend(words.rest.iter().cloned());
        }
        Some(tests) => {
            for_tests.push("--exact".to_owned());
            for_tests.extend(tests.map(|(_, name)| name.clone()));
        }
    }
    if let Some(workers) = session.arguments.workers {
        for_tests.extend(["--test-threads".to_owned(), workers.to_string()]);
    }
    if !for_tests.is_empty() {
        command.arg("--").args(for_tests);
    }
    let mut live = session.live();
    let to_error = session.arguments.json;
    let code = session.listen(&mut command, |session, heard| match heard {
        Heard::Out(line) => {
            if pass.is_first() {
                session.failed_by_cargo += failed(line);
            }
            match to_error {
                true => live.pass_on(line),
                false => live.pass_on_output(line),
            }
        }
        Heard::Error(line) => live.pass_on(line),
        Heard::Tick => {
            let wants_workers = session.signals.wants_workers();
            let job = session.find_job();
            live.tick(job, wants_workers);
        }
    })?;
    live.finish();
    Ok(match code {
        Some(0) => exit::OK,
        Some(101) => exit::TESTS_FAILED,
        Some(1) => exit::USAGE,
        _ => exit::ENVIRONMENT,
    })
}

/// How many tests failed, of the line by which libtest ends a binary.
fn failed(line: &str) -> usize {
    let line = console::strip_ansi_codes(line);
    let Some(counts) = line.strip_prefix("test result: ") else {
        return 0;
    };
    let mut counts = counts.split([';', '.']).map(str::trim);
    let count = counts.find_map(|count| count.strip_suffix(" failed"));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_off_the_last_line() {
        let line = "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.29s";
        assert_eq!((failed(line), failed("test a ... FAILED")), (2, 0));
    }
}
