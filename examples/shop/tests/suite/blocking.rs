//! Tests that are not async, with the blocking client.

use std::io::{Read, Write};

use postgres::{Client, NoTls};
use tokio_postgres::Config;

use crate::audit::Audit;
use crate::{support, today};

/// This test's database, for blocking clients.
struct Blocking {
    config: Config,
    _audit: Option<Audit>,
}

impl Blocking {
    fn open() -> dagz::Result<Self> {
        let scope = dagz::current().expect("called inside a test");
        let config = today::unless_active_blocking(support::rerouted_blocking()?, scope.test())?;
        Ok(Self {
            _audit: Audit::of(&config, scope.test()),
            config,
        })
    }

    fn connect(&self) -> Client {
        postgres::Config::from(self.config.clone())
            .connect(NoTls)
            .unwrap()
    }
}

#[dagz::test]
fn a_blocking_client_finds_the_seed() {
    let database = Blocking::open().unwrap();
    let count: i64 = database
        .connect()
        .query_one("SELECT count(*) FROM tax_rates", &[])
        .unwrap()
        .get(0);
    assert_eq!(count, 12);
}

#[dagz::test]
fn a_blocking_client_makes_the_first_brand() {
    let database = Blocking::open().unwrap();
    let insert = "INSERT INTO brands (name) VALUES ('Mercator') RETURNING id";
    assert_eq!(
        database
            .connect()
            .query_one(insert, &[])
            .unwrap()
            .get::<_, i64>(0),
        1
    );
}

#[dagz::test]
fn blocking_transactions_are_isolated() -> Result<(), postgres::Error> {
    let database = Blocking::open().unwrap();
    let (mut first, mut second) = (database.connect(), database.connect());
    let mut transaction = first.transaction()?;
    transaction.execute("DELETE FROM settings", &[])?;
    assert_eq!(second.query("SELECT 1 FROM settings", &[])?.len(), 5);
    transaction.rollback()?;
    Ok(())
}

#[dagz::test]
fn a_copy_brings_many_rows_at_once() -> Result<(), Box<dyn std::error::Error>> {
    let database = Blocking::open()?;
    let mut client = database.connect();
    let mut writer = client.copy_in("COPY tags (name) FROM STDIN")?;
    for number in 1..=500 {
        writeln!(writer, "tag-{number}")?;
    }
    assert_eq!(writer.finish()?, 500);
    assert_eq!(
        client
            .query_one("SELECT max(id) FROM tags", &[])?
            .get::<_, i64>(0),
        500
    );
    Ok(())
}

#[dagz::test]
fn a_copy_takes_the_seed_out() -> Result<(), Box<dyn std::error::Error>> {
    let database = Blocking::open()?;
    let mut client = database.connect();
    client.execute("DELETE FROM currencies WHERE code <> 'EUR'", &[])?;
    let mut text = String::new();
    client
        .copy_out("COPY currencies TO STDOUT")?
        .read_to_string(&mut text)?;
    assert_eq!(text, "EUR\tEuro\t2\n");
    Ok(())
}

#[dagz::test]
fn a_blocking_test_can_open_its_database_twice() {
    let database = Blocking::open().unwrap();
    database
        .connect()
        .execute("INSERT INTO brands (name) VALUES ('Mercator')", &[])
        .unwrap();
    let again = support::rerouted_blocking().unwrap();
    assert_eq!(again.get_dbname(), database.config.get_dbname());
    let count: i64 = database
        .connect()
        .query_one("SELECT count(*) FROM brands", &[])
        .unwrap()
        .get(0);
    assert_eq!(count, 1);
}
