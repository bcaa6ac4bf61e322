//! Templates: complete databases that workers' databases are made from, told apart by fingerprint.
//!
//! How one is made and copied is the driver's; here is what it is called ([`name`](name()), [`is_name_for`]), what it
//! depends on ([`fingerprint`]), and which of them are too many ([`superseded`]).

use sha2::{Digest, Sha256};

use crate::{Target, migrations::hexadecimal};

/// How many templates of a base stay, for switching between branches.
const KEPT: usize = 3;

/// How many digits of the fingerprint are part of the name.
const DIGITS: usize = 8;

/// What the template for `target`'s base depends on: the migrations, as
/// [`Migrations::fingerprint`](super::Migrations::fingerprint) tells them, and the version of the server.
///
/// One that `copies_base` is only for `target`'s job: nothing tells whether the base has changed since an
/// earlier one.
pub fn fingerprint(migrations: &str, version: &[u8], target: &Target, copies_base: bool) -> String {
    let mut hash = Sha256::new()
        .chain_update(migrations)
        .chain_update(version)
        .chain_update(target.project())
        .chain_update(target.base());
    if copies_base {
        hash.update(target.job());
    }
    hexadecimal(&hash.finalize())
}

/// `shop_dagz_1a2b3c4d`: as much of `stem` as fits into `limit` bytes, then `infix`, `_dagz_`, then the
/// beginning of the fingerprint.
pub fn name(stem: &str, infix: &str, fingerprint: &str, limit: usize) -> String {
    let digits = &fingerprint[..DIGITS];
    let mut end = stem.len().min(limit - infix.len() - DIGITS);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{infix}{digits}", &stem[..end])
}

/// Whether `name` is what [`name`](name()) makes of this `stem`, whatever the fingerprint is.
pub fn is_name_for(name: &str, stem: &str, infix: &str, limit: usize) -> bool {
    let digits = name
        .len()
        .checked_sub(DIGITS)
        .and_then(|at| name.get(at..))
        .filter(|digits| {
            digits
                .bytes()
                .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
        });
    digits.is_some_and(|digits| self::name(stem, infix, digits, limit) == name)
}

/// Which of the templates of one base are to go, when a new one has just been made. `others` are when they
/// were made and what they are called.
pub fn superseded(mut others: Vec<(u64, String)>) -> impl Iterator<Item = String> {
    others.sort_unstable_by(|left, right| right.cmp(left));
    others.into_iter().skip(KEPT - 1).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit() {
        let fingerprint = "0123456789abcdef";
        assert_eq!(
            name("shop", "_dagz_", fingerprint, 63),
            "shop_dagz_01234567"
        );
        let long = name(&"ä".repeat(40), "_dagz_", fingerprint, 63);
        assert!(
            long.len() <= 63 && long.ends_with("ä_dagz_01234567"),
            "{long}"
        );
    }

    #[test]
    fn names_are_known_again() {
        for stem in ["shop", &*"ä".repeat(40)] {
            let of = |name: &str| is_name_for(name, stem, "_dagz_", 63);
            let made = name(stem, "_dagz_", "0123456789abcdef", 63);
            assert!(of(&made), "{made}");
            assert!(!of(&made.replace("_dagz_", "_jw_")), "{made}");
            assert!(!of(&made.replace("01234567", "0123456G")), "{made}");
            assert!(!of(&format!("my{made}")), "{made}");
        }
        assert!(!is_name_for("shopäöüßä", "shop", "_dagz_", 63));
    }

    #[test]
    fn the_newest_stay() {
        let made = |at: u64| (at, format!("t{at}"));
        let gone: Vec<_> = superseded(vec![made(2), made(4), made(1), made(3)]).collect();
        assert_eq!(gone, ["t2", "t1"]);
        assert_eq!(superseded(vec![made(1), made(2)]).count(), 0);
    }
}
