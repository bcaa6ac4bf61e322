//! The worker's number and how it is written, `jw03`.
//!
//! A [`Worker`] is only a number; who may use it is decided by a lease (`lease.rs`), and what a
//! name becomes on it by `name.rs`.

use std::fmt;

/// A worker: a number, unique among all that run at once on all nodes.
///
/// ```
/// use dagz_core::Worker;
/// assert_eq!(Worker::new(3).to_string(), "jw03");
/// assert_eq!(Worker::new(117).to_string(), "jw117");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker(u32);

impl Worker {
    /// The worker with this number, counted from 0.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number: `node * workers_per_node + slot`.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Reads `jw03` as [`Display`](fmt::Display) writes it; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("jw")?;
        let number: u32 = digits.parse().ok()?;
        // Only what we write ourselves: `jw3` and `jw003` are somebody else's names.
        (Self(number).to_string() == text).then_some(Self(number))
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "jw{:02}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_spelling_is_read() {
        assert_eq!(Worker::parse("jw03"), Some(Worker(3)));
        assert_eq!(Worker::parse("jw100"), Some(Worker(100)));
        for other in ["jw3", "jw003", "jw", "jw+3", "JW03", "w03", "jw99999999999"] {
            assert_eq!(Worker::parse(other), None, "{other}");
        }
    }
}
