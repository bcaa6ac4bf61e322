//! Each option at most once, each attribute at most once.

#[dagz::test(exclusive, exclusive)]
fn marks() {}

#[dagz::test(flavor = "multi_thread", flavor = "current_thread")]
async fn flavors() {}

#[dagz::test]
#[dagz::test(exclusive)]
fn attributes() {}

fn main() {}
