//! Step one: switched off, dagz passes every name unchanged.

use anyhow::Result;

use super::Case;
use crate::{Contract, play::Play};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("active::off_passes_names_unchanged", off).with(&[("DAGZ", "off")]),
        Case::alone("active::no_workers_is_off", off).with(&[("DAGZ_WORKERS", "0")]),
    ]
}

fn off<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = play.made_base()?;
    // Not even a configuration is asked for.
    play.test("off", async |_| play.opens_unchanged(&base).await)?;
    play.wait(play.opens_unchanged(&base))?
}
