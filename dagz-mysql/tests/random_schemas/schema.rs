//! Random schemas: [`Table`]s that refer to each other and write to the first one, and of each kind of object one.

use std::fmt::Write as _;

use dagz_mysql::Prepare;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Partitioned,
    /// Without transactions.
    MyIsam,
    Memory,
    /// Without transactions and whole after a crash; MariaDB only.
    Aria,
    /// It keeps former rows; MariaDB only.
    Versioned,
}

impl Kind {
    /// What there is in its place where the server `is_mariadb`, or is not.
    fn on(self, is_mariadb: bool) -> Self {
        match self {
            Self::Aria | Self::Versioned if !is_mariadb => Self::Plain,
            kind => kind,
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::Plain => "ENGINE = InnoDB",
            Self::Partitioned => "ENGINE = InnoDB PARTITION BY HASH (id) PARTITIONS 2",
            Self::MyIsam => "ENGINE = MyISAM",
            Self::Memory => "ENGINE = MEMORY",
            Self::Aria => "ENGINE = Aria",
            Self::Versioned => "ENGINE = InnoDB WITH SYSTEM VERSIONING",
        }
    }
}

/// A type, what seed rows have there, and what little else a test makes of it by `DEFAULT`.
pub(crate) type Typed = (&'static str, &'static str, &'static str);

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) kind: Kind,
    pub(crate) key: &'static str,
    pub(crate) seeds: u32,
    /// What becomes of a row when that of the table before goes or gets another key.
    pub(crate) reference: Option<&'static str>,
    /// What of it writes to the first table.
    pub(crate) trigger: Option<&'static str>,
    pub(crate) typed: Typed,
}

pub(crate) fn table() -> impl Strategy<Value = Table> {
    (
        prop_oneof![
            8 => Just(Kind::Plain),
            2 => Just(Kind::Partitioned),
            2 => Just(Kind::MyIsam),
            2 => Just(Kind::Memory),
            1 => Just(Kind::Aria),
            1 => Just(Kind::Versioned)
        ],
        prop::sample::select(vec![
            "INT AUTO_INCREMENT PRIMARY KEY",
            "BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY",
            "INT PRIMARY KEY DEFAULT 7",
            "INT DEFAULT 7",
        ]),
        prop_oneof![2 => Just(0_u32), 1 => 1..12_u32],
        prop::option::of(prop::sample::select(vec![
            "ON DELETE CASCADE ON UPDATE CASCADE",
            "ON DELETE SET NULL",
            "",
        ])),
        prop::option::weighted(
            0.3,
            prop::sample::select(vec!["INSERT", "UPDATE", "DELETE"]),
        ),
        prop::sample::select(vec![
            ("FLOAT", "0.1", "0.2"),
            ("DOUBLE", "0.1e0", "0.10000000000000002e0"),
            ("DECIMAL(30, 20)", "1", "1.00000000000000000001"),
            ("BIT(64)", "18446744073709551615", "18446744073709551614"),
            (
                "DATETIME(6)",
                "'2020-02-02 02:02:02.000001'",
                "'2020-02-02 02:02:02.000002'",
            ),
            ("CHAR(9)", "'a'", "'A'"),
            ("VARCHAR(9)", "'a'", "'a '"),
            ("VARBINARY(3)", "x'00'", "x'0000'"),
            ("ENUM('', 'a')", "''", "'a'"),
            ("SET('a', 'b')", "'a'", "'a,b'"),
        ]),
    )
        .prop_map(|(kind, key, seeds, reference, trigger, typed)| Table {
            kind,
            key,
            seeds,
            reference,
            trigger,
            typed,
        })
}

/// Of each kind that is not a table one.
const PROGRAMS: &str = "CREATE VIEW seen AS SELECT value FROM t0;
    CREATE PROCEDURE clear() DELETE FROM t0;
    CREATE FUNCTION one() RETURNS INT DETERMINISTIC RETURN 1;
    CREATE EVENT never ON SCHEDULE EVERY 1 YEAR DISABLE DO DELETE FROM t0;
    CREATE TRIGGER note0 BEFORE UPDATE ON t0 FOR EACH ROW SET NEW.up = 1;";

/// MariaDB only. The second is at its second value, and comes back to that.
const SEQUENCES: &str = "CREATE SEQUENCE free START WITH 5 INCREMENT BY 2;
    CREATE SEQUENCE circle MAXVALUE 3 CYCLE NOCACHE; DO NEXTVAL(circle);";

/// The statements that make it.
pub(crate) fn schema(tables: &[Table], prepare: Prepare, is_mariadb: bool) -> String {
    // What is none of an `ENUM`'s values can be stored, and stays.
    let mut text = "SET sql_mode = '';
        CREATE TABLE t0 (id INT AUTO_INCREMENT PRIMARY KEY, value INT, up INT, typed INT DEFAULT 1);"
        .to_owned();
    if is_mariadb {
        text += SEQUENCES;
    }
    for (number, table) in (1_usize..).zip(tables) {
        let before = number - 1;
        let Table { key, .. } = table;
        let kind = table.kind.on(is_mariadb);
        let referred = tables.get(before.wrapping_sub(1));
        // Only InnoDB has foreign keys, to a key of the very same type, and not where rows are in parts.
        let can_refer = kind == Kind::Plain
            && referred.is_none_or(|before| {
                before.kind.on(is_mariadb) == Kind::Plain
                    && before.key.starts_with("INT ")
                    && before.key.contains("KEY")
            });
        let reference = match table.reference {
            Some(actions) if can_refer => {
                format!(", FOREIGN KEY (up) REFERENCES t{before} (id) {actions}")
            }
            _ => String::new(),
        };
        let (typed, seeded, default) = table.typed;
        let table_text = write!(
            text,
            "CREATE TABLE t{number} (id {key}, value INT, up INT, typed {typed} DEFAULT {default}{reference}) {};",
            kind.options()
        );
        table_text.unwrap_or_default();
        // No statement takes former rows away, so one that keeps them has to start empty to be emptied.
        let is_filled = prepare == Prepare::Baseline || kind != Kind::Versioned;
        for seed in (1..=table.seeds).filter(|_| is_filled) {
            let inserted = write!(
                text,
                "INSERT INTO t{number} (id, value, typed) VALUES ({seed}, {seed}, {seeded});"
            );
            inserted.unwrap_or_default();
        }
        if let Some(event) = table.trigger {
            let trigger = write!(
                text,
                "CREATE TRIGGER note{number} AFTER {event} ON t{number} FOR EACH ROW INSERT INTO t0 (value) VALUES (1);"
            );
            trigger.unwrap_or_default();
        }
    }
    text + PROGRAMS
}
