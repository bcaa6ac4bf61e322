//! Private servers through their lives: twice up, killed, half made, number reused, two at once, shared, down.
//!
//! Each test has a place of its own, so none of them meets the checkout's servers.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use super::status::{environment, status};
use super::*;
use crate::workspace;

/// A place whose servers end with it.
struct TestPlace {
    inner: Place,
    service: &'static dyn Service,
    /// Removed after the server is gone.
    _folder: tempfile::TempDir,
}

impl TestPlace {
    fn new(service: &'static dyn Service) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Reachable for the user as whom root runs the server.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let inner = Place::at(folder.path().join("services")).unwrap();
        if service.kind() == "cassandra" {
            // Once per checkout is often enough to fetch them.
            let checkout = Place::of(&workspace::root().unwrap()).unwrap();
            let _turn = checkout.turn("cassandra").unwrap();
            cassandra::jars(&checkout).unwrap();
            let name = cassandra::JARS;
            symlink(checkout.join(name), inner.join(name)).unwrap();
        }
        Self {
            inner,
            service,
            _folder: folder,
        }
    }

    fn running(&self) -> Running {
        self.inner.running(self.service.kind()).unwrap()
    }

    /// Starts it whatever the environment says: the tests themselves run with servers named.
    fn up(&self) -> Running {
        let _turn = self.inner.turn(self.service.kind()).unwrap();
        up(self.service, &self.inner, false).unwrap();
        self.running()
    }

    fn down(&self) -> bool {
        down(self.service, &self.inner).unwrap()
    }

    fn share(&self) -> Server {
        Server::share_private(self.service, &self.inner).unwrap()
    }

    fn is_alive(&self, running: &Running) -> bool {
        is_alive(self.service, running)
    }

    fn answered(&self) -> bool {
        let lines = status(&self.inner);
        let mut of_place = lines.iter().filter(|line| line.source == "private");
        of_place.next().unwrap().answered
    }

    /// Whether any process works in the server's folder, a companion of it included.
    fn has_processes(&self, running: &Running) -> bool {
        let data = running.home.join("data");
        let mut names = self.service.companions().iter().chain([&"sh"]);
        identity::find(self.service.program(), &data).is_some()
            || names.any(|name| identity::find(name, &data).is_some())
    }
}

impl Drop for TestPlace {
    fn drop(&mut self) {
        self.down();
    }
}

fn kill(place: &TestPlace, running: &Running) {
    let signal = &[(Signal::KILL, Duration::from_secs(5))];
    identity::end(running.pid, || place.is_alive(running), signal).unwrap();
}

fn a_life(service: &'static dyn Service) {
    let place = TestPlace::new(service);
    let first = place.up();
    assert!(place.is_alive(&first));
    let version = answer(service, &first.url).unwrap();
    assert!(
        version.contains('.') && version == first.version,
        "{version}"
    );
    assert!(identity::memory(first.pid).is_some_and(|bytes| bytes > 1 << 20));
    let variables = environment(&place.inner);
    let named = |name: &str| {
        variables
            .iter()
            .any(|(known, url)| known == name && *url == first.url)
    };
    assert!(
        service.variables().iter().all(|name| named(name)),
        "{variables:?}"
    );

    // Up again: the same one, at once.
    let begun = Instant::now();
    let second = place.up();
    assert_eq!((second.pid, second.started), (first.pid, first.started));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");

    // Killed behind our back: started anew, on the same port and data.
    kill(&place, &first);
    assert!(!place.answered());
    let third = place.up();
    assert_ne!(third.pid, first.pid);
    assert_eq!(third.url, first.url);
    assert!(place.answered());

    // The note of it is lost: taken over, not started beside.
    fs::remove_file(place.inner.join(format!("{}.json", service.kind()))).unwrap();
    assert_eq!(place.up().pid, third.pid);

    // Its address, left over in a shell, is not mistaken for a server of the user's.
    assert!(is_own(service, &place.inner, &third.url));
    assert!(!is_own(
        service,
        &place.inner,
        &third.url.replace("127.0.0.1", "localhost")
    ));

    fs::remove_file(place.inner.join(format!("{}.json", service.kind()))).unwrap();
    assert!(place.down(), "whoever has no note is not stopped");
    assert!(!place.has_processes(&third));
    assert!(environment(&place.inner).is_empty());
    assert!(!place.down());

    // Nobody listens there any more, which is told soon.
    let begun = Instant::now();
    let error = answer(service, &third.url).unwrap_err();
    assert!(error.to_string().contains("failed to connect"), "{error:#}");
    assert!(begun.elapsed() < ANSWER_LIMIT);
}

#[test]
fn a_life_of_postgres() {
    a_life(&postgres::POSTGRES);
}

#[test]
fn a_life_of_mariadb() {
    a_life(&mysql::MARIADB);
}

