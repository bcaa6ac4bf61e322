//! What is not a function.

#[dagz::test]
struct Structure;

#[dagz::test]
const NUMBER: u32 = 1;

#[dagz::setup]
mod module {}

fn main() {}
