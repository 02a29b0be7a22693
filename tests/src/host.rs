//! A private machine for one test.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{Output, Running};
use crate::snapshot::Snapshot;
use crate::step::{build_dir, place, program};
use crate::terminal::Terminal;

/// What a host is to be like; the default is a laptop with a pure cgroup2 tree,
/// a user `student` with subordinate ids, and no network but loopback.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Keep the cgroup mounts of the real machine, whatever they are.
    pub machine_cgroups: bool,
    /// Join a second network: 192.0.2.1 here, 192.0.2.2 there.
    pub outside: bool,
    /// No line for student in /etc/subuid and /etc/subgid.
    pub no_subids: bool,
    /// A cgroup of student's own, with controllers, as systemd gives one.
    pub delegated: bool,
    /// In a user namespace, so that root on it is nobody on the real machine:
    /// for programs that nobody vouches for, and for callers who are not root.
    /// The steps are not on it.
    pub apart: bool,
    /// Files and directories to show at /run/workspace/NAME, beside the
    /// programs; on a machine apart only files, of which it gets copies.
    pub shown: Vec<(PathBuf, String)>,
}

/// Who runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// uid 0, with the capabilities that the tests were given.
    Root,
    /// uid 1000, without any.
    Student,
}

/// Where a command runs.
#[derive(Clone, Copy)]
enum Place {
    Here,
    /// Here, and no more of it than a machine can spare.
    Bounded,
    Terminal,
    Outside,
}

/// A private machine; see `machine.rs` for what the kernel holds of it.
/// Dropped, it is gone with every process on it.
#[derive(Debug)]
pub struct Host {
    setup: Setup,
    keeper: Child,
    pid: i32,
    net_fd: i32,
}

impl Host {
    /// A host as [`Setup::default`] describes it.
    pub fn new() -> Host {
        Host::with(Setup::default())
    }

    /// A host with a network behind it.
    pub fn online() -> Host {
        Host::with(Setup {
            outside: true,
            ..Setup::default()
        })
    }

    /// # Panics
    /// Where the machine cannot be made, above all without root.
    pub fn with(setup: Setup) -> Host {
        assert!(
            nix::unistd::geteuid().is_root() || setup.apart,
            "the black-box suites make network namespaces and mounts: run them as root, \
             or as anybody in a virtual machine: `cargo lab test` and `cargo lab vm`"
        );
        Host::make(setup).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// # Errors
    /// Fails where the machine cannot be made, with the reason.
    pub fn make(setup: Setup) -> Result<Host> {
        let mut keep = keep(&setup);
        // In a group of its own: a Ctrl-C at the terminal ends this process,
        // and the keeper has to clean up then.
        let mut keeper = keep
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", machine().display()))?;
        let mut said = BufReader::new(keeper.stdout.take().context("no pipe")?).lines();
        let mut word = |name: &str| -> Option<i32> {
            let line = said.next()?.ok()?;
            line.strip_prefix(name)?.trim().parse().ok()
        };
        let Some((pid, net_fd)) = word("pid ").and_then(|pid| Some((pid, word("ready ")?))) else {
            let mut why = String::new();
            drop(keeper.stdin.take());
            keeper.wait().ok();
            if let Some(mut stderr) = keeper.stderr.take() {
                stderr.read_to_string(&mut why).ok();
            }
            bail!("the machine did not come up: {}", why.trim());
        };
        Ok(Host {
            setup,
            keeper,
            pid,
            net_fd,
        })
    }

    /// The first process of the machine, as the real machine numbers it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Where the machine's file `path` is for this process.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Runs a command as root, to its end.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Output {
        self.spawn(argv).wait()
    }

