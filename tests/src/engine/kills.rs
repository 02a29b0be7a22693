//! Whoever works on a container is killed at any moment.
//!
//! A batch of victims is killed at once, each at a moment of its own; the moments of all batches
//! together are spread evenly over the time that the command takes. Everybody who belongs to a
//! victim is known by a variable in its environment, which a forked process keeps.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};

use super::{Machine, Who};
use crate::Running;

/// Victims of a batch.
pub const AT_ONCE: usize = 8;

/// Between two looks at who is there.
const GLIMPSE: Duration = Duration::from_micros(500);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The command that somebody typed.
    Client,
    /// Who stays with the container.
    Shim,
    /// The container's first process, or the one that is executed in it.
    Process,
}

/// What is done to a victim, as lines with `NAME` in them, and `NET` for a network that can leave
/// something behind.
pub struct Deed {
    /// What makes it ready.
    pub ready: &'static str,
    /// What is done.
    pub line: &'static str,
    /// Whose processes are looked for.
    pub targets: &'static [Target],
    /// A command that may be needed to see whether it can be done again.
    pub again: &'static str,
}

/// Starts a command whose processes, the shim among them, are known by the name.
fn spawn(machine: &Machine, line: &str, name: &str) -> Running {
    // Only root's network can leave anything behind.
    let net = match machine.who() {
        Who::Root => "bridge",
        Who::Student | Who::Lone => "none",
    };
    let line = format!("env VICTIM=NAME minidocker {line}");
    let line = line.replace("NAME", name).replace("NET", net);
    machine
        .host()
        .spawn_as(machine.user(), line.split_whitespace())
}

/// Somebody who belongs to a victim. Pids are as the machine numbers them.
#[derive(Debug)]
struct Belonging {
    pid: i32,
    /// 0 is somebody outside.
    parent: i32,
    is_minidocker: bool,
    /// The directory in /proc, which is as good as a pidfd (pidfd_send_signal(2)).
    handle: File,
}

