//! An error in the body is the compiler's own, at the user's line.

// A tool attribute, which the compiler ignores: without one that ends in `test` the macro adds
// `#[test]`, and this check, which is not a build of tests, would not see the function.
#[dagz::test]
#[rustfmt::test]
async fn in_async_body(scope: dagz::Scope) {
    let number: u32 = scope.test();
}

#[dagz::test]
#[rustfmt::test]
fn in_sync_body() {
    let is_true: bool = 1;
}

fn main() {}
