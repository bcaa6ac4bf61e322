//! Text that goes into SQL: quoted identifiers, literals, and the pattern of a grant.
//!
//! Every name and value that this crate puts into a statement goes through here; nothing is
//! interpolated raw. Used by `provision` and `reset`.

/// `name` as a quoted identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `database.name`, both quoted.
pub(crate) fn qualified(database: &str, name: &str) -> String {
    format!("{}.{}", identifier(database), identifier(name))
}

/// `text` as a string literal. dagz's own sessions never run with `NO_BACKSLASH_ESCAPES`.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// `name` as a `GRANT` takes it, where `_` and `%` stand for others than themselves.
pub(crate) fn in_grant(name: &str) -> String {
    let escaped = name
        .replace('\\', "\\\\")
        .replace('_', "\\_")
        .replace('%', "\\%");
    escaped.replace('`', "``")
}

/// `'user'@'host'` for the `user@host` that the server tells.
pub(crate) fn account(current_user: &str) -> String {
    let (user, host) = current_user.rsplit_once('@').unwrap_or((current_user, "%"));
    format!("{}@{}", literal(user), literal(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_cannot_end_early() {
        assert_eq!(identifier("plain"), "`plain`");
        assert_eq!(
            qualified("a.b", "x`; DROP TABLE y; --"),
            "`a.b`.`x``; DROP TABLE y; --`"
        );
    }

    #[test]
    fn literals_cannot_end_early() {
        assert_eq!(literal("plain"), "'plain'");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\' OR 1=1 --"), r"'\\'' OR 1=1 --'");
    }

    #[test]
    fn grants_mean_one_name() {
        assert_eq!(in_grant("my_app_jw"), r"my\_app\_jw");
        assert_eq!(in_grant("100%"), r"100\%");
    }

    #[test]
    fn accounts_are_quoted_on_both_sides() {
        assert_eq!(account("app@%"), "'app'@'%'");
        assert_eq!(account("a@b@localhost"), "'a@b'@'localhost'");
    }
}
