//! A set-up function takes nothing and gives `dagz::Result<()>`.

#[dagz::setup]
fn arguments(_scope: dagz::Scope) -> dagz::Result<()> {
    Ok(())
}

#[dagz::setup]
fn nothing() {}

#[dagz::setup(main_worker)]
fn option() -> dagz::Result<()> {
    Ok(())
}

#[dagz::setup]
#[test]
fn also_a_test() -> dagz::Result<()> {
    Ok(())
}

fn main() {}
