//! A role that is no superuser: slower here and there, and as exact.

mod support;

use dagz_core::DbConfig as _;
use dagz_postgres::{Config, Prepare};
use support::{Site, at_site, base, config, connect, dump, rows};

const SCHEMA: &str = "
CREATE TABLE country (code text PRIMARY KEY);
INSERT INTO country VALUES ('at'), ('de');
CREATE TABLE customer (id serial PRIMARY KEY, country text REFERENCES country ON DELETE CASCADE);
CREATE TABLE hen (id serial PRIMARY KEY, egg integer);
CREATE TABLE egg (id serial PRIMARY KEY, hen integer NOT NULL REFERENCES hen);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg;
CREATE TABLE audit (id integer);
CREATE DOMAIN colour AS text DEFAULT 'red';
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO audit VALUES (1); RETURN NULL; END';
CREATE TRIGGER note AFTER DELETE ON customer FOR EACH ROW EXECUTE FUNCTION note();
CREATE TABLE stubborn (id integer);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER refuse BEFORE DELETE ON stubborn FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TABLE secret (owner text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM customer;
SELECT lo_from_bytea(4242, '\\x00ff');
";

const ROLE: &str = "dagz_test_restricted";

async fn make_role() {
    let admin = connect(&config("postgres")).await;
    // Tests of several processes make it at once: one of them succeeds, and that is enough.
    drop(
        admin
            .batch_execute(&format!(
                "CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD 'restricted'"
            ))
            .await,
    );
}

/// A configuration for the base of `test` by that role, in place of the superuser's.
fn restricted(test: &str, prepare: Prepare) -> impl FnOnce(Config) -> Config + use<> {
    let mut base = config(&base(test));
    move |_| {
        base.user(ROLE).password("restricted");
        Config::from_config(base)
            .prepare(prepare)
            .migrate_with("1", |config| async move {
                connect(&config).await.batch_execute(SCHEMA).await
            })
    }
}

const OID: &str = "SELECT oid FROM pg_database WHERE datname = current_database()";

/// Does something, resets, and tells whether the database was made anew for it.
async fn after(site: &Site, statements: &str) -> bool {
    // As the role that owns everything: it may end no session of a superuser.
    let config = site.config().user(ROLE).password("restricted").clone();
    let client = connect(&config).await;
    let (oid, start) = (rows(&client, OID).await, dump(&client).await);
    client.batch_execute(statements).await.unwrap();
    drop(client);
    site.driver.release(&site.target).await;
    site.prepare().await;
    let client = connect(&config).await;
    assert_eq!(dump(&client).await, start, "{statements}");
    rows(&client, OID).await != oid
}

#[test]
fn truncate_works_in_place() {
    support::run(make_role());
    at_site(
        "restricted_truncate",
        restricted("restricted_truncate", Prepare::Truncate),
        async |site: &Site| {
            site.init().await;
            for (statements, is_anew) in [
                ("SELECT 1", false),
                (
                    "INSERT INTO country VALUES ('fr'); INSERT INTO customer (country) VALUES ('fr')",
                    false,
                ),
                (
                    "INSERT INTO hen DEFAULT VALUES; INSERT INTO egg (hen) VALUES (1); UPDATE hen SET egg = 1",
                    false,
                ),
                ("INSERT INTO secret VALUES ('me')", false),
                ("CREATE TEMP TABLE scratch (id serial PRIMARY KEY)", false),
                ("BEGIN; CREATE TABLE other (id integer); ROLLBACK", false),
                ("INSERT INTO stubborn VALUES (1)", true),
                ("CREATE TABLE other (id integer)", true),
                ("ALTER TABLE hen DROP COLUMN egg", true),
                ("DROP TABLE audit", true),
                ("CREATE DOMAIN size AS integer", true),
                ("ALTER DOMAIN colour SET DEFAULT 'blue'", true),
                ("ALTER DOMAIN colour SET NOT NULL", true),
                ("CREATE TYPE span AS RANGE (subtype = integer)", true),
                ("SELECT lo_put(4242, 0, 'x')", true),
                (
                    "INSERT INTO country VALUES ('fr'); INSERT INTO customer (country) VALUES ('fr'); REFRESH MATERIALIZED VIEW totals",
                    true,
                ),
            ] {
                assert_eq!(after(site, statements).await, is_anew, "{statements}");
            }
        },
    );
}

#[test]
fn an_owner_from_whom_its_own_rows_are_hidden_gets_no_template() {
    support::run(make_role());
    let mut base = config(&base("restricted_forced"));
    base.user(ROLE).password("restricted");
    let forced = "CREATE TABLE secret (owner text); ALTER TABLE secret ENABLE ROW LEVEL SECURITY; \
        ALTER TABLE secret FORCE ROW LEVEL SECURITY";
    let configured = |_: Config| {
        Config::from_config(base).migrate_with("1", move |config| async move {
            connect(&config).await.batch_execute(forced).await
        })
    };
    at_site("restricted_forced", configured, async |site: &Site| {
        let error = site.driver.worker_init(&site.target).await.unwrap_err();
        let report = error.report().to_string();
        for part in [
            "cannot record the start state",
            "row-level security",
            "secret",
        ] {
            assert!(report.contains(part), "`{part}` is not in: {report}");
        }
    });
}

#[test]
fn baseline_makes_databases_anew_where_seeds_changed() {
    support::run(make_role());
    at_site(
        "restricted_baseline",
        restricted("restricted_baseline", Prepare::Baseline),
        async |site: &Site| {
            site.init().await;
            for (statements, is_anew) in [
                ("SELECT nextval('hen_id_seq')", false),
                ("INSERT INTO customer (country) VALUES ('at')", false),
                (
                    "INSERT INTO hen DEFAULT VALUES; INSERT INTO egg (hen) VALUES (1); UPDATE hen SET egg = 1",
                    false,
                ),
                ("UPDATE country SET code = 'fr' WHERE code = 'at'", true),
                ("DELETE FROM country", true),
            ] {
                assert_eq!(after(site, statements).await, is_anew, "{statements}");
            }
        },
    );
}
