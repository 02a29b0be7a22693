//! The container's terminal: a pseudo-terminal of its own (pty(7)), so that
//! job control works inside and no process there can type into ours.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr,
};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, read, setsid, tcgetpgrp, write};

nix::ioctl_read_bad!(get_size, libc::TIOCGWINSZ, libc::winsize);
nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, libc::winsize);
nix::ioctl_write_int_bad!(take_terminal, libc::TIOCSCTTY);
nix::ioctl_write_int_bad!(open_peer, libc::TIOCGPTPEER);
nix::ioctl_write_ptr_bad!(set_lock, libc::TIOCSPTLCK, libc::c_int);

/// A terminal is wanted where a person sits at both ends.
pub(crate) fn is_wanted() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Child: opens a terminal in the container's own devpts, so that `tty` inside
/// names a file that is there.
pub(crate) fn open() -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = nix::fcntl::open("/dev/ptmx", flags, Mode::empty())
        .context("open the container's terminal at /dev/ptmx")?;
    let slave = slave_of(&master)?;
    Ok((master, slave))
}

/// Unlocks a master that was just opened, and opens its other side.
///
/// # Errors
/// Fails where `master` is not the master of a pseudo-terminal.
pub fn slave_of(master: &OwnedFd) -> Result<OwnedFd> {
    // SAFETY: the kernel reads the one integer that the pointer leads to.
    unsafe { set_lock(master.as_raw_fd(), &0) }.context("unlock the container's terminal")?;
    open_slave(master)
}

/// By descriptor and not by name: a name could have been swapped.
fn open_slave(master: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    // SAFETY: no memory is involved, and on success the descriptor is new.
    unsafe { open_peer(master.as_raw_fd(), flags.bits()).map(|fd| OwnedFd::from_raw_fd(fd)) }
        .context("open the slave side of the container's terminal")
}

/// Child: becomes a session of its own, away from the parent's terminal; with
/// a terminal given, that one controls it and is its standard input and output.
pub(crate) fn begin_session(slave: Option<&OwnedFd>) -> Result<()> {
    // It fails for a process that leads a group already, and then it is the
    // leader of its own session or may stay where it is.
    let _ = setsid();
    let Some(slave) = slave else { return Ok(()) };
    // Whoever wrote `2>errors` wants them there.
    begin_on_terminal(slave, io::stderr().is_terminal())
}

/// The leader of a session without a terminal gets this one: it controls the
/// session and is standard input and output, and with `errors_too` standard
/// error.
///
/// # Errors
/// Fails where the session or the terminal already has the other one.
pub fn begin_on_terminal(slave: &OwnedFd, errors_too: bool) -> Result<()> {
    // SAFETY: no memory is involved.
    unsafe { take_terminal(slave.as_raw_fd(), 0) }.context("take the terminal")?;
    dup2_stdin(slave)
        .and_then(|()| dup2_stdout(slave))
        .and_then(|()| {
            if errors_too {
                dup2_stderr(slave)
            } else {
                Ok(())
            }
        })
        .context("make the terminal standard input and output")
}

/// Gives the terminal of `master` a size, in characters (ioctl_tty(2)).
///
/// # Errors
/// Fails where `master` is not a terminal.
pub fn set_terminal_size(master: &OwnedFd, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads the one winsize that the pointer leads to.
    unsafe { set_size(master.as_raw_fd(), &raw const size) }
        .with_context(|| format!("give the terminal {rows} rows and {columns} columns"))?;
    Ok(())
}

/// Our own terminal while another's bytes go through it: raw, so that Ctrl-C is a byte and not a
/// signal for us. Dropped, it is as it was.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Makes the terminal on standard input raw (termios(3)).
    ///
    /// # Errors
    /// Fails where standard input is not a terminal.
    pub fn make() -> Result<RawTerminal> {
        let before = tcgetattr(io::stdin()).context("read the terminal's settings")?;
        let raw = RawTerminal { before };
        raw.make_again().context("make the terminal raw")?;
        Ok(raw)
    }

    /// After a stop: our shell has used the terminal meanwhile, in its own way.
    ///
    /// # Errors
    /// Fails where the terminal is gone.
    pub fn make_again(&self) -> Result<(), Errno> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// Parent: the other side of the container's terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
    /// Held open: without any slave a master is at its end, for ever ready to
    /// be read, although a process inside may yet open /dev/tty.
    _slave: OwnedFd,
    ours: RawTerminal,
    /// Typed, and not yet taken by the container.
    typed: Vec<u8>,
    input_ended: bool,
}

