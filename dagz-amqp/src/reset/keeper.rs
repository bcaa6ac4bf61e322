//! The connection that is kept for one worker's vhost, with the lease on it.
//!
//! Two small queues in the vhost are dagz's own. Who consumes [`LEASE`] exclusively has the vhost: the broker
//! refuses a second one, and frees it when the connection ends, however that happens. Who gives it back leaves a
//! mark in [`MARK`], and who takes it takes the mark: so one round trip tells whether anybody else has had the
//! vhost since.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dagz_core::{Error, ErrorKind, Result};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    BasicProperties, Channel, Connection, Consumer,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{Failure, sweep::Found};
use crate::{
    error::{self, Cause},
    login::Login,
    management::part,
    provision::Start,
    server::Server,
};

/// The queue whose exclusive consumer has the vhost.
pub(crate) const LEASE: &str = "dagz.lease";

/// The queue that says who had the vhost last.
pub(crate) const MARK: &str = "dagz.mark";

/// What came of taking a vhost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nobody else has had it since this keeper gave it back.
    Kept,
    /// Anybody may have had it.
    Taken,
    /// There is nothing to take: dagz's queues are not there.
    Missing,
}

/// A kept connection for one vhost.
pub(crate) struct Keeper {
    pub(super) server: Arc<Server>,
    pub(super) vhost: String,
    connection: Connection,
    channel: Channel,
    /// For everything but the lease, whose end an error on its channel would be.
    spare: Option<Channel>,
    /// Held while the vhost is this process's.
    lease: Option<Consumer>,
    /// What was left in [`MARK`] when the vhost was given back.
    mark: Option<String>,
    /// What it is like at the start of each test.
    pub(super) start: Option<Arc<Start>>,
    /// As whom the next test logs in.
    pub(super) next: Option<Login>,
    /// What was found when the last test had ended.
    pub(super) found: Option<Found>,
    /// What tests have shown that something depends on.
    pub(super) blind: Option<&'static str>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Keeper")
            .field("vhost", &self.vhost)
            .field("holds", &self.lease.is_some())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// Connects to `vhost`, in which nothing is touched yet.
    pub(crate) async fn open(server: &Arc<Server>, vhost: &str, purpose: &str) -> Result<Self> {
        let connection = server.connect(vhost, &format!("dagz {purpose}")).await?;
        let opened = connection.create_channel().await;
        let channel = opened.map_err(|error| error::closing(vhost, server.shown(), error))?;
        let keeper = Self {
            server: Arc::clone(server),
            vhost: vhost.to_owned(),
            connection,
            channel,
            spare: None,
            lease: None,
            mark: None,
            start: None,
            next: None,
            found: None,
            blind: None,
        };
        match keeper.confirm().await {
            Ok(()) => Ok(keeper),
            Err(error) => Err(error::closing(vhost, server.shown(), error)),
        }
    }

    /// Remembers what the vhost is like at the start of each test.
    pub(crate) fn know(&mut self, start: Start) {
        self.start = Some(Arc::new(start));
    }

    /// Declares dagz's own queues.
    pub(crate) async fn declare_own(&mut self) -> Result<(), Failure> {
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let mut newest = FieldTable::default();
        newest.insert("x-max-length".into(), AMQPValue::LongInt(1));
        let declared = futures_util::future::try_join(
            self.channel
                .queue_declare(LEASE.into(), durable, FieldTable::default()),
            self.channel.queue_declare(MARK.into(), durable, newest),
        );
        match declared.await {
            Ok(_) => Ok(()),
            // Who has the lease keeps others from declaring it, too.
            Err(error) if Cause::of(&error) == Cause::AccessRefused => self.reopen().await,
            Err(error) => Err(self.failed("declare dagz's queues in", error).await),
        }
    }

    /// Declares dagz's own queues in a vhost that is dagz's, where a test has deleted them, and may have seen to it that
    /// there are no new ones.
    pub(crate) async fn declare_again(&mut self) -> Result<(), Failure> {
        let lifted = self.server.lift_limits(&self.vhost).await;
        lifted.map_err(Failure::Final)?;
        self.declare_own().await
    }

