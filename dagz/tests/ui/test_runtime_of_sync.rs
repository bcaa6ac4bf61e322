//! A test that is not async has no runtime.

#[dagz::test(flavor = "multi_thread", worker_threads = 2)]
fn options() {}

#[tokio::test]
#[dagz::test(start_paused = true)]
async fn tokio_above() {}

#[dagz::test]
#[tokio::test]
fn tokio_below() {}

fn main() {}
