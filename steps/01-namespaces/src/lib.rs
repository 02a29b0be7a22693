//! Namespaces: a process that sees a machine of its own.
//!
//! ```text
//!   parent                                child
//!     │  clone3(CLONE_NEWPID|…) ───────────▶ born: pid 1 of its own pid namespace
//!     │  write uid_map, gid_map               │
//!     │  join a cgroup, move a veth in …      │  waits at the gate
//!     │  release() ── "go" ─────────────────▶ │  unshare(cgroup), private mounts, hostname
//!     │                                       │  the story's closure: enter a rootfs, …
//!     │ ◀──────── end of file, or an error ── │  execve closes the gate
//!     │  wait(): pass signals on, carry the terminal's bytes
//!     ▼  the exit status
//! ```
//!
//! A child held at the gate ([`Held`]) and a released one ([`Running`]) are
//! two types, so that nobody can wait for what was never let go.

#![warn(missing_docs)]

mod apart;
mod command;
mod gate;
mod id;
mod ids;
mod init;
mod join;
mod named;
mod signals;
mod terminal;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::io::retry_on_intr;
use rustix::process::{WaitOptions, WaitStatus, waitpid};

pub use apart::{apart, as_root};
pub use command::{Command, User};
pub use gate::{Failure, exit_status};
pub use id::{ContainerId, parse_hostname};
pub use ids::{IdMap, Range, Refusal, closed_switch, is_privileged};
pub use join::{Joined, Outside};
pub use named::NamedGate;
pub use signals::Signals;
pub use terminal::{RawTerminal, begin_on_terminal, set_terminal_size, slave_of};

use gate::{Gate, Word};
use terminal::Terminal;

/// What a new process no longer shares with its parent.
#[derive(Debug)]
pub struct Isolation<'a> {
    /// `CLONE_NEW*` flags, without `CLONE_NEWUSER`: see [`Isolation::ids`].
    pub namespaces: CloneFlags,
    /// A user namespace with these ids; `None` keeps the parent's.
    pub ids: Option<IdMap>,
    /// Namespaces of others that the child enters before its own are made.
    pub joined: &'a [Joined],
    /// What is done, and let go of, before they are entered.
    pub outside: Option<Outside<'a>>,
    /// A time namespace whose clocks differ by these lines of
    /// `/proc/PID/timens_offsets` (time_namespaces(7)).
    pub time_offsets: Option<&'a str>,
    /// What becomes of the mounts in a new mount namespace; `None` makes them
    /// private.
    pub propagation: Option<MsFlags>,
    /// The name in the new uts namespace.
    pub hostname: Option<&'a str>,
    /// A cgroup v2 directory in which the child is born (`CLONE_INTO_CGROUP`).
    pub cgroup: Option<BorrowedFd<'a>>,
}

impl Isolation<'_> {
    /// Mount, pid, uts, ipc, net and cgroup namespaces of its own, and a user
    /// namespace where the caller may not make the others without one.
    ///
    /// # Errors
    /// Fails where `/proc` or the user database cannot be read.
    pub fn full() -> Result<Self> {
        // task 01.1 {
        Ok(Isolation {
            namespaces: CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWCGROUP,
            ..Isolation::users_only()?
        })
        // } todo!("task 01.1: choose the namespaces of a container (book: 1.1)")
    }

    /// Nothing but a user namespace, and not even that where the caller is
    /// privileged: for work on files that belong to a container's users.
    ///
    /// # Errors
    /// As [`Isolation::full`].
    pub fn users_only() -> Result<Self> {
        let ids = if is_privileged()? {
            None
        } else {
            Some(IdMap::of_caller()?)
        };
        Ok(Isolation {
            namespaces: CloneFlags::empty(),
            ids,
            joined: &[],
            outside: None,
            time_offsets: None,
            propagation: None,
            hostname: None,
            cgroup: None,
        })
    }

    /// Whether the child is to be born where this process is not.
    fn joins(&self) -> bool {
        !self.joined.is_empty() || self.time_offsets.is_some()
    }

    fn clone_flags(&self) -> CloneFlags {
        let mut flags = self.namespaces;
        if self.ids.is_some() {
            flags |= CloneFlags::CLONE_NEWUSER;
        }
        // clone(2) would root the cgroup namespace at the parent's cgroup.
        flags - CloneFlags::CLONE_NEWCGROUP
    }
}

