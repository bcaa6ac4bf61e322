//! Clients that earlier tests left behind, and how they end.
//!
//! A `BLPOP` that an earlier test left waiting takes what the next one pushes, and a leaked task may write
//! at any time. So each prepare looks at the server's list of clients, in the round trip that resets, and
//! those that [`leftovers`] finds are named and closed. A client that is in another database, or that no
//! test is known to have opened, such as a developer's `redis-cli`, stays, also if it subscribes: it takes nothing from
//! anybody.

use dagz_core::{
    Target,
    event::{self, Event},
};

use crate::{driver, route::TAG};

/// How the names of dagz's own connections begin.
pub(super) const KEEPER: &str = "dagz-keeper:";

/// One line of `CLIENT LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) address: String,
    pub(super) name: String,
    pub(super) age: u64,
    database: i64,
    flags: String,
    /// How many commands are queued in its transaction; -1 outside of one.
    queued: i64,
    command: String,
    library: String,
}

impl Client {
    /// All that are in a list.
    pub(super) fn all(list: &str) -> Vec<Self> {
        list.lines()
            .filter(|line| !line.is_empty())
            .map(Self::parse)
            .collect()
    }

    fn parse(line: &str) -> Self {
        let mut client = Self {
            queued: -1,
            database: -1,
            ..Self::default()
        };
        for (key, value) in line.split(' ').filter_map(|pair| pair.split_once('=')) {
            match key {
                "id" => client.id = value.parse().unwrap_or_default(),
                "addr" => value.clone_into(&mut client.address),
                "name" => value.clone_into(&mut client.name),
                "age" => client.age = value.parse().unwrap_or_default(),
                "db" => client.database = value.parse().unwrap_or(-1),
                "flags" => value.clone_into(&mut client.flags),
                "multi" => client.queued = value.parse().unwrap_or(-1),
                "cmd" => value.clone_into(&mut client.command),
                "lib-name" => value.clone_into(&mut client.library),
                _ => {}
            }
        }
        client
    }

    /// The test it is of, if dagz has routed it.
    fn tag(&self) -> Option<&str> {
        [&self.name, &self.library]
            .into_iter()
            .find_map(|name| name.strip_prefix(TAG))
    }

    /// Whether it waits for what others write, or has a transaction that it may run later.
    fn is_lurking(&self) -> bool {
        self.is_waiting() || self.has_transaction()
    }

    fn is_waiting(&self) -> bool {
        self.flags.contains('b')
    }

    fn has_transaction(&self) -> bool {
        self.flags.contains('x') || self.queued >= 0
    }

    /// For people: who it is, and what it was doing.
    fn describe(&self) -> String {
        let Self {
            id,
            address,
            command,
            ..
        } = self;
        let whose = match self.tag() {
            Some(tag) => format!("of `{tag}`"),
            None => "without a name".to_owned(),
        };
        let doing = if self.is_waiting() {
            "waits in"
        } else if self.has_transaction() {
            "has a transaction open, last by"
        } else {
            "last ran"
        };
        format!("client {id} {whose} from {address} {doing} `{command}`")
    }
}

/// Where leftovers are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach {
    /// In this database.
    Database(i64),
    /// On the whole server, where nobody else has any business.
    Server,
}

