//! The count behind the claim that no test sees another's writes.
//!
//! With `SHOP_AUDIT_FILE` set, a trigger on each table notes who wrote, by `application_name`, into `audit.writes`, a
//! table like the others. At the end of each test [`Audit`] counts the rows that others left there, and appends a line to
//! the file. Without the variable there are no triggers and nothing is counted.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::thread;

use redis::AsyncCommands;
use serde_json::json;
use tokio_postgres::{Client, Config, NoTls};

use crate::today;

/// Changed whenever the SQL below does, so that templates made by the older one are not used.
pub(crate) const VERSION: &str = "audit 1";

const SCHEMA: &str = "
CREATE SCHEMA audit;
CREATE TABLE audit.writes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_name text NOT NULL,
    relation text NOT NULL,
    operation text NOT NULL
);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO audit.writes (application_name, relation, operation)
    VALUES (current_setting('application_name'), TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, TG_OP);
    RETURN NULL;
END
$body$;
DO $body$
DECLARE relation regclass;
BEGIN
    FOR relation IN
        SELECT c.oid FROM pg_class c
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.relnamespace IN ('public'::regnamespace, 'reporting'::regnamespace)
    LOOP
        EXECUTE format(
            'CREATE TRIGGER audit_note AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s
             FOR EACH STATEMENT EXECUTE FUNCTION audit.note()', relation);
    END LOOP;
END
$body$;";

/// Whether this run is audited.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os("SHOP_AUDIT_FILE").is_some()
}

/// Installs the triggers into the database of `config`, once its migrations have run.
pub(crate) async fn install_into(config: Config) -> Result<(), tokio_postgres::Error> {
    install(&today::connect(&config).await?).await
}

/// Installs the triggers where they are not there yet.
pub(crate) async fn install(client: &Client) -> Result<(), tokio_postgres::Error> {
    let there: bool = client
        .query_one("SELECT to_regnamespace('audit') IS NOT NULL", &[])
        .await?
        .get(0);
    if there {
        Ok(())
    } else {
        client
            .batch_execute(&format!("BEGIN;{SCHEMA}COMMIT;"))
            .await
    }
}

/// Counts when it is dropped, so that no test can forget to.
pub(crate) struct Audit {
    config: Config,
    test: String,
}

impl Audit {
    /// An audit of `test`, whose connections are made with `config`; none if the run is not audited.
    pub(crate) fn of(config: &Config, test: &str) -> Option<Self> {
        is_wanted().then(|| Self {
            config: config.clone(),
            test: test.to_owned(),
        })
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let (config, test) = (self.config.clone(), self.test.clone());
        // A thread of its own: the blocking client may not be used inside a test's runtime.
        let counted =
            thread::spawn(move || count(config, &test).map_err(|error| error.to_string())).join();
        // A second panic would end all tests of the process.
        if !thread::panicking() {
            counted
                .expect("the audit does not panic")
                .expect("the audit can count");
        }
    }
}

fn count(config: Config, test: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let own = config
        .get_application_name()
        .ok_or("the connections have no `application_name`")?
        .to_owned();
    let mut client = postgres::Config::from(config).connect(NoTls)?;
    let row = client.query_one(
        "SELECT count(*), count(*) FILTER (WHERE application_name <> $1), min(application_name) FILTER (WHERE application_name <> $1)
         FROM audit.writes",
        &[&own],
    )?;
    client.close()?;
    let (writes, foreign): (i64, i64) = (row.get(0), row.get(1));
    let line = json!({ "test": test, "foreign": foreign, "writes": writes, "from": row.get::<_, Option<&str>>(2) });
    append(&line)
}

/// The same for the stores beside Postgres: each test leaves its mark in the cache, and counts those of others there when
/// it is over.
pub(crate) struct StoreAudit {
    redis: redis::Client,
    test: String,
    mark: String,
}

/// The list of marks.
const MARKS: &str = "audit";

impl StoreAudit {
    /// An audit of `test`; none if the run is not audited.
    pub(crate) async fn of(redis: &redis::Client, test: &str) -> Option<Self> {
        if !is_wanted() {
            return None;
        }
        let audit = Self {
            redis: redis.clone(),
            test: test.to_owned(),
            mark: today::name_of(test),
        };
        let mut connection = redis
            .get_multiplexed_async_connection()
            .await
            .expect("the cache answers");
        let () = connection
            .rpush(MARKS, &audit.mark)
            .await
            .expect("the cache takes a mark");
        Some(audit)
    }

    fn count(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut connection = self.redis.get_connection()?;
        let marks: Vec<String> = redis::Commands::lrange(&mut connection, MARKS, 0, -1)?;
        let foreign: Vec<_> = marks.iter().filter(|mark| **mark != self.mark).collect();
        let line = json!({ "test": self.test, "foreign": foreign.len(), "writes": 1, "from": foreign.first() });
        append(&line)
    }
}

impl Drop for StoreAudit {
    fn drop(&mut self) {
        let counted = self.count();
        // A second panic would end all tests of the process.
        if !thread::panicking() {
            counted.expect("the audit can count");
        }
    }
}

/// One write to a file opened for appending: lines of several processes do not mix.
fn append(line: &serde_json::Value) -> Result<(), Box<dyn Error + Send + Sync>> {
    let file =
        std::env::var_os("SHOP_AUDIT_FILE").ok_or("`SHOP_AUDIT_FILE` is not set any more")?;
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(file.write_all(format!("{line}\n").as_bytes())?)
}
