//! `#[tokio::test]` and `#[dagz::test]` must not ask for different runtimes.

#[dagz::test(flavor = "multi_thread")]
#[tokio::test(flavor = "current_thread")]
async fn flavors() {}

#[dagz::test(start_paused = true)]
#[tokio::test(flavor = "multi_thread")]
async fn together() {}

#[dagz::test]
#[tokio::test(unhandled_panic = "shutdown_runtime")]
async fn not_honoured() {}

fn main() {}
