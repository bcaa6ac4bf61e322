//! Rows as the server sends and takes them, whatever their types.
//!
//! [`contents`] reads, and a [`Raw`] value is written: for the seed rows of `reset/state.rs`, which must come back with
//! every digit.

use dagz_core::migrations::hexadecimal;
use scylla::{
    client::session::Session,
    cluster::metadata::ColumnType,
    deserialize::row::ColumnIterator,
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

/// The rows of the table `name`, up to `limit`.
pub(super) async fn contents(
    session: &Session,
    name: &str,
    columns: &[String],
    limit: usize,
) -> Result<Vec<SeedRow>, Native> {
    let quoted: Vec<_> = columns.iter().map(|name| cql::identifier(name)).collect();
    let query = format!("SELECT {} FROM {name} LIMIT {limit}", quoted.join(", "));
    let result = ask(session, query).await?;
    let result = result.into_rows_result().map_err(Native::unexpected)?;
    let mut contents = Vec::new();
    for row in result
        .rows::<ColumnIterator<'_, '_>>()
        .map_err(Native::unexpected)?
    {
        let mut values = SeedRow::new();
        for column in row.map_err(Native::unexpected)? {
            let slice = column.map_err(Native::unexpected)?.slice;
            values.push(slice.map(|slice| hexadecimal(slice.as_slice())));
        }
        contents.push(values);
    }
    Ok(contents)
}
