//! Attributes of arguments are rstest's, which has to come first.

#[dagz::test]
async fn case(#[case] _number: u32) {}

#[dagz::test]
#[rstest::rstest]
async fn rstest_below() {}

fn main() {}
