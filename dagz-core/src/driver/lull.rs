//! The time between two tests on one database, in which a driver may find out what the first one left.
//!
//! Whoever looks while nobody waits saves the next test that time. But a process that runs one test has no next one, and
//! a test that comes at once is better off looking itself than waiting for a look that has just begun. [`Lull`] tells
//! which it will be, by how it was the last time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The test from whose end on it is worth while: its process runs more than one on this database.
const FIRST: u64 = 2;

/// Tells a driver whether to look what a test left when it has ended, and whether that still is of use.
#[derive(Debug, Default)]
pub struct Lull {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many there were, which is the number of the current one.
    count: u64,
    /// When it began; `None` while a test runs.
    since: Option<Instant>,
    /// In what time from the beginning of a lull a look is done, as far as is known.
    needed: Duration,
    was_too_short: bool,
}

impl Lull {
    /// For how long nothing should be done: whoever comes within it need not wait for a look.
    pub const AT_ONCE: Duration = Duration::from_millis(1);

    /// Notes that a test has ended. The number of the lull that begins; `None` if there will hardly be another test.
    pub fn begin(&self) -> Option<u64> {
        let mut state = self.state();
        state.count += 1;
        state.since = Some(Instant::now());
        (state.count >= FIRST).then_some(state.count)
    }

    /// Whether it is worth while to look: not if the last test came before a look would have been done.
    pub fn is_long(&self) -> bool {
        !self.state().was_too_short
    }

    /// Notes that a test begins. To be called before it waits for anything.
    pub fn end(&self) {
        let mut state = self.state();
        if let Some(since) = state.since.take() {
            state.was_too_short = since.elapsed() < state.needed;
            if state.was_too_short {
                // It may have been a slow one: not for ever.
                state.needed = state.needed * 7 / 8;
            }
        }
    }

    /// Whether no test began since the lull of this number did.
    pub fn lasts(&self, number: u64) -> bool {
        let state = self.state();
        state.count == number && state.since.is_some()
    }

    /// Notes that what the test left before the lull of this number is known now.
    pub fn looked(&self, number: u64) {
        let mut state = self.state();
        if state.count == number
            && let Some(since) = state.since
        {
            state.needed = since.elapsed();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_only_test_of_a_process_is_not_looked_behind() {
        let lull = Lull::default();
        assert_eq!(lull.begin(), None);
        lull.end();
        let second = lull.begin().unwrap();
        assert!(lull.lasts(second));
    }

    #[test]
    fn a_lull_lasts_until_the_next_test_and_is_not_taken_for_a_later_one() {
        let lull = Lull::default();
        lull.begin();
        let second = lull.begin().unwrap();
        lull.end();
        assert!(!lull.lasts(second));
        let third = lull.begin().unwrap();
        assert!(lull.lasts(third) && !lull.lasts(second));
    }

    #[test]
    fn who_came_too_early_for_a_look_is_expected_to_do_so_again() {
        const LOOK: Duration = Duration::from_millis(20);
        let lull = Lull::default();
        lull.begin();
        let second = lull.begin().unwrap();
        thread::sleep(LOOK);
        lull.looked(second);
        lull.end();
        assert!(lull.is_long(), "it came after the look");
        lull.begin();
        lull.end();
        assert!(
            !lull.is_long(),
            "it came before a look would have been done"
        );
        lull.begin();
        thread::sleep(2 * LOOK);
        lull.end();
        assert!(lull.is_long(), "it would have been done in time");
    }

    #[test]
    fn one_slow_look_is_not_the_last() {
        let lull = Lull::default();
        lull.begin();
        let second = lull.begin().unwrap();
        thread::sleep(Duration::from_millis(50));
        lull.looked(second);
        lull.end();
        let came_later = (0..100).filter(|_| {
            lull.begin();
            thread::sleep(Duration::from_millis(2));
            lull.end();
            lull.is_long()
        });
        assert!((10..100).contains(&came_later.count()));
    }

    #[test]
    fn a_look_that_was_overtaken_says_nothing_about_how_long_one_takes() {
        let lull = Lull::default();
        lull.begin();
        let second = lull.begin().unwrap();
        lull.end();
        lull.looked(second);
        lull.begin();
        lull.end();
        assert!(lull.is_long());
    }
}