/// Clones a child into the namespaces and holds it at the gate; after
/// [`Held::release`] it runs `child` and ends with the status that this
/// returns, if it returns at all ([`Inside::exec`] does not).
///
/// Nothing that `child` captures is dropped in the child: it belongs to the
/// parent, which will tear it down once.
///
/// # Errors
/// Fails where the kernel or the host's configuration refuses a namespace, and
/// where this process has more than one thread.
pub fn spawn(isolation: &Isolation, child: impl Fn(&Inside) -> Result<u8>) -> Result<Held> {
    refuse_threads()?;
    let (ours, theirs) = Gate::pair()?;
    let Some(held) = born(isolation, ours, &theirs)? else {
        let inside = Inside { gate: theirs };
        live(&inside, isolation, child);
    };
    drop(theirs);
    if let Some(ids) = &isolation.ids {
        ids.write(held.pid())?;
    }
    Ok(held)
}

/// A fork copies only the calling thread: a lock that another one held would
/// stay locked in the child for ever, and unshare(2) of a user namespace fails
/// with EINVAL.
fn refuse_threads() -> Result<()> {
    let end = Instant::now() + Duration::from_millis(100);
    loop {
        let threads = std::fs::read_dir("/proc/self/task")
            .context("count this process's threads in /proc/self/task")?
            .count();
        if threads == 1 {
            return Ok(());
        }
        // One that was joined is on the kernel's list for a moment longer.
        if Instant::now() > end {
            bail!(
                "a container must be cloned by a single-threaded process, and this one has {threads} threads"
            );
        }
        sleep(Duration::from_micros(100));
    }
}

/// Returns the held child in the parent, and `None` in the child.
fn born(isolation: &Isolation, gate: Gate, theirs: &Gate) -> Result<Option<Held>> {
    let bear = |cgroup| match isolation.joins() {
        true => join::clone_elsewhere(isolation, cgroup, &gate, theirs),
        false => clone(isolation.clone_flags(), cgroup, CHILD),
    };
    let child = match bear(isolation.cgroup) {
        // The cgroup had no room for a porter beside the child, or took neither.
        Err(error) if isolation.joins() && isolation.cgroup.is_some() => {
            tracing::debug!("{error:#}");
            bear(None)?
        }
        child => child?,
    };
    let Some((mut process, mut in_cgroup)) = child else {
        return Ok(None);
    };
    // Kernels since 6.14 kill a child at birth where its parent's cgroup was
    // once emptied by cgroup.kill and its own was not, or the other way round.
    if in_cgroup && !isolation.joins() && !says_a_word(&process, &gate)? {
        let Some((again, _)) = bear(None)? else {
            return Ok(None);
        };
        (process, in_cgroup) = (again, false);
    }
    Ok(Some(Held {
        process,
        gate,
        terminal: None,
        in_cgroup,
    }))
}

/// Waits for the first word of a child, which [`Held::release`] and
/// [`Held::advance`] skip, or for its end.
fn says_a_word(process: &Process, gate: &Gate) -> Result<bool> {
    let mut waiting = [
        PollFd::new(gate.as_fd(), PollFlags::POLLIN),
        PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN),
    ];
    while let Err(errno) = poll(&mut waiting, PollTimeout::NONE) {
        if errno != Errno::EINTR {
            return Err(errno).context("wait for the child's first word");
        }
    }
    Ok(waiting[0].any() == Some(true))
}

/// What most clones are for.
const CHILD: &str = "a child in namespaces of its own; it waits at the gate";