#[test]
fn a_life_of_redis() {
    a_life(&redis::REDIS);
}

#[test]
fn a_life_of_rabbitmq() {
    a_life(&rabbitmq::RABBITMQ);
}

#[test]
fn a_life_of_cassandra() {
    a_life(&cassandra::Cassandra);
}

/// As if the machine had been switched off while the data was made: remade, and nobody is kept out.
fn half_made(service: &'static dyn Service, file: &str) {
    let place = TestPlace::new(service);
    let first = place.up();
    kill(&place, &first);
    fs::remove_file(first.home.join("made-by")).unwrap();
    let data = first.home.join("data");
    fs::write(data.join("half"), "").unwrap();
    fs::remove_file(data.join(file)).unwrap();
    let second = place.up();
    assert!(place.answered());
    assert!(!data.join("half").exists(), "the old data was used");
    assert_eq!(second.url, first.url);

    // Data without its password is of no use to anybody.
    assert!(place.down());
    let settings = format!("{}.settings.json", service.kind());
    fs::remove_file(place.inner.join(settings)).unwrap();
    fs::remove_file(first.home.join("made-by")).unwrap();
    assert_ne!(place.up().url, second.url);
    assert!(place.answered());
}

#[test]
fn half_made_data_of_postgres() {
    half_made(&postgres::POSTGRES, "PG_VERSION");
}

#[test]
fn half_made_data_of_mariadb() {
    half_made(&mysql::MARIADB, "ibdata1");
}

#[test]
fn a_reused_number_is_no_obstacle() {
    let place = TestPlace::new(&postgres::POSTGRES);
    let first = place.up();
    place.down();

    // As if killed, and its number given to a process that lives: this one.
    let note = format!("{}\n{}\n1\n{}\n", std::process::id(), "data", first.port);
    fs::write(first.home.join("data/postmaster.pid"), note).unwrap();
    let lie = Running {
        pid: std::process::id(),
        ..first
    };
    place.inner.write("postgres.json", &lie).unwrap();
    assert!(!place.down(), "stopped a stranger");
    place.inner.write("postgres.json", &lie).unwrap();
    assert_ne!(place.up().pid, lie.pid);
}

#[test]
fn two_at_once_make_one() {
    let place = TestPlace::new(&redis::REDIS);
    let pids: Vec<u32> = thread::scope(|scope| {
        let both = [0; 2].map(|_| scope.spawn(|| place.up().pid));
        both.map(|one| one.join().unwrap()).to_vec()
    });
    assert_eq!(pids[0], pids[1]);
}

#[test]
fn two_checkouts_do_not_collide() {
    // The kind with the most to share by mistake: its name, its daemon, its four ports.
    let places = [(); 2].map(|()| TestPlace::new(&rabbitmq::RABBITMQ));
    let [first, second] = thread::scope(|scope| {
        let both = places.each_ref().map(|place| scope.spawn(|| place.up()));
        both.map(|one| one.join().unwrap())
    });
    assert_ne!((first.pid, first.port), (second.pid, second.port));
    assert!(places[0].down());
    assert!(places[1].answered(), "one stopped the other's");
}

#[test]
fn the_last_user_stops_what_was_started_on_the_way() {
    let place = TestPlace::new(&redis::REDIS);
    let (first, second) = (place.share(), place.share());
    let running = place.running();
    assert_eq!(first.url(), second.url());
    drop(first);
    assert!(place.is_alive(&running));
    drop(second);
    assert!(!place.is_alive(&running));

    // `services up` in the meantime makes it stay.
    let third = place.share();
    let pid = place.running().pid;
    assert_eq!(place.up().pid, pid);
    drop(third);
    assert!(place.is_alive(&place.running()));
}

#[test]
fn a_port_taken_in_the_meantime_is_exchanged() {
    let place = TestPlace::new(&redis::REDIS);
    let first = place.up();
    place.down();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first.port)).unwrap();
    assert_ne!(place.up().port, first.port);
    assert!(place.answered());
}

#[test]
fn a_server_that_does_not_start_is_told_with_its_log() {
    let place = TestPlace::new(&redis::REDIS);
    place.up();
    place.down();
    let settings = Settings::read(&place.inner, "redis").unwrap();
    // A password of two words is more than the setting takes.
    let broken = Settings {
        password: "two words".to_owned(),
        ..settings
    };
    broken.write(&place.inner, "redis").unwrap();
    let _turn = place.inner.turn("redis").unwrap();
    let error = format!("{:#}", up(&redis::REDIS, &place.inner, false).unwrap_err());
    for part in [
        "failed to start a private redis",
        "its log ends",
        "requirepass",
        "ended by itself",
    ] {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
    assert!(place.inner.running("redis").is_none());
}
