//! Random definitions of tables with rows in them, for `random_schemas.rs`.
//!
//! [`Schema::random`] makes one of a [`Dice`]; `statements.rs` makes what tests do to it.

mod statements;
mod types;

use std::fmt::Write as _;

pub(crate) use self::statements::{CHANGES, VALUES, next_tests, statement};
use self::types::{KEYS, Shape, TYPES, Type};

/// The beginning of the year 2100, in microseconds.
pub(crate) const FUTURE: &str = "4102444800000000";

/// Choices that all follow from one number.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // Splitmix.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap_or_default()
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) of_type: &'static Type,
}

impl Column {
    fn new(name: String, of_type: &'static Type) -> Self {
        Self { name, of_type }
    }

    /// Whether its value of this number is none to the server.
    fn is_nothing(&self, value: usize) -> bool {
        value == 2 && self.of_type.shape == Shape::Elements
    }
}

/// A row that a table starts with, by the numbers of its values.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    /// Of the partition key and, if it has such a row, of the clustering columns.
    pub(crate) key: Vec<usize>,
    pub(crate) values: Vec<(Column, usize)>,
    /// Whether it goes with its last value.
    pub(crate) is_upserted: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) keys: Vec<Column>,
    pub(crate) clustering: Vec<Column>,
    pub(crate) statics: Vec<Column>,
    pub(crate) regular: Vec<Column>,
    pub(crate) is_counter: bool,
    pub(crate) indexed: Option<Column>,
    pub(crate) seeds: Vec<Seed>,
}

impl Table {
    /// All columns that tell rows apart.
    fn key(&self) -> impl Iterator<Item = &Column> {
        self.keys.iter().chain(&self.clustering)
    }

    fn values(&self) -> impl Iterator<Item = &Column> {
        self.statics.iter().chain(&self.regular)
    }

    /// `a = 1 AND b = 2`, for as many columns of the key as there are values.
    fn equal(&self, key: &[usize]) -> String {
        let pairs = self.key().zip(key);
        let equal: Vec<_> = pairs
            .map(|(column, value)| format!("{} = {}", column.name, column.of_type.values[*value]))
            .collect();
        equal.join(" AND ")
    }

    /// What inserts such a row.
    fn insert(&self, key: &[usize], values: &[(Column, usize)], using: &str) -> String {
        let key = self.key().zip(key.iter().copied());
        let values = values.iter().map(|(column, value)| (column, *value));
        let (names, values): (Vec<_>, Vec<_>) = key
            .chain(values)
            .map(|(column, value)| (&*column.name, column.of_type.values[value]))
            .unzip();
        let (names, values) = (names.join(", "), values.join(", "));
        format!(
            "INSERT INTO {} ({names}) VALUES ({values}){using}",
            self.name
        )
    }

    fn seed(&self, seed: &Seed, using: &str) -> String {
        if !seed.is_upserted {
            return self.insert(&seed.key, &seed.values, using);
        }
        let set: Vec<_> = seed
            .values
            .iter()
            .map(|(column, value)| format!("{} = {}", column.name, column.of_type.values[*value]))
            .collect();
        let (set, key) = (set.join(", "), self.equal(&seed.key));
        format!("UPDATE {}{using} SET {set} WHERE {key}", self.name)
    }
}

/// Some tables, and what makes them.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) tables: Vec<Table>,
    pub(crate) statements: Vec<String>,
}