/// Returns the child and whether it was born in `cgroup`, and `None` in the child.
fn clone(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd>,
    what: &str,
) -> Result<Option<(Process, bool)>> {
    let (born, in_cgroup) = match clone3(flags, cgroup, what) {
        // Container engines' seccomp filters answer ENOSYS for clone3(2),
        // because they cannot look into its argument.
        Err(Errno::ENOSYS) => (clone2(flags), false),
        born => (born, cgroup.is_some()),
    };
    let (pid, pidfd) = born
        .map_err(|errno| ids::why_refused(errno, flags))
        .with_context(|| format!("create the namespaces {}", names(flags)))?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: CLONE_PIDFD made this descriptor for us, and nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let process = Process {
        pid: Pid::from_raw(pid),
        pidfd,
        ended: false,
    };
    Ok(Some((process, in_cgroup)))
}

/// As in linux/sched.h; libc's constant is of a type too narrow for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// clone3(2) with no stack and no shared memory behaves like fork(2).
fn clone3(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd>,
    what: &str,
) -> Result<(libc::pid_t, RawFd), Errno> {
    let mut pidfd: RawFd = -1;
    let mut all = flags.bits() as u64 | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        all |= CLONE_INTO_CGROUP;
    }
    tracing::info!(
        call = %format_args!(
            "clone3({{flags={}CLONE_PIDFD{}, exit_signal=SIGCHLD}})",
            names_and_bar(flags),
            if cgroup.is_some() { "|CLONE_INTO_CGROUP" } else { "" },
        ),
        "{what}"
    );
    let arguments = libc::clone_args {
        flags: all,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sister's is her parent's affair (clone(2), CLONE_PARENT).
        exit_signal: match flags.contains(CloneFlags::CLONE_PARENT) {
            true => 0,
            false => Signal::SIGCHLD as u64,
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: the structure outlives the call and its size is its own; without
    // CLONE_VM the child gets a copy of our memory, as after fork(2), and
    // `refuse_threads` made sure that no other thread holds a lock in it.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    Errno::result(pid).map(|pid| (pid as libc::pid_t, pidfd))
}

/// The same through clone(2), which has no way into a cgroup.
fn clone2(flags: CloneFlags) -> Result<(libc::pid_t, RawFd), Errno> {
    let mut pidfd: RawFd = -1;
    let all = flags.bits() | libc::CLONE_PIDFD | Signal::SIGCHLD as libc::c_int;
    tracing::info!(
        call = %format_args!("clone({}CLONE_PIDFD|SIGCHLD)", names_and_bar(flags)),
        "clone3 is filtered here, and clone can do all but CLONE_INTO_CGROUP"
    );
    // SAFETY: as in clone3; a null stack means a copy of ours, and the pidfd
    // is stored where the third argument points.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_ulong::from(all as u32),
            0_usize,
            &raw mut pidfd,
            0_usize,
            0_usize,
        )
    };
    Errno::result(pid).map(|pid| (pid as libc::pid_t, pidfd))
}

/// The flags as the man page writes them: `CLONE_NEWNS|CLONE_NEWPID`.
fn names(flags: CloneFlags) -> String {
    flags
        .iter_names()
        .map(|(name, _)| name)
        .collect::<Vec<_>>()
        .join("|")
}

fn names_and_bar(flags: CloneFlags) -> String {
    match names(flags) {
        none if none.is_empty() => none,
        some => some + "|",
    }
}

/// The child's side of the gate. Whoever has one is in the new namespaces, so
/// a command cannot be exec'ed on the host by mistake.
#[derive(Debug)]
pub struct Inside {
    gate: Gate,
}

