//! The schema's migrations, compiled in, and the function that brings a database up to date.

use tokio_postgres::{Client, Error};

/// One file of `migrations/`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Migration {
    /// The file's name, which is also its place in the order.
    pub name: &'static str,
    /// The file's statements.
    pub sql: &'static str,
}

impl Migration {
    /// Whether the file has only rows that can be inserted again into emptied tables.
    pub fn is_seed(&self) -> bool {
        self.name.ends_with("_seed.sql")
    }
}

macro_rules! migrations {
    ($($file:literal),* $(,)?) => {
        &[$(Migration { name: $file, sql: include_str!(concat!("../migrations/", $file)) }),*]
    };
}

/// All migrations, in their order.
pub const MIGRATIONS: &[Migration] = migrations![
    "0001_reference.sql",
    "0002_staff.sql",
    "0003_catalog.sql",
    "0004_customers.sql",
    "0005_inventory.sql",
    "0006_orders.sql",
    "0007_payments.sql",
    "0008_events.sql",
    "0009_reporting.sql",
    "0010_reference_seed.sql",
    "0011_shop_seed.sql",
];

/// The advisory lock under which migrations run, so that two starting instances do not both run them.
const MIGRATION_LOCK: i64 = 0x5110_7000;

/// Runs the migrations that `client`'s database does not have yet, each in a transaction, and returns how many ran.
///
/// # Errors
/// The first statement that the database refuses; migrations before it stay done.
pub async fn migrate(client: &Client) -> Result<usize, Error> {
    client
        .execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK])
        .await?;
    let outcome = run_missing(client).await;
    client
        .execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK])
        .await?;
    outcome
}

async fn run_missing(client: &Client) -> Result<usize, Error> {
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 name text PRIMARY KEY,
                 applied_at timestamptz NOT NULL DEFAULT now()
             )",
        )
        .await?;
    let mut ran = 0;
    for migration in MIGRATIONS {
        let known = client
            .query_opt(
                "SELECT 1 FROM schema_migrations WHERE name = $1",
                &[&migration.name],
            )
            .await?;
        if known.is_some() {
            continue;
        }
        // One simple-protocol message is one transaction: the file and its record come together or not at all.
        let Migration { name, sql } = migration;
        client
            .batch_execute(&format!(
                "BEGIN;\n{sql}\nINSERT INTO schema_migrations (name) VALUES ('{name}');\nCOMMIT;"
            ))
            .await?;
        ran += 1;
    }
    Ok(ran)
}

/// The statements of the seed migrations, to be run again on emptied tables.
pub fn seed_sql() -> String {
    MIGRATIONS
        .iter()
        .filter(|migration| migration.is_seed())
        .map(|migration| migration.sql)
        .collect()
}