    /// Runs a shell script as root, to its end, and returns what it prints.
    ///
    /// # Panics
    /// When the script fails.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.run(["sh", "-euc", script]).ok()
    }

    /// Runs a command as `student`, to its end.
    #[track_caller]
    pub fn run_as_student<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Output {
        self.spawn_as(User::Student, argv).wait()
    }

    /// Runs a command as `user`, to its end.
    #[track_caller]
    pub fn run_as<A: AsRef<OsStr>>(&self, user: User, argv: impl IntoIterator<Item = A>) -> Output {
        self.spawn_as(user, argv).wait()
    }

    /// Runs a command in the network outside, to its end.
    #[track_caller]
    pub fn outside<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Output {
        self.spawn_outside(argv).wait()
    }

    /// Starts a command as root.
    pub fn spawn<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Running {
        self.spawn_as(User::Root, argv)
    }

    /// Starts a command as `user`.
    pub fn spawn_as<A: AsRef<OsStr>>(
        &self,
        user: User,
        argv: impl IntoIterator<Item = A>,
    ) -> Running {
        let (command, name) = self.command(user, Place::Here, argv);
        Running::start(command, name, Stdio::null())
    }

    /// Starts a command as `user` whose standard input the test writes.
    pub fn spawn_fed<A: AsRef<OsStr>>(
        &self,
        user: User,
        argv: impl IntoIterator<Item = A>,
    ) -> Running {
        let (command, name) = self.command(user, Place::Here, argv);
        Running::start(command, name, Stdio::piped())
    }

    /// Starts a command in the network outside.
    pub fn spawn_outside<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Running {
        let (command, name) = self.command(User::Root, Place::Outside, argv);
        Running::start(command, name, Stdio::null())
    }

    /// Starts a command as `user` on a terminal of 24 rows and 80 columns.
    pub fn terminal<A: AsRef<OsStr>>(
        &self,
        user: User,
        argv: impl IntoIterator<Item = A>,
    ) -> Terminal {
        let (command, name) = self.command(user, Place::Terminal, argv);
        Terminal::start(command, name)
    }

    /// What the machine holds now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(self)
    }

    /// A command as `user`, to be started by the caller, with a bound on its
    /// processes and their memory where it is not `trusted`.
    pub fn prepare<A: AsRef<OsStr>>(
        &self,
        user: User,
        trusted: bool,
        argv: impl IntoIterator<Item = A>,
    ) -> Command {
        let place = if trusted { Place::Here } else { Place::Bounded };
        self.command(user, place, argv).0
    }

    /// The same in the network outside.
    pub fn prepare_outside<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Command {
        self.command(User::Root, Place::Outside, argv).0
    }

    fn command<A: AsRef<OsStr>>(
        &self,
        user: User,
        place: Place,
        argv: impl IntoIterator<Item = A>,
    ) -> (Command, String) {
        let argv: Vec<OsString> = argv
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        let name = argv
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let mut command = Command::new(machine());
        command.arg("enter").arg(self.pid.to_string());
        if self.setup.apart {
            command.arg("--apart");
        }
        command.env_clear().envs([
            ("TERM", "xterm"),
            ("RUST_BACKTRACE", "0"),
            (
                "PATH",
                "/run/workspace:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ),
        ]);
        match user {
            User::Root => command.envs([("HOME", "/root"), ("USER", "root")]),
            User::Student => command.arg("--student").envs([
                ("HOME", "/home/student"),
                ("USER", "student"),
                ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ]),
        };
        if user == User::Student && self.setup.delegated {
            command.arg("--delegated");
        }
        match place {
            Place::Here => {}
            Place::Bounded => _ = command.arg("--limited"),
            Place::Terminal => _ = command.arg("--terminal"),
            Place::Outside => _ = command.arg("--net-fd").arg(self.net_fd.to_string()),
        }
        command.arg("--").args(argv);
        (command, name)
    }
}

impl Default for Host {
    fn default() -> Self {
        Host::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}

/// The command that makes a machine.
fn keep(setup: &Setup) -> Command {
    let mut keep = Command::new(machine());
    keep.arg("keep");
    for (set, flag) in [
        (setup.machine_cgroups, "--machine-cgroups"),
        (setup.outside, "--outside"),
        (setup.no_subids, "--no-subids"),
        (setup.delegated, "--delegated"),
        (setup.apart, "--apart"),
    ] {
        if set {
            keep.arg(flag);
        }
    }
    // One that does not exist is missed by the test that runs it. Apart is
    // for the program of somebody who must not find the solution there.
    for name in [
        "step01",
        "step02",
        "step03",
        "step04",
        "step05",
        "minirunc",
        "minidocker",
    ] {
        if !setup.apart && place(name).is_file() {
            keep.arg("--show").arg(show(&program(name), name));
        }
    }
    for (source, name) in &setup.shown {
        keep.arg("--show").arg(show(source, name));
    }
    keep
}

fn machine() -> PathBuf {
    build_dir().join("machine")
}

fn show(source: &Path, name: &str) -> OsString {
    let mut entry = source.as_os_str().to_owned();
    entry.push("=");
    entry.push(name);
    entry
}
