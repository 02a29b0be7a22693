//! Signals: held while the container is made, passed on while it runs.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::Process;
use crate::terminal::Terminal;

/// What is passed on. Not among them: faults of this process's own, SIGCHLD,
/// and the stop signals, which are for this process's own shell.
const PASSED_ON: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// This process's signals, held back: Ctrl-C no longer ends it halfway
/// through, but waits until there is a container to pass it on to.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks the signals and opens a signalfd(2) to read them from. Call it
    /// before anything is made that would have to be unmade.
    ///
    /// # Errors
    /// Fails where the kernel has no descriptor left.
    pub fn hold() -> Result<Signals> {
        // nohup(1), and a shell for what it runs in the background, ignore some
        // on our behalf; the container is not to hear of those either.
        let set: SigSet = PASSED_ON
            .into_iter()
            .filter(|signal| !is_ignored(*signal))
            .collect();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("hold back signals")?;
        // A reader who has seen enough, as in `--explain … | head`, must not end
        // us before the tear-down.
        // SAFETY: SIG_IGN installs no handler, so no code of ours runs in one.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.context("ignore SIGPIPE")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&set, flags).context("open a signalfd")?;
        Ok(Signals { descriptor })
    }

    /// The next signal that this process got, if there is one.
    ///
    /// # Errors
    /// Fails where the signalfd(2) cannot be read.
    pub fn next(&self) -> Result<Option<Signal>> {
        let Some(info) = self.descriptor.read_signal().context("read a signal")? else {
            return Ok(None);
        };
        Ok(Signal::try_from(info.ssi_signo as i32).ok())
    }
}

impl AsFd for Signals {
    /// Ready to be read when there is one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A process starts with the signal mask of its parent, and ignores what its
/// parent ignored (signal(7)). A command that never sees SIGTERM, or a shell
/// that may not trap SIGINT, would be a surprise.
pub(crate) fn start_afresh() -> Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL installs no handler. It fails for SIGKILL, SIGSTOP and
        // libc's own signals, and these cannot have been ignored.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).context("unblock signals")
}

/// Whether this process ignores the signal (sigaction(2)).
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: zeros are an action, and without a new one the call does nothing but
    // write what the present one is.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let told = libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut action);
        told == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Waits until the child says something at the gate. It is not the command yet
/// and handles no signal, so one that would end a command ends it. Returns that
/// signal.
pub(crate) fn await_word(
    process: &Process,
    signals: &Signals,
    gate: BorrowedFd,
) -> Result<Option<Signal>> {
    let mut ended_for = None;
    loop {
        let mut waiting = [
            PollFd::new(gate, PollFlags::POLLIN),
            PollFd::new(signals.descriptor.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.context("wait for the container to start")?,
        };
        if waiting.first().is_some_and(is_ready) {
            return Ok(ended_for);
        }
        if let Some(signal) = signals.next()?
            && ends_by_default(signal)
        {
            // It can only fail because the process has just ended.
            let _ = process.signal(Signal::SIGKILL);
            ended_for = Some(signal);
        }
    }
}

/// Serves the container until its first process ends. Returns the signal that
/// it was ended for, if [`pass_on`] had to do that.
pub(crate) fn attend(
    process: &Process,
    signals: &Signals,
    mut terminal: Option<&mut Terminal>,
) -> Result<Option<Signal>> {
    let mut ended_for = None;
    loop {
        let mut waiting = vec![
            PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.descriptor.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(terminal) = terminal.as_deref() {
            waiting.extend(terminal.interests());
        }
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.context("wait for the container")?,
        };
        let ready: Vec<bool> = waiting.iter().map(is_ready).collect();
        drop(waiting);

        while let Some(signal) = signals.next()? {
            match terminal.as_deref() {
                Some(terminal) if signal == Signal::SIGWINCH => terminal.resize(),
                Some(terminal) if signal == Signal::SIGCONT => terminal.resume(),
                _ => ended_for = pass_on(process, signal).or(ended_for),
            }
        }
        if let Some(terminal) = terminal.as_deref_mut()
            && let Some(signal) = terminal.carry(ready.get(2..).unwrap_or_default(), process.pid)
        {
            ended_for = end_if_deaf(process, signal).or(ended_for);
        }
        if ready.first() == Some(&true) {
            if let Some(terminal) = terminal {
                terminal.drain();
            }
            return Ok(ended_for);
        }
    }
}

fn is_ready(waiting: &PollFd) -> bool {
    waiting.any() == Some(true)
}

/// Passes a signal on to the container's first process.
fn pass_on(process: &Process, signal: Signal) -> Option<Signal> {
    // It can only fail because the process has just ended.
    let _ = process.signal(signal);
    end_if_deaf(process, signal)
}

/// The kernel shields pid 1: a signal for which it has no handler is dropped
/// instead of ending it (pid_namespaces(7)). `sleep` as pid 1 would therefore
/// sleep through Ctrl-C and SIGTERM. We end the container as the signal would
/// have ended the same command anywhere else.
fn end_if_deaf(process: &Process, signal: Signal) -> Option<Signal> {
    if !ends_by_default(signal) || !is_deaf(process, signal) {
        return None;
    }
    process.signal(Signal::SIGKILL).ok().map(|()| signal)
}

/// What signal(7) says of those that are passed on.
fn ends_by_default(signal: Signal) -> bool {
    ![Signal::SIGWINCH, Signal::SIGCONT].contains(&signal)
}

/// Whether the process neither handles, blocks nor deliberately ignores the
/// signal.
fn is_deaf(process: &Process, signal: Signal) -> bool {
    let bit = 1 << (signal as u32 - 1);
    heard_by(process).is_some_and(|heard| heard & bit == 0)
}

/// The signals that mean something to a process (proc_pid_status(5)).
fn heard_by(process: &Process) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    ["SigBlk:", "SigIgn:", "SigCgt:"]
        .iter()
        .try_fold(0, |all, set| {
            let mask = status.lines().find_map(|line| line.strip_prefix(set))?;
            Some(all | u64::from_str_radix(mask.trim(), 16).ok()?)
        })
}
