//! Nobody could choose a test's parameters.

#[dagz::test]
async fn of_type<T: Default>() {}

#[dagz::test]
fn of_lifetime<'a>() {}

#[dagz::test]
fn bounded()
where
    u32: Default,
{
}

fn main() {}
