//! Templates: complete databases, made once per fingerprint, that workers' databases are copied
//! from.
//!
//! The main function is [`ensure`]. A template is sealed when it is complete: nobody can connect
//! to it, so it cannot change, and copying it never waits for a session.

use std::time::Instant;

use dagz_core::{
    Error, ErrorKind, Result, Target,
    driver::{Role, template},
    event::Event,
};

use super::{
    admin::Admin,
    migrations,
    stamp::{self, Owner},
};
use crate::{
    Driver,
    driver::{NAME, NAME_LIMIT},
    reset::{self, CaptureFor},
};

/// What is between a base and a fingerprint.
const INFIX: &str = "_dagz_";

/// A complete template.
pub(super) struct Template {
    pub(super) name: String,
    pub(super) fingerprint: String,
}

/// The template for `target`'s base, made now if there is none, or if it `is_doubtful`.
pub(super) async fn ensure(
    driver: &Driver,
    admin: &Admin<'_>,
    target: &Target,
    is_doubtful: bool,
) -> Result<Template> {
    let config = driver.config();
    let copies_base = config.migrations.is_none();
    let migrations = config.migrations.fingerprint(&config.format())?;
    let version = &admin.version.to_be_bytes();
    let fingerprint = template::fingerprint(&migrations, version, target, copies_base);
    let template = Template {
        name: template::name(target.base(), INFIX, &fingerprint, NAME_LIMIT),
        fingerprint,
    };
    // Without the lock others may be in the middle of making or dropping it, so that only a good
    // answer counts.
    if !is_doubtful && let Ok(true) = is_ready(admin, target, &template).await {
        return Ok(template);
    }

    admin.lock(&template.name).await?;
    let made = match is_ready(admin, target, &template).await {
        Ok(true) if !is_doubtful => Ok(()),
        Ok(_) => make_anew(driver, admin, target, &template, copies_base).await,
        Err(error) => Err(error),
    };
    admin.unlock_early(&template.name).await;
    made?;
    Ok(template)
}

async fn is_ready(admin: &Admin<'_>, target: &Target, template: &Template) -> Result<bool> {
    let Some(row) = admin.row(&template.name).await? else {
        return Ok(false);
    };
    match stamp::owner(target.project(), &template.name, &row) {
        Owner::Ours(stamp) => Ok(row.is_whole() && stamp.fingerprint == template.fingerprint),
        Owner::HalfMade => Ok(false),
        owner => Err(owner.refusal(NAME, "use", &template.name)),
    }
}

/// What there is of it is [ready](is_ready), or a ruin of our own.
async fn make_anew(
    driver: &Driver,
    admin: &Admin<'_>,
    target: &Target,
    template: &Template,
    copies_base: bool,
) -> Result<()> {
    if admin.row(&template.name).await?.is_some() {
        admin.drop_template(&template.name).await?;
    }
    let started = Instant::now();
    if let Err(error) = make(driver, admin, target, template, copies_base).await {
        // The reason is worth more than a failure to clean up, which the next attempt repeats.
        if let Err(remains) = admin.drop_template(&template.name).await {
            tracing::debug!(target: "dagz", error = %remains.report(), "a half-made template stays");
        }
        return Err(error);
    }
    Event::new("template")
        .target(target)
        .duration(started.elapsed())
        .detail(template.name.as_str())
        .record();
    prune(admin, target, template).await
}

async fn make(
    driver: &Driver,
    admin: &Admin<'_>,
    target: &Target,
    template: &Template,
    copies_base: bool,
) -> Result<()> {
    let config = driver.config();
    let source = if copies_base {
        if admin.row(target.base()).await?.is_none() {
            return Err(Error::new(
                ErrorKind::Settings,
                format!(
                    "database `{}` does not exist at `{}`, so there is nothing to copy: tell dagz how to make it by `.migrations(..)`, `.migrate_with(..)` or `.worker_init(..)`",
                    target.base(),
                    admin.server().shown()
                ),
            ));
        }
        Some(target.base())
    } else {
        None
    };
    let row = admin
        .create_database(target.project(), &template.name, source)
        .await?;
    migrations::run(admin.server(), &template.name, config).await?;

    let client = admin
        .server()
        .connect(&template.name, "dagz template")
        .await?;
    reset::capture(&client, &template.name, CaptureFor::Template, config).await?;
    drop(client);
    let stamp =
        stamp::stamp(target, Role::Template, &row, &template.fingerprint).named(&template.name);
    admin.seal_template(&template.name, &stamp).await
}

/// Drops the oldest templates of this project and base, and what killed runs have left of some. One that is in use
/// just now is only being copied, and whoever needs one that is gone makes it again.
async fn prune(admin: &Admin<'_>, target: &Target, current: &Template) -> Result<()> {
    let rows = admin
        .client()
        .query(
            "SELECT datname FROM pg_database WHERE datname LIKE '%\\_dagz\\_%' AND datname <> $1",
            &[&current.name],
        )
        .await
        .map_err(|error| admin.failed("cannot list templates".to_owned(), error))?;
    let (mut others, mut going) = (Vec::new(), Vec::new());
    for row in rows {
        let name: String = row.get(0);
        match state(admin, target, &name).await? {
            State::Complete { made } => others.push((made, name)),
            State::Ruin => going.push(name),
            State::NotOurs => {}
        }
    }
    going.extend(template::superseded(others));
    for name in going {
        if let Err(error) = drop_unless_busy(admin, target, &name).await {
            tracing::debug!(target: "dagz", error = %error.report(), "an old template stays");
        }
    }
    Ok(())
}

/// What a database is that may be a template for a certain base.
enum State {
    /// One that is complete, made so many seconds after the epoch.
    Complete {
        made: u64,
    },
    /// One that is being made, or dropped, or was until somebody was killed.
    Ruin,
    NotOurs,
}

async fn state(admin: &Admin<'_>, target: &Target, name: &str) -> Result<State> {
    let Some(row) = admin.row(name).await? else {
        return Ok(State::NotOurs);
    };
    Ok(match stamp::owner(target.project(), name, &row) {
        Owner::Ours(stamp) if !stamp.is_template_for(target) => State::NotOurs,
        Owner::Ours(stamp) if row.is_whole() => State::Complete { made: stamp.made },
        Owner::Ours(_) => State::Ruin,
        // Its base is nowhere but in its name; and who began to drop what is not whole is not written down.
        Owner::HalfMade
            if row.is_whole() && template::is_name_for(name, target.base(), INFIX, NAME_LIMIT) =>
        {
            State::Ruin
        }
        _ => State::NotOurs,
    })
}

/// Drops the template `name`, unless somebody is making or dropping it, or it has become somebody else's.
async fn drop_unless_busy(admin: &Admin<'_>, target: &Target, name: &str) -> Result<()> {
    if !admin.try_lock(name).await? {
        return Ok(());
    }
    let dropped = match state(admin, target, name).await {
        Ok(State::NotOurs) => Ok(()),
        Ok(State::Complete { .. } | State::Ruin) => admin.drop_template(name).await,
        Err(error) => Err(error),
    };
    admin.unlock_early(name).await;
    dropped
}
