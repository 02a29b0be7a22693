//! The container's terminal, and its way to the program that shows it.
//!
//! ```text
//!   caller                minirunc                  container's first process
//!     │ listens at          │ connect()
//!     │ the console socket ◀┘     ╰──── the same descriptor ────╮
//!     │                                                         │ opens ptmx in its own devpts
//!     │ ◀────────────── the master, as a message ───────────────┤
//!     ▼ carries its bytes                                       ▼ the slave is 0, 1 and 2
//! ```
//!
//! The terminal is made by the container's process and not by us, so that its
//! number is one of the container's devpts and `tty` inside names a file that
//! is there. `/dev` belongs to an image or, for `exec`, to whoever runs in the
//! container: what was opened there is looked at before it is believed.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, major, minor};

use super::lookup::look_up;

/// The file system of terminals (linux/magic.h).
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// Where the caller waits for the container's terminal.
#[derive(Debug)]
pub(crate) struct ConsoleSocket(OwnedFd);

impl AsFd for ConsoleSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ConsoleSocket {
    /// Parent: connects to the socket at `path`, for the child to use. A name
    /// that a socket's address is too short for (unix(7)) is reached through
    /// a descriptor.
    pub(crate) fn connect(path: &Path) -> Result<ConsoleSocket> {
        let connected = || -> Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            if let Ok(address) = UnixAddr::new(path) {
                connect(socket.as_raw_fd(), &address)?;
            } else {
                let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                connect(socket.as_raw_fd(), &UnixAddr::new(link.as_str())?)?;
            }
            Ok(socket)
        };
        connected()
            .map(ConsoleSocket)
            .with_context(|| format!("connect to the console socket {}", path.display()))
    }

    /// Child: hands the master over, under the name that runc gives it.
    pub(crate) fn send(&self, terminal: &Terminal) -> Result<()> {
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(b"/dev/ptmx")],
            &[ControlMessage::ScmRights(&[terminal.master.as_raw_fd()])],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .context("hand the container's terminal to the console socket")?;
        Ok(())
    }
}

/// Both sides of a terminal that was opened in the container.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// The side of whoever shows it.
    pub(crate) master: OwnedFd,
    /// The side of the container's process.
    pub(crate) slave: OwnedFd,
}

impl Terminal {
    /// Child: opens a terminal in the devpts of the container's root `top`,
    /// and gives it a size of so many rows and columns.
    pub(crate) fn open(top: BorrowedFd, size: Option<(u16, u16)>) -> Result<Terminal> {
        let master = open_master(top)
            .context("open a terminal at /dev/ptmx (is a devpts mounted at /dev/pts?)")?;
        let slave = namespaces::slave_of(&master)?;
        // A master of another driver could name anything its slave.
        let kind = fstatfs(&slave).context("look at the container's terminal")?;
        ensure!(
            kind.f_type as u64 == DEVPTS_SUPER_MAGIC,
            "/dev/ptmx in the container leads to a terminal that is on no devpts"
        );
        if let Some((rows, columns)) = size {
            namespaces::set_terminal_size(&master, rows, columns)?;
        }
        Ok(Terminal { master, slave })
    }

    /// Child: the terminal controls this process's session, which has none
    /// yet, and is its standard input, output and error.
    pub(crate) fn control(&self) -> Result<()> {
        namespaces::begin_on_terminal(&self.slave, true)
    }
}

/// A name in the container can be a link to anything in it, but not out of it,
/// and what is no terminal's master is let go again: nobody in the container
/// could be harmed by our opening what he can open himself.
fn open_master(top: BorrowedFd) -> Result<OwnedFd> {
    let master = look_up(
        top,
        "dev/ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    let file = fstat(&master)?;
    ensure!(
        FileType::from_raw_mode(file.st_mode) == FileType::CharacterDevice
            && (major(file.st_rdev), minor(file.st_rdev)) == (5, 2),
        "it is not the device 5:2"
    );
    rustix::fs::fcntl_setfl(&master, OFlags::RDWR)?;
    Ok(master)
}
