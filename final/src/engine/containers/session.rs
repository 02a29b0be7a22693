//! A person, or a pipe, at a container's standard streams: one loop on the client's side.
//!
//! ```text
//!   our stdin  ──▶ typed ──▶ ┌─────┐ ──▶ shim ──▶ the container's first process     (attach)
//!   our stdout ◀── pending ◀─│ far │
//!   our stderr ◀── pending ◀─└─────┘ ──▶ pipes or pty ──▶ one more process          (exec)
//! ```
//!
//! Nothing is read that there is no room for, so a slow reader holds the writer back as in any
//! pipe. Whoever leaves, by the keys or by a signal, leaves the container alone.

mod far;
mod keys;
mod output;

use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use namespaces::{RawTerminal, Signals};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::read;

use super::exec::Execed;
use crate::shim::protocol::{Connection, Stream};
use crate::state::Places;
use far::{Far, News, Part};
pub use keys::DetachKeys;
use keys::Watch;
use output::Output;

/// How much is read from standard input at once, in bytes.
const CHUNK: usize = 32 << 10;

/// So long docker waits, after the end of an exec's process, for others that still have its streams.
const PATIENCE: Duration = Duration::from_secs(2);

/// How somebody is attached.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Whether the process there has a terminal.
    pub tty: bool,
    /// Whether it gets our standard input.
    pub stdin: bool,
    /// What is typed on a terminal to leave.
    pub detach_keys: DetachKeys,
    /// Whether the signals that we get are meant for the container. On a terminal keys are.
    pub sig_proxy: bool,
    /// Whether something may be on the screen there that is to be drawn again.
    pub redraw: bool,
    /// Which of its outputs are not shown.
    pub hidden: Vec<Stream>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With this exit status: the process's own, or 128 + the signal that ended our part in it.
    Ended(u8),
    /// By the keys.
    Detached,
}

/// Docker's condition for `-i` together with `-t`: there has to be a terminal.
///
/// # Errors
/// Standard input is none.
pub fn check_input(stdin: bool, tty: bool) -> Result<()> {
    ensure!(
        !(stdin && tty) || io::stdin().is_terminal(),
        "the input device is not a TTY"
    );
    Ok(())
}

/// Our standard streams, and those of a container or of an exec.
#[derive(Debug)]
pub struct Session {
    far: Far,
    manner: Manner,
    typed: Typed,
    outputs: [Output; 2],
    ended: Option<(u8, Instant)>,
}

/// What standard input has, for the other side.
#[derive(Debug)]
struct Typed {
    pending: Vec<u8>,
    watch: Watch,
    /// Whether there can be more.
    open: bool,
    /// Whether its end has to be told yet.
    end_due: bool,
    detached: bool,
}

/// What a descriptor in the poll is.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Input,
    Output(usize),
    Far(Part),
}

impl Session {
    /// With a container: `connection` is attached to its shim.
    ///
    /// # Errors
    /// Our standard streams are of no use.
    pub fn attached(connection: Connection, places: Places, manner: Manner) -> Result<Session> {
        Session::new(Far::attached(connection, places)?, manner)
    }

    /// With a process that was added to a container. Its signals are not ours to send.
    ///
    /// # Errors
    /// As [`Session::attached`].
    pub fn execed(execed: Execed, manner: Manner) -> Result<Session> {
        let manner = Manner {
            sig_proxy: false,
            ..manner
        };
        Session::new(Far::execed(execed)?, manner)
    }

    fn new(far: Far, manner: Manner) -> Result<Session> {
        Ok(Session {
            typed: Typed {
                pending: Vec::new(),
                watch: Watch::new(manner.detach_keys.clone()),
                open: manner.stdin,
                end_due: false,
                detached: false,
            },
            far,
            manner,
            outputs: [Output::of(Stream::Out)?, Output::of(Stream::Err)?],
            ended: None,
        })
    }

    /// Carries bytes until there are no more, or somebody leaves. Our terminal is raw meanwhile, and
    /// afterwards as it was.
    ///
    /// # Errors
    /// The shim is gone, the exec failed, or one of our streams cannot be used.
    pub fn run(mut self) -> Result<Outcome> {
        let signals = Signals::hold()?;
        let raw = (self.manner.tty && self.manner.stdin).then(RawTerminal::make);
        let raw = raw.transpose()?;
        self.fit(self.manner.redraw);
        loop {
            for source in self.wait(&signals)? {
                let left = match source {
                    Source::Signals => self.heed(&signals, raw.as_ref())?,
                    Source::Output(n) => self.show(n)?,
                    Source::Input => {
                        self.read_typed();
                        None
                    }
                    Source::Far(part) => {
                        self.hear(part)?;
                        None
                    }
                };
                if let Some(outcome) = left {
                    return Ok(outcome);
                }
            }
            self.send_typed();
            if let Some(outcome) = self.outcome() {
                return Ok(outcome);
            }
        }
    }

