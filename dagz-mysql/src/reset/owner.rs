//! Whose a database is that is about to be reset: looked at again whenever something about it is odd.

use dagz_core::{Result, Target, driver::Failure};
use mysql_async::Conn;

use super::{
    failed, failure,
    keeper::{Keeper, Opened, Outcome},
    lock,
};
use crate::{
    driver::NAME,
    provision::{self, Owner},
};

impl Keeper {
    /// Whether the database still carries the stamp that it was opened with.
    pub(super) async fn still_ours(&mut self, target: &Target) -> Result<Outcome, Failure> {
        let stamp = provision::stamp_behind(&mut self.conn, target.name()).await;
        let stamp = stamp.map_err(|error| failure(error, |e| failed(target.name(), e)))?;
        match stamp {
            Some(stamp) if stamp == self.stamp => Ok(Outcome::Clean),
            _ => {
                self.check_stamp(target).await?;
                Ok(Outcome::Rebuild("its stamp was changed".to_owned()))
            }
        }
    }

    /// Nothing is removed from a database whose stamp is not this project's any more. One that holds
    /// nothing at all, and had that stamp a test ago, was emptied by that test.
    pub(super) async fn check_stamp(&mut self, target: &Target) -> Result<()> {
        let row = provision::look(&mut self.conn, target.name())
            .await
            .map_err(|error| failed(target.name(), error))?;
        let Some(row) = row else { return Ok(()) };
        let owner = provision::owner_behind(target, &row);
        if owner.is_ours() || row.is_empty {
            Ok(())
        } else {
            Err(owner.refusal(NAME, "reset", target.name()))
        }
    }
}

/// Waits for the lock of a database that is dagz's own, but not complete.
pub(super) async fn ruin(mut conn: Conn, target: &Target) -> Result<Opened> {
    lock::wait(&mut conn, target.name())
        .await
        .map_err(Failure::into_error)?;
    Ok(Opened::Ruin(Box::new(conn)))
}

/// Whose the database of `target` is; one that is gone was on its way.
pub(super) async fn behind(conn: &mut Conn, target: &Target) -> Result<Owner> {
    let row = provision::look(conn, target.name())
        .await
        .map_err(|error| failed(target.name(), error))?;
    Ok(row.map_or(Owner::HalfMade, |row| provision::owner_behind(target, &row)))
}
