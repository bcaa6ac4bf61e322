//! A wrong return type is said where it stands.

#[dagz::setup]
fn wrong_error() -> Result<(), u8> {
    Ok(())
}

#[dagz::setup]
async fn wrong_value() -> dagz::Result<u32> {
    Ok(1)
}

fn main() {}
