//! Functions that no harness could call.

#[dagz::test]
const fn constant() {}

#[dagz::test]
unsafe fn dangerous() {}

#[dagz::test]
extern "C" fn foreign() {}

struct Suite;

impl Suite {
    #[dagz::test]
    async fn method(&self) {}
}

fn main() {}