/// Those in a `CLIENT LIST` that an earlier test than that of `tag` left. Tests switch a detection off by `blind`.
pub(super) fn leftovers(list: &str, reach: Reach, tag: &str, blind: Option<&str>) -> Vec<Client> {
    let is_own = |name: &str| {
        tag.strip_prefix(TAG)
            .and_then(|tag| name.strip_prefix(tag))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    // Most lines of a busy server are of other databases, and need not be taken apart.
    let part = match reach {
        Reach::Database(index) => format!(" db={index} "),
        Reach::Server => String::new(),
    };
    list.lines()
        .filter(|line| !line.is_empty() && line.contains(&part))
        .map(Client::parse)
        .filter(|client| !client.name.starts_with(KEEPER))
        .filter(|client| match (reach, client.tag()) {
            (Reach::Database(index), _) if client.database != index => false,
            (_, Some(tag)) if blind != Some("names") => !is_own(tag),
            (Reach::Database(_), _) => {
                client.is_waiting() && blind != Some("waiting")
                    || client.has_transaction() && blind != Some("transactions")
            }
            (Reach::Server, _) => true,
        })
        .collect()
}

/// Tells whom the test of `target` found in its database.
pub(super) fn tell(found: &[Client], target: &Target) {
    for client in found {
        if !client.is_lurking() {
            tracing::debug!(
                target: "dagz",
                database = target.name(),
                client = client.describe(),
                "an idle client of an ended test is closed"
            );
            continue;
        }
        let what = format!(
            "{} in database `{}`; it is closed",
            client.describe(),
            target.name()
        );
        event::warn(Some(driver::NAME), &what);
        Event::new("leak").target(target).detail(what).record();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
id=3 addr=127.0.0.1:50000 laddr=127.0.0.1:6379 fd=8 name= age=9 idle=9 flags=b db=5 sub=0 psub=0 multi=-1 cmd=blpop user=default\n\
id=4 addr=127.0.0.1:50001 laddr=127.0.0.1:6379 fd=9 name= age=9 idle=9 flags=N db=5 sub=0 psub=0 multi=-1 cmd=get user=default\n\
id=5 addr=127.0.0.1:50002 laddr=127.0.0.1:6379 fd=10 name=dagz:j1.jw00.t001:suite::leaks age=9 idle=9 flags=N db=5 multi=-1 cmd=set\n\
id=6 addr=127.0.0.1:50003 laddr=127.0.0.1:6379 fd=11 name=dagz:j1.jw00.t002:suite::next age=9 idle=9 flags=N db=5 multi=-1 cmd=set\n\
id=7 addr=127.0.0.1:50004 laddr=127.0.0.1:6379 fd=12 name= age=9 idle=9 flags=b db=0 multi=-1 cmd=blpop\n\
id=8 addr=127.0.0.1:50005 laddr=127.0.0.1:6379 fd=13 name=dagz-keeper:1 age=9 idle=9 flags=N db=5 multi=-1 cmd=exec\n\
id=9 addr=127.0.0.1:50006 laddr=127.0.0.1:6379 fd=14 name=mine age=9 idle=9 flags=x db=5 multi=2 cmd=multi\n\
id=10 addr=127.0.0.1:50007 laddr=127.0.0.1:6379 fd=15 name= age=9 idle=9 flags=N db=5 multi=-1 cmd=set lib-name=dagz:j1.jw00.t0021:x\n\
id=11 addr=127.0.0.1:50008 laddr=127.0.0.1:6379 fd=16 name= age=9 idle=9 flags=N db=5 multi=-1 cmd=info lib-name=redis-cli\n\
id=12 addr=127.0.0.1:50009 laddr=127.0.0.1:6379 fd=17 name= age=9 idle=9 flags=P db=5 sub=1 multi=-1 cmd=subscribe\n\
id=13 addr=127.0.0.1:50010 laddr=127.0.0.1:6379 fd=18 name=dagz:j1.jw00.t001:suite::leaks age=9 idle=9 flags=P db=5 sub=1 multi=-1 cmd=subscribe\n\n";

    #[test]
    fn only_what_earlier_tests_left_is_found() {
        assert_eq!(Client::all(LIST).len(), 11);
        let found = leftovers(LIST, Reach::Database(5), "dagz:j1.jw00.t002", None);
        let ids: Vec<_> = found.iter().map(|client| client.id).collect();
        assert_eq!(ids, [3, 5, 9, 10, 13]);
        let on_server = leftovers(LIST, Reach::Server, "dagz:j1.jw00.t002", None);
        let ids: Vec<_> = on_server.iter().map(|client| client.id).collect();
        assert_eq!(ids, [3, 4, 5, 7, 9, 10, 11, 12, 13]);
        assert_eq!(
            found[0].describe(),
            "client 3 without a name from 127.0.0.1:50000 waits in `blpop`"
        );
        assert_eq!(
            found[1].describe(),
            "client 5 of `j1.jw00.t001:suite::leaks` from 127.0.0.1:50002 last ran `set`"
        );
    }
}