/// The child's whole life up to execve(2). It never returns into the parent's
/// story, not even by a panic: that would run the parent's destructors twice.
fn live(inside: &Inside, isolation: &Isolation, child: impl Fn(&Inside) -> Result<u8>) -> ! {
    let life = || {
        inside.settle(isolation)?;
        child(inside)
    };
    let status = match panic::catch_unwind(AssertUnwindSafe(life)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            inside.gate.report(&error);
            exit_status(&error)
        }
        Err(_) => 125,
    };
    // SAFETY: _exit(2) only ends this process; unlike exit(3) it runs none of
    // the handlers that the parent registered.
    unsafe { libc::_exit(i32::from(status)) }
}

impl Inside {
    /// Comes to a stop until the parent opens the gate again
    /// ([`Held::advance`]).
    ///
    /// # Errors
    /// Fails where the parent is gone.
    pub fn pause(&self) -> Result<()> {
        self.gate.say_pause()?;
        self.gate.wait_for_go()
    }

    /// No longer ends with the parent, from the next pause on.
    ///
    /// # Errors
    /// Fails where the kernel refuses it.
    pub fn outlive_parent(&self) -> Result<()> {
        nix::sys::prctl::set_pdeathsig(None).context("outlive the parent")
    }

    /// Waits until somebody opens the gate by its name, to whom it is then
    /// answered instead of the parent.
    ///
    /// # Errors
    /// Fails where the kernel refuses a connection.
    pub fn wait_at(&self, named: &NamedGate) -> Result<()> {
        let opener = named.await_opener()?;
        self.gate.become_other(&opener)
    }

    /// Waits for the gate, then makes the namespaces worth their names.
    fn settle(&self, isolation: &Isolation) -> Result<()> {
        die_with_parent()?;
        // Where there is a porter, the first word is hers.
        if isolation.cgroup.is_some() && !isolation.joins() {
            self.gate.say_born()?;
        }
        self.gate.wait_for_go()?;
        signals::start_afresh()?;
        if isolation.namespaces.contains(CloneFlags::CLONE_NEWCGROUP) {
            unshare_cgroup()?;
        }
        if isolation.namespaces.contains(CloneFlags::CLONE_NEWNS) {
            let done = isolation.propagation.map_or_else(make_private, propagate);
            done.map_err(|error| ids::why_powerless(error, isolation.ids.is_some()))?;
        }
        if let Some(name) = isolation.hostname {
            set_hostname(name)?;
        }
        Ok(())
    }
}

/// kill -9 of the parent must not leave a container that nobody waits for; as
/// pid 1 of its pid namespace the child takes all others with it
/// (pid_namespaces(7)). A command that is set-user-ID or set-group-ID slips
/// through, for execve(2) of one forgets the request (prctl(2)).
fn die_with_parent() -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .context("ask the kernel to end the container when its parent dies")
}

/// The root of a cgroup namespace is the cgroup that its maker is in
/// (cgroup_namespaces(7)), so this waits until the gate is open: by then the
/// parent has put the child into its own cgroup.
fn unshare_cgroup() -> Result<()> {
    tracing::info!(
        call = "unshare(CLONE_NEWCGROUP)",
        "the cgroup that the child is in becomes its /"
    );
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)
        .context("create the cgroup namespace with unshare(CLONE_NEWCGROUP)")
}

/// A new mount namespace is a copy, and where init made `/` shared (systemd
/// does) each copied mount still passes events on to the host: a mount made
/// here would appear there, and pivot_root(2) fails with EINVAL
/// (mount_namespaces(7)).
fn make_private() -> Result<()> {
    // task 01.3 {
    tracing::info!(
        call = r#"mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL)"#,
        "no mount made from here on may reach the host"
    );
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("make every mount private to the container")
    // } todo!("task 01.3: keep the container's mounts from the host (book: 1.3)")
}

