//! A process's standard streams, as they are held outside of the container: pipes, or the master of a
//! terminal.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4,
    bind, listen, recvmsg, socket,
};
use nix::unistd::pipe2;

use super::protocol::Stream;
use crate::state::Places;

/// Our ends: the shim's, or those of who runs one more process. By default there are none.
#[derive(Debug, Default)]
pub struct Streams {
    /// What is read from, as far as anybody still writes.
    pub(crate) outputs: Vec<(Stream, OwnedFd)>,
    /// The process's standard input, until it is closed.
    pub(crate) input: Option<OwnedFd>,
    /// The other side of a terminal. As long as somebody has it open, a terminal that every process
    /// of the container has closed for a moment does not end.
    pub(crate) slave: Option<OwnedFd>,
}

impl Streams {
    /// Of a terminal's master.
    pub(crate) fn of_terminal(master: OwnedFd) -> Result<Streams> {
        let slave = namespaces::slave_of(&master)?;
        let input = master.try_clone().context("dup a terminal's master")?;
        set_nonblocking(&master)?;
        Ok(Streams {
            outputs: vec![(Stream::Out, master)],
            input: Some(input),
            slave: Some(slave),
        })
    }

    /// Pipes, and their ends for the process. Without `stdin` it reads from `/dev/null`.
    pub(crate) fn pipes(stdin: bool) -> Result<(Streams, [OwnedFd; 3])> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).context("make a pipe");
        let ((out, their_out), (err, their_err)) = (pipe()?, pipe()?);
        let (their_in, input) = if stdin {
            let (theirs, ours) = pipe()?;
            set_nonblocking(&ours)?;
            (theirs, Some(ours))
        } else {
            let null = File::open("/dev/null").context("open /dev/null")?;
            (null.into(), None)
        };
        set_nonblocking(&out)?;
        set_nonblocking(&err)?;
        let streams = Streams {
            outputs: vec![(Stream::Out, out), (Stream::Err, err)],
            input,
            slave: None,
        };
        Ok((streams, [their_in, their_out, their_err]))
    }

    /// The master, where it is a terminal.
    pub(crate) fn terminal(&self) -> Option<&OwnedFd> {
        self.slave.as_ref()?;
        self.outputs.first().map(|(_, master)| master)
    }
}

fn set_nonblocking(file: &OwnedFd) -> Result<()> {
    rustix::io::ioctl_fionbio(file, true).context("set a stream non-blocking")
}

/// Where the runtime hands over a terminal's master, as runc's `--console-socket` has it.
pub(super) struct Console {
    socket: OwnedFd,
    path: PathBuf,
    /// The socket's place; its path would be too long for an address (unix(7)).
    _directory: File,
}

impl Console {
    /// Listens in the container's directory.
    pub(super) fn open(places: &Places) -> Result<Console> {
        let directory =
            File::open(&places.run).with_context(|| format!("open {}", places.run.display()))?;
        let name = "console.sock";
        let _ = std::fs::remove_file(places.run.join(name));
        let path = format!(
            "/proc/{}/fd/{}/{name}",
            std::process::id(),
            directory.as_raw_fd()
        );
        let listening = || -> nix::Result<OwnedFd> {
            let kind = SockType::Stream;
            let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
            bind(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
            listen(&socket, Backlog::new(1)?)?;
            Ok(socket)
        };
        Ok(Console {
            socket: listening().context("listen for the container's terminal")?,
            path: path.into(),
            _directory: directory,
        })
    }

    /// What the runtime is told.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Takes the master, which the runtime has sent by now.
    pub(super) fn take(self) -> Result<OwnedFd> {
        let taken = || -> Result<OwnedFd> {
            let peer = accept4(self.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
            // SAFETY: accept4(2) has just made this descriptor for us.
            let peer = unsafe { OwnedFd::from_raw_fd(peer) };
            let mut word = [0; 64];
            let mut control = nix::cmsg_space!([i32; 1]);
            let mut slices = [std::io::IoSliceMut::new(&mut word)];
            let message = recvmsg::<()>(
                peer.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::MSG_CMSG_CLOEXEC,
            )?;
            let rights = message.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::ScmRights(rights) => rights.first().copied(),
                _ => None,
            });
            let master = rights.context("no descriptor came with the message")?;
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(unsafe { OwnedFd::from_raw_fd(master) })
        };
        taken().context("take the container's terminal from the runtime")
    }
}