impl Terminal {
    pub(crate) fn take(master: OwnedFd) -> Result<Terminal> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("set up the terminal")?;
        let terminal = Terminal {
            _slave: open_slave(&master)?,
            master,
            ours: RawTerminal::make()?,
            typed: Vec::new(),
            input_ended: false,
        };
        terminal.resize();
        Ok(terminal)
    }

    /// After a stop: our shell has used the terminal meanwhile, in its own way.
    pub(crate) fn resume(&self) {
        // It can only fail because the terminal is gone, which `carry` will see.
        let _ = self.ours.make_again();
        self.resize();
    }

    /// Gives the container's terminal the size of ours; its kernel side then
    /// sends SIGWINCH inside (ioctl_tty(2)).
    pub(crate) fn resize(&self) {
        let mut size = libc::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: both calls get a pointer to a winsize that outlives them.
        // A terminal without a size keeps the one it has.
        let _ = unsafe {
            get_size(libc::STDIN_FILENO, &raw mut size)
                .and_then(|_| set_size(self.master.as_raw_fd(), &raw const size))
        };
    }

    /// What poll(2) should watch: the master, then standard input unless
    /// something typed still waits.
    pub(crate) fn interests(&self) -> Vec<PollFd<'_>> {
        let mut master = PollFlags::POLLIN;
        if !self.typed.is_empty() {
            master |= PollFlags::POLLOUT;
        }
        let mut interests = vec![PollFd::new(self.master.as_fd(), master)];
        if self.typed.is_empty() && !self.input_ended {
            interests.push(PollFd::new(stdin(), PollFlags::POLLIN));
        }
        interests
    }

    /// Carries what is `ready`, in the order of [`Terminal::interests`].
    /// Returns the signal that a typed character stands for, if it is meant
    /// for the process group `first`.
    pub(crate) fn carry(&mut self, ready: &[bool], first: Pid) -> Option<Signal> {
        let mut meant = None;
        if ready.get(1) == Some(&true) {
            self.read_typed();
            meant = self
                .meaning()
                .filter(|_| tcgetpgrp(&self.master) == Ok(first));
        }
        if !self.typed.is_empty() {
            let taken = write(&self.master, &self.typed).unwrap_or(0);
            self.typed.drain(..taken);
        }
        if ready.first() == Some(&true) {
            self.show();
        }
        meant
    }

    /// Shows what the container wrote last, up to the end.
    pub(crate) fn drain(&self) {
        while self.show() {}
    }

    /// Copies once from the container to standard output; false where nothing
    /// is left.
    fn show(&self) -> bool {
        let mut buffer = [0; 4096];
        let Ok(length @ 1..) = read(&self.master, &mut buffer) else {
            return false;
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            match write(io::stdout(), rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                // Some program before us left the terminal non-blocking.
                Err(Errno::EAGAIN) => wait_for_room(),
                Err(_) => return false,
            }
        }
        true
    }

    fn read_typed(&mut self) {
        let mut buffer = [0; 1024];
        match read(stdin(), &mut buffer) {
            Ok(0) => self.input_ended = true,
            Ok(length) => self.typed.extend(buffer.get(..length).unwrap_or_default()),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.input_ended = true,
        }
    }

    /// The signal that the container's terminal will send for what was typed.
    fn meaning(&self) -> Option<Signal> {
        let settings = tcgetattr(&self.master).ok()?;
        if !settings.local_flags.contains(LocalFlags::ISIG) {
            return None;
        }
        let key = |index: SpecialCharacterIndices| settings.control_chars.get(index as usize);
        self.typed.iter().find_map(|byte| match Some(byte) {
            byte if byte == key(SpecialCharacterIndices::VINTR) => Some(Signal::SIGINT),
            byte if byte == key(SpecialCharacterIndices::VQUIT) => Some(Signal::SIGQUIT),
            _ => None,
        })
    }
}

/// Until standard output takes more, or is gone: then write(2) says so.
fn wait_for_room() {
    let out = io::stdout();
    let mut room = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
    let _ = poll(&mut room, PollTimeout::NONE);
}

fn stdin() -> BorrowedFd<'static> {
    // SAFETY: descriptor 0 is a terminal, or there would be no `Terminal`, and
    // nothing in this process closes it.
    unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
}
