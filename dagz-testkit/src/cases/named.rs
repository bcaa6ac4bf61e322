//! Step six: names at and over the server's limit, and names that need quoting.

use anyhow::{Context, Result, ensure};

use super::Case;
use crate::{Choice, Contract, play::Play, stage::Other};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("named::at_and_over_the_limit", limits),
        Case::alone("named::that_need_quoting", quoting),
        Case::alone("named::two_bases_of_one_server", two_bases),
    ]
}

/// What `_jw00` takes.
const SUFFIX: usize = 5;

fn limits<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let limit = play
        .declaration()
        .name_limit
        .context("the driver's names have no limit")?;
    let long = |length: usize, end: &str| {
        let start = play.base();
        let fill = "x".repeat(length - start.len() - end.len());
        format!("{start}{fill}{end}")
    };
    let bases = [
        long(limit - SUFFIX - 1, ""),
        long(limit - SUFFIX, ""),
        long(limit - SUFFIX + 1, ""),
        // Of the length that the server takes, and the worker's must differ.
        long(limit, "a"),
        long(limit, "b"),
        // A server that cuts would make one of these two.
        long(limit + 30, "a"),
        long(limit + 30, "b"),
    ];
    different(play, &bases, Some(limit))
}

fn quoting<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let start = play.base();
    let bases = [
        format!("{start} with blanks "),
        format!("{start}.dots-and-dashes"),
        format!("{start}_CAPITALS"),
        format!("{start}_capitals"),
        format!("{start}_\"quotes\" and 'quotes' and `quotes`"),
        format!("{start}_100%25 \\ $1 {{}} ?x=y&z#f;--"),
        format!("{start}_grün_日本"),
    ];
    different(play, &bases, None)
}

fn two_bases<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    different(play, &[play.base(), play.other_base(Other::Second)], None)
}

/// Makes sure that each of `bases` has a database of its own, twice in a row.
fn different<C: Contract>(
    play: &Play<'_, C>,
    bases: &[String],
    limit: Option<usize>,
) -> Result<()> {
    play.configure(&Choice::default())?;
    for round in ["first", "second"] {
        play.test(round, async |scope| {
            for base in bases {
                let session = play.open(base).await?;
                let database = play.contract().database(&session).await?;
                let expected = play.worker_name(scope, base)?;
                ensure!(
                    database == expected && database != *base,
                    "`{base}` must be opened as `{expected}`, and `{database}` was"
                );
                if let Some(limit) = limit {
                    let length = base.len() + SUFFIX;
                    ensure!(
                        database.len() == length.min(limit),
                        "`{database}` has {} bytes",
                        database.len()
                    );
                }
                let entries = play.entries(&session).await?;
                ensure!(entries.is_empty(), "`{database}` is not empty: {entries:?}");
                play.contract().put(&session, "base", base).await?;
            }
            for base in bases {
                let session = play.open(base).await?;
                let entries = play.entries(&session).await?;
                ensure!(
                    entries == [("base".to_owned(), base.clone())],
                    "`{base}` holds {entries:?}"
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}
