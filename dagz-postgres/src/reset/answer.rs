//! The call of the function `dagz_baseline.reset` (`reset/function.rs`), and what it answers.
//!
//! `reset/quick.rs` makes the call; the main type is [`Answer`].

use tokio_postgres::{Row, types::Type};

/// The call, and the types of what it takes.
pub(super) const CALL: &str =
    "SELECT dagz_baseline.reset($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
pub(super) const TYPES: [Type; 13] = [
    Type::OID,
    Type::TEXT,
    Type::TEXT,
    Type::BOOL,
    Type::BOOL,
    Type::TEXT,
    Type::OID_ARRAY,
    Type::OID_ARRAY,
    Type::INT4_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::INT8,
    Type::INT4_ARRAY,
    Type::BOOL,
];

/// The answer of a call; the default where there was nothing to undo, and nothing to tell.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) outcome: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) stamp: Option<String>,
    pub(super) found: Vec<u32>,
    pub(super) sessions: Option<Vec<i32>>,
}

impl Answer {
    pub(super) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let fields: Option<Vec<Option<String>>> = row.try_get(0)?;
        let mut fields = fields.unwrap_or_default().into_iter();
        let mut next = || fields.next().flatten();
        Ok(Self {
            outcome: next(),
            detail: next(),
            stamp: next(),
            found: next().map(|text| numbers(&text)).unwrap_or_default(),
            sessions: next().map(|text| numbers(&text)),
        })
    }
}

/// The numbers of an array as Postgres writes it.
pub(super) fn numbers<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.trim_matches(['{', '}'])
        .split(',')
        .filter_map(|number| number.parse().ok())
        .collect()
}
