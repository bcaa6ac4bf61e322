//! Indices that nobody else uses: one server for all tests, a block of its databases for each.
//!
//! Who asks for a block by a name gets the same one in every process until it is given back; a block of
//! somebody who was killed is free after a while. The server itself keeps the list, in an index that no
//! block has, so that two checkouts on one server do not meet either. The server must have 2,048
//! databases, as that of `cargo xtask services` has.

use std::{
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How many base indices a block has.
pub(crate) const BASES: i64 = 4;

/// For how many workers.
const WORKERS: i64 = 8;

/// How many indices a block has.
const WIDTH: i64 = BASES + WORKERS * BASES;

/// Where the first block begins: the first databases are those of the workspace's example, and of whoever looks at the
/// server.
const START: i64 = 64;

/// How many blocks there are.
const COUNT: i64 = 26;

/// Where the list is: behind the last block. The tests of `cargo-dagz` have what comes after it.
const LIST: i64 = START + COUNT * WIDTH;

/// The last database, where dagz keeps its books.
const BOOKS: i64 = 2_047;

/// How long a block may be used that is given back, in seconds.
const LIFE: i64 = 600;

/// How long one may be used that nobody gives back: a test binary keeps it in a static.
const BRIEF_LIFE: i64 = 60;

/// Cleans the block `k`.
const CLEAN: &str = "local function clean(k) \
    for index = ARGV[3] + k * ARGV[4], ARGV[3] + (k + 1) * ARGV[4] - 1 do \
        redis.call('SELECT', index) redis.call('FLUSHDB') \
        redis.call('SELECT', ARGV[7]) \
        for _, kind in ipairs({'stamp', 'lock', 'baseline'}) do redis.call('DEL', 'dagz:' .. kind .. ':' .. index) end \
    end \
    redis.call('SELECT', ARGV[5]) end ";

const TAKE: &str = "local known = redis.call('GET', 'of:' .. ARGV[1]) \
    if known then return known end \
    for k = 0, ARGV[2] - 1 do \
        if redis.call('SET', 'block:' .. k, ARGV[1], 'NX', 'EX', ARGV[6]) then \
            redis.call('SET', 'of:' .. ARGV[1], k, 'EX', ARGV[6]) clean(k) return tostring(k) \
        end \
    end";

const GIVE_BACK: &str = "local k = redis.call('GET', 'of:' .. ARGV[1]) \
    if k then clean(tonumber(k)) redis.call('DEL', 'block:' .. k, 'of:' .. ARGV[1]) end \
    return k";

/// A row of indices: the bases, and then the workers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    first: i64,
}

impl Block {
    /// The block of `name`, clean when it is taken first. Waits for a free one.
    pub(crate) fn of(url: &str, name: &str) -> Result<Self> {
        Self::taken(url, name, LIFE)
    }

    /// A block for the tests of this process, which have ended soon.
    pub(crate) fn of_this_process(url: &str) -> Result<Self> {
        Self::taken(url, &format!("process {}", process::id()), BRIEF_LIFE)
    }

    fn taken(url: &str, name: &str, life: i64) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if let Some(number) = run(url, TAKE, name, life)? {
                let number: i64 = number.parse().context("the list of blocks is spoilt")?;
                return Ok(Self {
                    first: START + number * WIDTH,
                });
            }
            if Instant::now() > deadline {
                bail!("no block of indices became free within two minutes");
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The block in which `index` is.
    pub(crate) fn around(index: i64) -> Self {
        Self {
            first: START + (index - START) / WIDTH * WIDTH,
        }
    }

    /// Cleans the block of `name`, and gives it back.
    pub(crate) fn give_back(url: &str, name: &str) -> Result<()> {
        run(url, GIVE_BACK, name, 0).map(drop)
    }

    /// The base indices.
    pub(crate) fn bases(self) -> [i64; BASES as usize] {
        [0, 1, 2, 3].map(|position| self.first + position)
    }

    /// The first index of the first worker.
    pub(crate) fn first_index(self) -> i64 {
        self.first + BASES
    }

    /// Whether `index` is in it.
    pub(crate) fn contains(self, index: i64) -> bool {
        (self.first..self.first + WIDTH).contains(&index)
    }
}

fn run(url: &str, script: &str, name: &str, life: i64) -> Result<Option<String>> {
    let mut connection = redis::Client::open(url)?
        .get_connection_with_timeout(Duration::from_secs(5))
        .context("the Redis server does not answer")?;
    redis::cmd("SELECT")
        .arg(LIST)
        .exec(&mut connection)
        .context("the Redis server needs 2,048 databases (`--databases 2048`)")?;
    let number = redis::cmd("EVAL")
        .arg(format!("{CLEAN}{script}"))
        .arg(0)
        .arg(name)
        .arg(COUNT)
        .arg(START)
        .arg(WIDTH)
        .arg(LIST)
        .arg(life)
        .arg(BOOKS)
        .query(&mut connection)?;
    Ok(number)
}
