//! The one suite that every strategy runs: its schema, and what each of its tests does.
//!
//! A test is its number: [`case`] derives from it which tables it uses and which of its five to ten statements it
//! makes. What surrounds it, and makes it safe, is the strategy's. Each test looks for rows that are not its own,
//! before it writes and after: a strategy that does not isolate fails here, and is given no figure.

use std::{future::Future, path::PathBuf};

use anyhow::{Result, ensure};
use dagz::postgres::tokio_postgres::{self, Client, NoTls, SimpleQueryMessage};

include!(concat!(env!("OUT_DIR"), "/suite.rs"));

/// How many tables the schema has.
pub const TABLES: usize = 50;

/// How many of them a test writes to, at most.
pub const WRITTEN: usize = 3;

/// Where the migrations are that make the schema.
pub fn migrations() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
}

/// A connection of any library, as a test needs it.
///
/// Statements are sent as text, in one round trip each, so that libraries which prepare them differently compare.
pub trait Connection {
    /// Runs a statement.
    fn run(&self, sql: &str) -> impl Future<Output = Result<()>>;

    /// Runs a statement that tells one number.
    fn number(&self, sql: &str) -> impl Future<Output = Result<i64>>;
}

impl Connection for Client {
    async fn run(&self, sql: &str) -> Result<()> {
        Ok(self.batch_execute(sql).await?)
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        for message in self.simple_query(sql).await? {
            if let SimpleQueryMessage::Row(row) = message {
                return Ok(row.get(0).unwrap_or_default().parse()?);
            }
        }
        anyhow::bail!("`{sql}` told nothing")
    }
}

/// The tables that the test `number` writes to, all different.
pub fn tables_of(number: usize) -> [usize; WRITTEN] {
    let first = number * 7 % TABLES;
    [first, (first + 17) % TABLES, (first + 31) % TABLES]
}

/// What the test `number` does: five to ten statements.
///
/// # Errors
/// What the server says; and a row that another test wrote, or one of its own that is gone.
pub async fn case(number: usize, connection: &impl Connection) -> Result<()> {
    let [first, second, third] = tables_of(number);
    let all = rows_where(number, "true");
    let found = connection.number(&all).await?;
    ensure!(found == 0, "test {number} found {found} foreign rows");
    let insert = |table: usize| {
        format!(
            "INSERT INTO t{table:02} (name, value) SELECT 'test {number}', i FROM generate_series(1, 5) i"
        )
    };
    let mut expected = 10;
    connection.run(&insert(first)).await?;
    connection.run(&insert(second)).await?;
    if !number.is_multiple_of(3) {
        connection.run(&insert(third)).await?;
        expected += 5;
    }
    if number.is_multiple_of(2) {
        let update = format!("UPDATE t{first:02} SET value = value + 10 WHERE value > 2");
        connection.run(&update).await?;
        let changed = format!("SELECT count(*) FROM t{first:02} WHERE value > 12");
        ensure!(connection.number(&changed).await? == 3);
    }
    if number % 5 < 2 {
        let delete = format!("DELETE FROM t{second:02} WHERE value = 5");
        connection.run(&delete).await?;
        expected -= 1;
        let joined = format!(
            "SELECT count(*) FROM t{first:02} JOIN t{second:02} ON t{first:02}.name = t{second:02}.name"
        );
        ensure!(connection.number(&joined).await? == 20);
    }
    let own = rows_where(number, &format!("name = 'test {number}'"));
    let (own, left) = (
        connection.number(&own).await?,
        connection.number(&all).await?,
    );
    ensure!(
        own == expected && left == expected,
        "test {number} wrote {expected} rows, has {own}, and sees {left}"
    );
    Ok(())
}

/// Counts the rows that fulfil `condition` in the tables of the test `number`.
fn rows_where(number: usize, condition: &str) -> String {
    let [first, second, third] = tables_of(number)
        .map(|table| format!("(SELECT count(*) FROM t{table:02} WHERE {condition})"));
    format!("SELECT {first} + {second} + {third}")
}

/// A connection that a task drives.
///
/// # Errors
/// What keeps it from being opened.
pub async fn connect(config: &tokio_postgres::Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeSet,
        fs,
    };

    use super::*;

    #[test]
    fn a_test_writes_to_three_tables_and_all_to_all() {
        let mut seen = BTreeSet::new();
        for number in 0..TESTS {
            let tables = BTreeSet::from(tables_of(number));
            assert_eq!(tables.len(), WRITTEN, "{number}");
            seen.extend(tables);
        }
        assert_eq!(seen, (0..TABLES).collect());
    }

    #[test]
    fn the_migrations_make_the_tables() {
        let files = fs::read_dir(migrations()).unwrap();
        let text: String = files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        for table in 0..TABLES {
            assert!(text.contains(&format!("CREATE TABLE t{table:02} (")));
        }
        assert_eq!(text.matches("CREATE TABLE").count(), TABLES);
    }

    /// Counts statements, and answers what a database would that nobody else writes to.
    struct Counting {
        statements: Cell<usize>,
        answers: RefCell<Vec<i64>>,
    }

    impl Connection for Counting {
        async fn run(&self, _: &str) -> Result<()> {
            self.statements.set(self.statements.get() + 1);
            Ok(())
        }

        async fn number(&self, sql: &str) -> Result<i64> {
            self.run(sql).await?;
            Ok(self.answers.borrow_mut().remove(0))
        }
    }

    fn answers(number: usize) -> Vec<i64> {
        let mut rows = if number.is_multiple_of(3) { 10 } else { 15 };
        let mut answers = vec![0];
        if number.is_multiple_of(2) {
            answers.push(3);
        }
        if number % 5 < 2 {
            answers.push(20);
            rows -= 1;
        }
        answers.extend([rows, rows]);
        answers
    }

    fn run(number: usize, answers: Vec<i64>) -> (usize, Result<()>) {
        let counting = Counting {
            statements: Cell::new(0),
            answers: RefCell::new(answers),
        };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let outcome = runtime.block_on(case(number, &counting));
        (counting.statements.get(), outcome)
    }

    #[test]
    fn a_test_makes_five_to_ten_statements() {
        let mut seen = BTreeSet::new();
        for number in 0..TESTS {
            let (statements, outcome) = run(number, answers(number));
            outcome.unwrap();
            seen.insert(statements);
        }
        assert_eq!((seen.first(), seen.last()), (Some(&5), Some(&10)));
    }

    #[test]
    fn a_foreign_row_fails_the_test() {
        let mut before = answers(7);
        before[0] = 1;
        let (_, outcome) = run(7, before);
        assert_eq!(
            outcome.unwrap_err().to_string(),
            "test 7 found 1 foreign rows"
        );
        let mut after = answers(7);
        *after.last_mut().unwrap() += 1;
        let (_, outcome) = run(7, after);
        assert_eq!(
            outcome.unwrap_err().to_string(),
            "test 7 wrote 15 rows, has 15, and sees 16"
        );
    }
}
