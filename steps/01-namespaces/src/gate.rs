//! The gate: one socket between parent and child, closed by execve(2).
//!
//! Downwards goes one word, "go". Upwards goes what went wrong, or the
//! terminal that the child made; end of file means that the command runs.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Error, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// The longest sentence that travels; the rest of a longer one is cut.
const LONGEST: usize = 16 * 1024;

/// What a child could not do, as it told its parent.
#[derive(Debug)]
pub struct Failure {
    /// docker's exit status: 127 for a command that is not there, 126 for one
    /// that cannot be run, 125 for everything before it.
    pub status: u8,
    /// The sentence for the person at the terminal.
    pub sentence: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

/// The exit status that an error deserves: the [`Failure`]'s own, or 125.
#[must_use]
pub fn exit_status(error: &Error) -> u8 {
    error
        .downcast_ref::<Failure>()
        .map_or(125, |failure| failure.status)
}

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Gate(OwnedFd);

/// What the parent hears from its child.
#[derive(Debug)]
pub(crate) enum Word {
    /// The master side of the container's terminal.
    Terminal(OwnedFd),
    /// The child gave up.
    Failure(Failure),
    /// The child lives.
    Born,
    /// The child waits for the gate to be opened once more.
    Pause,
    /// execve(2) closed the gate.
    End,
}

impl From<Gate> for OwnedFd {
    fn from(gate: Gate) -> OwnedFd {
        gate.0
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Gate {
    /// The parent's end and the child's. Packets keep their borders, and both
    /// ends are closed on exec, so that end of file means "it runs".
    pub(crate) fn pair() -> Result<(Gate, Gate)> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .context("make the gate between parent and child")?;
        Ok((Gate(ours), Gate(theirs)))
    }

    /// The gate that a connected socket is.
    pub(crate) fn of(socket: OwnedFd) -> Gate {
        Gate(socket)
    }

    /// Parent: lets the child go.
    pub(crate) fn go(&self) -> Result<()> {
        self.send(b"go", &[])
            .context("open the gate for the container")
    }

    /// Child: waits until the parent has done its part. A parent that died
    /// closes its end, and then the child ends too.
    pub(crate) fn wait_for_go(&self) -> Result<()> {
        let mut word = [0; 2];
        let (length, _) = self.receive(&mut word)?;
        if length == 0 {
            bail!("the parent is gone");
        }
        Ok(())
    }

    /// Child: closes every other descriptor, whoever opened it. Close-on-exec
    /// comes too late: execve(2) looks the program and its interpreter up while
    /// they are open, and where an image calls them `/proc/self/fd/N/../bin/sh`
    /// a directory that we hold leads to the host's own (CVE-2024-21626), which
    /// the container could then overwrite (CVE-2019-5736).
    ///
    /// `passed` descriptors from 3 on are the command's, and those `kept` are
    /// needed until execve(2).
    pub(crate) fn outlive_other_files(&self, passed: u32, kept: &[BorrowedFd]) -> Result<()> {
        let own = kept.iter().copied().chain([self.0.as_fd()]);
        let mut own: Vec<u32> = own.map(|fd| fd.as_raw_fd() as u32).collect();
        own.sort_unstable();
        let mut first = 3_u32.saturating_add(passed);
        for fd in own.into_iter().chain([u32::MAX]) {
            if let Some(last) = fd.checked_sub(1)
                && first <= last
            {
                close_range(first, last)?;
            }
            first = first.max(fd.saturating_add(1));
        }
        Ok(())
    }

    /// Child: says what went wrong. Where even that fails the exit status
    /// must do.
    pub(crate) fn report(&self, error: &Error) {
        let mut packet = vec![b'!', exit_status(error)];
        packet.extend(format!("{error:#}").bytes().take(LONGEST - 2));
        let _ = self.send(&packet, &[]);
    }

    /// Child: hands its terminal's master over (unix(7), SCM_RIGHTS).
    pub(crate) fn hand_over(&self, master: &OwnedFd) -> Result<()> {
        self.send(b"tt", &[master.as_raw_fd()])
            .context("hand the container's terminal to the parent")
    }

    /// Child: says that it lives, where that is in doubt.
    pub(crate) fn say_born(&self) -> Result<()> {
        self.send(b"born", &[]).context("greet the parent")
    }

    /// Child: says that it waits.
    pub(crate) fn say_pause(&self) -> Result<()> {
        self.send(b"pause", &[])
            .context("tell the parent how far it is")
    }

    /// Parent or child: the pid of a process that the other side will care
    /// for, with its pidfd.
    pub(crate) fn send_process(&self, pid: i32, pidfd: BorrowedFd) -> Result<()> {
        self.send(&pid.to_ne_bytes(), &[pidfd.as_raw_fd()])
            .context("tell the parent who was born")
    }

    /// The other side of [`Gate::send_process`].
    pub(crate) fn receive_process(&self) -> Result<(i32, OwnedFd)> {
        let mut packet = [0; LONGEST];
        let (length, descriptor) = self.receive(&mut packet)?;
        match (packet.get(..length), descriptor) {
            (Some(&[a, b, c, d]), Some(pidfd)) => Ok((i32::from_ne_bytes([a, b, c, d]), pidfd)),
            (Some([b'!', status, sentence @ ..]), _) => Err(Failure {
                status: *status,
                sentence: String::from_utf8_lossy(sentence).into_owned(),
            }
            .into()),
            _ => bail!("the process between the namespaces ended without a word"),
        }
    }

    /// Child: from now on this gate is `other`.
    pub(crate) fn become_other(&self, other: &OwnedFd) -> Result<()> {
        // SAFETY: both descriptors are open and owned; this one goes on to belong to `self`.
        let done = unsafe { libc::dup3(other.as_raw_fd(), self.0.as_raw_fd(), libc::O_CLOEXEC) };
        Errno::result(done).map(drop).context("take the new gate")
    }

    /// Parent: whether there is something to hear now.
    pub(crate) fn has_word(&self) -> Result<bool> {
        let mut waiting = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut waiting, PollTimeout::ZERO).context("look at the gate")?;
        Ok(ready > 0)
    }

