//! The private Postgres through its life: twice up, killed, half made, number reused, two at once, shared, down.
//!
//! Each test has a place of its own, so none of them meets the checkout's server.

use super::super::{Server, down, status};
use super::*;

/// A place whose servers end with it.
struct TestPlace {
    inner: Place,
    /// Removed after the servers are gone.
    _folder: tempfile::TempDir,
}

impl TestPlace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Reachable for the user as whom root runs the server.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), open).unwrap();
        Self {
            inner: Place::at(folder.path().join("services")).unwrap(),
            _folder: folder,
        }
    }

    fn running(&self) -> Running {
        self.inner.running("postgres").unwrap()
    }

    /// Starts it whatever `DATABASE_URL` says: the tests themselves run with it set.
    fn up(&self) -> Running {
        let _turn = self.inner.turn("postgres").unwrap();
        super::super::up(&Postgres, &self.inner, false).unwrap();
        self.running()
    }
}

impl Drop for TestPlace {
    fn drop(&mut self) {
        down(&Postgres, &self.inner).unwrap();
    }
}

#[test]
fn a_life() {
    let place = TestPlace::new();
    let first = place.up();
    assert!(Postgres.is_alive(&first));
    assert!(Postgres.ask(&first.url).unwrap().contains('.'));

    // Up again: the same one, at once.
    let begun = Instant::now();
    let second = place.up();
    assert_eq!((second.pid, second.started), (first.pid, first.started));
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );

    // Killed behind our back: started anew, on the same port and data.
    identity::end(
        first.pid,
        || Postgres.is_alive(&first),
        &[(Signal::KILL, Duration::from_secs(5))],
    )
    .unwrap();
    let of_place = |lines: Vec<super::super::Status>| {
        lines
            .into_iter()
            .find(|line| line.source == "private")
            .unwrap()
    };
    assert!(!of_place(status(&place.inner)).answered);
    let third = place.up();
    assert_ne!(third.pid, first.pid);
    assert_eq!(third.url, first.url);
    assert!(of_place(status(&place.inner)).answered);

    // The note of it is lost: taken over, not started beside.
    fs::remove_file(place.inner.join("postgres.json")).unwrap();
    assert_eq!(place.up().pid, third.pid);

    // Its address, left over in a shell, is not mistaken for a server of the user's.
    assert!(Postgres.is_own(&place.inner, &third.url));
    assert!(!Postgres.is_own(&place.inner, "postgres://somebody@localhost/else"));

    assert!(down(&Postgres, &place.inner).unwrap());
    assert!(!Postgres.is_alive(&third));
    assert!(!down(&Postgres, &place.inner).unwrap());
}

#[test]
fn a_reused_number_and_half_made_data_are_no_obstacle() {
    let place = TestPlace::new();
    let first = place.up();
    down(&Postgres, &place.inner).unwrap();

    // As if killed, and its number given to a process that lives: this one.
    let note = format!("{}\n{}\n1\n{}\n", std::process::id(), "data", first.port);
    fs::write(first.home.join("data/postmaster.pid"), note).unwrap();
    let lie = Running {
        pid: std::process::id(),
        ..first
    };
    place.inner.write("postgres.json", &lie).unwrap();
    assert!(
        !down(&Postgres, &place.inner).unwrap(),
        "stopped a stranger"
    );
    place.inner.write("postgres.json", &lie).unwrap();
    let second = place.up();
    assert_ne!(second.pid, lie.pid);
    down(&Postgres, &place.inner).unwrap();

    // As if initdb had been killed.
    fs::rename(second.home.join("data"), second.home.join("data.new")).unwrap();
    assert!(Postgres.is_alive(&place.up()));
    down(&Postgres, &place.inner).unwrap();

    // Data without its password is of no use to anybody.
    fs::remove_file(place.inner.join("postgres.settings.json")).unwrap();
    let last = place.up();
    assert_ne!(last.url, second.url);
    assert!(Postgres.ask(&last.url).is_ok());
}

#[test]
fn two_at_once_make_one() {
    let place = TestPlace::new();
    let pids: Vec<u32> = thread::scope(|scope| {
        let both = [0; 2].map(|_| scope.spawn(|| place.up().pid));
        both.map(|one| one.join().unwrap()).to_vec()
    });
    assert_eq!(pids[0], pids[1]);
}

#[test]
fn the_last_user_stops_what_was_started_on_the_way() {
    let place = TestPlace::new();
    let share = || Server::share_private(&Postgres, &place.inner).unwrap();
    let (first, second) = (share(), share());
    let running = place.running();
    assert_eq!(first.url(), second.url());
    drop(first);
    assert!(Postgres.is_alive(&running));
    drop(second);
    assert!(!Postgres.is_alive(&running));

    // `services up` in the meantime makes it stay.
    let third = share();
    let pid = place.running().pid;
    assert_eq!(place.up().pid, pid);
    drop(third);
    assert!(Postgres.is_alive(&place.running()));
}

#[test]
fn an_address_without_server_is_an_error_soon() {
    let port = free_port().unwrap();
    let begun = Instant::now();
    let error = Postgres
        .ask(&format!("postgres://nobody@127.0.0.1:{port}/none"))
        .unwrap_err();
    assert!(error.to_string().contains("failed to connect"), "{error:#}");
    assert!(begun.elapsed() < ANSWER_LIMIT);
}
