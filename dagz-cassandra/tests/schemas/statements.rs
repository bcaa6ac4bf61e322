//! What a test does to tables of a random [`Schema`], and what the next one does there.
//!
//! Left out is what the README says is not found: deletions from the future of what is not there, and the key alone of
//! a row that a table starts with, written once more so that it stays longer or goes by itself. [`statement`] makes the
//! former tests' and [`next_tests`] the next ones'.

use super::{Column, Dice, FUTURE, Schema, Seed, Shape, Table};

/// One thing that a test does; what the schema forbids fails, as it does in tests.
pub(crate) fn statement(schema: &Schema, is_seeded: bool, dice: &mut Dice) -> String {
    let table = &schema.tables[dice.below(schema.tables.len())];
    let scope = Scope { table, is_seeded };
    match dice.below(96) {
        0 => format!("TRUNCATE {}", table.name),
        // It is slow, and `random_definitions.rs` does nothing else.
        1 => change(schema, table, dice),
        2..10 => scope.batch(schema, dice),
        10..16 if !table.seeds.is_empty() && is_seeded => scope.hiding(dice),
        _ => scope.write(dice),
    }
}

/// A table, and whether it starts with rows.
struct Scope<'a> {
    table: &'a Table,
    is_seeded: bool,
}

impl Scope<'_> {
    /// Something without a time of its own, that may be in a batch, or anything.
    fn write(&self, dice: &mut Dice) -> String {
        let table = self.table;
        if table.is_counter {
            return self.count(dice);
        }
        match dice.below(20) {
            0..8 => self.insert(dice),
            8..13 => self.update(dice),
            13..15 => self.transaction(dice),
            _ => self.delete(dice),
        }
    }

    fn key(&self, dice: &mut Dice) -> Vec<usize> {
        self.table.key().map(|_| dice.below(3)).collect()
    }

    fn seed_of(&self, key: &[usize]) -> Option<&Seed> {
        let seeds = self.table.seeds.iter().filter(|_| self.is_seeded);
        seeds.into_iter().find(|seed| seed.key == key)
    }

    /// Some of the row's values; all there, if the row must be found by them.
    fn values(&self, dice: &mut Dice, must_be_there: bool) -> Vec<(Column, usize)> {
        let mut values = Vec::new();
        for column in self.table.values() {
            let is_elements = column.of_type.shape == Shape::Elements;
            let value = dice.below(if must_be_there && is_elements { 2 } else { 3 });
            if dice.one_in(2) {
                values.push((column.clone(), value));
            }
        }
        values
    }

    fn insert(&self, dice: &mut Dice) -> String {
        let key = self.key(dice);
        let using = using(dice);
        let mut values = self.values(dice, !using.is_empty());
        if let Some(seed) = self.seed_of(&key) {
            // The key alone would not be found.
            let own = |(column, value): &&(Column, usize)| {
                !column.is_nothing(*value)
                    && self.table.regular.iter().any(|own| own.name == column.name)
            };
            let found = seed.values.iter().find(own).cloned();
            let (Some((column, value)), true) = (found, seed.is_upserted || !using.is_empty())
            else {
                return self.table.insert(&key, &values, "");
            };
            values.retain(|(other, _)| other.name != column.name);
            let value = if dice.one_in(2) { value } else { dice.below(2) };
            values.push((column, value));
        }
        self.table.insert(&key, &values, &using)
    }

    fn update(&self, dice: &mut Dice) -> String {
        let (table, key, using) = (self.table, self.key(dice), using(dice));
        let values: Vec<_> = table.values().collect();
        if values.is_empty() {
            return table.insert(&key, &[], "");
        }
        let column = dice.of(&values);
        let is_static = table.statics.iter().any(|other| other.name == column.name);
        let key = table.equal(if is_static {
            &key[..table.keys.len()]
        } else {
            &key
        });
        let name = &column.name;
        let value = column.of_type.values[dice.below(2)];
        let set = match dice.below(4) {
            0 if column.of_type.shape == Shape::Elements => format!("{name} = {name} + {value}"),
            1 if column.of_type.name == "pair" => format!("{name}.a = 7"),
            1 if column.of_type.name == "map<text, int>" => format!("{name}['x'] = 7"),
            2 if using.is_empty() => format!("{name} = null"),
            _ => format!("{name} = {value}"),
        };
        format!("UPDATE {}{using} SET {set} WHERE {key}", table.name)
    }

    fn transaction(&self, dice: &mut Dice) -> String {
        let (table, key) = (self.table, self.key(dice));
        let column = table.regular.get(dice.below(table.regular.len()));
        match (dice.below(3), column) {
            (0, Some(column)) => format!(
                "UPDATE {} SET {} = {} WHERE {} IF EXISTS",
                table.name,
                column.name,
                column.of_type.values[dice.below(2)],
                table.equal(&key)
            ),
            (1, _) => format!(
                "DELETE FROM {} WHERE {} IF EXISTS",
                table.name,
                table.equal(&key)
            ),
            _ => table.insert(&key, &self.values(dice, false), " IF NOT EXISTS"),
        }
    }

    fn delete(&self, dice: &mut Dice) -> String {
        let (table, key) = (self.table, self.key(dice));
        let past = if dice.one_in(4) {
            " USING TIMESTAMP 1000"
        } else {
            ""
        };
        let partition = table.equal(&key[..table.keys.len()]);
        let (what, of) = match dice.below(5) {
            0 => (String::new(), partition),
            1 if !table.clustering.is_empty() => {
                let (column, value) = (&table.clustering[0], key[table.keys.len()]);
                let than = dice.of(&[">", "<=", "<"]);
                let value = column.of_type.values[value];
                (
                    String::new(),
                    format!("{partition} AND {} {than} {value}", column.name),
                )
            }
            2 if !table.statics.is_empty() => (table.statics[0].name.clone(), partition),
            3 if !table.regular.is_empty() => {
                let at = dice.below(table.regular.len());
                (table.regular[at].name.clone(), table.equal(&key))
            }
            _ => (String::new(), table.equal(&key)),
        };
        format!("DELETE {what} FROM {}{past} WHERE {of}", table.name)
    }

    /// A deletion from the future of what the table starts with.
    fn hiding(&self, dice: &mut Dice) -> String {
        let table = self.table;
        let seed = &table.seeds[dice.below(table.seeds.len())];
        let there: Vec<_> = seed
            .values
            .iter()
            .filter(|(column, value)| !column.is_nothing(*value))
            .collect();
        let partition = table.equal(&seed.key[..table.keys.len()]);
        let (what, of) = match dice.below(3) {
            0 => ("", partition),
            1 if !there.is_empty() => {
                let (column, _) = there[dice.below(there.len())];
                let is_static = table.statics.iter().any(|other| other.name == column.name);
                (
                    &*column.name,
                    if is_static {
                        partition
                    } else {
                        table.equal(&seed.key)
                    },
                )
            }
            // Of a partition without rows, this is all of it.
            _ => ("", table.equal(&seed.key)),
        };
        format!(
            "DELETE {what} FROM {} USING TIMESTAMP {FUTURE} WHERE {of}",
            table.name
        )
    }

    fn count(&self, dice: &mut Dice) -> String {
        let (table, key) = (self.table, self.key(dice));
        let counters: Vec<_> = table.values().collect();
        let column = dice.of(&counters);
        let is_static = table.statics.iter().any(|other| other.name == column.name);
        let of = table.equal(if is_static {
            &key[..table.keys.len()]
        } else {
            &key
        });
        let (table, name) = (&table.name, &column.name);
        match dice.below(6) {
            0 => format!("DELETE FROM {table} WHERE {of}"),
            1 => format!("DELETE {name} FROM {table} WHERE {of}"),
            _ => format!("UPDATE {table} SET {name} = {name} + 3 WHERE {of}"),
        }
    }

    /// Several at once, of which the others are of any table.
    fn batch(&self, schema: &Schema, dice: &mut Dice) -> String {
        let is_counter = self.table.is_counter;
        let tables: Vec<_> = schema
            .tables
            .iter()
            .filter(|table| table.is_counter == is_counter)
            .collect();
        let writes: Vec<_> = (0..1 + dice.below(3))
            .map(|_| {
                let table = dice.of(&tables);
                let scope = Scope { table, ..*self };
                format!("{}; ", scope.write(dice))
            })
            .collect();
        let kind = if is_counter {
            "COUNTER"
        } else {
            dice.of(&["", "UNLOGGED"])
        };
        format!("BEGIN {kind} BATCH {} APPLY BATCH", writes.concat())
    }
}

