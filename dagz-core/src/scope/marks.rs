//! What a part of a suite asks of the test it runs in: its marks.

use super::{Scope, current};

/// Makes sure that `flow`, a part of a suite that needs the base databases, runs in a test marked
/// `main_worker`. While dagz is off it always does.
///
/// # Panics
///
/// When it does not, naming the flow, the test and the mark to add.
#[track_caller]
pub fn assert_main_worker(flow: &str) {
    assert_mark(flow, "main_worker", Scope::is_main_worker);
}

/// Makes sure that `flow`, a part of a suite that bears no company, runs in a test marked
/// `exclusive`. While dagz is off it always does.
///
/// # Panics
///
/// When it does not, naming the flow, the test and the mark to add.
#[track_caller]
pub fn assert_exclusive(flow: &str) {
    assert_mark(flow, "exclusive", Scope::is_exclusive);
}

#[track_caller]
fn assert_mark(flow: &str, mark: &str, marked: fn(&Scope) -> bool) {
    if !crate::active() {
        return;
    }
    match current() {
        Some(scope) if marked(&scope) => {}
        Some(scope) => panic!(
            "`{flow}` needs a test marked `{mark}`, and `{}` is not: write `#[dagz::test({mark})]`",
            scope.test()
        ),
        None => panic!(
            "`{flow}` needs a test marked `{mark}`, and runs outside any: call it from one, `#[dagz::test({mark})]`"
        ),
    }
}
