//! The engine on a private machine: minidocker in the hands of one user, with images that are there
//! from the start, and what the kernel says of its containers.
//!
//! Nothing here asks minidocker how it is: a container is found by the files that [it is kept
//! in](Machine::container), a shim by the lock that it holds, a process in /proc. All pids are as the
//! machine numbers them.

pub mod carriers;
mod container;
pub mod kills;
mod processes;
mod stores;

use std::path::PathBuf;

pub use container::Container;
pub use processes::Process;

use crate::command::{Output, Running};
use crate::host::{Host, Setup, User};
use crate::snapshot::{Snapshot, assert_same};
use crate::terminal::Terminal;
use crate::wait_for;

/// Whose containers they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Root's.
    #[default]
    Root,
    /// student's, with 65536 subordinate ids.
    Student,
    /// student's, who has no more ids than their own.
    Lone,
}

impl Who {
    /// Each of them.
    pub const ALL: [Who; 3] = [Who::Root, Who::Student, Who::Lone];

    fn user(self) -> User {
        match self {
            Who::Root => User::Root,
            Who::Student | Who::Lone => User::Student,
        }
    }
}

/// Makes a check for each of those whose containers they may be, at the same time.
pub fn for_each(check: impl Fn(&Machine) + Sync) {
    std::thread::scope(|scope| {
        for who in Who::ALL {
            let check = &check;
            scope.spawn(move || {
                println!("{who:?}");
                check(&Machine::of(who));
            });
        }
    });
}

/// Words of a line, and a script for `sh -c` as the last one.
#[must_use]
pub fn shell<'a>(line: &'a str, script: &'a str) -> Vec<&'a str> {
    line.split_whitespace()
        .chain(["sh", "-c", script])
        .collect()
}

/// What a machine is to be like; the default is root's, offline, with the image `host` alone.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Whose containers they are.
    pub who: Who,
    /// Whether there is a network behind it: 192.0.2.1 here, 192.0.2.2 there.
    pub outside: bool,
    /// Whether the image `debian` is there.
    pub debian: bool,
    /// Whether the image `services` is there: nginx, PostgreSQL, and what one looks at networks with.
    pub services: bool,
    /// Whether student has a cgroup of their own, with controllers where there are any.
    pub delegated: bool,
    /// Files and directories to show at /run/workspace/NAME.
    pub shown: Vec<(PathBuf, String)>,
}

impl Wanted {
    /// The images that are loaded beforehand: the directory that `cargo lab test` made, and a name.
    fn layouts(&self) -> Vec<(&'static str, &'static str)> {
        let all = [
            (self.debian, ("images", "debian")),
            (self.services, ("services", "services")),
        ];
        all.iter().filter(|it| it.0).map(|it| it.1).collect()
    }
}

/// Words of a command: a line of words without blanks, or a list of any words.
pub trait Words {
    /// One by one.
    fn words(&self) -> Vec<String>;
}

impl Words for str {
    fn words(&self) -> Vec<String> {
        self.split_whitespace().map(str::to_owned).collect()
    }
}

impl Words for String {
    fn words(&self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<const N: usize> Words for [&str; N] {
    fn words(&self) -> Vec<String> {
        self.map(str::to_owned).into()
    }
}

impl Words for [&str] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|&word| word.to_owned()).collect()
    }
}

impl Words for Vec<&str> {
    fn words(&self) -> Vec<String> {
        self.as_slice().words()
    }
}

impl Words for Vec<String> {
    fn words(&self) -> Vec<String> {
        self.clone()
    }
}

/// A private machine with minidocker in the hands of one user. Dropped, it is gone with every
/// container on it.
#[derive(Debug)]
pub struct Machine {
    host: Host,
    who: Who,
    before: Snapshot,
}

impl Machine {
    /// One for `who`, offline, with the image `host`.
    pub fn of(who: Who) -> Machine {
        Machine::with(Wanted {
            who,
            // As in a session of systemd's; who has no ids may have no session either.
            delegated: who == Who::Student,
            ..Wanted::default()
        })
    }

    /// # Panics
    /// Where the machine cannot be made, or `cargo lab test` has not yet made the rest.
    pub fn with(wanted: Wanted) -> Machine {
        let store = stores::prepared(wanted.who, &wanted.layouts());
        let mut shown = wanted.shown;
        shown.push((store, stores::SHOWN.to_owned()));
        let host = Host::with(Setup {
            outside: wanted.outside,
            no_subids: wanted.who == Who::Lone,
            delegated: wanted.delegated,
            shown,
            ..Setup::default()
        });
        stores::place(&host, wanted.who.user());
        let before = host.snapshot();
        Machine {
            host,
            who: wanted.who,
            before,
        }
    }

