//! What is wrong is said once, clearly, with the way out of it and without the password.

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;

use super::{Case, ONE_WORKER};
use crate::{
    Choice, Contract, Fault, Hook, Prepare,
    play::{Play, refused, said},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("explained::a_failed_prepare", failed_prepare).with(ONE_WORKER),
        Case::alone("explained::an_unreachable_server", unreachable),
        Case::alone("explained::a_wrong_password", wrong_password),
        Case::alone("explained::missing_rights", missing_rights),
    ]
}

fn failed_prepare<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        prepare: Prepare::Own(play.hook("prepare").failing()),
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    for name in ["fails", "fails as well"] {
        play.test(name, async |scope| {
            let database = play.worker_name(scope, &base)?;
            for _ in 0..2 {
                let Err(error) = play.open(&base).await else {
                    anyhow::bail!("`{database}` was opened although preparing it fails");
                };
                said(&error, &[&database, &scope.worker(), &name, &Hook::FAILURE])?;
            }
            Ok(())
        })?;
    }
    let log = play.log();
    ensure!(log.len() == 2, "tried so often in two tests: {log:?}");
    Ok(())
}

fn unreachable<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    fails(play, Fault::Unreachable, ErrorKind::Unreachable)
}

fn wrong_password<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    fails(play, Fault::WrongPassword, ErrorKind::AccessDenied)
}

fn missing_rights<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    fails(play, Fault::MissingRights, ErrorKind::AccessDenied)
}

fn fails<C: Contract>(play: &Play<'_, C>, fault: Fault, kind: ErrorKind) -> Result<()> {
    let base = play.base();
    let faulty = play.wait(play.contract().faulty(fault, &base))??;
    play.contract()
        .configure(&faulty.address, &Choice::default())?;
    for name in ["meets the fault", "meets it again"] {
        play.test(name, async |scope| {
            let database = play.worker_name(scope, &base)?;
            let outcome = play.contract().open(&faulty.address).await;
            let error = refused(outcome, kind, &[&database, &scope.worker(), &name])?;
            let shown = format!("{} {error:?}", error.report());
            for told in &faulty.told {
                ensure!(
                    shown.contains(told),
                    "the error does not say `{told}`: {shown}"
                );
            }
            if let Some(secret) = &faulty.secret {
                ensure!(
                    !shown.contains(secret),
                    "the error tells the password: {shown}"
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}
