//! What a worker's vhost is filled from: the base vhost's definitions, [`Source`], or the user's own function.

use std::time::Instant;

use dagz_core::{Error, ErrorKind, Result, Target, event, event::Event};

use super::start::Start;
use crate::{
    Driver, driver, login,
    management::part,
    reset::{Failure, Keeper},
    server::Server,
    topology::Topology,
};

/// What a base vhost has for those of workers.
pub(super) struct Source {
    /// Changes when what is in it changes.
    pub(super) id: String,
    topology: Topology,
    left_out: Vec<String>,
    /// The queues it makes where nothing else is said.
    pub(super) kind: Option<String>,
}

impl Source {
    /// That of the vhost `base`.
    pub(super) async fn of(server: &Server, base: &str) -> Result<Self> {
        let (vhost, definitions) =
            futures_util::future::try_join(server.vhost(base), server.definitions(base)).await?;
        let (topology, left_out) = Topology::of(&definitions.unwrap_or_default()).copied();
        let kind = vhost
            .as_ref()
            .and_then(|vhost| vhost["default_queue_type"].as_str());
        Ok(Self {
            id: topology.id(),
            topology,
            left_out,
            kind: kind.filter(|kind| *kind != "undefined").map(str::to_owned),
        })
    }

    /// Declares what belongs into a vhost that has just been made.
    pub(super) async fn fill(
        &self,
        driver: &Driver,
        target: &Target,
        server: &Server,
        keeper: &mut Keeper,
    ) -> Result<()> {
        let vhost = target.name();
        let Some(init) = &driver.config().worker_init else {
            if self.topology == Topology::default() {
                return Ok(());
            }
            let path = format!("/api/definitions/{}", part(vhost));
            let filled = server.management().post(&path, self.topology.definitions());
            filled.await.map_err(|trouble| {
                let doing = format!("copy the definitions of vhost `{}`", target.base());
                trouble.into_error(ErrorKind::WorkerInit, &doing)
            })?;
            for what in &self.left_out {
                let told = format!(
                    "{what} of vhost `{}` is not copied to workers",
                    target.base()
                );
                event::warn(Some(driver::NAME), &told);
            }
            return Ok(());
        };
        let rights = server.rights(target.base()).await?;
        let login = login::create(server, vhost, &rights).await?;
        let started = Instant::now();
        let filled = init.call(target, driver.uri_for(target, &login)?).await;
        login::remove(server, &login.user, None).await?;
        filled?;
        let start = Start::read(server, vhost).await?;
        let left = keeper.messages(&start.topology).await;
        if let Some((queue, count)) = left.map_err(Failure::into_error)? {
            return Err(Error::new(
                ErrorKind::WorkerInit,
                format!(
                    "the `worker_init` function left {count} messages in queue `{queue}` of vhost `{vhost}`: a message is there to be consumed, and no part of the start state; publish it in the test"
                ),
            ));
        }
        Event::new("fill")
            .target(target)
            .duration(started.elapsed())
            .record();
        Ok(())
    }
}