/// When something is written, or for how long.
fn using(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => format!(" USING TIMESTAMP {FUTURE}"),
        1 => " USING TTL 100".to_owned(),
        2 => format!(" USING TTL 100 AND TIMESTAMP {FUTURE}"),
        3 => " USING TIMESTAMP 1000".to_owned(),
        // A moment ahead of every clock.
        4 => " USING TIMESTAMP SOON".to_owned(),
        _ => String::new(),
    }
}

/// A change of the schema.
fn change(schema: &Schema, table: &Table, dice: &mut Dice) -> String {
    let name = &table.name;
    let last = schema.tables.len();
    let own = table.regular.first().map_or("k0", |column| &*column.name);
    match dice.below(10) {
        0 => format!("CREATE TABLE t{last} (id int PRIMARY KEY, value pair)"),
        1 => "CREATE TYPE other (a int)".to_owned(),
        2 => format!("CREATE INDEX another ON {name} ({own})"),
        3 => format!("ALTER TABLE {name} ADD more text"),
        4 => format!("ALTER TABLE {name} DROP {own}"),
        5 => format!("ALTER TABLE {name} WITH default_time_to_live = 77"),
        6 => format!("DROP TABLE {name}"),
        7 => format!("DROP INDEX {name}_index"),
        8 => format!("DROP MATERIALIZED VIEW {name}_view"),
        _ => "ALTER TYPE pair ADD c int".to_owned(),
    }
}

