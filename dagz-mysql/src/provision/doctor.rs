//! Looks at a server as a test would use it, for `cargo dagz doctor`, and leaves nothing behind.
//!
//! [`doctor`] makes and drops a database by the same statements as a worker's.

use dagz_core::{Result, driver::Checkup};
use mysql_async::prelude::Queryable as _;

use super::{Stamp, admin::Admin};
use crate::{
    Config,
    driver::{NAME_LIMIT, is_system},
    reset::SPARE_TABLES,
    route,
    server::{Flavour, Server},
    sql,
};

/// Looks whether a run of `checkup` will find what it needs on the server of `config`.
pub async fn doctor(config: &Config, checkup: &mut Checkup) {
    let server = Server::new(&config.base);
    let mut admin = match Admin::connect_as(&server, "dagz doctor").await {
        Ok(admin) => admin,
        Err(error) => return checkup.failed("reachable", &error),
    };
    let facts = match server.facts() {
        Ok(facts) => facts,
        Err(error) => return checkup.failed("reachable", &error),
    };
    checkup.good(
        "reachable",
        format!("at {} as `{}`", server.shown(), facts.account),
    );
    checkup.good(
        "version",
        format!("{} {}", facts.flavour.name(), facts.version),
    );
    let base = route::database(&config.base);
    let base = match is_system(&base) {
        true => String::new(),
        false => base,
    };
    let tried = try_rights(&mut admin, checkup, &base).await;
    checkup.tried("rights", tried);
    match connections(&mut admin).await {
        Ok((used, most, setting)) => checkup.connections(used, most, setting),
        Err(error) => checkup.failed("connections", &error),
    }
    match table_cache(&mut admin, &base).await {
        Ok(cache) => cache.judge(&base, facts.flavour, checkup),
        Err(error) => checkup.failed("table cache", &error),
    }
}

/// By a name of the base's, since rights may be for such names only.
async fn try_rights(admin: &mut Admin<'_>, checkup: &Checkup, base: &str) -> Result<&'static str> {
    let name = checkup.trial(base, NAME_LIMIT)?;
    let stamp = Stamp::bare(checkup.project(), &name, ());
    admin.create_database(&name, &stamp, None).await?;
    admin.drop_database(&name).await?;
    Ok("may create and drop databases")
}

/// How many connections there are beside this one, how many there may be for dagz's user, and by which setting.
async fn connections(admin: &mut Admin<'_>) -> Result<(i64, i64, &'static str)> {
    let asked = async {
        let limits: Option<(i64, i64)> = admin
            .conn
            .query_first("SELECT @@max_connections, @@max_user_connections")
            .await?;
        let used: Option<(String, i64)> = admin
            .conn
            .query_first("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
            .await?;
        Ok::<_, mysql_async::Error>((limits, used))
    };
    let (limits, used) = match asked.await {
        Ok(told) => told,
        Err(error) => {
            return Err(admin.failed("cannot count the connections".to_owned(), error));
        }
    };
    let (most, own) = limits.unwrap_or_default();
    let used = used.map_or(0, |(_, used)| used - 1);
    Ok(match own {
        own if own > 0 && own < most => (used, own, "`max_user_connections`"),
        _ => (used, most, "`max_connections`"),
    })
}

/// How many tables the server keeps open, and how many there are.
struct TableCache {
    size: u64,
    parts: u64,
    tables: u64,
}

/// What that is where workers' databases have the tables of `base`.
async fn table_cache(admin: &mut Admin<'_>, base: &str) -> Result<TableCache> {
    let query = format!(
        "SELECT @@table_open_cache, @@table_open_cache_instances, COUNT(*) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {} AND TABLE_TYPE = 'BASE TABLE'",
        sql::literal(base)
    );
    let told: Result<Option<(u64, u64, u64)>, _> = admin.conn.query_first(query).await;
    match told {
        Ok(told) => {
            let (size, parts, tables) = told.unwrap_or_default();
            Ok(TableCache {
                size,
                parts,
                tables,
            })
        }
        Err(error) => Err(admin.failed("cannot count the tables".to_owned(), error)),
    }
}

impl TableCache {
    /// Says what to do where a session cannot have all tables open: then each reset opens them anew, which takes a
    /// hundred times as long with a thousand of them.
    fn judge(&self, base: &str, flavour: Flavour, checkup: &mut Checkup) {
        let Self {
            size,
            parts,
            tables,
        } = *self;
        if tables == 0 {
            return;
        }
        // MySQL keeps the tables of a session in one of these parts.
        let parts = match flavour {
            Flavour::MySql => parts.max(1),
            Flavour::MariaDb => 1,
        };
        let room = size / parts;
        let needed = tables + SPARE_TABLES;
        let found = format!("room for {room} tables of a session, `{base}` has {tables}");
        if room > needed {
            return checkup.good("table cache", found);
        }
        let remedy = match size > needed {
            true => "set `table_open_cache_instances = 1`".to_owned(),
            false => format!(
                "set `table_open_cache` to {} or more",
                needed * parts * u64::from(checkup.workers().max(1))
            ),
        };
        checkup.odd("table cache", found, remedy);
    }
}

#[cfg(test)]
mod tests {
    use dagz_core::driver::State;

    use super::*;

    #[track_caller]
    fn check(
        flavour: Flavour,
        (size, parts, tables): (u64, u64, u64),
        expected: Option<(State, Option<&str>)>,
    ) {
        let mut checkup = Checkup::new("shop", 4, 1);
        let cache = TableCache {
            size,
            parts,
            tables,
        };
        cache.judge("shop", flavour, &mut checkup);
        let found = checkup.findings();
        let found = found.first();
        let found = found.map(|finding| (finding.state, finding.remedy.as_deref()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_cache_has_room_for_the_tables_of_a_session() {
        let instances = Some("set `table_open_cache_instances = 1`");
        let size = Some("set `table_open_cache` to 64640 or more");
        check(Flavour::MySql, (4_000, 16, 50), Some((State::Good, None)));
        check(
            Flavour::MySql,
            (4_000, 16, 400),
            Some((State::Odd, instances)),
        );
        check(Flavour::MySql, (1_000, 16, 1_000), Some((State::Odd, size)));
        check(Flavour::MariaDb, (2_000, 8, 400), Some((State::Good, None)));
        check(Flavour::MySql, (4_000, 16, 0), None);
    }
}