    fn wait(&self, signals: &Signals) -> Result<Vec<Source>> {
        let (sources, mut polled) = self.interests(signals);
        let timeout = match self.ended {
            Some((_, at)) if !self.is_busy() => {
                let left = PATIENCE.saturating_sub(at.elapsed());
                PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            }
            _ => PollTimeout::NONE,
        };
        match poll(&mut polled, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno).context("wait for the container"),
        }
        let ready = |polled: &PollFd| polled.any().unwrap_or(true);
        let all = sources.into_iter().zip(&polled);
        Ok(all
            .filter(|(_, polled)| ready(polled))
            .map(|(source, _)| source)
            .collect())
    }

    /// What is polled: of what comes from the other side only as much as our own take.
    fn interests<'a>(&'a self, signals: &'a Signals) -> (Vec<Source>, Vec<PollFd<'a>>) {
        let mut all = vec![(Source::Signals, signals.as_fd(), PollFlags::POLLIN)];
        let busy = |n: &usize| self.outputs.get(*n).is_some_and(Output::is_busy);
        for n in (0..self.outputs.len()).filter(busy) {
            let events = PollFlags::POLLOUT;
            all.push((Source::Output(n), self.outputs[n].as_fd(), events));
        }
        let to_send = !self.typed.pending.is_empty() || self.typed.end_due;
        if self.typed.open && !to_send && self.ended.is_none() {
            all.push((Source::Input, stdin(), PollFlags::POLLIN));
        }
        for (part, file, events) in self.far.interests(!self.is_busy(), to_send) {
            // After the end the connection has nothing more to say.
            if self.ended.is_none() || !matches!(part, Part::Connection) {
                all.push((Source::Far(part), file, events));
            }
        }
        all.into_iter()
            .map(
                |(source, file, events): (Source, BorrowedFd<'a>, PollFlags)| {
                    (source, PollFd::new(file, events))
                },
            )
            .unzip()
    }

    /// Signals to this process: of the window, for the container, or for us.
    fn heed(&self, signals: &Signals, raw: Option<&RawTerminal>) -> Result<Option<Outcome>> {
        while let Some(signal) = signals.next()? {
            match signal {
                Signal::SIGWINCH if self.manner.tty => self.fit(false),
                Signal::SIGCONT if raw.is_some() => {
                    // It can only fail because the terminal is gone, which a read will tell.
                    let _ = raw.map(RawTerminal::make_again);
                    self.fit(true);
                }
                _ if self.manner.sig_proxy && !self.manner.tty => self.far.signal(signal as i32),
                Signal::SIGWINCH | Signal::SIGCONT => {}
                _ => return Ok(Some(Outcome::Ended(128 + signal as u8))),
            }
        }
        Ok(None)
    }

    /// Gives the terminal there the size of ours. A program draws itself again only when the size
    /// changes, so for `redraw` it is another one for a moment, as docker has it.
    fn fit(&self, redraw: bool) {
        if !self.manner.tty {
            return;
        }
        let ours = [io::stdout().as_fd(), io::stdin().as_fd()]
            .into_iter()
            .find_map(|file| rustix::termios::tcgetwinsize(file).ok());
        let Some(size) = ours.filter(|size| size.ws_row != 0 && size.ws_col != 0) else {
            return;
        };
        if redraw {
            let more = |length: u16| length.saturating_add(1);
            self.far.resize(more(size.ws_row), more(size.ws_col));
        }
        self.far.resize(size.ws_row, size.ws_col);
    }

    fn read_typed(&mut self) {
        let mut buffer = vec![0; CHUNK];
        let typed = &mut self.typed;
        match read(stdin(), &mut buffer) {
            Ok(length @ 1..) => {
                buffer.truncate(length);
                if self.manner.tty {
                    typed.detached = typed.watch.pass(&buffer, &mut typed.pending);
                    typed.open = !typed.detached;
                } else {
                    typed.pending = buffer;
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(0) | Err(_) => {
                typed.open = false;
                typed.end_due = true;
            }
        }
    }

    /// Sends as much as the other side takes.
    fn send_typed(&mut self) {
        let typed = &mut self.typed;
        while !typed.pending.is_empty() {
            match self.far.give(&typed.pending) {
                Some(0) => return,
                Some(length) => drop(typed.pending.drain(..length)),
                None => {
                    typed.pending.clear();
                    typed.open = false;
                    typed.end_due = false;
                }
            }
        }
        if typed.end_due && self.far.end_input() {
            typed.end_due = false;
        }
    }

    /// Writes what waits for one of our streams. A reader who has seen enough ends us, as SIGPIPE
    /// would.
    fn show(&mut self, n: usize) -> Result<Option<Outcome>> {
        match self.outputs[n].go_on() {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                Ok(Some(Outcome::Ended(128 + Signal::SIGPIPE as u8)))
            }
            Err(error) => Err(Error::new(error).context("write what the container wrote")),
        }
    }

    fn hear(&mut self, part: Part) -> Result<()> {
        // It may be ready only to be sent to, or what came before it in this turn took the room.
        if self.is_busy() {
            return Ok(());
        }
        match self.far.hear(part)? {
            News::Nothing => {}
            News::Ended(status) => self.ended = Some((status, Instant::now())),
            News::Wrote(stream, _) if self.manner.hidden.contains(&stream) => {}
            News::Wrote(stream, bytes) => {
                self.outputs[usize::from(stream == Stream::Err)].put(bytes);
            }
        }
        Ok(())
    }

    /// Whether there is nothing left to do.
    fn outcome(&self) -> Option<Outcome> {
        if self.typed.detached && self.typed.pending.is_empty() {
            return Some(Outcome::Detached);
        }
        let (status, at) = self.ended?;
        let silent = !self.far.has_outputs() || at.elapsed() >= PATIENCE;
        (silent && !self.is_busy()).then_some(Outcome::Ended(status))
    }

    /// Whether one of our streams has not taken all yet.
    fn is_busy(&self) -> bool {
        self.outputs.iter().any(Output::is_busy)
    }
}

fn stdin() -> BorrowedFd<'static> {
    // SAFETY: descriptor 0 is open, for Rust's start-up code opens /dev/null where it is not, and
    // nothing in this process closes it.
    unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
}