    /// Parent: passes over all that was said so far.
    pub(crate) fn forget(&self) -> Result<()> {
        while self.has_word()? {
            self.receive(&mut [0; LONGEST])?;
        }
        Ok(())
    }

    /// Parent: the next word.
    pub(crate) fn hear(&self) -> Result<Word> {
        let mut packet = [0; LONGEST];
        let (length, descriptor) = self.receive(&mut packet)?;
        match (packet.get(..length), descriptor) {
            (Some([]), _) => Ok(Word::End),
            (Some([b't', ..]), Some(master)) => Ok(Word::Terminal(master)),
            (Some([b'b', ..]), _) => Ok(Word::Born),
            (Some([b'p', ..]), _) => Ok(Word::Pause),
            (Some([b'!', status, sentence @ ..]), _) => Ok(Word::Failure(Failure {
                status: *status,
                sentence: String::from_utf8_lossy(sentence).into_owned(),
            })),
            _ => bail!("the container's first process said something that is no word of the gate"),
        }
    }

    fn send(&self, packet: &[u8], descriptors: &[RawFd]) -> Result<()> {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() {
            &rights[..0]
        } else {
            &rights
        };
        // A child that was killed meanwhile must be an error, not a SIGPIPE.
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(packet)],
            control,
            flags,
            None,
        )?;
        Ok(())
    }

    fn receive(&self, packet: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut parts = [IoSliceMut::new(packet)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                // The child died with a word of ours unread: that is said once, before its own words.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                other => break other.context("listen at the gate")?,
            }
        };
        let descriptor = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        // SAFETY: the kernel has just installed this descriptor for us alone.
        let descriptor = descriptor.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok((message.bytes, descriptor))
    }
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: what owns these descriptors is the parent's story, which does not go on in
    // this process: it ends by execve(2) or _exit(2).
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(done)
        .map(drop)
        .context("close the host's files (close_range, Linux 5.9)")
}