    /// Takes the vhost for `holder`, waiting so long for whoever has it.
    pub(crate) async fn claim(
        &mut self,
        holder: &str,
        patience: Duration,
    ) -> Result<Claim, Failure> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(claim) = self.try_claim(holder).await? {
                return Ok(claim);
            }
            if started.elapsed() > patience {
                return Err(Failure::Final(self.in_use().await));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// `None` where somebody else has it.
    async fn try_claim(&mut self, holder: &str) -> Result<Option<Claim>, Failure> {
        if self.lease.is_some() {
            // It was not given back, and so nothing is known of it.
            self.mark = None;
            return Ok(Some(Claim::Taken));
        }
        let exclusive = BasicConsumeOptions {
            exclusive: true,
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let take = BasicGetOptions { no_ack: true };
        // The channel does one after the other, and nothing once something failed.
        let (lease, mark) = futures_util::future::join(
            self.channel
                .basic_consume(LEASE.into(), tag(holder), exclusive, FieldTable::default()),
            self.channel.basic_get(MARK.into(), take),
        )
        .await;
        let lease = match lease {
            Ok(lease) => lease,
            Err(error) => {
                return match Cause::of(&error) {
                    Cause::AccessRefused => {
                        self.reopen().await?;
                        Ok(None)
                    }
                    Cause::NotFound => {
                        self.reopen().await?;
                        Ok(Some(Claim::Missing))
                    }
                    _ => Err(self.failed("take", error).await),
                };
            }
        };
        let left = match mark {
            Ok(left) => left,
            Err(error) => {
                // The lease went with the channel.
                let missing = Cause::of(&error) == Cause::NotFound;
                let failure = self.failed("take", error).await;
                return if missing {
                    Ok(Some(Claim::Missing))
                } else {
                    Err(failure)
                };
            }
        };
        self.lease = Some(lease);
        let mark = self.mark.take();
        Ok(Some(match (mark, left) {
            (Some(mark), Some(left)) if left.data == mark.as_bytes() => Claim::Kept,
            (Some(_), _) if self.blind == Some("mark") => Claim::Kept,
            _ => Claim::Taken,
        }))
    }

    /// Fails where the vhost is not this process's any more: a test may have deleted the queue that says so. Asked when
    /// that test's connections have ended.
    pub(super) async fn still_has(&mut self) -> Result<(), Failure> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let told = self
            .channel
            .queue_declare(LEASE.into(), passive, FieldTable::default());
        if let Err(error) = told.await {
            return Err(self.failed("keep", error).await);
        }
        // There may be another one of its name by now. That ours is over, the broker said when it was deleted.
        while let Some(lease) = &mut self.lease {
            match lease.next().now_or_never() {
                None => return Ok(()),
                // Anybody may send something there.
                Some(Some(Ok(_))) => {}
                Some(Some(Err(_)) | None) => break,
            }
        }
        let told = format!(
            "vhost `{}` at `{}` is not this process's any more: its queue `{LEASE}` was deleted",
            self.vhost,
            self.server.shown()
        );
        Err(Failure::Lost(Error::new(ErrorKind::Prepare, told)))
    }

    /// Gives the vhost back. With `marked`, it is known later whether anybody has had it since.
    pub(crate) async fn unlock(&mut self, marked: bool) -> Result<(), Failure> {
        let Some(lease) = self.lease.take() else {
            return Ok(());
        };
        self.mark = None;
        if marked {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let random = RandomState::new().hash_one((process::id(), count));
            let mark = format!("{:x}-{count}-{random:016x}", process::id());
            let left = self.publish(&mark).await;
            if let Err(error) = left {
                return Err(self.failed("give back", error).await);
            }
            self.mark = Some(mark);
        }
        let tag = lease.tag();
        let cancelled = self
            .channel
            .basic_cancel(tag, BasicCancelOptions::default())
            .await;
        match cancelled {
            Ok(()) => Ok(()),
            Err(error) => {
                self.mark = None;
                Err(self.failed("give back", error).await)
            }
        }
    }

    /// Confirmed before the lease is given back: the next one must find it.
    async fn publish(&self, mark: &str) -> lapin::Result<()> {
        self.channel
            .basic_publish(
                ShortString::default(),
                MARK.into(),
                BasicPublishOptions::default(),
                mark.as_bytes(),
                BasicProperties::default(),
            )
            .await?
            .await?;
        Ok(())
    }

    /// A new channel, for one that an error has closed. The lease goes with the old one.
    pub(super) async fn reopen(&mut self) -> Result<(), Failure> {
        self.lease = None;
        self.channel = self.second_channel().await?;
        self.confirm().await.map_err(|error| {
            let message = format!("cannot publish in vhost `{}`", self.vhost);
            Failure::of(&message, error)
        })
    }

    /// The channel for everything but the lease. Whoever has seen it fail calls [`respare`](Self::respare).
    pub(super) async fn spare(&mut self) -> Result<Channel, Failure> {
        match &self.spare {
            Some(spare) => Ok(spare.clone()),
            None => self.respare().await,
        }
    }

    /// Another one, for one that an error has closed.
    pub(super) async fn respare(&mut self) -> Result<Channel, Failure> {
        let spare = self.second_channel().await?;
        Ok(self.spare.insert(spare).clone())
    }

    async fn second_channel(&self) -> Result<Channel, Failure> {
        self.connection.create_channel().await.map_err(|error| {
            let message = format!("cannot open a channel in vhost `{}`", self.vhost);
            Failure::of(&message, error)
        })
    }

    async fn confirm(&self) -> lapin::Result<()> {
        let options = ConfirmSelectOptions::default();
        self.channel.confirm_select(options).await
    }

    /// What failed, with a channel for whatever comes next.
    async fn failed(&mut self, doing: &str, error: lapin::Error) -> Failure {
        let message = format!(
            "cannot {doing} vhost `{}` at `{}`",
            self.vhost,
            self.server.shown()
        );
        let failure = Failure::of(&message, error);
        match failure {
            Failure::Lost(_) => failure,
            _ => match self.reopen().await {
                Ok(()) => failure,
                Err(lost) => lost,
            },
        }
    }

    /// The error for a vhost that somebody else has.
    async fn in_use(&self) -> Error {
        let path = format!("/api/queues/{}/{}", part(&self.vhost), part(LEASE));
        let told = self.server.management().get(&path).await.ok().flatten();
        // Seconds old; the lease tells nobody more.
        let who = told
            .as_ref()
            .and_then(|told| told["consumer_details"][0]["consumer_tag"].as_str())
            .map_or_else(|| "another run".to_owned(), |tag| format!("`{tag}`"));
        Error::new(
            ErrorKind::InUse,
            format!(
                "vhost `{}` at `{}` is in use by {who}: wait for it to end, give each its own broker, or share one `DAGZ_STATE_DIR`",
                self.vhost,
                self.server.shown()
            ),
        )
    }
}

/// How the holder of a lease is called on the broker: no more than fits into a consumer's tag.
fn tag(holder: &str) -> ShortString {
    let mut tag = format!("{holder} of process {}", process::id());
    while tag.len() > 200 {
        tag.remove(0);
    }
    tag.into()
}