/// All who belong to `name`; the oldest first.
fn belonging(machine: &Machine, name: &str) -> Vec<Belonging> {
    let token = format!("VICTIM={name}");
    let proc = machine.host().path("/proc");
    let entries = fs::read_dir(&proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut all: Vec<Belonging> = pids
        .filter_map(|pid| {
            let handle = File::open(proc.join(pid.to_string())).ok()?;
            let environ = read(&handle, "environ")?;
            let mut variables = environ.split('\0');
            variables.find(|variable| *variable == token)?;
            let status = read(&handle, "status")?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            Some(Belonging {
                pid,
                parent: field("PPid:")?.trim().parse().ok()?,
                is_minidocker: field("Name:")?.trim().starts_with("minidocker"),
                handle,
            })
        })
        .collect();
    all.sort_by_key(|one| one.pid);
    all
}

/// Reads a file of a process, if it is still there.
fn read(process: &File, name: &str) -> Option<String> {
    let path = format!("/proc/self/fd/{}/{name}", process.as_raw_fd());
    let text = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Finds who is to be killed, if they are there.
fn find(machine: &Machine, target: Target, name: &str) -> Option<File> {
    let mut all = belonging(machine, name);
    let client = all.iter().find(|one| one.parent == 0).map(|one| one.pid);
    if target != Target::Client {
        all.retain(|one| Some(one.pid) != client);
    }
    let first = |one: &&Belonging| !all.iter().any(|other| other.pid == one.parent);
    let shim = all.iter().find(|one| one.is_minidocker && first(one));
    let wanted = match target {
        Target::Client => client?,
        Target::Shim => shim?.pid,
        // The youngest is the one that the command has made, if it has made any.
        Target::Process => {
            all.iter()
                .rfind(|one| Some(one.parent) == shim.map(|it| it.pid))?
                .pid
        }
    };
    let wanted = all.into_iter().find(|one| one.pid == wanted);
    wanted.map(|one| one.handle)
}

/// Runs a command, and kills somebody once `moment` is over.
fn kill(machine: &Machine, deed: &Deed, name: &str, target: Target, moment: Duration) -> bool {
    let mut running = spawn(machine, deed.line, name);
    let mut found = None;
    while found.is_none() && running.is_running() {
        found = find(machine, Target::Client, name);
        std::thread::sleep(GLIMPSE);
    }
    std::thread::sleep(moment);
    let killed = loop {
        if target != Target::Client {
            found = find(machine, target, name);
        }
        if let Some(found) = found {
            break end(&found);
        }
        if !running.is_running() {
            break false;
        }
        std::thread::sleep(GLIMPSE);
    };
    // Whoever waits for one who was killed has to notice.
    running.wait();
    killed
}

/// Kills, and waits until that has happened; `false` where it was over already.
fn end(process: &File) -> bool {
    if pidfd_send_signal(process, Signal::KILL).is_err() {
        return false;
    }
    // Its memory goes first, and its locks when it is a zombie at the latest.
    let lives = |status: String| !status.contains("\nState:\tZ") && !status.contains("\nState:\tX");
    let is_there = || read(process, "status").is_some_and(lives);
    while is_there() {
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The time that a command takes of which nobody is killed, while others of its kind run.
fn measure(machine: &Machine, deed: &Deed) -> Duration {
    let names = ready(machine, deed, "measured");
    let times = at_once(&names, |_, name| {
        let mut running = spawn(machine, deed.line, name);
        while running.started().is_none() && running.is_running() {}
        let begin = Instant::now();
        running.wait().ok();
        begin.elapsed()
    });
    times.into_iter().min().unwrap_or_default()
}

/// Does something with all names at once.
fn at_once<T: Send>(names: &[String], work: impl Fn(usize, &str) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(n, name)| scope.spawn(move || work(n, name)))
            .collect();
        all.into_iter()
            .map(|one| one.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
            .collect()
    })
}

/// Makes a batch of victims ready.
fn ready(machine: &Machine, deed: &Deed, prefix: &str) -> Vec<String> {
    let names: Vec<String> = (0..AT_ONCE).map(|n| format!("{prefix}-{n}")).collect();
    if !deed.ready.is_empty() {
        at_once(&names, |_, name| {
            spawn(machine, deed.ready, name).wait().ok()
        });
    }
    names
}

/// Nobody of a container that does not run is left, and whoever runs has a shim and a process. One
/// whose process has just died is listed as running for a moment, until its shim has noticed.
fn assert_true(machine: &Machine, names: &[String], prefix: &str) {
    let mut last = String::new();
    let seen = |last: &mut String| {
        let listed = listed(machine, prefix);
        names.iter().all(|name| {
            let state = listed.iter().find(|(listed, _)| listed == name);
            let state = state.map_or("gone", |(_, state)| state.as_str());
            let all = belonging(machine, name);
            *last = format!("{name} is {state}, and there are {all:?}");
            if matches!(state, "running" | "paused") {
                let (shims, others): (Vec<_>, Vec<_>) =
                    all.iter().partition(|one| one.is_minidocker);
                shims.len() == 1 && !others.is_empty()
            } else {
                all.is_empty()
            }
        })
    };
    let until = Instant::now() + Duration::from_secs(60);
    while !seen(&mut last) {
        assert!(Instant::now() < until, "{last}");
    }
}

/// What `ps -a` says of the containers whose names begin so: names and states.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn listed(machine: &Machine, prefix: &str) -> Vec<(String, String)> {
    let list = machine.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
    let lines = list.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, state)| (name.to_owned(), state.to_owned()))
        .collect()
}

/// Kills in `times` of the commands, and looks after each batch; `look` does so, too, before the
/// victims are removed.
///
/// # Panics
/// When `ps` does not tell the truth, a command panics, or a victim cannot be removed.
pub fn kills(machine: &Machine, deed: &Deed, times: usize, look: impl Fn()) {
    let whole = measure(machine, deed);
    let mut killed = 0;
    for batch in 0..times.div_ceil(AT_ONCE) {
        let prefix = format!("b{batch}");
        let names = ready(machine, deed, &prefix);
        let hits = at_once(&names, |n, name| {
            let nth = batch * AT_ONCE + n;
            let target = deed.targets[nth % deed.targets.len()];
            // All hundredths come, but not one after the other.
            let moment = whole * u32::try_from(nth * 37 % 101).unwrap_or(0) / 100;
            kill(machine, deed, name, target, moment)
        });
        killed += hits.iter().filter(|hit| **hit).count();
        assert_true(machine, &names, &prefix);
        if !deed.again.is_empty() {
            at_once(&names, |_, name| {
                let out = spawn(machine, deed.again, name).wait();
                assert!(!out.errors().contains("panicked"), "{out}");
            });
            assert_true(machine, &names, &prefix);
        }
        look();
        let mut rm = vec!["rm".to_owned(), "-f".to_owned()];
        rm.extend(names);
        machine.ok(&rm);
        let left = listed(machine, &prefix);
        assert!(left.is_empty(), "{left:?}");
    }
    println!("{killed} of {times} were killed in time, {whole:?} each");
    assert!(killed * 5 > times, "most ended before they were killed");
}
