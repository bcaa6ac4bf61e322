//! Warnings for people: to `tracing`, or to standard error while nobody subscribes.
//!
//! The job's log gets an event of its own kind where one fits. Used by `reset`.

/// Warns of `text`.
pub(crate) fn warn(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!(target: "dagz", driver = crate::driver::NAME, "{text}");
    } else {
        complain(text);
    }
}

#[expect(
    clippy::print_stderr,
    reason = "most test binaries have no tracing subscriber, and a warning must be seen"
)]
fn complain(text: &str) {
    eprintln!("dagz: warning: {text}");
}
