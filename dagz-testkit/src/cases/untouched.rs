//! A test that opens nothing causes nothing.

use anyhow::{Result, ensure};
use dagz_core::Scope;

use super::Case;
use crate::{Choice, Contract, Prepare, play::Play};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![Case::alone(
        "untouched::a_test_without_databases_makes_none",
        untouched,
    )]
}

fn untouched<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        worker_init: Some(play.hook("init")),
        prepare: Prepare::Own(play.hook("prepare")),
        ..Choice::default()
    };
    play.configure(&choice)?;
    let guard = Scope::builder("opens nothing").enter()?;
    drop(guard);
    let log = play.log();
    ensure!(log.is_empty(), "a test that opens nothing caused {log:?}");
    Ok(())
}
