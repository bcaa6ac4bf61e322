//! Arguments need an async test.

#[dagz::test]
fn two(_scope: dagz::Scope, _worker: dagz::Worker) {}

fn main() {}