/// As [`make_private`], for who wants the host's mounts to show up inside
/// (`MS_SLAVE`), or those made inside to show up there (`MS_SHARED`).
fn propagate(how: MsFlags) -> Result<()> {
    let names: Vec<&str> = how.iter_names().map(|(name, _)| name).collect();
    tracing::info!(
        call = %format_args!(r#"mount(NULL, "/", NULL, {}, NULL)"#, names.join("|")),
        "which mounts pass between the container and the host"
    );
    nix::mount::mount(None::<&str>, "/", None::<&str>, how, None::<&str>)
        .context("set how mounts pass between the container and the host")
}

/// The name belongs to the uts namespace, so the host keeps its own.
fn set_hostname(name: &str) -> Result<()> {
    // task 01.4 {
    tracing::info!(
        call = %format_args!("sethostname({name:?}, {})", name.len()),
        "the uts namespace holds a name of its own"
    );
    nix::unistd::sethostname(name)
        .with_context(|| format!("set the hostname {name:?} (at most 64 bytes)"))
    // } todo!("task 01.4: give the uts namespace its name (book: 1.4)")
}

/// A child process that is killed, and reaped, when it is no longer wanted.
#[derive(Debug)]
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    ended: bool,
}

impl Process {
    /// Sends a signal; a pidfd cannot hit another process that got the same
    /// number.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        // SAFETY: no pointer is passed but null, which means "as kill(2)".
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0_u32,
            )
        };
        Ok(Errno::result(done).map(drop)?)
    }

    /// Waits for the end: the exit status, or 128 + the signal's number.
    fn reap(&mut self) -> Result<u8> {
        let pid = rustix::process::Pid::from_raw(self.pid.as_raw());
        let ended = retry_on_intr(|| waitpid(pid, WaitOptions::empty()))
            .with_context(|| format!("wait for process {}", self.pid))?;
        // Stops were not asked for, so this is the end: the pid may be another's by now.
        self.ended = true;
        ended
            .and_then(|(_, status)| exit_code(status))
            .with_context(|| format!("read how process {} ended", self.pid))
    }
}

/// The exit status, or 128 + the number of the signal that ended the process;
/// `None` for one that has not ended. Not by nix: it takes a real-time signal,
/// which has no name, for an error, when the kernel has already forgotten the
/// child.
fn exit_code(status: WaitStatus) -> Option<u8> {
    // task 01.5 {
    let code = status
        .exit_status()
        .or_else(|| Some(128 + status.terminating_signal()?))?;
    u8::try_from(code).ok()
    // } todo!("task 01.5: turn a wait status into an exit status (book: 1.5)")
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.signal(Signal::SIGKILL);
            let _ = self.reap();
        }
    }
}

/// A child that waits at the gate. Dropped, it is killed.
#[derive(Debug)]
pub struct Held {
    process: Process,
    gate: Gate,
    /// The master side of the child's terminal, once it has handed it over.
    terminal: Option<OwnedFd>,
    in_cgroup: bool,
}

impl Held {
    /// The child's pid as the parent sees it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Whether the kernel put the child into [`Isolation::cgroup`] at birth;
    /// otherwise it must join by `cgroup.procs` before it is released.
    #[must_use]
    pub fn born_in_cgroup(&self) -> bool {
        self.in_cgroup
    }

    /// Opens the gate, and returns when the command has been exec'ed. A signal
    /// that comes before ends the child, and with it [`Running::wait`].
    ///
    /// # Errors
    /// Fails with the child's own [`Failure`] where it could not get that far.
    pub fn release(self, signals: &Signals) -> Result<Running> {
        let Held { process, gate, .. } = self;
        let mut running = Running {
            process,
            terminal: None,
            ended_for: None,
        };
        gate.go()?;
        loop {
            let ended_for = signals::await_word(&running.process, signals, gate.as_fd())?;
            running.ended_for = running.ended_for.or(ended_for);
            match gate.hear()? {
                Word::Terminal(master) => running.terminal = Some(Terminal::take(master)?),
                Word::Failure(failure) => {
                    running.process.reap()?;
                    return Err(failure.into());
                }
                Word::Born => {}
                Word::Pause => bail!("the container's first process waits for something else"),
                Word::End => return Ok(running),
            }
        }
    }

