//! CQL as text: quoting, splitting scripts, and moving statements to another keyspace.
//!
//! [`Token`]s are as coarse as these need: what is a string, a comment or a function's body must be told
//! from what is not.

/// A name, quoted so that it is taken as it is spelled.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table of a keyspace, both quoted.
pub(crate) fn qualified(keyspace: &str, table: &str) -> String {
    format!("{}.{}", identifier(keyspace), identifier(table))
}

/// A piece of CQL, with its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name or a word, quoted or not.
    Name(&'a str),
    /// `;`
    End,
    Comment(&'a str),
    Blank(&'a str),
    /// A string, a function's body, or anything else.
    Other(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Name(text) | Self::Comment(text) | Self::Blank(text) | Self::Other(text) => text,
            Self::End => ";",
        }
    }

    /// The name that it is, as the server spells it.
    fn name(self) -> Option<String> {
        let Self::Name(text) = self else { return None };
        match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
            Some(quoted) => Some(quoted.replace("\"\"", "\"")),
            None => Some(text.to_lowercase()),
        }
    }
}

fn tokens<'a>(mut text: &'a str) -> Vec<Token<'a>> {
    let mut tokens = Vec::new();
    while let Some(first) = text.chars().next() {
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let (length, make): (usize, fn(&'a str) -> Token<'a>) = if first == ';' {
            (1, |_| Token::End)
        } else if first.is_whitespace() {
            let end = text.find(|c: char| !c.is_whitespace());
            (end.unwrap_or(text.len()), Token::Blank)
        } else if text.starts_with("--") || text.starts_with("//") {
            (text.find('\n').unwrap_or(text.len()), Token::Comment)
        } else if text.starts_with("/*") {
            (enclosed(text, "/*", "*/"), Token::Comment)
        } else if text.starts_with("$$") {
            (enclosed(text, "$$", "$$"), Token::Other)
        } else if first == '\'' {
            (enclosed(text, "'", "'"), Token::Other)
        } else if first == '"' {
            (quoted_name(text), Token::Name)
        } else if is_word(first) {
            let end = text.find(|c: char| !is_word(c));
            (end.unwrap_or(text.len()), Token::Name)
        } else {
            (first.len_utf8(), Token::Other)
        };
        let (token, rest) = text.split_at(length);
        tokens.push(make(token));
        text = rest;
    }
    tokens
}

/// How long the text is from `open` to `close`, which are a part of it. A doubled quote inside a string
/// makes two strings of it, which does no harm here.
fn enclosed(text: &str, open: &str, close: &str) -> usize {
    text[open.len()..]
        .find(close)
        .map_or(text.len(), |at| open.len() + at + close.len())
}

