//! With any one detection switched off (`Config::blind_to`), some workload is not undone.

use dagz_mysql::{Identity, Prepare};
use dagz_testkit::random::{Search, assert_needed};

use crate::{
    Set, at_random,
    schema::{Kind, Table},
    statement::Mix,
    support::{is_mariadb, run},
};

const PLAIN: Table = Table {
    kind: Kind::Plain,
    key: "INT AUTO_INCREMENT PRIMARY KEY",
    seeds: 5,
    reference: None,
    trigger: None,
    typed: ("FLOAT", "0.1", "0.2"),
};

/// Of each kind one that is brought back in place.
const EACH: [Table; 4] = [
    Table {
        trigger: Some("INSERT"),
        ..PLAIN
    },
    Table {
        kind: Kind::Partitioned,
        typed: ("ENUM('', 'a')", "''", "'a'"),
        ..PLAIN
    },
    Table {
        kind: Kind::MyIsam,
        seeds: 0,
        ..PLAIN
    },
    Table {
        reference: Some("ON DELETE CASCADE"),
        trigger: Some("DELETE"),
        ..PLAIN
    },
];

/// Tables that keep former rows.
const FORMER: [Table; 2] = [
    Table {
        kind: Kind::Versioned,
        seeds: 0,
        ..PLAIN
    },
    Table {
        kind: Kind::Versioned,
        ..PLAIN
    },
];

/// Rows only.
const SET: Set = Set {
    prepare: Prepare::Baseline,
    identity: Identity::Restore,
    is_gated: false,
    mix: Mix {
        changes: 0,
        prepares: 0,
        only: "",
    },
    blind: None,
};

const GATED: Set = Set {
    is_gated: true,
    ..SET
};

/// A detection, and what is in those statements that are likely to need it: all of them where that is "".
type Need = (&'static str, &'static str);

/// Fails unless each of the detections is needed by those who do what is `set` in these tables.
#[track_caller]
fn check(name: &str, tables: &[Table], set: Set, needs: &[Need]) {
    for (detection, only) in needs {
        let word = detection.replace(' ', "_").to_lowercase();
        let test = format!("random_blind_{name}_{word}");
        let set = Set {
            mix: Mix { only, ..set.mix },
            blind: Some(detection),
            ..set
        };
        assert_needed(&test, detection, |test| {
            at_random((test, 0), tables, Search::Expected, set)
        });
    }
}

#[test]
fn each_of_rows_is() {
    let needs = [
        ("rows", ""),
        ("seeds", ""),
        ("counters", ""),
        ("checksums", "UPDATE"),
        ("lengths", "SET up"),
        ("float", "typed"),
        ("enum", "typed"),
        ("insert triggers", ""),
        ("delete triggers", ""),
        ("sessions", ""),
    ];
    check("of", &EACH, SET, &needs);
    check("gated", &EACH, GATED, &needs[..3]);
    let keeping = Set {
        identity: Identity::Keep,
        ..SET
    };
    // Where counters are set back, so many rows are truncated with them.
    let needs = [("rows", ""), ("seeds", ""), ("large", "(SELECT 1")];
    check("keep", &EACH, keeping, &needs);
}

/// With changes of the schema.
fn changing(set: Set) -> Set {
    Set {
        mix: Mix {
            changes: 12,
            ..set.mix
        },
        ..set
    }
}

#[test]
fn each_of_changes_is() {
    let needs = [
        ("changes", ""),
        ("com_alter", "ALTER EVENT"),
        ("com_create", "CREATE "),
        ("com_drop", "DROP "),
        ("com_rename", "RENAME "),
        ("TABLE", "TABLE "),
        ("VIEW", "VIEW "),
        ("PROCEDURE", "PROCEDURE "),
        ("FUNCTION", "FUNCTION "),
        ("TRIGGER", "TRIGGER "),
        ("EVENT", "EVENT "),
        ("DATABASE", "DATABASE "),
        ("settings", "sql_mode"),
        ("marks", "dagz_state"),
    ];
    check("of", &EACH, changing(SET), &needs);
    let needs = [("changes", ""), ("gate", "dagz_gate")];
    check("gated", &EACH, changing(GATED), &needs);
}

#[test]
fn each_of_what_only_mariadb_has_is() {
    if !run(is_mariadb()) {
        return;
    }
    check("of", &EACH, SET, &[("sequences", "free")]);
    let sequence = [("SEQUENCE", "SEQUENCE ")];
    check("of", &EACH, changing(SET), &sequence);
    let former = [("former rows", "t1"), ("versioned", "t2")];
    check("of", &FORMER, SET, &former);
    let mut preparing = SET;
    preparing.mix.prepares = 12;
    let prepared = [("prepared", "XA "), ("com_xa_prepare", "XA ")];
    check("of", &EACH, preparing, &prepared);
}
