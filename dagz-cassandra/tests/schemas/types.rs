//! Types of columns, each with values that are told apart.

use Shape::{Elements, Plain, Whole};

/// How values of a type are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As one, which may be a key's, an index's and a view's.
    Plain,
    /// As one.
    Whole,
    /// Element by element.
    Elements,
}

/// A type, and three of its values, of which the last may be an empty one.
#[derive(Debug)]
pub(crate) struct Type {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) values: [&'static str; 3],
}

const fn of(shape: Shape, name: &'static str, values: [&'static str; 3]) -> Type {
    Type {
        name,
        shape,
        values,
    }
}

const VARINT: Type = of(
    Plain,
    "varint",
    ["1", "123456789012345678901234567890", "-1"],
);
const BOOLEAN: Type = of(Plain, "boolean", ["true", "false", "true"]);
const DOUBLE: Type = of(Plain, "double", ["0.1", "Infinity", "NaN"]);
const INET: Type = of(Plain, "inet", ["'127.0.0.1'", "'::1'", "'10.0.0.1'"]);
const DATE: Type = of(
    Plain,
    "date",
    ["'2020-01-01'", "'1969-12-31'", "'2020-01-02'"],
);
const TIME: Type = of(
    Plain,
    "time",
    ["'08:12:54.123456789'", "'00:00:00'", "'23:59:59'"],
);
const TIMESTAMP: Type = of(
    Plain,
    "timestamp",
    ["'2020-01-01 00:00:00.001+0000'", "0", "-1"],
);
const UUID: Type = of(
    Plain,
    "uuid",
    [
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
        "33333333-3333-4333-8333-333333333333",
    ],
);
const FROZEN_PAIR: Type = of(
    Whole,
    "frozen<pair>",
    ["{a: 1, b: 'x'}", "{a: 2}", "{b: ''}"],
);

pub(crate) const TYPES: [Type; 31] = [
    of(Plain, "int", ["1", "-7", "0"]),
    of(Plain, "text", ["'x'", "'it''s'", "''"]),
    of(Plain, "ascii", ["'x'", "'y'", "''"]),
    of(Plain, "blob", ["0x00", "0xcafe", "0x"]),
    of(Plain, "bigint", ["1", "-9223372036854775808", "0"]),
    of(Plain, "smallint", ["1", "-7", "0"]),
    of(Plain, "tinyint", ["1", "-7", "0"]),
    VARINT,
    of(Plain, "decimal", ["1.0", "1.00", "-3E+5"]),
    BOOLEAN,
    of(Plain, "float", ["0.1", "-0.0", "NaN"]),
    DOUBLE,
    INET,
    DATE,
    TIME,
    TIMESTAMP,
    UUID,
    of(
        Plain,
        "timeuuid",
        [
            "50554d6e-29bb-11e5-b345-feff819cdc9f",
            "50554d6f-29bb-11e5-b345-feff819cdc9f",
            "50554d70-29bb-11e5-b345-feff819cdc9f",
        ],
    ),
    of(Whole, "duration", ["1mo2d3h", "-1ns", "0s"]),
    of(Whole, "frozen<set<int>>", ["{1}", "{1, 2}", "{}"]),
    of(Whole, "frozen<list<text>>", ["['x']", "['', 'y']", "[]"]),
    of(
        Whole,
        "frozen<map<int, frozen<pair>>>",
        ["{1: {a: 1}}", "{2: {b: 'y'}}", "{}"],
    ),
    FROZEN_PAIR,
    of(
        Whole,
        "tuple<int, text>",
        ["(1, 'x')", "(1, null)", "(null, '')"],
    ),
    of(
        Whole,
        "vector<float, 2>",
        ["[1, 2]", "[0.1, -0.0]", "[0, 0]"],
    ),
    of(Elements, "list<duration>", ["[1d]", "[1d, 2d]", "[]"]),
    of(Elements, "set<int>", ["{1}", "{1, 2}", "{}"]),
    of(Elements, "list<text>", ["['x']", "['y', 'x', 'x']", "[]"]),
    of(
        Elements,
        "map<text, int>",
        ["{'x': 1}", "{'x': 2, '': 1}", "{}"],
    ),
    of(
        Elements,
        "map<int, frozen<set<int>>>",
        ["{1: {1}}", "{1: {}, 2: {2}}", "{}"],
    ),
    of(
        Elements,
        "pair",
        ["{a: 1, b: 'x'}", "{b: 'y'}", "{a: null}"],
    ),
];

/// Those that rows are told apart by.
pub(crate) const KEYS: [Type; 16] = [
    of(Plain, "int", ["1", "-7", "2"]),
    of(Plain, "text", ["'x'", "'it''s'", "'y'"]),
    of(Plain, "blob", ["0x00", "0xcafe", "0x01"]),
    of(Plain, "bigint", ["1", "-9223372036854775808", "2"]),
    VARINT,
    of(Plain, "decimal", ["1.0", "1.5", "-3E+5"]),
    BOOLEAN,
    DOUBLE,
    INET,
    DATE,
    TIME,
    TIMESTAMP,
    UUID,
    of(Whole, "frozen<set<int>>", ["{1}", "{1, 2}", "{3}"]),
    FROZEN_PAIR,
    of(
        Whole,
        "frozen<tuple<int, text>>",
        ["(1, 'x')", "(1, null)", "(null, '')"],
    ),
];

pub(crate) const COUNTER: Type = of(Whole, "counter", ["1", "2", "3"]);