fn quoted_name(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            if bytes.get(at + 1) != Some(&b'"') {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    text.len()
}

/// The statements of a script, without comments.
pub(crate) fn statements(script: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    for token in tokens(script) {
        match token {
            Token::End => statements.push(String::new()),
            Token::Comment(_) => {
                if let Some(last) = statements.last_mut() {
                    last.push(' ');
                }
            }
            token => {
                if let Some(last) = statements.last_mut() {
                    last.push_str(token.text());
                }
            }
        }
    }
    statements
        .into_iter()
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// Whether `statement` chooses, makes, changes or drops a keyspace.
pub(crate) fn concerns_keyspaces(statement: &str) -> bool {
    let names: Vec<_> = tokens(statement)
        .into_iter()
        .filter_map(Token::name)
        .take(2)
        .collect();
    match names.first().map(String::as_str) {
        Some("use") => true,
        Some("create" | "alter" | "drop") => {
            matches!(
                names.get(1).map(String::as_str),
                Some("keyspace" | "schema")
            )
        }
        _ => false,
    }
}

/// `statement`, with what it qualifies by the keyspace `from` qualified by `to` instead.
pub(crate) fn moved(statement: &str, from: &str, to: &str) -> String {
    let tokens = tokens(statement);
    let mut text = String::with_capacity(statement.len() + 16);
    let mut before = Token::Blank("");
    for (index, token) in tokens.iter().enumerate() {
        let is_qualifier = tokens.get(index + 1) == Some(&Token::Other("."));
        if is_qualifier && before != Token::Other(".") && token.name().as_deref() == Some(from) {
            text.push_str(&identifier(to));
        } else {
            text.push_str(token.text());
        }
        before = *token;
    }
    text
}

/// The comment that `statement` gives to what it makes.
pub(crate) fn comment(statement: &str) -> Option<String> {
    let tokens = tokens(statement);
    let mut tokens = tokens
        .into_iter()
        .filter(|token| !matches!(token, Token::Blank(_)))
        .peekable();
    while let Some(token) = tokens.next() {
        let is_named = token.name().as_deref() == Some("comment");
        if is_named && tokens.next_if_eq(&Token::Other("=")).is_some() {
            let is_string = |token: &Token<'_>| token.text().starts_with('\'');
            let pieces = std::iter::from_fn(|| tokens.next_if(is_string)).map(Token::text);
            let literal: String = pieces.collect();
            let text = literal.strip_prefix('\'')?.strip_suffix('\'')?;
            return Some(text.replace("''", "'"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_as_it_was_written() {
        for text in [
            "",
            "it's",
            "'",
            "''",
            "WITH comment = 'x'",
            r#"{"a":"b = 'c'"}"#,
        ] {
            let statement = format!(
                "CREATE TABLE s.t (comment text PRIMARY KEY)\n    WITH bloom = 0.1\n    AND comment = {}\n    AND x = 'y';",
                literal(text)
            );
            assert_eq!(comment(&statement).as_deref(), Some(text), "{statement}");
        }
        for statement in [
            "CREATE TABLE t (comment text PRIMARY KEY)",
            "CREATE TABLE t (a int PRIMARY KEY) WITH x = 'comment = y'",
        ] {
            assert_eq!(comment(statement), None, "{statement}");
        }
    }

    #[test]
    fn scripts_are_split_outside_of_strings_bodies_and_comments() {
        let script = "-- one; two\nCREATE TABLE a (b int PRIMARY KEY) WITH comment = 'it''s; x';\n\
            /* ; */ CREATE FUNCTION f () CALLED ON NULL INPUT RETURNS int LANGUAGE java AS $$ return 1; $$;\n\
            INSERT INTO \"odd;\"\"name\" (x) VALUES (1) // the last;";
        let split = statements(script);
        assert_eq!(split.len(), 3, "{split:?}");
        assert!(split[0].ends_with("'it''s; x'"), "{split:?}");
        assert!(split[1].ends_with("$$ return 1; $$"), "{split:?}");
        assert!(
            split[2].starts_with("INSERT INTO \"odd;\"\"name\""),
            "{split:?}"
        );
    }

    #[test]
    fn only_qualifiers_are_moved() {
        let statement = "CREATE MATERIALIZED VIEW shop.v AS SELECT shop, x.shop FROM Shop.shop \
            WHERE a = 'shop.b' AND \"Shop\".c = $$shop.d$$";
        assert_eq!(
            moved(statement, "shop", "shop_jw03"),
            "CREATE MATERIALIZED VIEW \"shop_jw03\".v AS SELECT shop, x.shop FROM \"shop_jw03\".shop \
            WHERE a = 'shop.b' AND \"Shop\".c = $$shop.d$$"
        );
        assert_eq!(
            moved("DROP TABLE \"Shop\".t", "Shop", "Shop_jw03"),
            "DROP TABLE \"Shop_jw03\".t"
        );
    }

    #[test]
    fn statements_about_keyspaces_are_known() {
        for statement in [
            "USE shop",
            "use \"Shop\"",
            "CREATE KEYSPACE a WITH x",
            "drop keyspace a",
            "ALTER /* ha */ SCHEMA a",
        ] {
            assert!(concerns_keyspaces(statement), "{statement}");
        }
        for statement in [
            "CREATE TABLE keyspace (a int)",
            "INSERT INTO use (a)",
            "DROP TABLE a",
        ] {
            assert!(!concerns_keyspaces(statement), "{statement}");
        }
    }
}
