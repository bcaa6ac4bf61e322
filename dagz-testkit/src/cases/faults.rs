//! What is wrong with a server or an address is said once, clearly, and without the password.

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;

use super::Case;
use crate::{
    Choice, Contract, Fault,
    play::{Play, refused},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("faults::unreachable_server", unreachable)
            .needing(|can| can.faults.contains(&Fault::Unreachable)),
        Case::alone("faults::wrong_password", wrong_password)
            .needing(|can| can.faults.contains(&Fault::WrongPassword)),
        Case::alone("faults::missing_rights", missing_rights)
            .needing(|can| can.faults.contains(&Fault::MissingRights)),
    ]
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
