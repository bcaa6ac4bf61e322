//! Tells of what takes long while it does, and not only when it is done: a server that hangs never is.
//!
//! [`watched`] is what the one path (`resolve.rs`) waits for drivers by.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

/// From when on it is told; a database is cloned and migrated within it as a rule.
pub(crate) const FIRST: Duration = Duration::from_secs(5);

/// Waits for `work`, and gives `tell` the time that it has taken when that is `first`, and whenever it has doubled.
pub(crate) async fn watched<T>(
    work: impl Future<Output = T>,
    first: Duration,
    mut tell: impl FnMut(Duration),
) -> T {
    let mut work = pin!(work);
    let started = Instant::now();
    let mut taken = first;
    loop {
        if let Ok(done) = timeout_at(started + taken, work.as_mut()).await {
            return done;
        }
        tell(taken);
        taken *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_told_of_ever_less_often() {
        const UNIT: Duration = Duration::from_secs(5);
        let mut told = Vec::new();
        let work = tokio::time::sleep(6 * UNIT);
        watched(work, UNIT, |taken| told.push(taken)).await;
        assert_eq!(told, [UNIT, 2 * UNIT, 4 * UNIT]);
        let done = watched(async { 1 }, UNIT, |_| panic!("it is done")).await;
        assert_eq!(done, 1);
    }
}