impl Schema {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let mut schema = Self {
            tables: Vec::new(),
            statements: vec!["CREATE TYPE pair (a int, b text)".to_owned()],
        };
        for number in 0..2 + dice.below(3) {
            schema.add_table(number, dice);
        }
        if dice.one_in(4) {
            schema.statements.extend([
                "CREATE FUNCTION added (state int, n int) CALLED ON NULL INPUT RETURNS int LANGUAGE java
                    AS $$ return state + n; $$"
                    .to_owned(),
                "CREATE AGGREGATE total (int) SFUNC added STYPE int INITCOND 0".to_owned(),
            ]);
        }
        schema
    }

    /// A table with rows, one that stays without values and one that does not, and one with counters.
    pub(crate) fn smallest() -> Self {
        let column = |name: &str, of_type| Column::new(name.to_owned(), of_type);
        let (key, value) = (column("k0", &KEYS[0]), column("v0", &TYPES[0]));
        let table = |name: &str, value: &Column| Table {
            name: name.to_owned(),
            keys: vec![key.clone()],
            clustering: Vec::new(),
            statics: Vec::new(),
            regular: vec![value.clone()],
            is_counter: false,
            indexed: None,
            seeds: Vec::new(),
        };
        let mut seeded = table("t0", &value);
        let seed = |key, is_upserted| Seed {
            key: vec![key],
            values: vec![(value.clone(), 0)],
            is_upserted,
        };
        seeded.seeds = vec![seed(0, false), seed(1, true)];
        let mut counted = table("t1", &column("v0", &types::COUNTER));
        counted.is_counter = true;
        let mut statements = vec![
            "CREATE TABLE t0 (k0 int PRIMARY KEY, v0 int)".to_owned(),
            "CREATE TABLE t1 (k0 int PRIMARY KEY, v0 counter)".to_owned(),
        ];
        statements.extend(seeded.seeds.iter().map(|seed| seeded.seed(seed, "")));
        Self {
            tables: vec![seeded, counted],
            statements,
        }
    }

    fn add_table(&mut self, number: usize, dice: &mut Dice) {
        let some = |letter: &str, count: usize, types: &[&'static Type], dice: &mut Dice| {
            let column = |at| Column::new(format!("{letter}{at}"), dice.of(types));
            (0..count).map(column).collect::<Vec<_>>()
        };
        let (all, keyed): (Vec<_>, Vec<_>) = (TYPES.iter().collect(), KEYS.iter().collect());
        let clustered = dice.below(3);
        let has_statics = clustered > 0 && dice.one_in(2);
        let mut table = Table {
            name: format!("t{number}"),
            keys: some("k", 1 + dice.below(2), &keyed, dice),
            clustering: some("c", clustered, &keyed, dice),
            statics: some(
                "s",
                if has_statics { 1 + dice.below(2) } else { 0 },
                &all,
                dice,
            ),
            regular: some("v", dice.below(5), &all, dice),
            is_counter: dice.one_in(5),
            indexed: None,
            seeds: Vec::new(),
        };
        if table.is_counter {
            let counter = &types::COUNTER;
            table
                .statics
                .iter_mut()
                .for_each(|column| column.of_type = counter);
            table.regular = some("v", 1 + dice.below(2), &[counter], dice);
        }
        let options = if table.is_counter { 0 } else { dice.below(6) };
        let mut text = format!("CREATE TABLE {} (", table.name);
        let columns = table.key().map(|column| (column, ""));
        let columns = columns.chain(table.statics.iter().map(|column| (column, " static")));
        for (column, kind) in columns.chain(table.regular.iter().map(|column| (column, ""))) {
            write!(text, "{} {}{kind}, ", column.name, column.of_type.name).unwrap_or_default();
        }
        let names = |columns: &[Column]| {
            let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
            names.join(", ")
        };
        let key = format!("({}), {}", names(&table.keys), names(&table.clustering));
        let key = key.trim_end_matches(", ");
        write!(text, "PRIMARY KEY ({key})) WITH comment = 'of {number}'").unwrap_or_default();
        if !table.clustering.is_empty() {
            let order: Vec<_> = table
                .clustering
                .iter()
                .map(|column| format!("{} {}", column.name, dice.of(&["ASC", "DESC"])))
                .collect();
            write!(text, " AND CLUSTERING ORDER BY ({})", order.join(", ")).unwrap_or_default();
        }
        let lives = " AND default_time_to_live = 3600";
        text += if options == 1 { lives } else { "" };
        self.statements.push(text);
        self.add_followers(&mut table, dice);
        if !table.is_counter && dice.one_in(2) {
            // A row with a time to live cannot be one that a table starts with.
            for number in 0..1 + dice.below(4) {
                let using = match options {
                    1 => " USING TTL 0".to_owned(),
                    // One after the other, since they may write the same static columns.
                    2 => format!(" USING TIMESTAMP 41024448000000{number:02}"),
                    _ => String::new(),
                };
                let seed = table.random_seed(dice);
                if table.seeds.iter().all(|other| other.key != seed.key) {
                    self.statements.push(table.seed(&seed, &using));
                    table.seeds.push(seed);
                }
            }
            if options == 3 {
                let alter = format!("ALTER TABLE {} WITH{}", table.name, &lives[4..]);
                self.statements.push(alter);
            }
        }
        self.tables.push(table);
    }

    /// An index and a view, where there can be one.
    fn add_followers(&mut self, table: &mut Table, dice: &mut Dice) {
        let name = &table.name;
        let plain = |column: &&Column| column.of_type.shape == Shape::Plain;
        let Some(column) = table.regular.iter().find(plain).cloned() else {
            return;
        };
        if dice.one_in(3) {
            let using = dice.of(&["INDEX", "CUSTOM INDEX"]);
            let class = if using == "INDEX" {
                ""
            } else {
                " USING 'StorageAttachedIndex'"
            };
            self.statements.push(format!(
                "CREATE {using} {name}_index ON {name} ({}){class}",
                column.name
            ));
            table.indexed = Some(column.clone());
        }
        if table.statics.is_empty() && dice.one_in(4) {
            let key: Vec<_> = table.key().map(|column| &*column.name).collect();
            let is_there: Vec<_> = key
                .iter()
                .map(|name| format!("{name} IS NOT NULL"))
                .collect();
            let (key, is_there, own) = (key.join(", "), is_there.join(" AND "), &column.name);
            self.statements.push(format!(
                "CREATE MATERIALIZED VIEW {name}_view AS SELECT * FROM {name}
                    WHERE {own} IS NOT NULL AND {is_there} PRIMARY KEY ({own}, {key})"
            ));
        }
    }
}

impl Table {
    fn random_seed(&self, dice: &mut Dice) -> Seed {
        // A partition with static columns need not have a row.
        let is_bare = !self.statics.is_empty() && dice.one_in(3);
        let count = if is_bare {
            self.keys.len()
        } else {
            self.key().count()
        };
        let columns = if is_bare {
            &[]
        } else {
            self.regular.as_slice()
        };
        let mut values = Vec::new();
        for column in self.statics.iter().chain(columns) {
            // The third may be empty, which a view's key cannot be.
            let value = dice.below(if column.of_type.shape == Shape::Plain {
                2
            } else {
                3
            });
            if !dice.one_in(3) {
                values.push((column.clone(), value));
            }
        }
        if is_bare
            && values
                .iter()
                .all(|(column, value)| column.is_nothing(*value))
        {
            values = vec![(self.statics[0].clone(), 0)];
        }
        let is_own = |(column, value): &(Column, usize)| {
            self.regular.iter().any(|own| own.name == column.name) && !column.is_nothing(*value)
        };
        Seed {
            key: (0..count).map(|_| dice.below(2)).collect(),
            is_upserted: !is_bare && values.iter().any(is_own) && dice.one_in(3),
            values,
        }
    }
}
