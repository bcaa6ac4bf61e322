//! From a base name to a worker's name, and back.
//!
//! [`rewrite`] is the default of [`DbConfig::rewrite`](crate::DbConfig::rewrite): it appends the
//! worker, `myapp` → `myapp_jw03`, and keeps within a server's limit by a hash rather than by a
//! silent cut, since two long names that differ only at the end would collide.

use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Result, Worker};

const HASH_DIGITS: usize = 8;

/// The name of `base` on `worker`, at most `limit` bytes long.
///
/// A name that is already this worker's comes back unchanged.
///
/// # Errors
///
/// [`ErrorKind::InvalidName`] when `base` is empty or holds a NUL byte, or when `limit` has no
/// room for a hash and the worker.
///
/// ```
/// use dagz_core::{Worker, name};
/// assert_eq!(name::rewrite(Worker::new(3), "myapp", 63)?, "myapp_jw03");
/// assert_eq!(name::rewrite(Worker::new(3), "myapp_jw03", 63)?, "myapp_jw03");
/// # Ok::<(), dagz_core::Error>(())
/// ```
pub fn rewrite(worker: Worker, base: &str, limit: usize) -> Result<String> {
    if base.is_empty() || base.contains('\0') {
        return Err(Error::new(
            ErrorKind::InvalidName,
            format!(
                "the name {base:?} cannot be rewritten for {worker}: it is empty or holds a NUL byte"
            ),
        ));
    }
    if self::worker(base) == Some(worker) {
        return Ok(base.to_owned());
    }
    let suffix = format!("_{worker}");
    let whole = format!("{base}{suffix}");
    if whole.len() <= limit {
        return Ok(whole);
    }
    let room = limit
        .checked_sub(suffix.len() + 1 + HASH_DIGITS)
        .filter(|room| *room > 0)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidName,
                format!("the name `{base}` cannot be rewritten for {worker}: the limit of {limit} bytes leaves no room for it"),
            )
        })?;
    let kept = &base[..base.floor_char_boundary_stable(room)];
    Ok(format!("{kept}_{}{suffix}", short_hash(base)))
}

/// The worker whose name this is, if it is any worker's: `myapp_jw03` → `jw03`.
pub fn worker(name: &str) -> Option<Worker> {
    let (base, suffix) = name.rsplit_once('_')?;
    if base.is_empty() {
        return None;
    }
    Worker::parse(suffix)
}

/// The first eight hexadecimal digits of the SHA-256 of `text`: stable over versions and machines.
pub fn short_hash(text: &str) -> String {
    let mut digits = String::with_capacity(HASH_DIGITS);
    for byte in Sha256::digest(text.as_bytes()).iter().take(HASH_DIGITS / 2) {
        digits.push_str(&format!("{byte:02x}"));
    }
    digits
}

/// `str::floor_char_boundary` is newer than our minimum Rust.
trait FloorCharBoundary {
    fn floor_char_boundary_stable(&self, index: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_stable(&self, index: usize) -> usize {
        (0..=index.min(self.len()))
            .rev()
            .find(|at| self.is_char_boundary(*at))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_at_the_limit_is_kept_and_one_over_is_hashed() {
        let at = "a".repeat(58);
        assert_eq!(
            rewrite(Worker::new(3), &at, 63).unwrap(),
            format!("{at}_jw03")
        );
        let over = "a".repeat(59);
        let name = rewrite(Worker::new(3), &over, 63).unwrap();
        assert_eq!(name.len(), 63);
        assert!(
            name.starts_with(&"a".repeat(49)) && name.ends_with("_jw03"),
            "{name}"
        );
    }

    #[test]
    fn long_names_that_differ_at_the_end_stay_apart() {
        let mut seen = HashMap::new();
        for end in 0..1_000 {
            let base = format!("{}{end:04}", "x".repeat(80));
            let name = rewrite(Worker::new(1), &base, 63).unwrap();
            assert_eq!(seen.insert(name, base), None);
        }
    }

    #[test]
    fn names_without_room_are_refused() {
        let error = rewrite(Worker::new(3), "myapp", 8).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName);
        assert_eq!(
            rewrite(Worker::new(3), "", 63).unwrap_err().kind(),
            ErrorKind::InvalidName
        );
        assert_eq!(
            rewrite(Worker::new(3), "a\0b", 63).unwrap_err().kind(),
            ErrorKind::InvalidName
        );
    }

    #[test]
    fn a_bare_worker_is_not_a_workers_name() {
        assert_eq!(worker("jw03"), None);
        assert_eq!(worker("_jw03"), None);
        assert_eq!(worker("myapp_jw03"), Some(Worker::new(3)));
        assert_eq!(worker("myapp_jw3"), None);
    }

    proptest! {
        #[test]
        fn rewriting_is_idempotent_bounded_and_says_whose_it_is(
            base in "[^\0]{1,120}", number in 0u32..2_000, limit in prop::sample::select(vec![48usize, 63, 64, 255])
        ) {
            let mine = Worker::new(number);
            let name = rewrite(mine, &base, limit)?;
            prop_assert!(name.len() <= limit);
            prop_assert_eq!(worker(&name), Some(mine));
            prop_assert_eq!(rewrite(mine, &name, limit)?, name);
        }
    }
}
