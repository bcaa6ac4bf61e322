//! Measures ways of doing a thing in one interleaved run, so that what else the machine does slows all alike.
//!
//! A [`Site`] knows the ways and does each when asked, cleanliness included; [`measure`] decides how often and in
//! which order. Each way is done once or twice to see what it costs; then each gets its share of the time, but no fewer
//! turns than [`least`] says, and all are spread evenly over the run. The floor is measured beside each.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;

use crate::row::Row;

/// How often at most: from then on a median does not move.
const MANY: usize = 300;

/// What a way costs at most, its preparations included, after which the processor has not gone to sleep.
const CHEAP_COST: Duration = Duration::from_millis(60);

/// From here on a way is so dear that finding out what it costs is its first measurement.
const DEAR: Duration = Duration::from_secs(2);

/// How often a way is measured that costs so much, its preparations included, whatever its share of the time. With a
/// thousand tables each turn of half the ways takes seconds.
fn least(cost: Duration) -> usize {
    match cost {
        cost if cost <= CHEAP_COST => 30,
        cost if cost <= Duration::from_millis(300) => 12,
        cost if cost < DEAR => 4,
        cost if cost < 2 * DEAR => 1,
        _ => 0,
    }
}

/// What a way costs at most that is asked twice what it costs.
const AGAIN: Duration = Duration::from_millis(500);

/// How much was written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dirt {
    /// Nothing.
    None,
    /// Something to three tables.
    Three,
    /// Something to all.
    All,
}

impl Dirt {
    /// All kinds.
    pub(crate) const ANY: [Self; 3] = [Self::None, Self::Three, Self::All];

    /// Which of `tables` tables are written to.
    pub(crate) fn tables(self, tables: usize) -> Vec<usize> {
        match self {
            Self::None => Vec::new(),
            // Spread, as a test's are; and not the same table twice, however few there are.
            Self::Three => [1, 6, 8].into_iter().filter(|n| *n < tables).collect(),
            Self::All => (0..tables).collect(),
        }
    }
}

/// A way, under one condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Its name.
    pub(crate) strategy: &'static str,
    /// What it has to clean.
    pub(crate) dirt: Dirt,
}

/// `strategy` under each of `dirts`.
pub(crate) fn ways(strategy: &'static str, dirts: &[Dirt]) -> Vec<Way> {
    let each = dirts.iter();
    each.map(|dirt| Way {
        strategy,
        dirt: *dirt,
    })
    .collect()
}

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    /// For how long, about.
    pub(crate) budget: Duration,
    /// Only these ways; all if there are none.
    pub(crate) only: Vec<String>,
}

/// A server of one kind with databases of one size.
#[async_trait]
pub(crate) trait Site: Send {
    /// What is measured here.
    fn ways(&self) -> Vec<Way>;

    /// What the smallest question costs, on a connection that changes with `turn`.
    async fn floor(&mut self, turn: usize) -> Result<Duration>;

    /// Writes what the way is to clean, and says how long the way took.
    async fn time(&mut self, way: Way) -> Result<Duration>;

    /// Fails unless that left everything clean, which another connection sees.
    async fn check(&mut self, way: Way) -> Result<()>;
}

