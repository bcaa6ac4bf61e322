//! Writes the macro that names every test of the suite: five hundred lines that nobody should have to read.

use std::{env, fmt::Write as _, fs, path::Path};

/// How many tests there are.
const TESTS: usize = 500;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut text = format!(
        "/// How many tests the suite has.\npub const TESTS: usize = {TESTS};\n\n\
         /// Calls the macro `$one` for each test of the suite, with its name and its number.\n\
         #[macro_export]\nmacro_rules! suite {{\n    ($one:ident) => {{\n"
    );
    for number in 0..TESTS {
        writeln!(text, "        $one!(case_{number:03}, {number});").expect("a string takes all");
    }
    text.push_str("    };\n}\n");
    let folder = env::var_os("OUT_DIR").expect("cargo names the folder");
    fs::write(Path::new(&folder).join("suite.rs"), text).expect("cargo's folder takes a file");
}
