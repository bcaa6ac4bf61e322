//! Rows as the server sends and takes them, whatever their types.
//!
//! [`contents`] reads, and a [`Raw`] value is written: for the seed rows of `reset/state.rs`, which must come back with
//! every digit. It also tells their [`Times`], by which rows of the same values may be others.

use dagz_core::migrations::hexadecimal;
use scylla::{
    client::session::Session,
    cluster::metadata::ColumnType,
    deserialize::{
        row::{ColumnIterator, RawColumn},
        value::DeserializeValue,
    },
    errors::SerializationError,
    serialize::{
        value::SerializeValue,
        writers::{CellWriter, WrittenCellProof},
    },
};

use crate::{cql, error::Native, schema::Table, server::ask};

/// The columns of a row, in the order of [`columns`]: what the server sends, as hexadecimal digits. Its JSON would
/// be easier to read, and loses digits.
pub(super) type SeedRow = Vec<Option<String>>;

/// A value as the server sent it; none is left as it is, since writing nothing would be a deletion.
pub(super) struct Raw(pub(super) Option<Vec<u8>>);

impl SerializeValue for Raw {
    fn serialize<'b>(
        &self,
        _: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        match &self.0 {
            Some(bytes) => writer.set_value(bytes).map_err(SerializationError::new),
            None => Ok(writer.set_unset()),
        }
    }
}

pub(super) fn bytes(digits: &str) -> Vec<u8> {
    let digit = |at: usize| {
        digits
            .get(at..at + 2)
            .map(|pair| u8::from_str_radix(pair, 16))
    };
    (0..digits.len() / 2)
        .filter_map(|index| digit(2 * index)?.ok())
        .collect()
}

/// All columns of a table, each once.
pub(super) fn columns(table: &Table) -> Vec<String> {
    [
        &table.keys,
        &table.clustering,
        &table.regular,
        &table.collections,
    ]
    .into_iter()
    .flatten()
    .cloned()
    .collect()
}

/// When rows were written, and until when they live.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// The latest time of all values, in microseconds since the epoch.
    pub(super) latest: i64,
    /// Whether any value has a time to live.
    pub(super) is_passing: bool,
}

/// The rows of a table of `keyspace`, up to `limit`, and their times. The server tells none of a row that has only its
/// key, and none of counters.
pub(super) async fn contents(
    session: &Session,
    keyspace: &str,
    table: &Table,
    limit: usize,
) -> Result<(Vec<SeedRow>, Times), Native> {
    let columns = columns(table);
    let mut asked: Vec<_> = columns.iter().map(|name| cql::identifier(name)).collect();
    if !table.is_counter {
        for name in table.regular.iter().chain(&table.collections) {
            let name = cql::identifier(name);
            asked.extend([format!("WRITETIME({name})"), format!("TTL({name})")]);
        }
    }
    let query = format!(
        "SELECT {} FROM {} LIMIT {limit}",
        asked.join(", "),
        cql::qualified(keyspace, &table.name)
    );
    let result = ask(session, query).await?;
    let result = result.into_rows_result().map_err(Native::unexpected)?;
    let (mut contents, mut times) = (Vec::new(), Times::default());
    for row in result
        .rows::<ColumnIterator<'_, '_>>()
        .map_err(Native::unexpected)?
    {
        let mut values = SeedRow::new();
        for column in row.map_err(Native::unexpected)? {
            let column = column.map_err(Native::unexpected)?;
            match column.index.checked_sub(columns.len()) {
                None => values.push(column.slice.map(|slice| hexadecimal(slice.as_slice()))),
                Some(index) if index % 2 == 0 => {
                    let latest = each::<i64>(&column)?.into_iter().max();
                    times.latest = times.latest.max(latest.unwrap_or_default());
                }
                Some(_) => times.is_passing |= !each::<i32>(&column)?.is_empty(),
            }
        }
        contents.push(values);
    }
    Ok((contents, times))
}

/// What tells the rows of a table apart, of up to `limit` of them.
pub(super) async fn keys(
    session: &Session,
    keyspace: &str,
    table: &Table,
    limit: usize,
) -> Result<Vec<SeedRow>, Native> {
    let columns = table.keys.iter().chain(&table.clustering);
    let columns: Vec<_> = columns.map(|name| cql::identifier(name)).collect();
    let query = format!(
        "SELECT {} FROM {} LIMIT {limit}",
        columns.join(", "),
        cql::qualified(keyspace, &table.name)
    );
    let result = ask(session, query).await?;
    let result = result.into_rows_result().map_err(Native::unexpected)?;
    let mut found = Vec::new();
    for row in result
        .rows::<ColumnIterator<'_, '_>>()
        .map_err(Native::unexpected)?
    {
        let mut values = SeedRow::new();
        for column in row.map_err(Native::unexpected)? {
            let column = column.map_err(Native::unexpected)?;
            values.push(column.slice.map(|slice| hexadecimal(slice.as_slice())));
        }
        found.push(values);
    }
    Ok(found)
}

/// What is told of a value; of each element, where it is written element by element.
fn each<'frame, 'metadata, T>(column: &RawColumn<'frame, 'metadata>) -> Result<Vec<T>, Native>
where
    T: DeserializeValue<'frame, 'metadata>,
{
    let of_type = column.spec.typ();
    let told = match of_type {
        ColumnType::Collection { .. } => {
            // Some elements have none.
            let told = Option::<Vec<Option<T>>>::deserialize(of_type, column.slice);
            told.map(Option::unwrap_or_default)
        }
        _ => Option::deserialize(of_type, column.slice).map(|told| vec![told]),
    };
    let told = told.map_err(Native::unexpected)?;
    Ok(told.into_iter().flatten().collect())
}
