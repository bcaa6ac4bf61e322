//! What a driver tells the contract about itself: the [`Contract`] trait and its words.
//!
//! `dagz-testkit/tests/folders` is the smallest whole example; `dagz-postgres/tests/contract.rs`
//! one for a server.

use std::future::Future;

use crate::Choice;

/// A driver as the contract sees it: how it is configured and opened by its users, and how its
/// server is used without it.
///
/// The cases run in processes of their own, so that [`configure`](Self::configure) may be called
/// once in each. An *address* is whatever text the driver's users have: a URL, a path.
pub trait Contract: Send + Sync + 'static {
    /// A connection to one database. It is dropped before the runtime on which it was opened.
    type Session: Send + Sync + 'static;

    /// What the driver says of itself: `include_str!("contract.toml")`, the file beside its
    /// `tests/contract.rs`. The crate's documentation has its keys.
    const DECLARATION: &'static str;

    /// Makes sure that there is a server.
    ///
    /// # Errors
    ///
    /// What to do about it: the command that starts one. Every case fails with this.
    fn server(&self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// The name of a base database for the wish `unique`, which is made of `a-z`, `0-9` and `_`, is
    /// not longer than 42 bytes, and belongs to one case only.
    ///
    /// A server whose databases are numbered makes a number of it, the same in every process.
    fn base(&self, unique: &str) -> String {
        unique.to_owned()
    }

    /// The address of the database `name` on the server, as an application would have it.
    fn address(&self, name: &str) -> String;

    /// Configures the driver for the application at `address`, as its users do, by `choice`.
    ///
    /// A worker's database must be made such that [`put`](Self::put) works, and must hold
    /// [`SEED`](crate::SEED) if the driver has the capability `baseline`.
    ///
    /// # Errors
    ///
    /// Those of the driver's `configure`.
    fn configure(&self, address: &str, choice: &Choice) -> dagz_core::Result<()>;

    /// Opens `address` through the driver, by what its users call instead of the library's own.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn open(&self, address: &str) -> impl Future<Output = dagz_core::Result<Self::Session>> + Send;

    /// The database that the session is in, as the server says.
    ///
    /// # Errors
    ///
    /// Those of the server.
    fn database(
        &self,
        session: &Self::Session,
    ) -> impl Future<Output = anyhow::Result<String>> + Send;

    /// Writes an entry, committed when this returns; replaces one of the same key.
    ///
    /// # Errors
    ///
    /// Those of the server.
    fn put(
        &self,
        session: &Self::Session,
        key: &str,
        value: &str,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// All entries, in any order.
    ///
    /// # Errors
    ///
    /// Those of the server.
    fn entries(
        &self,
        session: &Self::Session,
    ) -> impl Future<Output = anyhow::Result<Vec<(String, String)>>> + Send;

    /// Removes an entry, as a test would that spoils seed data.
    ///
    /// # Errors
    ///
    /// Those of the server.
    fn remove(
        &self,
        session: &Self::Session,
        key: &str,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Writes an entry in a transaction that stays open, in place of one of the same key if there is
    /// one. Only called with the capability `transactions`.
    ///
    /// # Errors
    ///
    /// Those of the server.
    fn put_uncommitted(
        &self,
        session: &Self::Session,
        key: &str,
        value: &str,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = (session, key, value);
        async { anyhow::bail!("the driver says that it has transactions, and opens none") }
    }

    /// Commits what [`put_uncommitted`](Self::put_uncommitted) wrote.
    ///
    /// # Errors
    ///
    /// Those of the server, one of which is that the session was ended meanwhile.
    fn commit(&self, session: &Self::Session) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = session;
        async { anyhow::bail!("the driver says that it has transactions, and commits none") }
    }

    /// Makes the database `name` as a user would who has never heard of dagz, such that
    /// [`put`](Self::put) works in it, without any entry.
    ///
    /// # Errors
    ///
    /// Those of the server.
    fn create(&self, name: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Keeps everybody else from reading and writing entries until the session ends, by the strongest
    /// lock that a test might leave behind. Only called with the capability `locks`.
    ///
    /// # Errors
    ///
    /// Those of the server.
    fn lock(&self, session: &Self::Session) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = session;
        async { anyhow::bail!("the driver says that it has locks, and takes none") }
    }

    /// The host and port at which the server listens. Only called with the capability `connections`.
    ///
    /// # Errors
    ///
    /// What to do if it listens elsewhere, as on a socket.
    fn listens_at(&self) -> anyhow::Result<(String, u16)> {
        anyhow::bail!("the driver says that it has connections, and not where its server listens")
    }

    /// [`address`](Self::address) with `127.0.0.1` and `port` in place of the server's own: there
    /// the contract listens and passes everything on. Only called with the capability `connections`.
    fn address_through(&self, port: u16, name: &str) -> String {
        let _ = port;
        self.address(name)
    }

    /// A part of the driver's advice when nobody answers at an address. Only called with the
    /// capability `connections`.
    fn unreachable_advice(&self) -> &'static str {
        "is it running?"
    }

    /// The address of the database `base` with something wrong. Only called with the capability that
    /// is called like the fault.
    ///
    /// # Errors
    ///
    /// What kept it from being set up.
    fn faulty(
        &self,
        fault: Fault,
        base: &str,
    ) -> impl Future<Output = anyhow::Result<FaultyAddress>> + Send {
        let _ = base;
        async move { anyhow::bail!("the driver says that it knows `{fault:?}`, and makes none") }
    }

    /// A part of the driver's advice when it refuses a database that dagz did not create.
    fn refusal(&self) -> &'static str {
        "dagz did not create it"
    }

    /// Removes what a case made: every database of `made`, and users that [`faulty`](Self::faulty)
    /// made. Nothing of any other case.
    ///
    /// # Errors
    ///
    /// What could not be removed.
    fn clean(&self, made: &Made) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Something wrong with a server or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens: `unreachable`.
    Unreachable,
    /// The user's password is another one: `wrong_password`.
    WrongPassword,
    /// The user may connect, and may not make databases: `missing_rights`.
    MissingRights,
}

/// An address with something wrong, and what a good error says about it.
#[derive(Clone, Debug)]
pub struct FaultyAddress {
    /// The address.
    pub address: String,
    /// The password in it, if there is one; it must not appear in any error.
    pub secret: Option<String>,
    /// What the error must say: who, where, and what to do.
    pub told: Vec<String>,
}

/// What a case made on the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Made {
    /// How the names of all its databases and users begin, unless a limit cut them.
    pub prefix: String,
    /// All that [`Contract::base`] may have given to it; of each there may be the database itself,
    /// those of workers, or none.
    pub bases: Vec<String>,
    /// The project under which its databases are stamped.
    pub project: String,
}