    /// The machine, to do other things with.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whose containers they are.
    pub fn who(&self) -> Who {
        self.who
    }

    /// Who runs the commands.
    pub fn user(&self) -> User {
        self.who.user()
    }

    /// Starts a command of minidocker's.
    pub fn spawn<W: Words + ?Sized>(&self, words: &W) -> Running {
        self.host.spawn_as(self.user(), command(words))
    }

    /// Starts a command of minidocker's whose standard input the test writes.
    pub fn feed<W: Words + ?Sized>(&self, words: &W) -> Running {
        self.host.spawn_fed(self.user(), command(words))
    }

    /// Starts a command of minidocker's on a terminal of 24 rows and 80 columns.
    pub fn terminal<W: Words + ?Sized>(&self, words: &W) -> Terminal {
        self.host.terminal(self.user(), command(words))
    }

    /// Runs a command of minidocker's to its end.
    #[track_caller]
    pub fn minidocker<W: Words + ?Sized>(&self, words: &W) -> Output {
        self.spawn(words).wait()
    }

    /// Runs a command of minidocker's, which must succeed, and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok<W: Words + ?Sized>(&self, words: &W) -> String {
        self.minidocker(words).ok()
    }

    /// Runs a command of minidocker's, which must end with `code` and a sentence; returns that.
    ///
    /// # Panics
    /// When it ends otherwise, crashes, or has nothing to say.
    #[track_caller]
    pub fn fails<W: Words + ?Sized>(&self, code: i32, words: &W) -> String {
        let out = self.minidocker(words);
        let said = out.exits(code);
        assert!(
            said.contains("minidocker: ") && !said.contains("panicked"),
            "not a sentence: {out}"
        );
        said
    }

    /// Runs a shell script as the user, with minidocker in its path.
    #[track_caller]
    pub fn script(&self, script: &str) -> Output {
        self.host.run_as(self.user(), ["bash", "-c", script])
    }

    /// Where the engine keeps what outlives a reboot, for this process.
    pub fn data(&self) -> PathBuf {
        self.host.path(stores::data(self.user()))
    }

    /// Where it keeps what a reboot may forget, for this process.
    pub fn run(&self) -> PathBuf {
        self.host.path(match self.user() {
            User::Root => "/run/minidocker",
            User::Student => "/run/user/1000/minidocker",
        })
    }

    /// The container that is called `name`, as its files are.
    ///
    /// # Panics
    /// Where nobody is called so.
    #[track_caller]
    pub fn container(&self, name: &str) -> Container<'_> {
        Container::called(self, name).unwrap_or_else(|| panic!("no container is called {name}"))
    }

    /// The ids of all containers of which there is a directory.
    pub fn ids(&self) -> Vec<String> {
        container::ids(self)
    }

    /// The shims that live, and of which containers: those who have a lock file open.
    pub fn shims(&self) -> Vec<(i32, String)> {
        processes::shims(self)
    }

    /// All processes of the machine but its first.
    pub fn processes(&self) -> Vec<Process> {
        processes::all(self)
    }

    /// Removes all containers, and sees that the machine is as it was: no process, mount, link, rule,
    /// cgroup or file is left of any of them.
    ///
    /// # Panics
    /// With all that is left.
    #[track_caller]
    pub fn nothing_left(&self) {
        self.no_container_left();
        assert_same(&self.before, || self.host.snapshot());
    }

    /// Removes all containers, and sees that no process and no file is left of any of them.
    ///
    /// # Panics
    /// With all that is left.
    #[track_caller]
    pub fn no_container_left(&self) {
        for id in self.ids() {
            self.minidocker(&["rm", "-f", "-v", &id]);
        }
        wait_for("all of minidocker's processes to end", 60, || {
            let all = self.processes();
            (!all.iter().any(|it| it.name.starts_with("minidocker"))).then_some(())
        });
        let left = self.left();
        assert!(left.is_empty(), "left of containers: {left:#?}");
    }

    /// Directories that belong to one container each.
    fn left(&self) -> Vec<String> {
        let (data, run) = (self.data(), self.run());
        let places = [
            data.join("containers"),
            data.join("names"),
            run.join("containers"),
            run.join("runtime"),
        ];
        let entries = places
            .iter()
            .flat_map(std::fs::read_dir)
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.path().display().to_string())
            .collect()
    }
}

fn command<W: Words + ?Sized>(words: &W) -> Vec<String> {
    let mut all = vec!["minidocker".to_owned()];
    all.extend(words.words());
    all
}
