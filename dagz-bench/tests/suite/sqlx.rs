//! The suite with `#[sqlx::test]`, as published: a database per test, and all migrations in each.

use anyhow::Result;
use dagz_bench::suite::{self, Connection};
use sqlx::{AssertSqlSafe, PgPool, Row as _, migrate::Migrator};

static MIGRATOR: Migrator = sqlx::migrate!();

struct Pool(PgPool);

impl Connection for Pool {
    async fn run(&self, sql: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.0).await?;
        Ok(())
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&self.0).await?;
        // As text, as is all that a statement without parameters tells.
        Ok(row.try_get_unchecked::<String, _>(0)?.parse()?)
    }
}

macro_rules! one {
    ($name:ident, $number:expr) => {
        #[sqlx::test(migrator = "MIGRATOR")]
        async fn $name(pool: PgPool) -> Result<()> {
            suite::case($number, &Pool(pool)).await
        }
    };
}

dagz_bench::suite!(one);
