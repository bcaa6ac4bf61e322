//! Where a table's counter stands, as its definition tells, and the definition without that.
//!
//! `schema.rs` compares definitions wherever counters stand.

/// A table's definition without ` AUTO_INCREMENT=…`, and the number there; as it is where no column counts.
pub(super) fn without_counter(create: &str) -> (String, Option<u64>) {
    const COUNTER: &str = " AUTO_INCREMENT=";
    // Options come after the columns; a comment among them may hold any text.
    let options = create.rfind("\n) ").unwrap_or(create.len());
    let end = create[options..]
        .find(" COMMENT=")
        .map_or(create.len(), |at| options + at);
    let counts = create[..options].contains("AUTO_INCREMENT");
    let Some(at) = create[options..end].find(COUNTER).filter(|_| counts) else {
        return (create.to_owned(), None);
    };
    let start = options + at;
    let digits = &create[start + COUNTER.len()..];
    let length = digits
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(digits.len());
    let rest = &digits[length..];
    (
        format!("{}{rest}", &create[..start]),
        digits[..length].parse().ok(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_taken_out_and_nothing_else() {
        for (create, expected, counter) in [
            (
                "CREATE TABLE `t` (\n  `a` int COMMENT ' AUTO_INCREMENT=3'\n) ENGINE=InnoDB AUTO_INCREMENT=12 DEFAULT CHARSET=utf8mb4 COMMENT='x'",
                "CREATE TABLE `t` (\n  `a` int COMMENT ' AUTO_INCREMENT=3'\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='x'",
                Some(12),
            ),
            (
                "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB COMMENT=' AUTO_INCREMENT=4'",
                "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB COMMENT=' AUTO_INCREMENT=4'",
                None,
            ),
            (
                "CREATE TABLE `t` (\n  `a` int AUTO_INCREMENT\n) ENGINE=InnoDB AUTO_INCREMENT=5\n PARTITION BY HASH (`a`)\n(PARTITION `p` ENGINE = InnoDB)",
                "CREATE TABLE `t` (\n  `a` int AUTO_INCREMENT\n) ENGINE=InnoDB\n PARTITION BY HASH (`a`)\n(PARTITION `p` ENGINE = InnoDB)",
                Some(5),
            ),
            (
                "CREATE TABLE `t` (\n  `a` int\n) ENGINE=MEMORY AUTO_INCREMENT=6",
                "CREATE TABLE `t` (\n  `a` int\n) ENGINE=MEMORY AUTO_INCREMENT=6",
                None,
            ),
        ] {
            assert_eq!(
                without_counter(create),
                (expected.to_owned(), counter),
                "{create}"
            );
        }
    }
}