/// Measures the ways of `site`, as far as `extent` says; `tables` is its size.
///
/// # Errors
/// What a way failed with. Also where it left something behind: what does not clean has no figure.
pub(crate) async fn measure(
    site: &mut dyn Site,
    (group, backend): (&'static str, &str),
    tables: usize,
    extent: &Extent,
) -> Result<Vec<Row>> {
    let mut ways = site.ways();
    if !extent.only.is_empty() {
        ways.retain(|way| extent.only.iter().any(|name| name == way.strategy));
    }
    ensure!(
        !ways.is_empty(),
        "{backend} has none of the ways {:?}",
        extent.only
    );
    let mut costs = Vec::new();
    let mut times = vec![Vec::new(); ways.len()];
    for (way, times) in ways.iter().zip(&mut times) {
        let started = Instant::now();
        let time = once(site, *way, backend, tables).await?;
        let mut cost = started.elapsed();
        if time >= AGAIN && cost >= DEAR {
            times.push(time);
        }
        if time < AGAIN {
            // Whatever came in between once, comes in between twice seldom; and with many tables the first look at them
            // takes seconds.
            let started = Instant::now();
            once(site, *way, backend, tables).await?;
            cost = cost.min(started.elapsed());
        }
        costs.push(cost);
    }
    let mut floors = Vec::new();
    let mut turns = order(&costs, extent.budget);
    // What is dear without being slow itself has no measurement yet.
    let has_none = |way: &usize| times[*way].is_empty() && !turns.contains(way);
    let missing: Vec<_> = (0..ways.len()).filter(has_none).collect();
    turns.extend(missing);
    for (turn, way) in turns.into_iter().enumerate() {
        // After what was slow the processor sleeps, and the server's caches are cold: nobody's floor. On other
        // connections, since one that was asked just now answers sooner than any that dagz uses.
        if costs[way] > CHEAP_COST {
            for other in 1..4 {
                site.floor(turn + other).await?;
            }
        }
        floors.push(site.floor(turn).await?);
        times[way].push(once(site, ways[way], backend, tables).await?);
    }
    let rows = ways.iter().zip(&times).map(|(way, times)| {
        let row = Row::of(group, backend, way.strategy, times, &floors)?;
        Ok(Row {
            tables,
            dirty: way.dirt.tables(tables).len(),
            ..row
        })
    });
    rows.collect()
}

async fn once(site: &mut dyn Site, way: Way, backend: &str, tables: usize) -> Result<Duration> {
    let what = || {
        let dirty = way.dirt.tables(tables).len();
        format!(
            "`{}` of {backend} with {dirty} of {tables} dirty",
            way.strategy
        )
    };
    let time = site.time(way).await.with_context(what)?;
    site.check(way)
        .await
        .with_context(|| format!("{} left something behind, so it has no figure", what()))?;
    Ok(time)
}

/// Which way is measured when, by what each costs: evenly spread, each as often as its share of `budget` allows.
fn order(costs: &[Duration], budget: Duration) -> Vec<usize> {
    let share = budget.as_secs_f64() / costs.len().max(1) as f64;
    let mut turns = Vec::new();
    for (way, cost) in costs.iter().enumerate() {
        let often = (share / cost.as_secs_f64().max(1e-6)) as usize;
        let often = often.clamp(least(*cost), MANY);
        // Each way is a little off its neighbours, so that none always follows the same one.
        let shift = (way as f64 * 0.618).fract();
        turns.extend((0..often).map(|turn| ((turn as f64 + shift) / often as f64, way)));
    }
    turns.sort_by(|one, other| one.0.total_cmp(&other.0));
    turns.into_iter().map(|(_, way)| way).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_way_is_seldom_and_spread() {
        let costs = [1, 1_000, 3_000, 10_000].map(Duration::from_millis);
        let order = order(&costs, Duration::from_secs(4));
        let of = |way: usize| -> Vec<usize> {
            (0..order.len())
                .filter(|turn| order[*turn] == way)
                .collect()
        };
        let slow = of(1);
        assert_eq!(slow.len(), 4);
        assert_eq!(of(0).len(), MANY);
        // These have been measured once already.
        assert_eq!((of(2).len(), of(3).len()), (1, 0));
        assert!(
            slow.windows(2).all(|pair| pair[1] - pair[0] > 50),
            "{slow:?}"
        );
    }

    #[test]
    fn three_tables_are_different_ones() {
        assert_eq!(Dirt::Three.tables(10), [1, 6, 8]);
        assert_eq!(Dirt::All.tables(4), [0, 1, 2, 3]);
        assert!(Dirt::None.tables(10).is_empty());
    }

    /// Claims to clean, and does not.
    struct Unclean;

    #[async_trait]
    impl Site for Unclean {
        fn ways(&self) -> Vec<Way> {
            ways("wishing", &[Dirt::Three])
        }

        async fn floor(&mut self, _: usize) -> Result<Duration> {
            Ok(Duration::from_micros(1))
        }

        async fn time(&mut self, _: Way) -> Result<Duration> {
            Ok(Duration::from_micros(1))
        }

        async fn check(&mut self, _: Way) -> Result<()> {
            anyhow::bail!("`t6` has 5 rows")
        }
    }

    #[tokio::test]
    async fn what_does_not_clean_has_no_figure() {
        let mut extent = Extent {
            budget: Duration::from_millis(1),
            only: Vec::new(),
        };
        let outcome = measure(&mut Unclean, ("reset", "x"), 10, &extent).await;
        let error = outcome.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "`wishing` of x with 3 of 10 dirty left something behind, so it has no figure: `t6` has 5 rows"
        );
        extent.only = vec!["hoping".to_owned()];
        let outcome = measure(&mut Unclean, ("reset", "x"), 10, &extent).await;
        let error = outcome.unwrap_err().to_string();
        assert_eq!(error, "x has none of the ways [\"hoping\"]");
    }
}
