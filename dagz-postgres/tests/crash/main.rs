//! After a crash of the server the next test finds exactly the start state.
//!
//! A backend is killed in the middle of something; the server ends all sessions and recovers. That takes more than it
//! undoes: unlogged tables are empty, sequences are ahead or at their start, what was not written out yet never was.
//! [`writes`] crashes what a test does, and what undoes it; [`making`] the making of databases; [`away`] has the server
//! be away for a while. Each case is seen to fail with the detection behind it switched off (`Config::blind_to`).
//!
//! They run on a server of their own, in turn: [`faults`].

mod away;
mod faults;
mod making;
#[path = "../support/mod.rs"]
mod support;
mod writes;

use dagz_core::DbConfig as _;
use dagz_postgres::{Config, Driver};
use support::{Site, config, connect};

/// Of everything that a crash treats in a way of its own.
const SCHEMA: &str = "
CREATE TABLE item (id serial PRIMARY KEY, name text);
CREATE TABLE seed (id integer PRIMARY KEY, name text);
INSERT INTO seed SELECT n, 'seed ' || n FROM generate_series(1, 5) n;
CREATE UNLOGGED TABLE cache (id serial, key text);
CREATE UNLOGGED TABLE kept (id serial PRIMARY KEY, key text);
INSERT INTO kept (key) VALUES ('a'), ('b'), ('c');
CREATE SEQUENCE free START 7;
CREATE SEQUENCE used;
SELECT setval('used', 40);
-- Postgres 15 has unlogged ones, which a crash sets to their start.
DO $$ BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        EXECUTE 'CREATE UNLOGGED SEQUENCE loose';
        PERFORM setval('loose', 30);
    END IF;
END $$;
";

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |config| async move {
        connect(&config).await.batch_execute(SCHEMA).await
    })
}

/// A driver as that of another process, which knows nothing yet of the database that it makes or finds.
async fn another(site: &Site, configured: impl FnOnce(Config) -> Config) -> Driver {
    let driver = Driver::new(configured(Config::from_config(config(&site.base))));
    for outcome in [
        driver.worker_init(&site.target).await,
        driver.prepare(&site.target).await,
    ] {
        outcome.unwrap_or_else(|error| panic!("{}", error.report()));
    }
    driver
}
