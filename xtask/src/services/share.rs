//! [`Server`]: what a command holds while it uses a server, so that the last user, and only the last, stops one that was
//! started on the way.

use std::fs::File;

use anyhow::{Context, Result};

use super::{Place, Running, Service, Up, ask_given, at_once, down_in_turn, given, up};
use crate::progress::say;

/// A command's share in a running server: it stays up at least as long as this lives.
#[derive(Debug)]
pub(crate) struct Server {
    service: &'static dyn Service,
    place: Place,
    up: Up,
    users: Option<File>,
}

impl Server {
    /// Has the server of this kind answer, the user's own or a private one, until the share is given back.
    pub(crate) fn share(service: &'static dyn Service, place: &Place) -> Result<Self> {
        let Some(url) = given(service, place) else {
            return Self::share_private(service, place);
        };
        ask_given(service, &url)?;
        Ok(Self {
            service,
            place: place.clone(),
            up: Up::Given(url),
            users: None,
        })
    }

    /// The same for several, started at once.
    pub(crate) fn share_all(services: &[&'static dyn Service], place: &Place) -> Result<Vec<Self>> {
        at_once(services, "starting servers", |service| {
            Self::share(service, place)
        })
    }

    /// The same, whatever the environment says.
    pub(crate) fn share_private(service: &'static dyn Service, place: &Place) -> Result<Self> {
        let _turn = place.turn(service.kind())?;
        let users = place.users(service.kind())?;
        users.lock_shared().context("failed to lock a file")?;
        Ok(Self {
            service,
            place: place.clone(),
            up: up(service, place, true)?,
            users: Some(users),
        })
    }

    /// The kind of server.
    pub(crate) fn service(&self) -> &'static dyn Service {
        self.service
    }

    /// How to reach it.
    pub(crate) fn url(&self) -> &str {
        self.up.url()
    }

    /// Whether it is the user's own.
    pub(crate) fn is_given(&self) -> bool {
        matches!(self.up, Up::Given(_))
    }

    /// The environment by which tests find it.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        self.up.environment(self.service)
    }

    fn give_back(&mut self) -> Result<()> {
        let Some(users) = self.users.take() else {
            return Ok(());
        };
        let _turn = self.place.turn(self.service.kind())?;
        users.unlock().context("failed to unlock a file")?;
        let is_temporary = |running: Running| running.temporary;
        if users.try_lock().is_ok()
            && self
                .place
                .running(self.service.kind())
                .is_some_and(is_temporary)
        {
            down_in_turn(self.service, &self.place)?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            let kind = self.service.kind();
            say(&format!(
                "{kind}: failed to stop: {error:#}; `cargo xtask services down {kind}` tries again"
            ));
        }
    }
}
