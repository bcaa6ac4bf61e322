//! Nothing of the user's is touched: a database that dagz did not make is refused, whatever its name.

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;

use super::Case;
use crate::{
    Choice, Contract, Prepare,
    play::{Play, refused},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("never_harms::a_users_database_is_refused", |play| {
            users_database(play, Prepare::Empty)
        }),
        Case::alone("never_harms::also_when_nothing_is_prepared", |play| {
            users_database(play, Prepare::None)
        }),
    ]
}

fn users_database<C: Contract>(play: &Play<'_, C>, prepare: Prepare) -> Result<()> {
    let choice = Choice {
        prepare,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    for round in ["meets it", "meets it again"] {
        play.test(round, async |scope| {
            let name = play.worker_name(scope, &base)?;
            if round == "meets it" {
                play.contract().create(&name).await?;
                let _bypass = dagz_core::bypass();
                let session = play.open(&name).await?;
                play.contract().put(&session, "mine", "kept").await?;
            }
            let refusal = play.contract().refusal();
            refused(
                play.open(&base).await,
                ErrorKind::Refused,
                &[&name, &scope.worker(), &round, &refusal],
            )?;
            let _bypass = dagz_core::bypass();
            let session = play.open(&name).await?;
            let entries = play.entries(&session).await?;
            ensure!(
                entries == [("mine".to_owned(), "kept".to_owned())],
                "the user's database was changed to {entries:?}"
            );
            Ok(())
        })?;
    }
    Ok(())
}
