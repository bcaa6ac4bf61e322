//! Templates: complete databases, made once per fingerprint, that workers' databases are copied
//! from.
//!
//! The main function is [`ensure`]. A template also holds the rows that tables are restored from. It
//! is called such that a user with rights on the workers' databases has them on it, too, and its
//! events are disabled, so that nothing changes it.

use std::time::Instant;

use dagz_core::{
    Error, ErrorKind, Result, Target,
    driver::{Role, template},
    event::Event,
};
use mysql_async::prelude::Queryable as _;

use super::{
    admin::Admin,
    clone, migrations,
    stamp::{self, Owner, Stamp},
};
use crate::{
    Driver,
    driver::{NAME, NAME_LIMIT},
    reset::baseline::{self, Start},
    schema::Schema,
    sql,
};

/// What is between a stem and a fingerprint.
const INFIX: &str = "_jw_";

/// A complete template.
pub(super) struct Template {
    pub(super) name: String,
    pub(super) fingerprint: String,
}

/// The template for `target`'s base, made now if there is none.
pub(super) async fn ensure(
    driver: &Driver,
    admin: &mut Admin<'_>,
    target: &Target,
) -> Result<Template> {
    let config = driver.config();
    let copies_base = config.migrations.is_none();
    let migrations = config.migrations.fingerprint(migrations::FORMAT)?;
    let version = admin.server().facts()?.version.as_bytes();
    let fingerprint = template::fingerprint(&migrations, version, target, copies_base);
    let template = Template {
        name: beside(target.name(), &fingerprint),
        fingerprint,
    };
    // Without the lock others may be in the middle of making or dropping it, so that only a good
    // answer counts.
    if let Ok(true) = is_ready(admin, target, &template).await {
        return Ok(template);
    }

    admin.lock(&template.name).await?;
    let made = make_unless_ready(driver, admin, target, &template, copies_base).await;
    admin.unlock_early(&template.name).await;
    made?;
    Ok(template)
}

/// `shop_jw_1a2b3c4d`, with as much of the stem of the worker's database `name` as fits.
pub(super) fn beside(name: &str, fingerprint: &str) -> String {
    template::name(stem(name), INFIX, fingerprint, NAME_LIMIT)
}

/// What the worker's database `name` has before the worker.
fn stem(name: &str) -> &str {
    name.rsplit_once('_').map_or(name, |(stem, _)| stem)
}

async fn is_ready(admin: &mut Admin<'_>, target: &Target, template: &Template) -> Result<bool> {
    let Some(row) = admin.row(&template.name).await? else {
        return Ok(false);
    };
    match stamp::owner(target.project(), &template.name, &row) {
        Owner::Ours(stamp) => Ok(stamp.fingerprint == template.fingerprint),
        Owner::HalfMade => Ok(false),
        owner => Err(owner.refusal(NAME, "use", &template.name)),
    }
}