    /// Opens the gate for as long as the child takes to its next
    /// [`Inside::pause`], where it is held again. A signal ends the child.
    ///
    /// # Errors
    /// Fails with the child's own [`Failure`], and where the child ends.
    pub fn advance(self, signals: &Signals) -> Result<Held> {
        let (held, ()) = self.advance_during(signals, |_| Ok(()))?;
        Ok(held)
    }

    /// The same, and does some work for the child meanwhile, which is told its pid.
    ///
    /// # Errors
    /// As [`Held::advance`], and what the work says: of both, what the child
    /// does, for without it the work may have failed for that.
    pub fn advance_during<T>(
        mut self,
        signals: &Signals,
        work: impl FnOnce(Pid) -> Result<T>,
    ) -> Result<(Held, T)> {
        self.gate.go()?;
        let done = work(self.process.pid);
        loop {
            let ended_for = signals::await_word(&self.process, signals, self.gate.as_fd())?;
            match self.gate.hear()? {
                Word::Born => {}
                Word::Terminal(master) => self.terminal = Some(master),
                Word::Failure(failure) => {
                    self.process.reap()?;
                    return Err(failure.into());
                }
                Word::Pause => return Ok((self, done?)),
                Word::End => match (ended_for, self.process.reap()?) {
                    (Some(signal), _) => {
                        return Err(Failure {
                            status: 128 + signal as u8,
                            sentence: format!("the container was given up for {signal}"),
                        }
                        .into());
                    }
                    (None, status) => bail!(
                        "the container's first process ended before its time, with status {status}"
                    ),
                },
            }
        }
    }

    /// Opens the gate without a look at what comes after: the child will wait
    /// at a [`NamedGate`], and go on when that is opened.
    ///
    /// # Errors
    /// Fails where the child has died.
    pub fn let_go(self) -> Result<Running> {
        self.gate.go()?;
        Ok(Running {
            process: self.process,
            terminal: self.terminal.map(Terminal::take).transpose()?,
            ended_for: None,
        })
    }
}

/// A child that has been let go. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    process: Process,
    terminal: Option<Terminal>,
    /// The signal for which it was killed.
    ended_for: Option<Signal>,
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }
}

impl Running {
    /// A process that became this one's child when its parent ended: for a
    /// subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`).
    ///
    /// # Errors
    /// Fails where there is no such process.
    pub fn adopt(pid: Pid) -> Result<Running> {
        let process = rustix::process::Pid::from_raw(pid.as_raw()).context("0 is no process")?;
        let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())
            .with_context(|| format!("open process {pid}"))?;
        Ok(Running {
            process: Process {
                pid,
                pidfd,
                ended: false,
            },
            terminal: None,
            ended_for: None,
        })
    }

    /// Leaves the child to itself: it goes on when this process ends.
    pub fn abandon(mut self) {
        self.process.ended = true;
    }

    /// The child's pid as the parent sees it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Waits for the child's end and for nothing else. Its descriptor, a pidfd,
    /// becomes readable when that has come. Returns the exit status, or 128 +
    /// the signal that ended it.
    ///
    /// # Errors
    /// Fails where the child cannot be waited for.
    pub fn reap(mut self) -> Result<u8> {
        self.process.reap()
    }

    /// Stays with the child until it ends: passes on the signals that this
    /// process gets, and carries bytes between its terminal and the child's.
    /// Returns the exit status, or 128 + the signal that ended it.
    ///
    /// # Errors
    /// Fails where the child cannot be waited for.
    pub fn wait(mut self, signals: &Signals) -> Result<u8> {
        let ended_for = signals::attend(&self.process, signals, self.terminal.as_mut())?;
        let status = self.process.reap()?;
        Ok(match self.ended_for.or(ended_for) {
            Some(signal) if status == 128 + Signal::SIGKILL as u8 => 128 + signal as u8,
            _ => status,
        })
    }
}