/// The number of the next test that deletes every value, and so sees which rows stay.
pub(crate) const VALUES: usize = 2;

/// The number of the one that changes the schema.
pub(crate) const CHANGES: usize = 3;

/// What one of the next tests may do, each by statements that always do the same: write every row and count every
/// counter, delete every row, delete every value, change the schema.
pub(crate) fn next_tests(schema: &Schema) -> Vec<Vec<String>> {
    let (mut writes, mut rows, mut values, mut changes) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for table in &schema.tables {
        let name = &table.name;
        for key in all_keys(table) {
            let equal = table.equal(&key);
            let of_partition = table.equal(&key[..table.keys.len()]);
            if table.is_counter {
                for (columns, key) in [(&table.regular, &equal), (&table.statics, &of_partition)] {
                    let count = |column: &Column| {
                        format!("UPDATE {name} SET {0} = {0} + 1 WHERE {key}", column.name)
                    };
                    writes.extend(columns.iter().map(count));
                }
                continue;
            }
            let all: Vec<_> = table.values().map(|column| (column.clone(), 1)).collect();
            writes.push(table.insert(&key, &all, ""));
            rows.push(format!("DELETE FROM {name} WHERE {equal}"));
            for (columns, key) in [(&table.regular, &equal), (&table.statics, &of_partition)] {
                let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
                if !names.is_empty() {
                    values.push(format!(
                        "DELETE {} FROM {name} WHERE {key}",
                        names.join(", ")
                    ));
                }
            }
        }
        let own = table.regular.first().map_or("more", |column| &*column.name);
        changes.push(format!("ALTER TABLE {name} ADD more int"));
        changes.push(format!("ALTER TABLE {name} ADD {own} int"));
    }
    vec![writes, rows, values, changes]
}

/// The key of every row that a test may write, but for those of the third values.
fn all_keys(table: &Table) -> Vec<Vec<usize>> {
    table.key().fold(vec![Vec::new()], |keys, _| {
        let longer = |key: &Vec<usize>| {
            (0..2)
                .map(|value| [&key[..], &[value]].concat())
                .collect::<Vec<_>>()
        };
        keys.iter().flat_map(longer).collect()
    })
}
