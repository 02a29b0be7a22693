//! Namespaces that exist already: a process is born in them.
//!
//! ```text
//!   parent                      porter                         child
//!     │  clone3 ─────────────────▶ what is left to do outside
//!     │                            │  setns(…): each namespace
//!     │                            │  clone3(CLONE_PARENT|…) ───▶ the parent's child
//!     │ ◀── pid and pidfd ──────── │                              │ waits at the gate
//!     │     reap it                ▼
//! ```
//!
//! setns(2) of a user namespace cannot be taken back, and that of a pid
//! namespace counts for children only. So a porter goes in, and its child is
//! born as its sister (clone(2), `CLONE_PARENT`): the parent stays outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::gate::Gate;
use crate::{Isolation, Process, names};

/// As in linux/sched.h; nix has no name for it.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Namespaces of somebody else.
#[derive(Debug)]
pub struct Joined {
    /// A namespace's file, or a pidfd whose process is in the namespaces.
    pub file: OwnedFd,
    /// Of which kinds: one for a file, any for a pidfd.
    pub kinds: CloneFlags,
}

/// For a child that is born among strangers. Who may trace it finds what it
/// has open, and through a directory of the host's all of the host.
pub struct Outside<'a> {
    /// What has to be done with the host's files; the child inherits what the
    /// porter becomes by it.
    pub last: &'a dyn Fn() -> Result<()>,
    /// How many files after standard error are the command's.
    pub passed: u32,
    /// What is needed besides; everything else is closed.
    pub kept: Vec<BorrowedFd<'a>>,
}

impl fmt::Debug for Outside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Outside")
            .field("passed", &self.passed)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// As `clone`, in the namespaces that [`Isolation::joined`] names. The porter is
/// born in `cgroup`, and whoever comes of her is in it.
pub(crate) fn clone_elsewhere(
    isolation: &Isolation,
    cgroup: Option<BorrowedFd>,
    ours: &Gate,
    theirs: &Gate,
) -> Result<Option<(Process, bool)>> {
    let before = children();
    let what = "a porter, who goes into the namespaces and comes to an end there";
    let Some((mut porter, in_cgroup)) = crate::clone(CloneFlags::empty(), cgroup, what)? else {
        match carry(isolation, ours, theirs) {
            Ok(None) => return Ok(None),
            Ok(Some(())) => leave(0),
            Err(error) => {
                theirs.report(&error);
                leave(125)
            }
        }
    };
    porter.reap()?;
    match introduced(ours) {
        Ok(process) => Ok(Some((process, in_cgroup))),
        // Neither child nor word is left for who tries once more.
        Err(error) => {
            bury_sister(&before);
            ours.forget()?;
            Err(error)
        }
    }
}

/// The child that a porter, who has ended, has told of.
fn introduced(ours: &Gate) -> Result<Process> {
    // We hold her end of the gate as well, so that nobody would tell us of her end there.
    ensure!(
        ours.has_word()?,
        "the process that goes into the namespaces was killed on the way"
    );
    let (pid, pidfd) = ours.receive_process()?;
    Ok(Process {
        pid: Pid::from_raw(pid),
        pidfd,
        ended: false,
    })
}

/// Ends the child that a porter had made, and who is not wanted or was not introduced. As long as
/// nobody reaps it, the pid namespace that it is in cannot end (pid_namespaces(7)).
fn bury_sister(before: &[i32]) {
    for pid in children().into_iter().filter(|pid| !before.contains(pid)) {
        let pid = Pid::from_raw(pid);
        // Both can only fail because there is none.
        let _ = kill(pid, Signal::SIGKILL);
        while waitpid(pid, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    }
}

/// Our children, the dead ones among them; none on a kernel that does not tell (proc_tid_children(5)).
fn children() -> Vec<i32> {
    let text = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_whitespace().flat_map(str::parse).collect()
}

fn leave(status: i32) -> ! {
    // SAFETY: _exit(2) only ends this process, and runs none of the parent's handlers.
    unsafe { libc::_exit(status) }
}

/// The porter's life. `None`: this is its sister.
fn carry(isolation: &Isolation, ours: &Gate, gate: &Gate) -> Result<Option<()>> {
    if let Some(outside) = &isolation.outside {
        (outside.last)()?;
    }
    // Whoever is in the namespaces already could otherwise trace us, and reach
    // through /proc/PID what we hold of the host (CVE-2016-9962).
    nix::sys::prctl::set_dumpable(false).context("keep others from looking into this process")?;
    enter(isolation.joined)?;
    if let Some(offsets) = isolation.time_offsets {
        make_time(offsets)?;
    }
    if let Some(outside) = &isolation.outside {
        // The parent's end as well: it is dropped on the way out of here.
        let mut kept = outside.kept.clone();
        kept.push(ours.as_fd());
        gate.outlive_other_files(outside.passed, &kept)?;
    }
    let flags = isolation.clone_flags() | CloneFlags::CLONE_PARENT;
    let Some((mut sister, _)) = crate::clone(flags, None, crate::CHILD)? else {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("die with the parent")?;
        return Ok(None);
    };
    // The parent will see to its end.
    sister.ended = true;
    gate.send_process(sister.pid.as_raw(), sister.pidfd.as_fd())?;
    Ok(Some(()))
}

/// Those that belong to the host's users first, as long as we have their
/// rights; then the user namespace, and what belongs to its users.
fn enter(joined: &[Joined]) -> Result<()> {
    let mut later = Vec::new();
    let (users, others): (Vec<&Joined>, Vec<&Joined>) = joined
        .iter()
        .partition(|one| one.kinds.contains(CloneFlags::CLONE_NEWUSER));
    for one in others {
        match step_into(one) {
            Err(Errno::EPERM) if !users.is_empty() => later.push(one),
            done => done.with_context(|| sentence(one))?,
        }
    }
    for one in users.into_iter().chain(later) {
        step_into(one).with_context(|| sentence(one))?;
    }
    Ok(())
}

fn step_into(one: &Joined) -> Result<(), Errno> {
    tracing::info!(
        call = %format_args!("setns({}, {})", std::os::fd::AsRawFd::as_raw_fd(&one.file), names(one.kinds)),
        "into a namespace that is there already"
    );
    setns(&one.file, one.kinds)
}

fn sentence(one: &Joined) -> String {
    format!("join the namespaces {}", names(one.kinds))
}

/// Its clocks can be set until the first process is in it, and that will be
/// the child (time_namespaces(7)).
fn make_time(offsets: &str) -> Result<()> {
    tracing::info!(
        call = "unshare(CLONE_NEWTIME)",
        "the child's clocks will be its own"
    );
    unshare(CLONE_NEWTIME).context("create the time namespace with unshare(CLONE_NEWTIME)")?;
    if offsets.is_empty() {
        return Ok(());
    }
    fs::write("/proc/self/timens_offsets", offsets)
        .with_context(|| format!("set the clocks of the time namespace to {offsets:?}"))
}
