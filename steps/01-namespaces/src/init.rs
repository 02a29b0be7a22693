//! `--init`: a pid 1 that does what the kernel expects of one.
//!
//! Orphans of the container become children of pid 1 (pid_namespaces(7)). A
//! command that never heard of them leaves them as zombies; this one reaps
//! them, and passes signals on to the command.

use std::fs::File;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork};
use rustix::process::WaitOptions;

use crate::{exit_code, signals, terminal};

/// Forks. The child goes on (`None`) to become the command; pid 1 stays here
/// as its init until it ends, and returns its exit status.
pub(crate) fn stay_behind() -> Result<Option<u8>> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
        .context("hold signals back for the command")?;
    tracing::info!(
        call = "clone(SIGCHLD)",
        "pid 1 stays behind as init; its child becomes the command"
    );
    // SAFETY: the process has one thread, so the child finds no lock held.
    match unsafe { fork() }.context("fork the command from init")? {
        ForkResult::Child => signals::start_afresh().map(|()| None),
        ForkResult::Parent { child } => {
            // In the parent's process group a Ctrl-C would reach init from the
            // terminal, and once more from the parent that passes it on.
            terminal::begin_session(None)?;
            let_go_of_files()?;
            serve(child).map(Some)
        }
    }
}

/// The parent outside hears by end of file that the command runs, so this
/// process must not hold the gate open; nor may the command find the host's
/// terminal in `/proc/1/fd`.
fn let_go_of_files() -> Result<()> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("open /dev/null")?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .context("give init no terminal")?;
    // SAFETY: nothing that owns one of these descriptors is used again: this
    // process only waits for its children, and ends by _exit(2).
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0) };
    std::mem::forget(null);
    Errno::result(done)
        .map(drop)
        .context("close the files that init was born with")
}

/// Reaps whatever ends, and passes on what arrives.
///
/// By signalfd(2) and not sigwait(3): while that one waits the kernel shows its
/// signals as not blocked (proc_pid_status(5)), and the parent outside, which
/// ends a pid 1 that is deaf to a signal, would take this one for deaf.
fn serve(command: Pid) -> Result<u8> {
    let arriving = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)
        .context("open a signalfd for init")?;
    loop {
        let Some(arrived) = arriving.read_signal().context("wait for a signal")? else {
            continue;
        };
        let signal = arrived.ssi_signo as libc::c_int;
        if signal != libc::SIGCHLD {
            pass_on(command, signal);
        } else if let Some(status) = reap_all(command) {
            return Ok(status);
        }
    }
}

/// A number, because a real-time signal has no name that nix would know.
fn pass_on(command: Pid, signal: libc::c_int) {
    // SAFETY: no memory is involved. It can only fail because the command has
    // just ended, and its pid is not given anew before `reap_all`.
    unsafe { libc::kill(command.as_raw(), signal) };
}

/// Several children can end for one SIGCHLD. Returns the command's exit status
/// if it was among them.
fn reap_all(command: Pid) -> Option<u8> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid.as_raw_pid() == command.as_raw() {
            ended = exit_code(status).or(ended);
        }
    }
    ended
}
