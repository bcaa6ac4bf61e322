//! Text that goes into SQL: quoted identifiers and literals.
//!
//! Every name and value that this crate puts into a statement goes through here; nothing is
//! interpolated raw. Used by `provision` and `reset`.

/// `name` as a quoted identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name`, both quoted.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// `text` as a string literal, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_cannot_end_early() {
        assert_eq!(identifier("plain"), r#""plain""#);
        assert_eq!(
            qualified("a.b", r#"x"; DROP TABLE y; --"#),
            r#""a.b"."x""; DROP TABLE y; --""#
        );
    }

    #[test]
    fn literals_cannot_end_early() {
        assert_eq!(literal("plain"), "'plain'");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\' OR 1=1 --"), r"E'\\'' OR 1=1 --'");
    }
}
