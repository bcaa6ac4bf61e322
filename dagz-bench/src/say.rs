//! What the program says: rows to standard output, for `xtask`; how far it is to standard error, for people.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its caller"
)]

/// A row, as JSON.
pub(crate) fn row(json: &str) {
    println!("{json}");
}

/// How far it is.
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}
