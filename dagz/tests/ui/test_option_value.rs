//! Each value that an option cannot have, all at once.

#[dagz::test(
    main_worker = true,
    exclusive = false,
    flavor = "threaded",
    worker_threads = 0,
    start_paused = "yes",
    crate = dagz
)]
async fn values() {}

#[dagz::test(flavor)]
async fn missing() {}

fn main() {}
