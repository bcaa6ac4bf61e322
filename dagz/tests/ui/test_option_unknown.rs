//! An unknown option is named, with those there are.

#[dagz::test(main_thread)]
fn unknown() {}

#[dagz::test(main_worker exclusive)]
fn comma() {}

fn main() {}
