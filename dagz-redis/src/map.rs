//! Which index is whose: the map from a worker and a base index to the worker's own index.
//!
//! Redis numbers its databases, so there is no name to append a worker to. [`IndexMap`] counts instead:
//! after the indices that the application uses, each worker has as many in a row as there are bases.
//! Nothing wraps around: two workers, or two bases, never meet in one index. `driver.rs` asks it, and
//! `server.rs` whether the server has as many databases as it needs.

use dagz_core::{Error, ErrorKind, Result, Worker};

/// The map, for the indices that the application uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexMap {
    /// In the order in which the user gave them, which is the order in a worker's row.
    bases: Vec<i64>,
    /// The first index of the first worker.
    first: i64,
}

impl IndexMap {
    /// The map for `bases`, with workers from `first` on; from the index after the last base unless given.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] where a base is negative, given twice, or among the workers' indices.
    pub(crate) fn new(bases: &[i64], first: Option<i64>) -> Result<Self> {
        let unusable = |why: String| Err(Error::new(ErrorKind::Settings, why));
        let Some(last) = bases.iter().max().copied() else {
            return unusable(
                "no base index is declared: say `Config::bases([0])`, or all that the application uses"
                    .to_owned(),
            );
        };
        for (position, base) in bases.iter().enumerate() {
            if *base < 0 {
                return unusable(format!("the base index `{base}` is no index of a database"));
            }
            if bases[..position].contains(base) {
                return unusable(format!("the base index `{base}` is declared twice"));
            }
        }
        let first = first.unwrap_or(last.saturating_add(1));
        if first <= last {
            return unusable(format!(
                "the workers' indices begin at `{first}`, and the application uses `{last}`: say `Config::first_index({})` or more",
                last.saturating_add(1)
            ));
        }
        Ok(Self {
            bases: bases.to_vec(),
            first,
        })
    }

    /// The index of `base` on `worker`; `None` where `base` is not declared.
    pub(crate) fn index(&self, worker: Worker, base: i64) -> Option<i64> {
        let position = self.bases.iter().position(|declared| *declared == base)?;
        let position = i64::try_from(position).ok()?;
        i64::from(worker.number())
            .checked_mul(self.width())?
            .checked_add(position)?
            .checked_add(self.first)
    }

    /// The worker, of `workers`, whose index this is, if it is any worker's.
    pub(crate) fn worker_of(&self, index: i64, workers: u32) -> Option<Worker> {
        let after = index.checked_sub(self.first).filter(|after| *after >= 0)?;
        let number = u32::try_from(after / self.width()).ok()?;
        (number < workers).then(|| Worker::new(number))
    }

    /// The base of which `index` is a worker's, if it is any worker's.
    pub(crate) fn base_of(&self, index: i64) -> Option<i64> {
        let after = index.checked_sub(self.first).filter(|after| *after >= 0)?;
        let position = usize::try_from(after % self.width()).ok()?;
        self.bases.get(position).copied()
    }

    /// How many databases a server must have for `workers`: theirs, and the last one for dagz's books.
    pub(crate) fn databases(&self, workers: u32) -> i64 {
        i64::from(workers)
            .saturating_mul(self.width())
            .saturating_add(self.first)
            .saturating_add(1)
    }

    /// The declared bases.
    pub(crate) fn bases(&self) -> &[i64] {
        &self.bases
    }

    /// How many indices a worker has.
    fn width(&self) -> i64 {
        i64::try_from(self.bases.len()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn workers_follow_the_bases_in_rows() {
        let map = IndexMap::new(&[0, 3], None).unwrap();
        let index = |worker, base| map.index(Worker::new(worker), base);
        assert_eq!(index(0, 0), Some(4));
        assert_eq!(index(0, 3), Some(5));
        assert_eq!(index(1, 0), Some(6));
        assert_eq!(index(7, 3), Some(19));
        assert_eq!(index(0, 1), None);
        assert_eq!(map.databases(8), 21);
        assert_eq!(map.worker_of(5, 8), Some(Worker::new(0)));
        assert_eq!(map.worker_of(19, 8), Some(Worker::new(7)));
        assert_eq!(map.worker_of(20, 8), None);
        assert_eq!(map.worker_of(3, 8), None);
        assert_eq!(map.base_of(19), Some(3));
    }

    #[test]
    fn what_cannot_be_disjoint_is_refused() {
        for (bases, first, expected) in [
            (&[][..], None, "no base index is declared"),
            (&[0, -1], None, "`-1` is no index"),
            (&[2, 0, 2], None, "`2` is declared twice"),
            (&[0, 7], Some(7), "`Config::first_index(8)`"),
        ] {
            let error = IndexMap::new(bases, first).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let far = IndexMap::new(&[i64::MAX - 1], None).unwrap();
        assert_eq!(far.index(Worker::new(1), i64::MAX - 1), None);
    }

    fn bases() -> impl Strategy<Value = Vec<i64>> {
        prop::collection::hash_set(0i64..40, 1..6).prop_map(|bases| bases.into_iter().collect())
    }

    proptest! {
        #[test]
        fn indices_are_disjoint_stable_and_known(
            bases in bases(), gap in prop::option::of(0i64..20), workers in 1u32..40
        ) {
            let first = gap.map(|gap| bases.iter().max().unwrap_or(&0) + 1 + gap);
            let map = IndexMap::new(&bases, first)?;
            let mut seen: HashSet<i64> = bases.iter().copied().collect();
            for number in 0..workers {
                for base in &bases {
                    let worker = Worker::new(number);
                    let index = map.index(worker, *base);
                    // A clone, or a later process, has the same one.
                    prop_assert_eq!(IndexMap::new(&bases, first)?.index(worker, *base), index);
                    let index = index.ok_or_else(|| TestCaseError::fail("not declared"))?;
                    prop_assert!(seen.insert(index), "{} is used twice", index);
                    prop_assert_eq!(map.worker_of(index, workers), Some(worker));
                    prop_assert_eq!(map.base_of(index), Some(*base));
                    // The last database of the server is nobody's.
                    prop_assert!(index < map.databases(workers) - 1);
                }
            }
        }

        #[test]
        fn more_workers_move_nobody(bases in bases(), few in 1u32..10, more in 1u32..100) {
            // The number of workers is no part of the map: that is what "never modulo" means.
            let map = IndexMap::new(&bases, None)?;
            for number in 0..few {
                for base in &bases {
                    let index = map.index(Worker::new(number), *base).unwrap_or_default();
                    prop_assert_eq!(map.worker_of(index, few), map.worker_of(index, few + more));
                }
            }
        }
    }
}