async fn make_unless_ready(
    driver: &Driver,
    admin: &mut Admin<'_>,
    target: &Target,
    template: &Template,
    copies_base: bool,
) -> Result<()> {
    if is_ready(admin, target, template).await? {
        return Ok(());
    }
    if admin.row(&template.name).await?.is_some() {
        // `is_ready` has proved that it is a ruin of our own.
        admin.drop_database(&template.name).await?;
    }
    let started = Instant::now();
    if let Err(error) = make(driver, admin, target, template, copies_base).await {
        // The reason is worth more than a failure to clean up, which the next attempt repeats.
        if let Err(remains) = admin.drop_database(&template.name).await {
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
    admin: &mut Admin<'_>,
    target: &Target,
    template: &Template,
    copies_base: bool,
) -> Result<()> {
    let config = driver.config();
    let base = admin.row(target.base()).await?;
    if copies_base && base.is_none() {
        return Err(Error::new(
            ErrorKind::Settings,
            format!(
                "database `{}` does not exist at `{}`, or this user may not see it, so there is nothing to copy: tell dagz how to make it by `.migrations(..)`, `.migrate_with(..)` or `.worker_init(..)`",
                target.base(),
                admin.server().shown()
            ),
        ));
    }
    let name = &template.name;
    let stamp = Stamp::new(target, Role::Template, &template.fingerprint, ()).named(name);
    let read = |error| read_failed(name, error);
    let source = match base {
        Some(_) if copies_base => Some(
            Schema::read(&mut admin.conn, target.base())
                .await
                .map_err(|error| read_failed(target.base(), error))?,
        ),
        _ => None,
    };
    // What the application's database is made with is what a migration that does not say relies on.
    let defaults = match &source {
        Some(source) => Some((source.charset.clone(), source.collation.clone())),
        None => defaults_of(admin, target.base()).await?,
    };
    let defaults = defaults
        .as_ref()
        .map(|(charset, collation)| (&**charset, &**collation));
    admin.create_database(name, &stamp, defaults).await?;
    if let Some(source) = &source {
        clone::objects(&mut admin.conn, source, name, &[]).await?;
    }
    migrations::run(admin.server(), name, config).await?;
    // The code that filled it may have left a pool behind.
    admin.end_sessions(name).await?;

    let schema = Schema::read(&mut admin.conn, name).await.map_err(read)?;
    clone::disable_events(&mut admin.conn, &schema).await?;
    let mut start = baseline::capture(&mut admin.conn, &schema, false, config.blind)
        .await
        .map_err(read)?;
    start.events = schema.enabled_events;
    admin.stamp(name, &stamp.complete(), &start.to_json()).await
}

fn read_failed(name: &str, error: mysql_async::Error) -> Error {
    let message = format!("cannot read what is in database `{name}`");
    crate::error::statement(ErrorKind::WorkerInit, message, error)
}

/// The character set and the collation of database `name`, if there is one.
async fn defaults_of(admin: &mut Admin<'_>, name: &str) -> Result<Option<(String, String)>> {
    let query = format!(
        "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME \
         FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
        sql::literal(name)
    );
    let found: Vec<(String, String, String)> = admin
        .conn
        .query(query)
        .await
        .map_err(|error| read_failed(name, error))?;
    let found = found.into_iter().find(|(found, _, _)| found == name);
    Ok(found.map(|(_, charset, collation)| (charset, collation)))
}

/// What the complete template holds, and how it is defined.
pub(super) async fn content(admin: &mut Admin<'_>, template: &Template) -> Result<(Schema, Start)> {
    let name = &template.name;
    let read = |error| read_failed(name, error);
    let schema = Schema::read(&mut admin.conn, name).await.map_err(read)?;
    let start: Option<String> = admin
        .conn
        .query_first("SELECT start FROM dagz_stamp WHERE id = 1")
        .await
        .map_err(read)?;
    let start = start.as_deref().and_then(Start::parse).ok_or_else(|| {
        Error::new(
            ErrorKind::WorkerInit,
            format!(
                "template `{name}` does not say what is in it: drop it, and run the test again"
            ),
        )
    })?;
    Ok((schema, start))
}

/// Drops the oldest templates of this project and base, and what killed runs have left of some. Whoever needs one that
/// is gone makes it again.
async fn prune(admin: &mut Admin<'_>, target: &Target, current: &Template) -> Result<()> {
    let names: Vec<String> = admin
        .conn
        .query(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE '%\\_jw\\_%'",
        )
        .await
        .map_err(|error| admin.failed("cannot list templates".to_owned(), error))?;
    let (mut others, mut going) = (Vec::new(), Vec::new());
    // Those of other bases may be locked for as long as somebody likes.
    let names = names.into_iter().filter(|name| {
        *name != current.name && template::is_name_for(name, stem(target.name()), INFIX, NAME_LIMIT)
    });
    for name in names {
        // One that others have locked, such as somebody else who drops it, can wait.
        match state(admin, target, &name).await {
            Ok(State::Complete { made }) => others.push((made, name)),
            Ok(State::Ruin) => going.push(name),
            Ok(State::NotOurs) | Err(_) => {}
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
    /// One that is being made, or was until somebody was killed.
    Ruin,
    NotOurs,
}

async fn state(admin: &mut Admin<'_>, target: &Target, name: &str) -> Result<State> {
    let Some(row) = admin.row(name).await? else {
        return Ok(State::NotOurs);
    };
    Ok(match stamp::owner(target.project(), name, &row) {
        Owner::Ours(stamp) if stamp.is_template_for(target) => State::Complete { made: stamp.made },
        // With a birth mark alone it may be that of another project which has such a base.
        Owner::HalfMade => {
            let stamp = row.stamp.as_deref().map(serde_json::from_str::<Stamp>);
            match stamp {
                Some(Ok(stamp)) if stamp.is_template_for(target) => State::Ruin,
                _ => State::NotOurs,
            }
        }
        _ => State::NotOurs,
    })
}

/// Drops the template `name`, unless somebody is making or dropping it, or it has become somebody else's.
async fn drop_unless_busy(admin: &mut Admin<'_>, target: &Target, name: &str) -> Result<()> {
    if !admin.try_lock(name).await? {
        return Ok(());
    }
    let dropped = match state(admin, target, name).await {
        Ok(State::NotOurs) => Ok(()),
        Ok(State::Complete { .. } | State::Ruin) => admin.drop_database(name).await,
        Err(error) => Err(error),
    };
    admin.unlock_early(name).await;
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_names_fit_and_match_the_workers_grant() {
        let fingerprint = "0123456789abcdef";
        assert_eq!(beside("shop_jw03", fingerprint), "shop_jw_01234567");
        let long = beside(&format!("{}_jw03", "ä".repeat(29)), fingerprint);
        assert!(long.len() <= 64 && long.ends_with("_jw_01234567"), "{long}");
        assert_eq!(dagz_core::name::worker("shop_jw_01234567"), None);
    }
}
