//! Options that only one of the flavours has.

#[dagz::test(worker_threads = 2)]
async fn threads_by_default() {}

#[dagz::test(flavor = "current_thread", worker_threads = 2)]
async fn threads_of_one() {}

#[dagz::test(flavor = "multi_thread", start_paused = true)]
async fn paused() {}

fn main() {}
