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
        self.state().begin(Instant::now())
    }

    /// Notes that a test begins. To be called before it waits for anything.
    pub fn end(&self) {
        self.state().end(Instant::now());
    }

    /// Whether it is worth while to look: not if the last test came before a look would have been done.
    pub fn is_long(&self) -> bool {
        !self.state().was_too_short
    }

    /// Whether no test began since the lull of this number did.
    pub fn lasts(&self, number: u64) -> bool {
        self.state().since(number).is_some()
    }

    /// Notes that what the test left before the lull of this number is known now.
    pub fn looked(&self, number: u64) {
        self.state().looked(number, Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        self.since = Some(now);
        (self.count >= FIRST).then_some(self.count)
    }

    fn end(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.was_too_short = now - since < self.needed;
            if self.was_too_short {
                // It may have been a slow one: not for ever.
                self.needed = self.needed * 7 / 8;
            }
        }
    }

    /// When the lull of this number began, if it lasts.
    fn since(&self, number: u64) -> Option<Instant> {
        self.since.filter(|_| self.count == number)
    }

    fn looked(&mut self, number: u64, now: Instant) {
        if let Some(since) = self.since(number) {
            self.needed = now - since;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(20);

    /// After two tests, of which the second was looked behind.
    fn looked() -> (State, Instant) {
        let (mut state, start) = (State::default(), Instant::now());
        state.begin(start);
        state.end(start);
        let second = state.begin(start).unwrap();
        state.looked(second, start + LOOK);
        state.end(start + LOOK);
        (state, start + LOOK)
    }

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
        let (mut state, now) = looked();
        assert!(!state.was_too_short, "it came after the look");
        state.begin(now);
        state.end(now + LOOK / 2);
        assert!(state.was_too_short, "it came before a look would be done");
        state.begin(now);
        state.end(now + LOOK);
        assert!(!state.was_too_short, "a look would have been done in time");
    }

    #[test]
    fn one_slow_look_is_not_the_last() {
        let (mut state, now) = looked();
        let too_short = (0..100).filter(|_| {
            state.begin(now);
            state.end(now + LOOK / 10);
            state.was_too_short
        });
        assert_eq!(too_short.count(), 18);
    }

    #[test]
    fn a_look_that_was_overtaken_says_nothing_about_how_long_one_takes() {
        let (mut state, now) = looked();
        let third = state.begin(now).unwrap();
        state.end(now + LOOK);
        state.looked(third, now + 100 * LOOK);
        state.begin(now);
        state.end(now + LOOK);
        assert!(!state.was_too_short);
    }
}
